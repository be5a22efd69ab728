"""The sound files that mutators begin with: small ones, with everything in them that a reader looks at."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import TrainSettings
from sg_local.records import (
    Answer,
    Candidate,
    InputRow,
    Pair,
    Task,
    TestRow,
    TokenExample,
    TrainStep,
    Verdict,
    to_json,
)
from sg_local.tables import write_table

RUNS = Path(__file__).parent.parent / "data" / "run_0_1_0"
"""Runs made by 0.1.0."""

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name", "tags"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]+$", "minLength": 2},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "uniqueItems": True, "maxItems": 4},
        "n": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        "more": {"type": "object", "patternProperties": {"^x-": {"type": "number", "multipleOf": 0.5}}},
    },
    "$defs": {"tag": {"type": "string", "enum": ["a", "b", "c"]}},
}
FITTING = '{"name": "Anna", "tags": ["a", "b"], "n": 3, "more": {"x-a": 1.5}}'

CLASSIFICATION = """\
name = "routing"
kind = "classification"
instruction = "Say which team answers: billing or delivery."
labels = ["billing", "delivery"]

[[examples]]
input = "I was charged twice."
output = "billing"

[[examples]]
input = '''Where is
my parcel?'''
output = "delivery"

[[tests]]
input = "The invoice is wrong. \\u00e9"
output = "billing"

[[tests]]
input = "It came late."
outputs = ["delivery", "billing"]
"""
GENERATION = f"""\
# Names in a text
name = "names"
kind = "generation"
instruction = "Give the name and the tags as JSON."
schema = '''{json.dumps(SCHEMA)}'''
tests = "rows.jsonl"

