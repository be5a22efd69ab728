"""XLSX, by openpyxl (the extra `sheets`): the first sheet that is shown, each cell as people see it.

Formulas give the value that the spreadsheet last computed, whole numbers have no point, dates are ISO. Texts go out as
texts, never as formulas, and come back as they were. A file may unfold to MAX_TABLE_BYTES and MAX_FOLD times its size.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sg_local.records import SgError
from sg_local.tables.encoding import MAX_TABLE_BYTES
from sg_local.tables.extent import MAX_ROWS, bounded, check_extent
from sg_local.tables.grid import Grid, grid_of_cells
from sg_local.words import size

MAX_FOLD = 200  # sheets of one number fold to a hundredth
MAX_SMALL_BYTES = 16 << 20  # of what may fold as it likes
MAX_CELL = 32_767  # characters, Excel's own limit

ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What XML cannot hold, and the carriage return, which it takes for a line break. OOXML writes _x000D_."""


def read_sheet(data: bytes, path: Path) -> Grid:
    """The cells of a workbook's first sheet. Raises SgError (usage) for what is no workbook or too much."""
    _check_size(data, path)
    openpyxl = library()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints of styles out of range
            warnings.simplefilter("ignore")  # of features that have no cells
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            if not shown:
                raise SgError(f"{path} shows no sheet.", "Show the sheet that holds the rows.", exit_code=2)
            rows = list(bounded(_rows(shown[0], path), path))
    except SgError:
        raise
    except Exception as error:  # openpyxl lets through whatever a malformed part makes of its parsing
        hint = "Open it in a spreadsheet and save it again, as .xlsx or as `CSV UTF-8`."
        raise SgError(f"{path} is not a readable XLSX file ({type(error).__name__}).", hint, exit_code=2) from error
    of = f" (the first of {len(book.worksheets)})" if len(book.worksheets) > 1 else ""
    return grid_of_cells(rows, path, "xlsx", f"XLSX, sheet {shown[0].title}{of}")


def _rows(sheet: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank with its number. What the file says of its own extent is not believed."""
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        check_extent(number, len(cells), path, number, 0)  # before blank ones are passed over
        texts = [as_seen(value) for value in cells]
        if any(texts):
            yield number, texts


def as_seen(value: object) -> str:
    """A cell's value as text: 1 for 1.0, 2026-05-04 for a date, TRUE for a tick."""
    if value is None:
        return ""
    if isinstance(value, str):
        return unescaped(value)
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def write_sheet(file: IO[bytes], columns: Sequence[str], rows: Iterable[Sequence[str]], path: Path) -> None:
    """Write a workbook of one sheet. Raises SgError (usage) for a text or a table that Excel cannot hold."""
    openpyxl = library()
    texts = [[escaped(text) for text in cells] for cells in itertools.chain([columns], rows)]
    for number, cells in enumerate(texts, 1):  # before the workbook is begun: openpyxl leaves a broken one about
        longest = max(map(len, cells), default=0)
        if number > MAX_ROWS or longest > MAX_CELL:
            what = f"a text of {longest:,} characters" if longest > MAX_CELL else f"rows beyond {MAX_ROWS:,}"
            hint = "Write .csv or .jsonl instead."
            raise SgError(f"{path}: a spreadsheet cannot hold {what} (row {number}).", hint, exit_code=2)
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    for cells in texts:
        sheet.append([_text_cell(sheet, text) for text in cells])
    book.save(file)


def _text_cell(sheet: Any, text: str) -> Any:
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"  # openpyxl takes = for a formula and #N/A for an error
    return cell


def escaped(text: str) -> str:
    """A text as XML can hold it; `unescaped` gives it back."""
    simple = UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    if unescaped(simple) == text:
        return simple
    return UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text.replace("_x", "_x005F_x"))


def unescaped(text: str) -> str:
    """A text of a workbook as it was meant."""
    return ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _check_size(data: bytes, path: Path) -> None:
    """Refuse what unfolds to too much, by what its directory says: zipfile reads no more than that of any part."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unfolded = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:  # the last: zip of a later kind
        raise SgError(f"{path} is not a complete XLSX file ({error}).", "Save it again.", exit_code=2) from error
    if unfolded > min(MAX_TABLE_BYTES, max(MAX_SMALL_BYTES, MAX_FOLD * len(data))):
        hint = "Save its rows as `CSV UTF-8`."
        raise SgError(f"{path} unfolds to {size(unfolded)}, which is too much.", hint, exit_code=2)


def library() -> Any:
    """openpyxl. Raises SgError where it is not installed."""
    try:
        import openpyxl
    except ImportError as error:
        hint = "Install it with `pip install 'sg-local[sheets]'`, or save the rows as `CSV UTF-8`."
        raise SgError("Spreadsheets (.xlsx) need openpyxl.", hint) from error
    return openpyxl
