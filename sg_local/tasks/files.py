"""Reads a task from TOML or from Super-NaturalInstructions JSON, and checks it.

A TOML task has name, kind, instruction, labels (classification), up to three [[examples]] and optional [[tests]]
(or `tests = "FILE"`, JSON lines with input and output). Outputs that are JSON may have a schema: a [schema] table,
`schema = "FILE.json"` beside the task, or its JSON text. A Super-NI file is read as it is: its definition, its
first three positive examples, its instances as tests; it counts as classification when its instances use at most
ten different outputs. Every error names the file and, where it can be found, the line.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.parsing import indented
from sg_local.prompts import match_label
from sg_local.reading import loads, parse_json, parse_toml, read_lines, read_text
from sg_local.records import KINDS, Kind, Pair, SgError, Task, TestRow
from sg_local.schemas import misfit, unfit
from sg_local.tasks.find import find_task
from sg_local.words import brief

MAX_EXAMPLES = 3
MAX_SUPERNI_LABELS = 10
KEYS = {"name", "kind", "summary", "instruction", "labels", "examples", "tests", "schema"}


@dataclass(frozen=True)
class TaskSource:
    """A task file's text, to say where in it something is wrong."""

    path: Path
    text: str

    def error(self, message: str, hint: str, needle: str = "") -> SgError:
        """A usage error at the first line that holds `needle`."""
        at = self.text.find(needle) if needle else -1
        place = f"{self.path}:{self.text.count(chr(10), 0, at) + 1}" if at >= 0 else str(self.path)
        return SgError(f"{place}: {message}", hint, exit_code=2)


def load_task(name: str, tests: int | Path | None = None) -> Task:
    """Read and check a task by its name or path, its test rows chosen as `with_tests` does."""
    return with_tests(read_task(find_task(name)), tests)


def with_tests(task: Task, tests: int | Path | None) -> Task:
    """The task with other test rows, where given: so many of its own, drawn with a fixed seed, or those of a file."""
    if isinstance(tests, Path):
        return dataclasses.replace(task, tests=tests_of(task, tests))
    if tests is None or tests >= len(task.tests):
        return task
    return dataclasses.replace(task, tests=tuple(random.Random(0).sample(task.tests, tests)))


def tests_of(task: Task, path: Path) -> tuple[TestRow, ...]:
    """The test rows of a file, outputs of a classification task in the spelling of its labels.

    Raises SgError (usage) where an output is none of the labels.
    """
    rows = read_tests(path)
    return tuple(dataclasses.replace(row, outputs=_spelt(task, path, row.outputs)) for row in rows)