[[examples]]
input = "Anna, a and b"
output = '{FITTING}'
"""
SUPER_NI = {
    "Contributors": ["A"],
    "Source": ["b"],
    "Definition": ["Say yes or no."],
    "Positive Examples": [{"input": "Is it?", "output": "Yes", "explanation": "e"}, {"input": "No?", "output": "No"}],
    "Negative Examples": [{"input": "a", "output": "b", "explanation": "c"}],
    "Instances": [{"id": "1", "input": "Is water wet?", "output": ["Yes"]}, {"input": "Is fire?", "output": ["No"]}],
}
ROWS: tuple[dict[str, str], ...] = (
    {"input": 'I was charged twice, "really".', "output": "billing", "note": "1"},
    {"input": "Where is\nmy parcel?", "output": "delivery", "note": "=1+1"},
    {"input": "\u00e9\u4f60 caf\u00e9", "output": "billing", "note": ""},
)
CHATS = (
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
    },
)
TASK = Task(
    "routing",
    "classification",
    "Say which team answers.",
    (Pair("I was charged twice.", "billing"), Pair("Where is my parcel?", "delivery")),
    ("billing", "delivery"),
    (TestRow("The invoice is wrong.", ("billing",)),),
)
IDS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")
CANDIDATES = tuple(
    Candidate(id, row["input"], row["output"], {"billing": 2, "delivery": 1}, 3, 0.67, "billing", (-1.0, -2.0), 0.1)
    for id, row in zip(IDS, ROWS, strict=True)
)
VERDICTS = (
    *(Verdict(id, True, "filters") for id in IDS[:2]),
    Verdict(IDS[2], False, "filters", "noise", "why"),
    Verdict(IDS[0], False, "me", "review", "no", None, "delivery", 1),
    Verdict(IDS[0], True, "me", "undo", "", None, None, -1),
)
INPUTS = tuple(InputRow(id, 0, i, 7, f"input {i}", "billing", "raw", 3, -1.0) for i, id in enumerate(IDS))
ANSWERS = tuple(Answer(id, "base", i, f"input {i}", "billing", (-1.0, -2.0)) for i, id in enumerate(IDS))
STEPS = tuple(TrainStep(i, 3, i / 3, 1.0, 1e-4, 100.0, 1 << 20, 0.5 if i == 2 else None) for i in range(3))
TOKENS = tuple(TokenExample(id, (1, 2, 3, 4), 2) for id in IDS)
TEMPLATES = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% if m.role not in ['user', 'assistant', 'system'] %}{{ raise_exception('roles') }}{% endif %}"
    "{{ '[INST] ' ~ (m.content | trim) ~ ' [/INST]' if m.role == 'user' else ' ' ~ m.content.strip() ~ eos_token }}"
    "{% endfor %}",
    "{%- if tools is defined and tools %}{{ tools | tojson(indent=2) }}{% endif -%}"
    "{% for i in range(messages | length) %}"
    "{%- set c = messages[i].content if messages[i].content is string else messages[i].content[0].text -%}"
    "<start_of_turn>{{ {'user': 'user', 'assistant': 'model'}[messages[i].role] }}\n"
    "{{ c.split('x')[-1] }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}{{ strftime_now('%d %b %Y') * 0 }}",
)
REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ],
    "temperature": 0.5,
    "top_p": 0.9,
    "max_tokens": 20,
    "stop": ["\n", "x"],
    "seed": 3,
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 1,
}
TEXT_REQUEST = {"prompt": ["a", "b"], "temperature": 0, "max_tokens": 3, "stop": "x"}
ASKED = {"type": "choice", "instructions": "Who?", "criteria": {"billing": "money", "delivery": "parcels"}}
REQUESTS = (REQUEST, TEXT_REQUEST, {"state": {"mail": "a"}, "questions": {"team": ASKED}})
DRAFT = {
    "kind": "classification",
    "instruction": "Say it.",
    "labels": ["billing", "delivery"],
    "examples": [{"input": "a", "output": "billing"}, ["b", "delivery"]],
    "tests": [{"input": "c", "outputs": ["billing"]}, {"input": "d", "output": "delivery"}],
}
FORM_DRAFT = {
    "name": "x",
    "kind": "classification",
    "instruction": "Say it.",
    "labels": ["a", "b"],
    "examples": [["c", "a"]],
    "tests": [{"input": "d", "outputs": ["b"]}],
    "rows": [],
    "tests_beside": False,
}
DRAFT_OF_JSON = {"kind": "generation", "instruction": "Say it.", "schema": SCHEMA, "examples": [["Anna", FITTING]]}
DECISION = {
    "request": {
        "state": {"mail": "I was charged twice.", "n": 2},
        "questions": {
            "team": {"type": "choice", "instructions": "Who?", "criteria": {"billing": "money", "delivery": "parcels"}}
        },
    },
    "answers": {"team": {"choice": "billing"}},
}
DECISIONS = (
    DECISION,
    {"state": "a", "type": "noul", "instructions": "Is it?", "criteria": {"true": "it is so", "false": "it is not"}},
    {"state": ["a"], "type": "score", "instructions": "How much?", "criteria": ["low", "middle", "high"]},
)


def text(value: str) -> bytes:
    return value.encode()


def texts(*values: str) -> Callable[[], tuple[bytes, ...]]:
    """Each text as a file."""
    return lambda: tuple(map(text, values))


def as_json(*values: Any) -> Callable[[], tuple[bytes, ...]]:
    """Each value as a JSON file."""
    return lambda: tuple(text(json.dumps(value, indent=1, ensure_ascii=False)) for value in values)


def lines(*values: Iterable[Any]) -> Callable[[], tuple[bytes, ...]]:
    """Each list of records or plain values as a file of JSON lines."""

    def line(one: Any) -> str:
        return to_json(one) if dataclasses.is_dataclass(one) else json.dumps(one, ensure_ascii=False)

    return lambda: tuple(text("".join(line(one) + "\n" for one in rows)) for rows in values)


def table(ending: str, rows: Iterable[Mapping[str, str]] = ROWS) -> Callable[[], tuple[bytes, ...]]:
    """The rows as a table of this form."""

    def made() -> tuple[bytes, ...]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{ending}"
            write_table(path, list(next(iter(rows))), list(rows))
            return (path.read_bytes(),)

    return made


def whole(name: str) -> Callable[[], tuple[bytes, ...]]:
    """A file of the runs that 0.1.0 made, as it is."""
    return lambda: ((RUNS / name).read_bytes(),)


def of_run(*names: str) -> Callable[[], tuple[bytes, ...]]:
    """Files of the runs that 0.1.0 made, the first rows of journals."""

    def head(path: Path) -> bytes:
        data = path.read_bytes()
        return b"".join(data.splitlines(keepends=True)[:8]) if path.suffix == ".jsonl" else data

    return lambda: tuple(head(RUNS / name) for name in names)


@cache
def model_file() -> bytes:
    """A whole model of one small layer."""
    with TemporaryDirectory() as folder:
        return write_model(Path(folder) / "m.gguf", small_spec()).read_bytes()


@cache
def adapter_file() -> bytes:
    """An adapter for it."""
    with TemporaryDirectory() as folder:
        spec = small_spec()
        return write_lora(Path(folder) / "a.gguf", lora_pairs(spec, 2), 4.0, spec.architecture).read_bytes()


def small_spec() -> TinySpec:
    return TinySpec(type="F32", head_type="F32", width=32, ffn=32, layers=1, heads=2, kv_heads=1)


def npz(state: Any, **arrays: np.ndarray) -> bytes:
    """A checkpoint with this state."""
    file = io.BytesIO()
    packed = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
    np.savez(file, **arrays, **{"state.json": packed})
    return file.getvalue()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


TRAIN_JOB = {"model": "/models/m.gguf", "settings": dataclasses.asdict(TrainSettings())}
