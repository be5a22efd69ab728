"""The rows of a task file, [[examples]] and [[tests]], as records; and what stands among their keys by mistake."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sg_local.parsing import indented
from sg_local.records import Kind, Pair, SgError, TestRow
from sg_local.tasks.source import TaskSource
from sg_local.words import did_you_mean

TASK_KEYS = ("name", "kind", "summary", "instruction", "labels", "examples", "tests", "schema")
EXAMPLE_KEYS = ("input", "output")
TEST_KEYS = ("input", "output", "outputs")


def check_keys(source: TaskSource, data: dict[str, Any]) -> None:
    """Raises SgError (usage) for the first key that is unknown, or that stands in a table where it means nothing."""
    for key in data:
        if key in TEST_KEYS and key not in TASK_KEYS:
            hint = f"Write [[examples]] or [[tests]] above `{key} = ...`: it belongs to a row."
            raise source.error(f"{key} is outside any row.", hint, key)
        if key not in TASK_KEYS:
            raise source.error(f"unknown key {key!r}.", _known(key, TASK_KEYS, "A task"), key)
    if isinstance(schema := data.get("schema"), dict):
        for key in schema:
            if key in TASK_KEYS and key != "examples":  # a word of JSON Schema, too
                raise _misplaced(source, key, "[schema]", "schema", key)


def rows_of(source: TaskSource, data: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The rows of `examples` or `tests` as they are written, each with known keys only."""
    rows = data.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise source.error(f"{table} is not a list of tables.", f"Write each as [[{table}]].", table)
    known = EXAMPLE_KEYS if table == "examples" else TEST_KEYS
    for number, row in enumerate(rows, 1):
        for key in row:
            if key in TASK_KEYS:
                raise _misplaced(source, key, f"[[{table}]]", table, number, key)
            if key not in known:
                hint = _known(key, known, f"Each [[{table}]]")
                message = f"unknown key {key!r} in {table.removesuffix('s')} {number}."
                raise source.error(message, hint, table, number, key)
    return rows


def pair_of(source: TaskSource, row: dict[str, Any], number: int, kind: Kind) -> Pair:
    """A demonstration. Raises SgError (usage) where a text is missing."""
    for key in EXAMPLE_KEYS:
        if not isinstance(row.get(key), str) or not row[key].strip():
            hint = f'Each [[examples]] has {key} = "..." in quotes.'
            raise source.error(f"example {number} has no text as {key}.", hint, "examples", number, key)
    output: str = row["output"]
    return Pair(indented(row["input"]), indented(output) if kind == "generation" else output.strip())


def test_row_of(source: TaskSource, row: dict[str, Any], number: int) -> TestRow:
    """A test row. Raises SgError (usage) where it is none."""
    given = row.get("outputs", row.get("output"))
    outputs = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if outputs and all(isinstance(text, str) for text in outputs) and isinstance(row.get("input"), str):
        return as_test(row["input"], outputs)
    hint = "A test row has input and output (or outputs, a list), all in quotes."
    raise source.error(f"test row {number} is malformed.", hint, "tests", number)


def as_test(text: str, outputs: Iterable[str]) -> TestRow:
    """A test row as its writer means it: nothing blank around its texts."""
    return TestRow(indented(text), tuple(output.strip() for output in outputs))


def _misplaced(source: TaskSource, key: str, header: str, *part: str | int) -> SgError:
    """A key of the task behind a header: TOML takes it for a part of that table."""
    hint = f"Move `{key} = ...` up, above the first line in brackets."
    message = f"{key} comes after {header}, so TOML reads it as a part of that."
    return source.error(message, hint, *part)


def _known(key: str, known: tuple[str, ...], what: str) -> str:
    """The nearest known key, and all of them."""
    return f"{did_you_mean(key, known)} {what} has: {', '.join(known)}.".strip()
