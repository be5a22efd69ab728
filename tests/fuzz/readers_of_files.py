"""Readers of what users hand in: tasks, rows, sheets of the review, settings, cards, models, schemas, templates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sound
from attempts import Reader, written
from formats import gguf_mutator, gzipped
from mixes import JSON, LINES, SEPARATED, TEXT, TOML, ZIP
from mutators import Mutator, bytes_changed, text_changed

from sg_local import filters, review, schemas
from sg_local.cli.config import read_config
from sg_local.gguf import GgufFile, check_adapter, check_trainable, read_adapter, why_not_trainable
from sg_local.job.plan import make_plan, preset_layer
from sg_local.models.cards import read_card
from sg_local.models.header import header_info
from sg_local.prompts import chat_form, render
from sg_local.serve import systemone
from sg_local.serve.api import ApiError, Bounds, read_body
from sg_local.serve.completions import read_chat, read_text
from sg_local.tables import read_grid, read_table
from sg_local.tasks import read_task, read_tests
from sg_local.tasks.begin import begun
from sg_local.tasks.draft import Draft
from sg_local.tasks.form import DONE, Form, kept_form, question_of
from sg_local.tasks.toml import task_toml

# Tasks, their rows, drafts


def _task(path: Path) -> str:
    task = read_task(path)
    return task.digest + task_toml(task) + written(task)


def _rows_beside(folder: Path) -> None:
    rows = [{"input": "Bert, c", "output": sound.FITTING}, {"input": "Cleo", "outputs": [sound.FITTING] * 2}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _draft(path: Path) -> object:
    draft = begun(path, Draft("x")).draft
    return written(draft), written(draft.task())


def _kept_form(path: Path) -> object:
    return question_of(form_to_ask(kept_form(path)))


def form_to_ask(form: Form) -> Form:
    """A form that still asks something."""
    return form if form.step != DONE else dataclasses.replace(form, step="test input")


def _own_rows(path: Path) -> object:
    """Rows as they are taken when some may be unusable, then as they must all be usable."""
    lenient = read_table(path, lenient=True)
    return written(lenient), written(read_table(path, needs_output=lenient.output_column is not None))


def _rows_reader(ending: str, kinds: tuple[Mutator, ...], made: Callable[[], Any]) -> Reader:
    return Reader(f"rows{ending}", f"rows{ending}", made, kinds, _own_rows)


TASKS = (
    Reader(
        "task_toml",
        "task.toml",
        sound.texts(sound.CLASSIFICATION, sound.GENERATION),
        TOML,
        _task,
        _rows_beside,
    ),
    Reader("super_ni", "task.json", sound.as_json(sound.SUPER_NI), JSON, _task),
    Reader("test_rows", "rows.jsonl", sound.lines(sound.ROWS), LINES, lambda path: written(read_tests(path))),
    Reader("draft", "draft.json", sound.as_json(sound.DRAFT, sound.DRAFT_OF_JSON), JSON, _draft),
    Reader("decision_request", "request.json", sound.as_json(*sound.DECISIONS), JSON, _draft),
    Reader(
        "kept_form",
        "x.toml.draft",
        sound.as_json({"draft": {"name": "x"}, "step": "kind"}, {"draft": sound.FORM_DRAFT, "step": "input"}),
        JSON,
        _kept_form,
    ),
    _rows_reader(".csv", SEPARATED, sound.table(".csv")),
    _rows_reader(".tsv", SEPARATED, sound.table(".tsv")),
    _rows_reader(".jsonl", LINES, sound.lines(sound.ROWS, sound.CHATS)),
    _rows_reader(".json", JSON, sound.as_json(list(sound.ROWS))),
    _rows_reader(".xlsx", ZIP, sound.table(".xlsx")),
    _rows_reader(".txt", TEXT, sound.texts("first\nsecond\n\nthird line\n")),
    _rows_reader(".csv.gz", (gzipped(text_changed), gzipped(bytes_changed)), sound.table(".csv.gz")),
)

# Review


def _review_state() -> review.ReviewState:
    judged = {row.id: row for row in sound.VERDICTS if row.judge == filters.JUDGE}
    rows = review.build_rows(sound.CANDIDATES, judged, sound.TASK.labels)
    return review.open_review(rows, sound.VERDICTS, labels=sound.TASK.labels, judge="me")


def _import(path: Path) -> object:
    return written(review.import_rows(_review_state(), read_grid(path)))


def _exported(ending: str) -> Callable[[], tuple[bytes, ...]]:
    return lambda: sound.table(ending, review.export_rows(_review_state()))()


def _edited(path: Path) -> object:
    """The row after the editor, as the review takes it."""
    texts = review.read_edited(path)
    state = _review_state()
    return texts and written(review.edited(state, input=texts[0], output=texts[1]).new)


REVIEW = (
    Reader("editor_file", "row-1.txt", sound.texts(review.as_file("a text", "billing")), TEXT, _edited),
    Reader("review_csv", "review.csv", _exported(".csv"), SEPARATED, _import),
    Reader("review_xlsx", "review.xlsx", _exported(".xlsx"), ZIP, _import),
    Reader("review_jsonl", "review.jsonl", _exported(".jsonl"), LINES, _import),
)


# Settings and models


def _preset(path: Path) -> object:
    return str(make_plan([preset_layer(str(path), "generation")]))


def _config(path: Path) -> object:
    options, tables = read_config(path)
    return written(options), str(make_plan([(f"file {path}", tables)]))


PRESET = b"""base = "paper"
[synth]
temperature = 0.7
n_asked = 20
style = "paper"
[train]
epochs = 2.0
rank = 8
[filter]
policy = "asked"
agreement = { threshold = 0.5, on = true }
[engine]
n_ctx = 1024
cache = "none"
"""
CONFIG = b'model = "m"\nseed = 3\npreset = "paper"\nruns = "r"\n\n[synth]\ntemperature = 0.5\n[eval]\nn_votes = 3\n'
CARD = b"""name = "own"
summary = "A model"
architecture = "llama"
parameters = 100
layers = 2
n_ctx = 512
licence = "mit"
template = "chatml"
stops = ["<|im_end|>"]
chat_template = "{{ messages[0].content }}"

