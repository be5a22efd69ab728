"""Rows that come one by one, on standard input or as the text of a command, and what such a text is."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.job.answering import Asking, answerer
from sg_local.job.job import OpenRun
from sg_local.reading import loads
from sg_local.records import SgError
from sg_local.tables import Columns, TableRow, parse_grid, table_of

if TYPE_CHECKING:
    from sg_local.serve import Question, RowAnswer

ANY = Columns()
STDIN = Path("standard input.jsonl")
ENDINGS = "csv|tsv|tab|psv|jsonl|ndjson|json|xlsx|txt"
FILE_NAME = re.compile(rf"(?:[~.]{{0,2}}/.*|\S+)\.(?:{ENDINGS})(?:\.gz)?", re.IGNORECASE)


def answer_stream(job: OpenRun, asking: Asking, rows: Iterable[TableRow]) -> Iterator[tuple[TableRow, RowAnswer]]:
    """Each row with its answer, in order, as soon as it is known; rows are read as the engine has room for them."""
    from sg_local import serve

    taken: deque[TableRow] = deque()

    def questions() -> Iterator[Question]:
        for row in rows:
            taken.append(row)
            yield serve.Question(row.input, SgError(row.error) if row.error else None)

    who, way = answerer(job, asking)
    for answer in serve.answer_rows(who, way, questions()):
        yield taken.popleft(), answer


def text_rows(lines: Iterable[str]) -> Iterator[TableRow]:
    """Lines of text as rows."""
    return (TableRow(number, {}, line) for number, line in enumerate(lines, 1))


def json_rows(lines: Iterable[str], columns: Columns = ANY) -> Iterator[TableRow]:
    """JSON lines as rows: objects, or texts alone; blank ones are passed over. Raises SgError (usage) where the first
    one does not say which of its keys is the input.
    """
    usable = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _json_row(line, columns)
        except SgError as error:
            if not usable:
                raise
            row = TableRow(number, {}, "", error=error.message)
        usable = usable or not row.error
        yield replace(row, line=number)


def _json_row(line: str, columns: Columns) -> TableRow:
    with contextlib.suppress(ValueError):
        if isinstance(text := loads(line), str):
            return TableRow(1, {"input": text}, text)
    return table_of(parse_grid(line.encode(), STDIN), columns, lenient=True).rows[0]


# What a text on the command line is


def file_named(text: str) -> Path | None:
    """The file of this name; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        path = Path(text).expanduser()
        return path if path.is_file() else None
    return None


def looks_like_a_file(text: str) -> bool:
    """Whether a text looks like the name of a file of rows: ./mails.csv, but not a sentence that ends with one."""
    return bool(FILE_NAME.fullmatch(text))
