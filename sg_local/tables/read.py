"""Reads a file of rows: its form by its first bytes and its name, then which column is what, then row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sg_local.records import SgError
from sg_local.tables.encoding import control_in, file_bytes, text_of
from sg_local.tables.grid import Grid, GridRow, shown, with_first_as_name
from sg_local.tables.instructions import with_instructions
from sg_local.tables.naming import roles_of
from sg_local.tables.objects import read_objects
from sg_local.tables.records import BY_NAME, Columns, Table, TableRow
from sg_local.tables.separated import read_lines_alone, read_separated
from sg_local.tables.sheets import read_sheet
from sg_local.words import counted

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
SEPARATED_ENDINGS = (".csv", ".tsv", ".tab", ".psv")
SHEET_ENDINGS = (".xlsx", ".xlsm")
LINES_ENDINGS = (".txt", ".text", "")
ENDINGS = "Files of rows end in .csv, .tsv, .xlsx, .jsonl, .json or .txt, each with .gz too."
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
TYPES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def read_table(path: Path, columns: Columns = BY_NAME, *, needs_output: bool = False, lenient: bool = False) -> Table:
    """The rows of a file. Raises SgError (usage) for one that cannot be read, naming file, line and column.

    `needs_output`: every row has an output. `lenient`: rows that cannot be used stay in, and say why in `error`.
    """
    return table_of(read_grid(path), columns, needs_output=needs_output, lenient=lenient)


def read_grid(path: Path) -> Grid:
    """The cells of a file, before anything is asked of them."""
    return parse_grid(file_bytes(path), path)


def parse_grid(data: bytes, path: Path) -> Grid:
    """The cells that unpacked bytes hold; `path` names them in errors, and its ending is their form."""
    if data.startswith(OLD_EXCEL):
        hint = "Save it as .xlsx without a password, or as `CSV UTF-8`."
        raise SgError(f"{path} is an old or locked Excel file.", hint, exit_code=2)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending in SHEET_ENDINGS or (ending in SEPARATED_ENDINGS and data.startswith(b"PK\x03\x04")):
        return read_sheet(data, path)
    if ending in JSON_ENDINGS:
        return read_objects(text_of(data, path), path)
    if ending in SEPARATED_ENDINGS:
        return read_separated(text_of(data, path), path)
    if ending in LINES_ENDINGS:
        return read_lines_alone(text_of(data, path), path)
    raise SgError(f"{path}: rows are not read from {ending} files.", ENDINGS, exit_code=2)


def table_of(grid: Grid, columns: Columns = BY_NAME, *, needs_output: bool = False, lenient: bool = False) -> Table:
    """A grid as a table, as `read_table` makes it of a file."""
    grid = with_first_as_name(grid, columns.input)
    if not grid.rows:
        raise SgError(f"{grid.path} holds no rows.", "Give a file with a row for each input.", exit_code=2)
    if not grid.columns:
        first = grid.rows[0]
        error, hint = (first.error, first.hint) if first.error else ("this row is empty", "Fill it in, or take it out.")
        raise SgError(f"{grid.path}:{first.line}: {error}.", hint, exit_code=2)
    grid = with_instructions(grid) if columns == BY_NAME else grid
    roles = roles_of(grid, columns, needs_output=needs_output)
    rows = tuple(_rows(grid, roles, needs_output, lenient))
    return Table(grid.path, grid.form, grid.columns, roles[0], roles[1], rows, _told(grid, roles, len(rows)))


def _told(grid: Grid, roles: tuple[str, str | None], n_rows: int) -> str:
    """One line on how the file was read."""
    said = [f"input = {shown(roles[0])}", *([f"output = {shown(roles[1])}"] if roles[1] else [])]
    note = f"; {grid.note}" if grid.note else ""
    return f"{grid.path.name}: {grid.described}, {counted(n_rows, 'row')}; {', '.join(said)}{note}"


def _rows(grid: Grid, roles: tuple[str, str | None], needs_output: bool, lenient: bool) -> Iterator[TableRow]:
    """The rows as they are used; SgError at the end where some cannot be, unless that is left to the caller."""
    wrong: list[tuple[TableRow, str]] = []
    for row in grid.rows:
        text, outputs = row.cells.get(roles[0], ""), _outputs(row, roles[1])
        error, hint = (row.error, row.hint) if row.error else _fault(row, roles, text, outputs, needs_output)
        found = TableRow(row.line, row.cells, text, outputs, error, row.values)
        if error and not lenient:
            wrong.append((found, hint))
        yield found
    if wrong:
        row_, hint = wrong[0]
        more = f" So {counted(len(wrong) - 1, 'other row', 'are')}." if len(wrong) > 1 else ""
        raise SgError(f"{grid.path}:{row_.line}: {row_.error}.{more}", hint, exit_code=2)


def _outputs(row: GridRow, column: str | None) -> tuple[str, ...]:
    """Every right output of a row: the texts of a list, or the one cell; none where it is blank."""
    if column is None:
        return ()
    if column not in row.cells or (column == "outputs" and not row.cells[column]):
        column = "output"
    value = row.values.get(column)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    text = row.cells.get(column, "")
    return (text,) if text.strip() else ()


def _fault(
    row: GridRow, roles: tuple[str, str | None], text: str, outputs: tuple[str, ...], needs_output: bool
) -> tuple[str, str]:
    """Why a row cannot be used, with a hint; two empty texts where it can."""
    odd = row.values.get(roles[0])
    if odd is not None:
        return f"the {shown(roles[0])!r} is {TYPES[type(odd)]}, not a text", "Quote it."
    if not text.strip():
        return f"the column {shown(roles[0])!r} is empty", "Fill it in, or take the row out."
    if needs_output and not (outputs and all(output.strip() for output in outputs)):
        return f"the column {shown(roles[1] or '')!r} is empty", "Fill it in, or take the row out."
    for column, value in ((roles[0], text), *((roles[1], output) for output in outputs)):
        if found := control_in(value):
            return f"the column {shown(column or '')!r} holds {found}", "Take it out: is the file damaged, or no text?"
    return "", ""
