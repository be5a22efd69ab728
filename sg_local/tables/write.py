"""Writes rows in the form of the file's name, whole or not at all; what is written is read again as it was."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from sg_local.files import replacing
from sg_local.records import SgError
from sg_local.tables.armour import armoured
from sg_local.tables.objects import cell
from sg_local.tables.sheets import library, write_sheet

FORMS = ("csv", "tsv", "xlsx", "jsonl")
Rows = Iterable[Mapping[str, object]]
"""Cells by column: texts, and in JSON other values, which other forms write as their JSON."""


class Stream(Protocol):
    """What rows are written to."""

    def write(self, text: str, /) -> object:
        """Take a text."""
        ...


def form_of(path: Path) -> str:
    """The form that a file to be written has by its name. Raises SgError for another, and for want of openpyxl."""
    ending = Path(path.name.lower().removesuffix(".gz")).suffix.removeprefix(".")
    form = {"ndjson": "jsonl", "tab": "tsv"}.get(ending, ending)
    if form == "xlsx":
        library()
    if form in FORMS:
        return form
    hint = f"Choose one of these endings: {', '.join(f'.{form}' for form in FORMS)}."
    raise SgError(f"{path}: rows are not written to such a file.", hint, exit_code=2)


def write_table(path: Path, columns: Sequence[str], rows: Rows, form: str | None = None) -> None:
    """Write rows by the name's ending (`form` says another); cells that a row lacks are empty.

    Raises SgError for a file that cannot be written, and leaves what stood there.
    """
    form = form or form_of(path)
    with replacing(path) as file:
        if path.suffix.lower() != ".gz":
            return _write(file, columns, rows, form, path)
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            _write(cast(BinaryIO, packed), columns, rows, form, path)


def _write(file: BinaryIO, columns: Sequence[str], rows: Rows, form: str, path: Path) -> None:
    if form == "xlsx":
        write_sheet(file, columns, ([cell(row.get(name, "")) for name in columns] for row in rows), path)
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        write_rows(text, columns, rows, form)
    finally:
        text.detach()


def write_rows(text: Stream, columns: Sequence[str], rows: Rows, form: str) -> None:
    """Write rows to a stream, each as soon as it comes; line ends must pass it untouched."""
    if form == "jsonl":
        for row in rows:
            text.write(json.dumps({name: row.get(name, "") for name in columns}, ensure_ascii=False) + "\n")
        return
    separator = "\t" if form == "tsv" else ","
    plain = csv.writer(text, delimiter=separator, lineterminator="\n")
    quoted = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for cells in itertools.chain([list(columns)], ([_cell(row.get(name, "")) for name in columns] for row in rows)):
        # Python before 3.13 leaves a lone carriage return bare.
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)


def _cell(value: object) -> str:
    """A value as a cell; only texts can be taken for formulas."""
    return armoured(value) if isinstance(value, str) else cell(value)
