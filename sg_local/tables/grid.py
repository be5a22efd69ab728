"""What every form of file comes down to: named columns and rows of texts, before anyone says which is the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from sg_local.records import SgError
from sg_local.words import brief

NAMELESS = " without a name for its column"
MAX_SHOWN = 60  # characters of a column's name

OURS = {"input": ("input",), "output": ("outputs", "output")}
"""Names of columns that stand above all others."""

KNOWN = {
    "input": "text question body message prompt inputs content email e-mail mail query sentence request review comment "
    "utterance document article passage source premise ticket description instruction".split(),
    "output": "label answer category class target completion response answers labels intent sentiment reply tag topic "
    "expected solution summary translation".split(),
}
HEADERS = frozenset(name for role in OURS for name in (*OURS[role], *KNOWN[role]))

NO_VALUES: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True)
class GridRow:
    """One row: its line, its cells as text, and why it cannot be used, with a hint.

    `values` holds what stood in a cell where that was no text: None for nothing at all, and JSON's numbers, lists and
    objects.
    """

    line: int
    cells: dict[str, str]
    error: str = ""
    hint: str = ""
    values: Mapping[str, object] = field(default_factory=lambda: NO_VALUES)


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


def shown(name: str) -> str:
    """A column's name as messages have it: on one line, cut where it is long."""
    return brief(name, MAX_SHOWN)


def grid_of_cells(rows: list[tuple[int, list[str]]], path: Path, form: str, described: str) -> Grid:
    """Rows of cells (line and texts) as a grid: the first names the columns.

    Where there is one column, its name is known or every row is one of it. Rows and unnamed columns without any text
    are left out. Raises SgError (usage).
    """
    if not rows:
        raise SgError(f"{path} holds no rows.", "The first line names the columns.", exit_code=2)
    line, first = rows[0]
    width = len(first)
    while width > 1 and not any(cells[width - 1].strip() for _, cells in rows if len(cells) >= width):
        width -= 1
    if width == 1 and first[0].strip().lower() not in HEADERS:
        alone = (of_cells(("input",), cells, line) for line, cells in rows if any(cell.strip() for cell in cells))
        return Grid(path, form, f"{described}{NAMELESS}", ("input",), tuple(alone))
    columns = header(first[:width], f"{path}:{line}")
    filled = (of_cells(columns, cells, line) for line, cells in rows[1:])
    return Grid(path, form, described, columns, tuple(row for row in filled if row.error or any(row.cells.values())))


def with_first_as_name(grid: Grid, name: str | None) -> Grid:
    """The grid of one nameless column, named by its first row where the user says so; other grids as they are."""
    first = grid.rows[0].cells.get("input", "").strip() if grid.rows else ""
    if name is None or grid.columns != ("input",) or first.lower() != name.lower():
        return grid
    rows = tuple(dataclasses.replace(row, cells={first: row.cells["input"]}) for row in grid.rows[1:])
    described = grid.described.removesuffix(NAMELESS)
    return dataclasses.replace(grid, described=described, columns=(first,), rows=rows)


def header(cells: list[str], place: str) -> tuple[str, ...]:
    """The names of the columns; those without one are called by their number. SgError where a name stands twice."""
    names = tuple(cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1))
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise SgError(
            f"{place}: there are two columns {shown(twice)!r}.", "Give each column its own name.", exit_code=2
        )
    return names


def of_cells(names: tuple[str, ...], cells: list[str], line: int) -> GridRow:
    """A row of as many cells as there are names: those it lacks are empty, as Excel leaves them out."""
    if len(cells) < len(names):
        lacking = names[len(cells) :]
        return GridRow(line, dict(zip(names, cells + [""] * len(lacking), strict=True)), values=dict.fromkeys(lacking))
    row = dict(zip(names, cells, strict=False))
    if len(cells) > len(names) and any(cells[len(names) :]):
        error = f"this row has {len(cells)} cells and the first one {len(names)}"
        return GridRow(line, row, error, "Put texts that hold the separator or line breaks in quotes.")
    return GridRow(line, row)