def _spelt(task: Task, path: Path, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Outputs as the task's labels are spelt; as they are where it has none."""
    if not task.labels:
        return outputs
    labels = [match_label(task.labels, text) for text in outputs]
    if None in labels:
        message = f"{path}: the output {outputs[labels.index(None)]!r} is no label of task {task.name}."
        raise SgError(message, f"The labels are: {', '.join(task.labels)}.", exit_code=2)
    return tuple(label for label in labels if label is not None)


def read_task(path: Path) -> Task:
    """A task from a .toml or Super-NI .json file. Raises SgError (usage) for anything malformed."""
    return _read_task(path)


def _read_task(path: Path, *, has_own_tests: bool = False) -> Task:
    """A task; with `has_own_tests` its test rows may not be those of yet another file."""
    source = TaskSource(path, read_text(path))
    if path.suffix == ".json":
        return _from_superni(source)
    data = parse_toml(source.text, path, "Mend this line.")
    if has_own_tests and isinstance(data.get("tests"), str):
        hint = "Name the file that holds the rows."
        raise source.error("its test rows are those of another file in turn.", hint, "tests")
    return _from_toml(source, data)


def task_from(data: Mapping[str, Any]) -> Task:
    """A task from a mapping with the keys of a task file; paths in it are relative to the working folder.

    Raises SgError (usage) for anything malformed.
    """
    return _from_toml(TaskSource(Path("task"), ""), dict(data))


def read_tests(path: Path) -> tuple[TestRow, ...]:
    """Test rows from a TOML or Super-NI task file, or from JSON lines with `input` and `output` or `outputs`."""
    if path.suffix in (".toml", ".json"):
        return _read_task(path, has_own_tests=True).tests
    hint = 'Each line is {"input": ..., "output": ...}.'
    rows = []
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        data = parse_json(line, place, hint, is_line=True)
        if (row := _as_test_row(data)) is None:
            raise SgError(f"{place}: this is no test row.", hint, exit_code=2)
        rows.append(row)
    return tuple(rows)


def _from_toml(source: TaskSource, data: dict[str, Any]) -> Task:
    unknown = sorted(set(data) - KEYS)
    if unknown:
        hint = f"A task has: {', '.join(sorted(KEYS))}."
        raise source.error(f"unknown key {unknown[0]!r}.", hint, unknown[0])
    kind = data.get("kind")
    if kind not in KINDS:
        hint = 'Write kind = "classification" or kind = "generation".'
        raise source.error(f"kind is {kind!r}.", hint, "kind")
    labels = _labels(source, data.get("labels", []))
    examples = tuple(_pair(source, row, i, kind) for i, row in enumerate(_rows(source, data, "examples"), 1))
    task = Task(
        name=_text(source, data, "name") if "name" in data else source.path.stem,
        kind=kind,
        instruction=_text(source, data, "instruction"),
        examples=examples,
        labels=labels,
        tests=_toml_tests(source, data),
        schema=_schema(source, data.get("schema")),
    )
    return _check(source, task)


def _toml_tests(source: TaskSource, data: dict[str, Any]) -> tuple[TestRow, ...]:
    tests = data.get("tests", [])
    if isinstance(tests, str):
        return read_tests(source.path.parent / tests)
    return tuple(_test_row(source, row, i) for i, row in enumerate(_rows(source, data, "tests"), 1))


def _rows(source: TaskSource, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = data.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise source.error(f"{key} is not a list of tables.", f"Write each as [[{key}]].", key)
    return rows


def _text(source: TaskSource, data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise source.error(f"{key} is missing or empty.", f'Write {key} = "...".', key)
    return value.strip()


def _labels(source: TaskSource, labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise source.error("labels must be strings.", 'Quote each one: labels = ["yes", "no"].', "labels")
    if len(set(labels)) != len(labels):
        raise source.error("a label stands twice in labels.", "Keep each label once.", "labels")
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


def _pair(source: TaskSource, row: dict[str, Any], number: int, kind: Kind) -> Pair:
    for key in ("input", "output"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            hint = f'Each [[examples]] has {key} = "..." in quotes.'
            raise source.error(f"example {number} has no text as {key}.", hint, "[[examples]]")
    output: str = row["output"]
    return Pair(indented(row["input"]), indented(output) if kind == "generation" else output.strip())


def _test_row(source: TaskSource, row: Any, number: int) -> TestRow:
    found = _as_test_row(row)
    if found is None:
        hint = "A test row has input and output (or outputs, a list), all in quotes."
        raise source.error(f"test row {number} is malformed.", hint, "[[tests]]")
    return found


def _as_test_row(row: Any) -> TestRow | None:
    """Plain data as a test row; None where it is none."""
    given = row.get("outputs", row.get("output")) if isinstance(row, dict) else None
    outputs = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    texts = outputs and all(isinstance(text, str) for text in outputs)
    if not texts or not isinstance(row.get("input"), str):
        return None
    return TestRow(indented(row["input"]), tuple(text.strip() for text in outputs))


def _check(source: TaskSource, task: Task) -> Task:
    if not task.examples:
        raise source.error("the task has no examples.", "Add one to three [[examples]] with input and output.")
    if len(task.examples) > MAX_EXAMPLES:
        raise source.error(f"{len(task.examples)} examples; at most {MAX_EXAMPLES}.", "Move the others to [[tests]].")
    if task.kind == "generation":
        if task.labels:
            raise source.error("a generation task has labels.", "Drop them or set the kind.", "labels")
        return _check_schema(source, task)
    if task.schema:
        raise source.error("a classification task has a schema.", "Its labels say all: drop the schema.", "schema")
    if len(task.labels) < 2:
        raise source.error("classification needs two labels or more.", 'Write labels = ["yes", "no"].', "labels")
    used: Iterable[str] = [pair.output for pair in task.examples] + [o for row in task.tests for o in row.outputs]
    for output in used:
        if output not in task.labels:
            hint = f"labels has: {', '.join(task.labels)}."
            raise source.error(f"the output {output!r} is not in labels.", hint, f'"{output}"')
    return task


def _check_schema(source: TaskSource, task: Task) -> Task:
    """The task, whose demonstrations and test outputs fit its schema."""
    used = [(f"example {i}", pair.output) for i, pair in enumerate(task.examples, 1)]
    used += [(f"test row {i}", output) for i, row in enumerate(task.tests, 1) for output in row.outputs]
    for place, output in used if task.schema else ():
        reason = misfit(task.schema, output)
        if reason:
            raise source.error(f"the output of {place} does not fit the schema: {reason}.", "Mend either.", "schema")
    return task


def _from_superni(source: TaskSource) -> Task:
    data = parse_json(source.text, str(source.path), "Check the file.")
    try:
        definition = data["Definition"]
        instruction = _superni_text(definition if isinstance(definition, str) else definition[0], "Definition")
        shown = data["Positive Examples"]
        examples = tuple(Pair(_superni_text(e["input"]), _superni_text(e["output"])) for e in shown)
        tests = tuple(_superni_test(row) for row in data["Instances"])
    except (KeyError, IndexError, TypeError) as error:
        hint = "It needs Definition, Positive Examples and Instances, with texts as input and output."
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise source.error(f"this is not a Super-NaturalInstructions task ({brief(why, 100)}).", hint) from error
    labels = _superni_labels(tests, examples)
    kind: Kind = "classification" if labels else "generation"
    return _check(source, Task(source.path.stem, kind, instruction.strip(), examples[:MAX_EXAMPLES], labels, tests))


def _superni_test(row: dict[str, Any]) -> TestRow:
    outputs = row["output"]
    texts = [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(texts, list) or not texts:
        raise TypeError("output is neither a text nor a list of texts")
    return TestRow(_superni_text(row["input"]), tuple(_superni_text(text) for text in texts))


def _superni_text(value: Any, name: str = "an input or output") -> str:
    """A text of the file; TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value.strip()


def _superni_labels(tests: tuple[TestRow, ...], examples: tuple[Pair, ...]) -> tuple[str, ...]:
    """The label set where the outputs form one: few distinct ones against the number of rows; else empty."""
    outputs = {output for row in tests for output in row.outputs}
    if len(outputs) > MAX_SUPERNI_LABELS or len(tests) < 4 * len(outputs):
        return ()
    return tuple(sorted(outputs | {pair.output for pair in examples}))