[source]
repo = "owner/repo"
file = "m-Q4_0.gguf"
sha256 = "00"
size_bytes = 12
revision = "main"
files = { Q4_0 = "m-Q4_0.gguf", Q8_0 = "m-Q8_0.gguf" }
"""


CARD_OF_PATH = b'[source]\npath = "/models/m.gguf"\n'
GGUF_MODEL = (gguf_mutator(sound.model_file), bytes_changed)
GGUF_ADAPTER = (gguf_mutator(sound.adapter_file), bytes_changed)


def _model(path: Path) -> object:
    info = written(header_info(path))
    with GgufFile(path) as file:
        reason = why_not_trainable(file)
        list(file.slabs(next(iter(file.tensors.values()))))
    return info, reason or str(check_trainable(path))


def _adapter(path: Path) -> object:
    adapter = read_adapter(path)
    with GgufFile(path.with_name("base.gguf")) as base:
        check_adapter(adapter, base, "00")
    return [adapter.delta(name).sum() for name in adapter.pairs]


def _base_beside(folder: Path) -> None:
    (folder / "base.gguf").write_bytes(sound.model_file())


SETTINGS = (
    Reader("preset", "mine.toml", lambda: (PRESET,), TOML, _preset),
    Reader("config", "config.toml", lambda: (CONFIG,), TOML, _config),
    Reader("card", "card.toml", lambda: (CARD, CARD_OF_PATH), TOML, lambda path: written(read_card(path))),
    Reader("gguf_model", "m.gguf", lambda: (sound.model_file(),), GGUF_MODEL, _model),
    Reader("gguf_adapter", "a.gguf", lambda: (sound.adapter_file(),), GGUF_ADAPTER, _adapter, _base_beside),
)

# Schemas, templates


def _schema(path: Path) -> object:
    """A task whose schema is this file; then a text held against it."""
    task = read_task(path.with_name("task.toml"))
    return [schemas.misfit(task.schema, text) for text in (sound.FITTING, '{"a": [1, {"b": 2}]}', '"x"')]


def _task_of_schema(folder: Path) -> None:
    text = sound.GENERATION.partition("schema = ")[0] + 'schema = "schema.json"\n[[examples]]\ninput = "a"\n'
    (folder / "task.toml").write_text(f"{text}output = '{sound.FITTING}'\n")


def _fitting(path: Path) -> object:
    """A model's answer held against a schema."""
    return schemas.misfit(json.dumps(sound.SCHEMA), path.read_text(encoding="utf-8", errors="replace"))


REFUSED = (ApiError,)


def _body(path: Path) -> object:
    """A request's body, as the routes read it."""
    body = read_body(path.read_bytes())
    routes = (systemone.read,) if "questions" in body else (read_text,) if "prompt" in body else (read_chat,)
    return [written(read(body) if read is systemone.read else read(body, Bounds())) for read in routes]


def _template(path: Path) -> object:
    source = path.read_bytes().decode("utf-8", "replace")  # as a GGUF's texts are decoded
    form = chat_form(source, "<s>", "</s>", True, ("<|im_end|>",))
    messages = [{"role": "user", "content": "{{ a }}"}, {"role": "assistant", "content": "<|im_end|>"}] * 3
    return "".join(segment.text for segment in render(form, messages)).encode()


TEXTS = (
    Reader("schema", "schema.json", sound.as_json(sound.SCHEMA), JSON, _schema, _task_of_schema),
    Reader("json_answer", "answer.json", sound.texts(sound.FITTING), JSON, _fitting, names_file=False),
    Reader(
        "http_body", "body.json", sound.as_json(*sound.REQUESTS), JSON, _body, names_file=False, refusals=(ApiError,)
    ),
    Reader("chat_template", "t.jinja", sound.texts(*sound.TEMPLATES), TEXT, _template, names_file=False),
)
