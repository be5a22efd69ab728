"""A task in the making: what is known so far, its file put in place once it reads back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sg_local import prompts
from sg_local.files import artefact, write_text
from sg_local.records import Kind, Pair, SgError, Task, TestRow
from sg_local.tasks.files import read_task
from sg_local.tasks.labels import with_labels_named
from sg_local.tasks.toml import task_toml

TESTS_ENDING, ROWS_ENDING = ".tests.jsonl", ".rows.jsonl"


@dataclass(frozen=True)
class Draft:
    """What is known of a new task so far.

    `tests_beside`: the test rows go to a file of their own. `rows` are labelled rows left over, to train on.
    """

    name: str
    kind: str | None = None
    instruction: str | None = None
    labels: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    schema: str = ""
    tests: tuple[TestRow, ...] = ()
    rows: tuple[TestRow, ...] = ()
    tests_beside: bool = False

    @property
    def is_complete(self) -> bool:
        """True when nothing need be asked."""
        return bool(self.kind and self.instruction and self.examples)

    def task(self) -> Task:
        """The task; whether it is well-formed is checked when its file is read back."""
        pairs = tuple(Pair(*pair) for pair in self.examples)
        kind = cast(Kind, self.kind or "generation")
        return Task(self.name, kind, self.instruction or "", pairs, self.labels, self.tests, self.schema)


def prompt_text(task: Task) -> str:
    """The prompt that the task becomes, in the plain form."""
    return "".join(
        segment.text for segment in prompts.answer_prompt(with_labels_named(task), prompts.PLAIN, "(the new input)")
    )


def files_of(draft: Draft, path: Path) -> dict[Path, str]:
    """The files that a draft becomes, each with its text: the task's own, and those of its rows beside it."""
    tests = path.with_name(f"{path.stem}{TESTS_ENDING}")
    beside = draft.tests_beside and draft.tests
    files = {path: task_toml(draft.task(), tests.name if beside else "")}
    if beside:
        files[tests] = "".join(map(row_line, draft.tests))
    if draft.rows:
        files[path.with_name(f"{path.stem}{ROWS_ENDING}")] = "".join(map(row_line, draft.rows))
    return files


def write_task(files: Mapping[Path, str]) -> None:
    """Put a task's files in place once they read back as a task, its own (the first) as the last one.

    Raises SgError (usage) for a task that is not well-formed; no file is left then.
    """
    path, *beside = files
    for one, text in files.items():
        _check_encodable(one, text)
    with artefact(path) as partial:
        partial.mkdir()  # removed again on an error, with the files in it
        for one, text in files.items():
            (partial / one.name).write_text(text, encoding="utf-8")
        _check_reads_back(partial / path.name, path)
        shutil.rmtree(partial)
        for one in beside:
            write_text(one, files[one])
        partial.write_text(files[path], encoding="utf-8")


def row_line(row: TestRow) -> str:
    """A row as a line of a JSON lines file."""
    outputs = {"output": row.outputs[0]} if len(row.outputs) == 1 else {"outputs": row.outputs}
    return json.dumps({"input": row.input, **outputs}, ensure_ascii=False) + "\n"


def _check_encodable(path: Path, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"{path} would contain what is not text: {text[error.start : error.end]!r}."
        raise SgError(message, "Give the texts in UTF-8.", exit_code=2) from error


def _check_reads_back(draft: Path, path: Path) -> None:
    try:
        task = read_task(draft)
    except SgError as error:
        message = error.message.replace(str(draft.parent), str(path.parent))
        raise SgError(message, error.hint, exit_code=2) from error
    if not task.examples:
        raise SgError(f"{path} would hold no examples.", "Give one, best three.", exit_code=2)
