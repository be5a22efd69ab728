"""What every form of file comes down to: named columns and rows of texts, before anyone says which is the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sg_local.records import SgError

MAX_COLUMNS = 1000


@dataclass(frozen=True)
class GridRow:
    """One row: its line, its cells as text, and why it cannot be used, with a hint.

    `values` holds what stood in a cell where that was no text (JSON alone: numbers, lists, objects).
    """

    line: int
    cells: dict[str, str]
    error: str = ""
    hint: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A file's cells. `form` is its short name, `described` what people are told: CSV with semicolons.

    `roles` are the columns of input and output where the form itself fixes them; `note` is told beside them.
    """

    path: Path
    form: str
    described: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    roles: tuple[str, str] | None = None
    note: str = ""


def header(cells: list[str], place: str) -> tuple[str, ...]:
    """The names of the columns; those without one are called by their number. SgError where a name stands twice."""
    if len(cells) > MAX_COLUMNS:
        hint = f"At most {MAX_COLUMNS} columns are read. Is it the right file?"
        raise SgError(f"{place}: {len(cells)} columns.", hint, exit_code=2)
    names = tuple(cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1))
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise SgError(f"{place}: the column {twice!r} stands twice.", "Give each column its own name.", exit_code=2)
    return names


def of_cells(names: tuple[str, ...], cells: list[str], line: int) -> GridRow:
    """A row of as many cells as there are names: those it lacks are empty, as Excel leaves them out."""
    if len(cells) < len(names):
        cells = cells + [""] * (len(names) - len(cells))
    row = dict(zip(names, cells, strict=False))
    if len(cells) > len(names) and any(cells[len(names) :]):
        error = f"this row has {len(cells)} cells and the first one {len(names)}"
        return GridRow(line, row, error, "A text that holds the separator or line breaks must stand in quotes.")
    return GridRow(line, row)
