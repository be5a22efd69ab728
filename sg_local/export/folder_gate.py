"""The gate of a model folder: its tensors, its tokenizer, and what the library that it is meant for makes of it.

The library loads the folder in a process of its own and answers; loss and greedy answers are held to llama.cpp's on
base + adapter, on the same token ids. Where the library is not installed, or the memory too small for float32
weights, the table says so and the folder is judged by the rest. Metadata is not compared: a folder's config is
written from the base's, and is nowhere the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sg_local.backends import Generator, on_apple_silicon
from sg_local.export.gate import (
    LOADS,
    NEAR_TIE,
    Findings,
    Reference,
    brief,
    carried_tokens,
    check_answers,
    check_nll,
    check_retained,
    example_prompts,
    gate_room,
)
from sg_local.export.job import Check, Export, unmeasured
from sg_local.export.loss import told_without
from sg_local.export.reading import WEIGHTS, Ask, Request
from sg_local.export.rows import held_out_inputs, held_out_rows
from sg_local.gguf import Retained
from sg_local.prompts import Form, answer_stops, answer_text, answer_tokens, fitted_answer, render
from sg_local.records import Segment

NEEDS = {"hf": ("torch", "transformers", "tokenizers"), "mlx": ("mlx", "mlx_lm", "tokenizers")}
LIBRARY = {"hf": "transformers", "mlx": "mlx-lm"}
TIME_S = 600
ROOM = 2.2  # bytes of memory for each byte of float16 weights that become float32, with a little to compute in
LOSS, ANSWERS = "validation loss", "greedy answers equal"


@dataclass(frozen=True)
class Speech:
    """How the base speaks, and what is asked of a folder.

    `form` holds its special tokens around the folder's template, `tokens` the ids of the examples' prompts, `carried`
    those that the template is to make of the examples' bare inputs, `request` what the folder's library is asked.
    """

    form: Form
    tokens: tuple[tuple[int, ...], ...]
    carried: tuple[tuple[int, ...], ...]
    request: Request


def speech_of(job: Export, generator: Generator, template: str | None, kind: str, reference: Reference) -> Speech:
    """What the base's own tokenizer makes of everything that a folder of this kind is asked."""
    info = generator.info
    tokens = tuple(generator.tokenize(prompt) for prompt in example_prompts(job))
    ends = [generator.tokenize((Segment(text),), bos=False)[-1:] for text in (job.form.end, info.eos) if text]
    end = ends[0] if ends else ()
    room = gate_room(job, generator)

    def ask(text: str, answer: str) -> Ask:
        said = answer_text(job.form, answer)
        prompt = fitted_answer(room.for_answer(said), job.task, job.form, text).segments
        ids = answer_tokens(generator.tokenize, prompt, said)
        return Ask(generator.tokenize(prompt), ids + end, answer)

    request = Request(
        kind=kind,
        folder="",
        hello=Ask(tokens[0], end),
        rows=tuple(ask(pair.input, pair.output) for pair in held_out_rows(job)),
        asked=tuple(map(ask, held_out_inputs(job), reference.answers)),
        ends=tuple(dict.fromkeys(token for one in ends for token in one)),
        stops=answer_stops(job.task, job.form),
        budget=room.n_new,
    )
    form = Form("chat", template or "", info.bos, info.eos, add_bos=False)
    return Speech(form, tokens, tuple(carried_tokens(job, generator)), request)


def run_folder_gate(
    job: Export, request: Request, speech: Speech, reference: Reference, retained: Sequence[Retained]
) -> Findings:
    """Hold one folder to the reference. `request` names the folder."""
    found, loads = read_folder(request)
    checks = [loads, check_retained(job, retained), check_ids(job, Path(request.folder), speech)]
    if not loads.measured or not loads.passed:
        names = (LOSS, ANSWERS) if not loads.measured else ()
        return Findings((*checks, *(unmeasured(name, loads.value) for name in names)), None, None)
    nll = _nll(request, found)
    checks.append(check_nll(job, reference, nll) if nll is not None or not request.rows else _too_late(LOSS))
    compared = [row for row in found if "equal" in row]
    n_equal = sum(row["equal"] for row in compared)
    n_ties = sum(not row["equal"] and row["missed_by"] <= NEAR_TIE for row in compared)
    late = not compared and request.asked
    checks.append(_too_late(ANSWERS) if late else check_answers(job, n_equal, n_ties, len(compared)))
    checks += told_without(reference)
    return Findings(tuple(checks), nll, n_equal / len(compared) if compared else None)


