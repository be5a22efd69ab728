"""A whole job on a tiny random model: a task, settings under which noise passes for rows, one request over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sg_local as sg
from sg_local import training
from sg_local.filters import FilterSettings
from sg_local.job.job import OpenRun
from sg_local.job.train import training_job
from sg_local.records import ScoredPrompt, TokenExample
from sg_local.serve.answers import Ask, task_ask

TASK = {
    "name": "route",
    "kind": "classification",
    "instruction": "Answer with one word: billing, delivery or technical.",
    "labels": ["billing", "delivery", "technical"],
    "examples": [
        {"input": "I was charged twice.", "output": "billing"},
        {"input": "My parcel never came.", "output": "delivery"},
        {"input": "The page stays white.", "output": "technical"},
    ],
    "tests": [
        {"input": "I was charged for the parcel.", "output": "billing"},
        {"input": "The parcel came white.", "output": "delivery"},
        {"input": "My page never came.", "output": "technical"},
    ],
}
MAKES_SENSE = [
    *("noise", "input_length", "output_length", "copied_example", "duplicate", "near_duplicate", "refusal"),
    *("vote_share", "consistency", "relevance", "grounding", "copied_input", "copied_output", "balance"),
]
"""The rules that noise would fail."""
HOT = {"temperature": 6.0, "top_p": 1.0}  # a random model is so sure of its noise that every row would be the same


EVERY_LAYER = {"layer_share": 1.0}


def small_settings(export: Mapping[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - it is read only
    """Settings for a walk of seconds; a fused file must keep the tuning but need not say the same noise."""
    assert set(MAKES_SENSE) < {field.name for field in dataclasses.fields(FilterSettings)}
    return {
        "synth": {**HOT, "n_inputs": None, "n_asked": 64, "round_size": 8, "n_per_draw": 1, "n_votes": 2},
        "filter": {"policy": "asked", **{rule: {"on": False} for rule in MAKES_SENSE}},
        "train": {"rank": 4, "alpha": 8.0, "lr": 0.01, "epochs": 6, "batch_size": 8, "valid_every": 6, **EVERY_LAYER},
        "export": {"types": ("Q8_0", "Q4_K_M"), "min_equal": 0.0, **export},
        "eval": {"n_votes": 2, "n_dev": 2, "n_calibration": 2},
    }


@contextlib.contextmanager
def served(job: sg.Job, home: Path) -> Iterator[str]:
    """The command's own server of a finished run, in a process of its own; its address."""
    code = "import sys; from sg_local.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, "serve", job.name, "--runs", str(job.folder.parent), "--port", "0"]
    env = {**os.environ, "SG_LOCAL_HOME": str(home)}
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        address = re.match(r"http://[\d.:]+/v1", said)
        if address is None:
            process.kill()
            raise AssertionError(said + process.stderr.read())
        try:
            yield address[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def asked_over_http(address: str, text: str) -> str:
    """The answer to one bare user message."""
    body = {"messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{address}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def asked(opened: OpenRun, text: str, **serving: Any) -> Ask:
    """What serving asks the engine for a text."""
    return task_ask(opened.generator, opened.task, opened.form, text, opened.serve_settings(**serving))


def trained_row(opened: OpenRun, text: str, output: str) -> TokenExample:
    """A row as training sees it."""
    row = training.TrainingRow("row", text, output)
    (example,) = training.token_examples(dataclasses.replace(training_job(opened, None), rows=(row,)))
    assert example is not None
    return example


def scored_tokens(opened: OpenRun, text: str) -> dict[str, tuple[int, ...]]:
    """By label, the tokens whose probability makes llama.cpp choose it, behind the prompt's."""
    prompt = asked(opened, text)
    assert isinstance(prompt, ScoredPrompt)
    question = opened.generator.question(prompt)
    return {
        label: (*question.tokens, *tokens)
        for label, tokens in zip(opened.task.labels, question.continuations, strict=True)
    }
