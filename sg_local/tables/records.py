"""A table as its readers have it: which columns were meant, its rows, and where each stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sg_local.records import SgError
from sg_local.words import did_you_mean

ROLES = ("input", "output")


@dataclass(frozen=True)
class Columns:
    """Which columns hold the inputs and the outputs, by name; None where the names in the file are to say it."""

    input: str | None = None
    output: str | None = None


BY_NAME = Columns()
"""Nothing is said: the names in the file say it."""


def parse_columns(text: str) -> Columns:
    """`input=Body,output=Team`, either part alone, or nothing; a name may hold commas. Raises SgError (usage)."""
    if not text.strip():
        return BY_NAME
    found: dict[str, str] = {}
    hint = "Write `columns=input=Body,output=Team` with the names of your columns."
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise SgError(f"{part.strip()!r} names no column.", hint, exit_code=2)
        if role not in ROLES:
            near = did_you_mean(role, ROLES)
            raise SgError(f"{role!r} is neither input nor output. {near}".strip(), hint, exit_code=2)
        if role in found:
            raise SgError(f"The column of the {role} is given twice.", hint, exit_code=2)
        found[role] = name
    return Columns(**found)


class Unclear(SgError):
    """A usage error: the columns are to be said. `columns` are those that the file's names suggest."""

    def __init__(self, message: str, columns: Columns) -> None:
        said = [f"{role}={name}" for role in ROLES if (name := getattr(columns, role)) is not None]
        super().__init__(message, f"Say it with `columns={','.join(said).replace('`', '')}`.", exit_code=2)
        self.columns = columns


@dataclass(frozen=True)
class TableRow:
    """One row. `line` is where it begins in its file, from 1; in a JSON list it is the row's place in the list.

    `cells` holds every column in the file's order, as text; `outputs` is empty where the row has none. `error` says
    why the row cannot be used; only a lenient reader leaves such rows in. `values` holds what was no text in JSON.
    """

    line: int
    cells: dict[str, str]
    input: str
    outputs: tuple[str, ...] = ()
    error: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A file of rows. `told` is one line that says how it was read: form, number of rows, columns."""

    path: Path
    form: str
    columns: tuple[str, ...]
    input_column: str
    output_column: str | None
    rows: tuple[TableRow, ...]
    told: str

    def place(self, row: TableRow) -> str:
        """Where a row stands: mails.csv:12."""
        return f"{self.path}:{row.line}"