def why_not(kind: str, folder: Path) -> str:
    """Why a folder cannot be read by its library here; empty where it can."""
    from sg_local.backends.machine import free_memory

    missing = missing_packages(kind)
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    size = (folder / WEIGHTS).stat().st_size
    wanted, free = int(size * (1.1 if kind == "mlx" and on_apple_silicon() else ROOM)), free_memory()
    if free is not None and wanted > free:
        return f"it takes {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
    return ""


def missing_packages(kind: str) -> list[str]:
    """The packages that reading a folder of this kind needs and that are not installed."""
    return [name for name in NEEDS[kind] if find_spec(name) is None]


def read_folder(request: Request) -> tuple[list[dict[str, Any]], Check]:
    """What the folder's library found, and whether it loaded and answered."""
    where = f"by {LIBRARY[request.kind]}, in a process of its own"
    reason = why_not(request.kind, Path(request.folder))
    if reason:
        return [], unmeasured(LOADS, reason)
    found, error = _ask_process([sys.executable, "-m", "sg_local.export.reading"], json.dumps(asdict(request)))
    if error or not found:
        return found, Check(LOADS, False, error or f"no answer in {TIME_S} s", where)
    return found, Check(LOADS, True, brief(found[0]["text"]), where)


def _ask_process(command: list[str], request: str) -> tuple[list[dict[str, Any]], str]:
    """The lines that the process printed until its end or its time was up, and how it died where it did."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            done = subprocess.run(
                command, input=request, stdout=out, stderr=errors, text=True, timeout=TIME_S, check=False
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = 0
        out.seek(0)
        errors.seek(0)
        last = (errors.read().strip() or "no message").splitlines()[-1]
        lines = [line for line in out if line.endswith("\n")]
        return [json.loads(line) for line in lines], f"exit {status}: {last}" if status else ""


def _nll(request: Request, found: Sequence[dict[str, Any]]) -> float | None:
    """Nats per token of the rows' answers and their ends."""
    logprobs = next((row["logprobs"] for row in found if "logprobs" in row), None)
    return None if logprobs is None else -sum(logprobs) / sum(len(ask.answer) for ask in request.rows)


def _too_late(name: str) -> Check:
    return unmeasured(name, f"the {TIME_S} s that it may take were up")


def check_ids(job: Export, folder: Path, speech: Speech) -> Check:
    """The folder's tokenizer gives the base's ids for our prompts, and by its template for the bare inputs."""
    if find_spec("tokenizers") is None:
        return unmeasured("token ids equal", "tokenizers is not installed")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = ["".join(segment.text for segment in prompt) for prompt in example_prompts(job)]
    same = _n_equal([tokenizer.encode(text).ids for text in ours], speech.tokens)
    value, passed = f"{same} of {len(ours)} prompts", same == len(ours)
    if not job.settings.plain_template:
        bare = [render(speech.form, [{"role": "user", "content": pair.input}]) for pair in job.task.examples]
        texts = ["".join(segment.text for segment in prompt) for prompt in bare]
        n_carried = _n_equal([tokenizer.encode(text, add_special_tokens=False).ids for text in texts], speech.carried)
        value += f", {n_carried} by the folder's template from the bare input"
        passed = passed and n_carried == len(ours)
    return Check("token ids equal", passed, value, "all")


def _n_equal(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> int:
    return sum(list(a) == list(b) for a, b in zip(found, wanted, strict=True))
