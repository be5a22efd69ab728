"""Reads a task from TOML or from Super-NaturalInstructions JSON, and checks it.

A TOML task has name, kind, instruction, labels (classification), [[examples]], three or more, and optional [[tests]]
(or files of such rows, named.py). Outputs that are JSON may have a schema: a [schema] table,
`schema = "FILE.json"` beside the task, or its JSON text. A Super-NI file is read as it is (superni.py). Every error
names the file and, where it can be found, the line.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.prompts import match_label
from sg_local.reading import loads, parse_toml, read_text
from sg_local.records import KINDS, SgError, Task, TestRow
from sg_local.schemas import misfit, unfit
from sg_local.tables import BY_NAME, Columns
from sg_local.tasks.find import find_task
from sg_local.tasks.named import PlacedRow, RowsFile, named, read_rows, saying_columns
from sg_local.tasks.rows import as_test, check_keys, pair_of, rows_of, test_row_of
from sg_local.tasks.source import Part, TaskSource
from sg_local.tasks.superni import from_superni, is_superni
from sg_local.words import shown


@dataclass(frozen=True)
class PlacedTask:
    """A task, and where in its file each of its parts stands. `told`: a line on how each file of its rows was read."""

    task: Task
    source: TaskSource
    told: tuple[str, ...] = ()


Tell = Callable[[str], object]
"""Takes a line that says how a file was read."""


def load_task(name: str, tests: int | Path | None = None, columns: Columns = BY_NAME, tell: Tell | None = None) -> Task:
    """Read and check a task by its name or path, its test rows chosen as `with_tests` does."""
    found = read_placed_task(find_task(name))
    if tell:
        for line in found.told:
            tell(line)
    return with_tests(found.task, tests, columns, tell)


def with_tests(task: Task, tests: int | Path | None, columns: Columns = BY_NAME, tell: Tell | None = None) -> Task:
    """The task with other test rows, where given: so many of its own, drawn with a fixed seed, or those of a file.

    `columns` are the file's, and `tell` is given the line that says how it was read.
    """
    if isinstance(tests, Path):
        found = read_test_file(tests, columns)
        if tell and found.told:
            tell(found.told)
        return dataclasses.replace(task, tests=tuple(_spelt(task, row) for row in found.rows))
    if tests is None or tests >= len(task.tests):
        return task
    return dataclasses.replace(task, tests=tuple(random.Random(0).sample(task.tests, tests)))


def tests_of(task: Task, path: Path) -> tuple[TestRow, ...]:
    """The test rows of a file, outputs of a classification task in the spelling of its labels.

    Raises SgError (usage) where an output is not one of the labels.
    """
    return with_tests(task, path).tests


def _spelt(task: Task, placed: PlacedRow) -> TestRow:
    """A row whose outputs are spelt as the task's labels are; as it is where the task has none."""
    row = placed.row
    if not task.labels:
        return row
    labels = [match_label(task.labels, text) for text in row.outputs]
    if None in labels:
        message = f"{placed.place}: the output {row.outputs[labels.index(None)]!r} is not a label of task {task.name}."
        raise SgError(message, f"The labels are: {', '.join(task.labels)}.", exit_code=2)
    return dataclasses.replace(row, outputs=tuple(label for label in labels if label is not None))


def read_task(path: Path) -> Task:
    """A task from a .toml or Super-NI .json file. Raises SgError (usage) for anything malformed."""
    return read_placed_task(path).task


def read_placed_task(path: Path) -> PlacedTask:
    """A task as `read_task` has it, with the places of its parts."""
    return _read_task(path)


def _read_task(path: Path, *, has_own_tests: bool = False) -> PlacedTask:
    """A task; with `has_own_tests` its test rows may not be those of yet another file."""
    source = TaskSource(path, read_text(path))
    if path.suffix == ".json":
        return PlacedTask(_check(source, from_superni(source)), source)
    data = parse_toml(source.text, path, "Fix this line.")
    if has_own_tests and isinstance(data.get("tests"), str | dict):
        hint = "Name the file that holds the rows."
        raise source.error("its test rows are those of another file in turn.", hint, "tests")
    return _from_toml(source, data)


def task_from(data: Mapping[str, Any]) -> Task:
    """A task from a mapping with the keys of a task file; paths in it are relative to the working folder.

    Raises SgError (usage) for anything malformed.
    """
    return _from_toml(TaskSource(Path("task"), ""), dict(data)).task


def read_tests(path: Path) -> tuple[TestRow, ...]:
    """Test rows from a task file, TOML or Super-NI, or from any file of rows (sg_local.tables)."""
    return tuple(placed.row for placed in read_test_file(path).rows)


def read_test_file(path: Path, columns: Columns = BY_NAME) -> RowsFile:
    """Test rows as `read_tests` has them, each with its place."""
    if path.suffix == ".toml" or (path.suffix == ".json" and is_superni(path)):
        found = _read_task(path, has_own_tests=True)
        rows = enumerate(found.task.tests, 1)
        return RowsFile(tuple(PlacedRow(row, found.source.place("tests", i)) for i, row in rows))
    file = read_rows(path, columns)
    tests = (PlacedRow(as_test(placed.row.input, placed.row.outputs), placed.place) for placed in file.rows)
    return RowsFile(tuple(tests), file.told)


