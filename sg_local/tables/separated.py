"""CSV and TSV as spreadsheets write them: the separator is found, cells of several lines stand in quotes.

Separators are the comma, the semicolon of European spreadsheets, the tab and the bar; Excel's `sep=;` line is obeyed.
Rows end at \\n and \\r\\n. A file of one column may have no line with its name: then every line is an input. In a file
whose rows end at \\r\\n the lines inside cells do so too, and are read as \\n.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sg_local.reading import lines_of
from sg_local.records import SgError
from sg_local.tables.armour import bared
from sg_local.tables.extent import MAX_CELLS, bounded, check_extent
from sg_local.tables.grid import Grid, GridRow, grid_of_cells

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ALONE = "\x1f"  # separates nothing: a file of one column
SAID = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
N_LOOKED_AT = 1 << 16
HINT = "Save it as CSV in UTF-8, with texts that hold quotes, separators or line breaks in quotes."

Rows = list[tuple[int, list[str]]]


def read_separated(text: str, path: Path) -> Grid:
    """The cells of CSV text. Raises SgError (usage) that names the line."""
    text = _plain_ends(text, path)
    said = SAID.match(text)
    text = text[said.end() :] if said else text
    separator = (
        said[1] if said else separator_of(text, path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")))
    )
    rows = _rows(text, path, separator, 2 if said else 1)
    form = "tsv" if separator == "\t" else "csv"
    described = f"CSV with {SEPARATORS[separator]}" if separator in SEPARATORS else "CSV of one column"
    bare = [(line, [bared(cell) if cell[:1] == "'" else cell for cell in cells]) for line, cells in rows]
    return grid_of_cells(bare, path, form, described)


def read_lines_alone(text: str, path: Path) -> Grid:
    """Plain text, one input a line; blank lines are left out."""
    lines = ((number, [line]) for number, line in lines_of(text.replace("\r\n", "\n")))
    rows = tuple(GridRow(number, {"input": line}) for number, [line] in bounded(lines, path))
    return Grid(path, "txt", "plain lines", ("input",), rows)


def separator_of(text: str, tabs_first: bool) -> str:
    """The separator that cuts the first row, and most that follow, into equally many cells."""
    head = text[:N_LOOKED_AT]
    order = ["\t", ",", ";", "|"] if tabs_first else [*SEPARATORS]
    best, best_score = ALONE, (0.0, 1)
    for separator in order:
        widths = [len(row) for row in _loose(head, separator) if row]
        if len(head) < len(text) and len(widths) > 1:
            widths.pop()
        score = (widths.count(widths[0]) / len(widths), widths[0]) if widths else (0.0, 0)
        if score[1] > 1 and score > best_score:
            best, best_score = separator, score
    return best


def _loose(text: str, separator: str) -> list[list[str]]:
    """Rows of a text that may be cut short or be malformed."""
    try:
        return list(csv.reader(io.StringIO(text, newline="\n"), delimiter=separator))
    except csv.Error:
        return []


def _rows(text: str, path: Path, separator: str, line: int) -> Rows:
    """Rows with the line each begins at; blank lines are left out. Cells may be as long as the text."""
    before = csv.field_size_limit(max(len(text), 1))
    reader = csv.reader(_lines(text, path, separator), delimiter=separator, strict=True)
    try:
        return list(bounded(_placed(reader, path, line), path))
    finally:
        csv.field_size_limit(before)


def _lines(text: str, path: Path, separator: str) -> Iterator[str]:
    """The lines of the text, none of which cuts into more cells than may be in memory at once."""
    start = 0
    while start < len(text):  # StringIO would hold four bytes for each character
        end = text.find("\n", start) + 1 or len(text)
        if text.count(separator, start, end) > MAX_CELLS:
            check_extent(1, text.count(separator, start, end), path)
        yield text[start:end]
        start = end


def _placed(reader: Any, path: Path, line: int) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank with its line; the text begins at `line`."""
    start = line
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = line + reader.line_num
    except csv.Error as error:
        raise SgError(f"{path}:{start}: this row is not CSV ({_why(error)}).", HINT, exit_code=2) from error


def _why(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote opens that nothing closes"
    if "expected after" in text:
        return "text follows a closing quote"
    return "there is a carriage return outside of quotes" if "new-line" in text else text


def _plain_ends(text: str, path: Path) -> str:
    """The text with rows that end at \\n, where all end alike."""
    end = text.find("\n")
    if end < 0 and "\r" in text:
        hint = "Save it as `CSV UTF-8`, not as CSV for the Macintosh."
        raise SgError(f"{path}: its lines end at carriage returns alone.", hint, exit_code=2)
    return text.replace("\r\n", "\n") if text[end - 1 : end] == "\r" else text
