"""How much a file of rows may hold, so that a hostile one of 256 MB does not take many gigabytes of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sg_local.records import SgError

MAX_COLUMNS = 1000
MAX_ROWS = 1 << 20  # as many as a spreadsheet has
MAX_CELLS = 8 << 20  # at some 100 bytes each beside their texts
MAX_MARKS = 16 << 20  # of JSON: its values have at most that number


def bounded(rows: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of cells with their lines, passed on while they are not too many. Raises SgError (usage)."""
    n_cells = 0
    for n_rows, (line, cells) in enumerate(rows, 1):
        n_cells += len(cells)
        if len(cells) > MAX_COLUMNS or n_rows > MAX_ROWS or n_cells > MAX_CELLS:
            check_extent(n_rows, len(cells), path, line, n_cells)
        yield line, cells


def check_extent(n_rows: int, n_columns: int, path: Path, line: int | None = None, n_cells: int | None = None) -> None:
    """Raise SgError (usage) for more rows, columns or cells than are read."""
    place = path if line is None else f"{path}:{line}"
    if n_columns > MAX_COLUMNS:
        hint = f"Up to {MAX_COLUMNS:,} are read. Is it the right file?"
        raise SgError(f"{place}: {n_columns:,} columns are too many.", hint, exit_code=2)
    if n_rows > MAX_ROWS or (n_rows * n_columns if n_cells is None else n_cells) > MAX_CELLS:
        hint = f"Up to {MAX_ROWS:,} rows and {MAX_CELLS:,} cells are read. Split it."
        raise SgError(f"{place}: the file holds too many rows.", hint, exit_code=2)


def check_marks(text: str, path: Path) -> None:
    """Raise SgError (usage) for JSON with more values than are read."""
    if len(text) > MAX_MARKS and sum(text.count(mark) for mark in ",[{:") > MAX_MARKS:
        raise SgError(f"{path} holds too many values.", "Split it, or leave out what is not text.", exit_code=2)