def _from_toml(source: TaskSource, data: dict[str, Any]) -> PlacedTask:
    check_keys(source, data)
    kind = data.get("kind")
    if kind not in KINDS:
        hint = 'Write kind = "classification" or kind = "generation".'
        raise source.error(f"kind is {kind!r}.", hint, "kind")
    task = Task(
        name=_text(source, data, "name") if "name" in data else source.path.stem,
        kind=kind,
        instruction=_text(source, data, "instruction"),
        examples=(),
        labels=_labels(source, data.get("labels", [])),
        schema=_schema(source, data.get("schema")),
    )
    found = _with_tests(_with_examples(PlacedTask(task, source), data), data)
    return dataclasses.replace(found, task=_check(found.source, found.task))


def _with_examples(made: PlacedTask, data: dict[str, Any]) -> PlacedTask:
    """The task with its demonstrations: its own, or those of the file that it names."""
    source, task = made.source, made.task
    if not isinstance(data.get("examples"), str | dict):
        rows = enumerate(rows_of(source, data, "examples"), 1)
        pairs = tuple(pair_of(source, row, i, task.kind) for i, row in rows)
        return dataclasses.replace(made, task=dataclasses.replace(task, examples=pairs))
    file = named(source, "examples", data["examples"])
    with saying_columns(source, "examples", file.path):
        found = read_rows(file.path, file.columns)
    source = dataclasses.replace(source, examples=tuple(row.place for row in found.rows))
    texts = []
    for number, placed in enumerate(found.rows, 1):
        outputs = _spelt(task, placed).outputs
        if len(outputs) > 1:
            raise source.error(f"an example has one output, not {len(outputs)}.", "Leave one.", "examples", number)
        texts.append({"input": placed.row.input, "output": outputs[0]})
    pairs = tuple(pair_of(source, text, i, task.kind) for i, text in enumerate(texts, 1))
    return PlacedTask(dataclasses.replace(task, examples=pairs), source, (*made.told, found.told))


def _with_tests(made: PlacedTask, data: dict[str, Any]) -> PlacedTask:
    """The task with its test rows: its own, or those of the file that it names."""
    source, task = made.source, made.task
    if not isinstance(data.get("tests"), str | dict):
        rows = tuple(test_row_of(source, row, i) for i, row in enumerate(rows_of(source, data, "tests"), 1))
        return dataclasses.replace(made, task=dataclasses.replace(task, tests=rows))
    file = named(source, "tests", data["tests"])
    with saying_columns(source, "tests", file.path):
        found = read_test_file(file.path, file.columns)
    source = dataclasses.replace(source, tests=tuple(row.place for row in found.rows))
    rows = tuple(_spelt(task, row) for row in found.rows)
    told = (*made.told, found.told) if found.told else made.told
    return PlacedTask(dataclasses.replace(task, tests=rows), source, told)


def _text(source: TaskSource, data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise source.error(f"{key} is missing or empty.", f'Write {key} = "...".', key)
    return value.strip()


def _labels(source: TaskSource, labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise source.error("labels must be strings.", 'Quote each one: labels = ["yes", "no"].', "labels")
    if len(set(labels)) != len(labels):
        raise source.error("a label is listed twice.", "Keep each label once.", "labels")
    return tuple(labels)


def _schema(source: TaskSource, given: Any) -> str:
    """The schema as JSON text, keys in the order written; '' where there is none."""
    if given is None:
        return ""
    if isinstance(given, str):
        text = given if given.lstrip().startswith("{") else read_text(source.path.parent / given)
        try:
            given = loads(text)
        except ValueError as error:
            hint = "Give a [schema] table, a file's name, or a schema as JSON text."
            raise source.error(f"the schema is not JSON ({error}).", hint, "schema") from error
    try:
        reason = unfit(given)
        text = json.dumps(given, ensure_ascii=False)
    except TypeError as error:
        raise source.error(f"the schema holds what JSON cannot ({error}).", "Quote dates.", "schema") from error
    if reason:
        raise source.error(f"the schema cannot be used: {reason}.", "See json-schema.org.", "schema")
    return text


def _check(source: TaskSource, task: Task) -> Task:
    for key, text in (("name", task.name), *(("labels", label) for label in task.labels)):
        if shown(text) != text or set(text) & {"\n", "\t"}:  # they stand in tables, charts and other programs' files
            raise source.error(f"{text!r} in {key} holds a control character.", "Write it plainly, on one line.", key)
    if task.kind == "generation":
        if task.labels:
            raise source.error("a generation task has labels.", "Drop them or set the kind.", "labels")
        return _check_schema(source, task)
    if task.schema:
        raise source.error("a classification task has a schema.", "Its labels say all: drop the schema.", "schema")
    if len(task.labels) < 2:
        raise source.error("classification needs two labels or more.", 'Write labels = ["yes", "no"].', "labels")
    for part, output in _outputs(task):
        if output not in task.labels:
            hint = f"labels has: {', '.join(task.labels)}."
            raise source.error(f"the output {output!r} is not in labels.", hint, *part)
    return task


def _outputs(task: Task) -> Iterator[tuple[Part, str]]:
    """Every right output, with the part of the file where it stands."""
    for number, pair in enumerate(task.examples, 1):
        yield ("examples", number, "output"), pair.output
    for number, row in enumerate(task.tests, 1):
        for output in row.outputs:
            yield ("tests", number, "outputs" if len(row.outputs) > 1 else "output"), output


def _check_schema(source: TaskSource, task: Task) -> Task:
    """The task, whose demonstrations and test outputs fit its schema."""
    for part, output in _outputs(task) if task.schema else ():
        reason = misfit(task.schema, output)
        if reason:
            place = f"{'example' if part[0] == 'examples' else 'test row'} {part[1]}"
            raise source.error(f"the output of {place} does not fit the schema: {reason}.", "Change either.", *part)
    return task
