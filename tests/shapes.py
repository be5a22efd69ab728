"""What each command prints with --json, as JSON Schema, made from the records that it prints.

docs/json.md shows these schemas, and tests/test_reference.py holds the commands' real output to them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sg_local.cache import Cached
from sg_local.cli.config_commands import Row
from sg_local.doctor import Finding
from sg_local.evaluate import BaseScores, Comparison
from sg_local.export import FusedFile, FusedFolder, Inspection
from sg_local.gguf import GgufInfo
from sg_local.job.events import Forecast
from sg_local.job.review_files import MergeSummary, Reviewed
from sg_local.job.search import Setting, Trial
from sg_local.job.stale import StaleStage
from sg_local.records import Funnel, Task
from sg_local.report.records import FileScore, Gain, Outcome, ScoredRow
from sg_local.tasks.advice import Advice
from sg_local.tasks.listing import ListedTask

SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "string", type(None): "null"}
Schema = dict[str, Any]


def schema_of(hint: Any) -> Schema:
    """The schema of a type as `dataclasses.asdict` and JSON give it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if hint in SIMPLE:
        return {"type": SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (types.UnionType, typing.Union):
        return either(*map(schema_of, args))
    if origin is tuple and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema_of(one) for one in args], "minItems": len(args)}
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(args[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    return record(hint)


def record(cls: Any) -> Schema:
    """The schema of a dataclass."""
    hints = typing.get_type_hints(cls)
    return table(**{one.name: schema_of(hints[one.name]) for one in dataclasses.fields(cls)})


def made(cls: Any) -> Schema:
    """An exported file or folder as export.json has it: with its verdict, and null for what could not be computed."""
    shares = {"type": "object", "additionalProperties": MAYBE_NUMBER}
    found = {name: shares if schema == NUMBERS else schema for name, schema in record(cls)["properties"].items()}
    return table(**found, passed=schema_of(bool))


def without(schema: Schema, *names: str) -> Schema:
    """An object's schema without some of its properties."""
    return table(**{name: one for name, one in schema["properties"].items() if name not in names})


def table(**properties: Schema) -> Schema:
    """An object that has all of these properties; others may stand beside them."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def rows(item: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": item}


def either(*schemas: Schema) -> Schema:
    """One of these; simple types as a list of types."""
    if all(set(one) == {"type"} for one in schemas):
        return {"type": [one["type"] for one in schemas]}
    return {"anyOf": list(schemas)}


TEXT, COUNT, NUMBER = schema_of(str), schema_of(int), schema_of(float)
NUMBERS = schema_of(Mapping[str, float])
TEXTS, MAYBE_NUMBER, MAYBE_TEXT = rows(TEXT), schema_of(float | None), schema_of(str | None)
SYSTEM = table(score=NUMBER, low=NUMBER, high=NUMBER, n=COUNT, irrelevant=NUMBER, title=TEXT, role=TEXT, family=TEXT)
REPORT = table(
    run=TEXT,
    task=TEXT,
    kind=TEXT,
    metric=TEXT,
    n=COUNT,
    n_training=COUNT,
    headline=TEXT,
    rival=TEXT,
    served=TEXT,
    base=SYSTEM,
    tuned=SYSTEM,
    systems={"type": "object", "additionalProperties": SYSTEM},
    gains={"type": "object", "additionalProperties": record(Gain)},
    verdicts=rows(record(Outcome)),
    rows=rows(record(ScoredRow)),
)
RUN = table(
    run=TEXT,
    task=MAYBE_TEXT,
    model=MAYBE_TEXT,
    seed=schema_of(int | None),
    stages=TEXTS,
    base=MAYBE_NUMBER,
    tuned=MAYBE_NUMBER,
    served=MAYBE_NUMBER,
    size_bytes=schema_of(int | None),
    tags=TEXTS,
    path=TEXT,
)
SHOWN_RUN = table(
    **RUN["properties"],
    settings={"type": "object"},
    stamps={"type": "object"},
    stale=rows(record(StaleStage)),
    funnel=schema_of(Funnel | None),
)
MODEL = table(name=TEXT, summary=TEXT, path=MAYBE_TEXT, size_bytes=schema_of(int | None), architecture=TEXT)
SHOWN_MODEL = table(
    name=TEXT,
    path=MAYBE_TEXT,
    card={"type": "object"},
    file=either(without(record(GgufInfo), "chat_template"), {"type": "null"}),
    training=schema_of(Mapping[str, int]),
)
EXPORT = table(
    adapter=TEXT,
    adapter_sha256=TEXT,
    fused=rows(made(FusedFile)),
    folders=rows(made(FusedFolder)),
    written=TEXTS,
    seconds=NUMBER,
)
TRIAL = {**record(Trial)["properties"], "gain": MAYBE_NUMBER}
SEARCHED = table(chosen=record(Setting), worst_gain=NUMBER, trials=rows(table(**TRIAL)))
ANSWERED = {"type": "object", "properties": {"answer": TEXT, "error": TEXT}, "required": ["answer"]}
UNMEASURED = table(run=TEXT, unmeasured=TEXT)
ANSWER = table(index=COUNT, input=TEXT, wanted=TEXTS, base=TEXT, answer=TEXT, base_score=NUMBER, score=NUMBER)
SHAPES: dict[str, tuple[str, Schema]] = {
    "run": ("The report, or why there is none.", either(REPORT, UNMEASURED)),
    "run --plan": ("What the stages to come will take; null without a model.", schema_of(Forecast | None)),
    "export": ("What was written, as export.json has it.", EXPORT),
    "filter": ("How many rows each step left, and what each rule rejected.", record(Funnel)),
    "review": ("What people decided; `open` rows wait for it, `kept` ones would be trained on.", record(Reviewed)),
    "review --merge": ("What a merge took over, where two people differ, how far they agree.", record(MergeSummary)),
    "eval": ("The report.", REPORT),
    "eval --show all": ("Single answers.", rows(ANSWER)),
    "eval --base": ("What the untuned model scores.", record(BaseScores)),
    "eval --file": ("What one file of your own scores.", record(FileScore)),
    "predict": ("The answer; for lines of standard input one on each line.", table(output=TEXT)),
    "predict --probabilities": ("The same with the labels' probabilities.", table(output=TEXT, probabilities=NUMBERS)),
    "predict FILE": ("One object on each line: the row's own columns with the answer behind them.", ANSWERED),
    "label": ("The label.", table(output=TEXT)),
    "report": ("The report.", REPORT),
    "inspect": ("What a GGUF file holds.", record(Inspection)),
    "tune-settings": ("The chosen setting and every trial.", SEARCHED),
    "runs ls": ("The runs of the folder. A run that cannot be read has `broken`, which says why.", rows(RUN)),
    "runs show": ("One run: `settings` is its run.json, `stale` names stages that are out of date.", SHOWN_RUN),
    "runs compare": ("Runs side by side, `pairs` against the first one.", record(Comparison)),
    "tasks ls": ("Task files; `fault` says why one cannot be read.", rows(record(ListedTask))),
    "tasks show": ("The task.", record(Task)),
    "tasks check": ("What is wrong or doubtful; empty where nothing is.", rows(record(Advice))),
    "models ls": ("Base models.", rows(MODEL)),
    "models show": ("A model: its card, what its file says, and the bytes that training takes by place.", SHOWN_MODEL),
    "cache ls": ("What is kept, by model.", rows(record(Cached))),
    "config show": ("Settings with their values as they are, not as text.", rows(record(Row))),
    "doctor": ("Findings about this machine. `mend` is the old name of `fix`.", rows(record(Finding))),
}
"""By command: a sentence, and the schema of what it prints."""

ERROR = table(error=TEXT, hint=TEXT, exit_code=COUNT, about=TEXT)
