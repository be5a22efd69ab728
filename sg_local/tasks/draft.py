"""A task in the making: what is known so far, its file put in place once it reads back."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sg_local import prompts
from sg_local.files import artefact
from sg_local.reading import read_json
from sg_local.records import Kind, Pair, SgError, Task, TestRow, from_dict
from sg_local.tasks.files import read_task
from sg_local.tasks.labels import with_labels_named
from sg_local.tasks.toml import task_toml


@dataclass(frozen=True)
class Draft:
    """What is known of a new task so far."""

    name: str
    kind: str | None = None
    instruction: str | None = None
    labels: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    schema: str = ""

    @property
    def is_complete(self) -> bool:
        """True when nothing need be asked."""
        return bool(self.kind and self.instruction and self.examples)

    def task(self) -> Task:
        """The task; whether it is well-formed is checked when its file is read back."""
        pairs = tuple(Pair(*pair) for pair in self.examples)
        kind = cast(Kind, self.kind or "generation")
        return Task(self.name, kind, self.instruction or "", pairs, self.labels, schema=self.schema)


def draft_from(path: Path, name: str) -> Draft:
    """A draft from JSON: kind, instruction, labels, examples as objects or pairs. Raises SgError (usage)."""
    hint = 'It needs "kind", "instruction", "examples" [{"input": ..., "output": ...}], and "labels" for classes.'
    data = read_json(path, hint)
    if not isinstance(data, dict):
        raise SgError(f"{path} does not describe a task: it is no object.", hint, exit_code=2)
    examples = data.get("examples", ())
    pairs = [(row.get("input"), row.get("output")) if isinstance(row, dict) else row for row in _list(examples)]
    schema = json.dumps(data["schema"], ensure_ascii=False) if "schema" in data else ""
    known = {key: data[key] for key in ("kind", "instruction", "labels", "name") if key in data}
    try:
        return from_dict(Draft, {"name": name, **known, "examples": pairs, "schema": schema})
    except SgError as error:
        raise SgError(f"{path} does not describe a task ({error.message}).", hint, exit_code=2) from error


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def prompt_text(task: Task) -> str:
    """The prompt that the task becomes, in the plain form."""
    return "".join(
        segment.text for segment in prompts.answer_prompt(with_labels_named(task), prompts.PLAIN, "(the new input)")
    )


def write_task(path: Path, task: Task, tests_file: str = "") -> None:
    """Put the task's file in place once it reads back as the task, after the file beside it that holds its test rows.

    Raises SgError (usage) for a task that is not well-formed; no file is left then.
    """
    texts = {path.name: task_toml(task, tests_file)}
    if tests_file:
        texts[tests_file] = "".join(f"{row_json(row)}\n" for row in task.tests)
    for name, text in texts.items():
        _check_encodable(path.parent / name, text)
    with artefact(path) as partial:
        partial.mkdir()  # removed again on an error, with the draft in it
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        _check_reads_back(partial / path.name, path)
        shutil.rmtree(partial)
        if tests_file:
            with artefact(path.parent / tests_file) as rows:
                rows.write_text(texts[tests_file], encoding="utf-8")
        partial.write_text(texts[path.name], encoding="utf-8")


def row_json(row: TestRow) -> str:
    """A test row as a line of a tests file."""
    outputs = {"output": row.outputs[0]} if len(row.outputs) == 1 else {"outputs": row.outputs}
    return json.dumps({"input": row.input, **outputs}, ensure_ascii=False)


def _check_encodable(path: Path, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"{path} would hold what is no text: {text[error.start : error.end]!r}."
        raise SgError(message, "Give the texts in UTF-8.", exit_code=2) from error


def _check_reads_back(draft: Path, path: Path) -> None:
    try:
        read_task(draft)
    except SgError as error:
        message = error.message.replace(str(draft.parent), str(path.parent))
        raise SgError(message, error.hint, exit_code=2) from error
