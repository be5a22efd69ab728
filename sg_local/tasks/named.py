"""The rows of a task that stand in a file of their own: `tests = "FILE"`, `examples = "FILE"`.

Where the file's columns do not tell what they are, the task does: `tests = {file = "FILE", input = "COLUMN", output =
"COLUMN"}`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.records import TestRow
from sg_local.tables import BY_NAME, Columns, Unclear, read_table
from sg_local.tasks.source import TaskSource


@dataclass(frozen=True)
class PlacedRow:
    """A row, and where it stands: FILE:LINE."""

    row: TestRow
    place: str


@dataclass(frozen=True)
class RowsFile:
    """The rows of a file. `told` is one line that says how it was read, its form and columns; '' for a task file."""

    rows: tuple[PlacedRow, ...]
    told: str = ""


@dataclass(frozen=True)
class Named:
    """A file that a task names for its rows, and the columns that are meant."""

    path: Path
    columns: Columns = BY_NAME


def read_rows(path: Path, columns: Columns = BY_NAME) -> RowsFile:
    """The rows of a file of rows as they stand there, each with an output or more. Raises SgError (usage)."""
    table = read_table(path, columns, needs_output=True)
    rows = (PlacedRow(TestRow(row.input, row.outputs), table.place(row)) for row in table.rows)
    return RowsFile(tuple(rows), table.told)


def named(source: TaskSource, key: str, given: str | dict[str, Any]) -> Named:
    """What `tests` or `examples` names where it is no list of rows. Raises SgError (usage)."""
    parts = {"file": given} if isinstance(given, str) else given
    if not all(name in ("file", "input", "output") and isinstance(parts[name], str) for name in parts):
        raise source.error(f"{key} names a file and its columns.", _hint(key), key)
    if "file" not in parts:
        raise source.error(f"{key} has columns and no file.", _hint(key), key)
    return Named(source.path.parent / parts["file"], Columns(parts.get("input"), parts.get("output")))


@contextlib.contextmanager
def saying_columns(source: TaskSource, key: str, file: Path) -> Iterator[None]:
    """Let an error that asks for columns tell how a task says them."""
    try:
        yield
    except Unclear as error:
        columns = Columns(error.columns.input or "COLUMN", error.columns.output or "COLUMN")
        name = file.relative_to(source.path.parent) if file.is_relative_to(source.path.parent) else file
        raise source.error(error.message, f"Write {_line(key, str(name), columns)}.", key) from error


def _line(key: str, file: str, columns: Columns) -> str:
    """The line of a task that names a file and its columns, as TOML."""
    parts = {"file": file, "input": columns.input, "output": columns.output}
    said = ", ".join(f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in parts.items())
    return f"{key} = {{{said}}}"


def _hint(key: str) -> str:
    return f"Write each row as [[{key}]], or {_line(key, 'FILE', Columns('COLUMN', 'COLUMN'))}."
