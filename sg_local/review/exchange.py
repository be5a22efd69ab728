"""Rows out to a spreadsheet and judgements back in: CSV or JSON lines, checked line by line before anything counts;
and one row out to an editor and back.

`keep` is empty where nobody has judged the row; the reviewer writes yes or no, and may change `input`, `output` and
`reason`. An empty `keep` beside a changed text means yes. Spreadsheets take cells that begin with = + - @ for
formulas, and model text is data: such cells leave with an apostrophe in front and lose it on the way back.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from sg_local.reading import lines_of, loads
from sg_local.records import SgError, Verdict
from sg_local.review.rows import ReviewRow
from sg_local.review.state import ReviewState, text_of

COLUMNS = ("id", "keep", "reason", "input", "output", "asked", "votes", "filters")
FORMATS = ("csv", "jsonl")
YES, NO = ("yes", "y", "true", "1", "keep", "accept"), ("no", "n", "false", "0", "reject")
FORMULA = tuple("=+-@\t\r'")
MAX_SHOWN = 5
INPUT_MARK, OUTPUT_MARK = "# INPUT: the text below this line", "# OUTPUT: the text below this line"


@dataclass(frozen=True)
class Line:
    """One line of a file that comes back: its number in the file and its cells by column."""

    number: int
    cells: dict[str, str]


def export_rows(state: ReviewState, kind: str) -> str:
    """Every row as text in the format `csv` or `jsonl`."""
    records = [_record(state, row) for row in state.rows]
    if kind == "jsonl":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_armoured(record[name]) for name in COLUMNS] for record in records)
    return out.getvalue()


def import_rows(state: ReviewState, text: str, kind: str) -> list[Verdict]:
    """The verdicts that a filled-in file adds: lines that change nothing add none.

    Raises SgError that names the lines when any line is wrong; then nothing counts.
    """
    lines = list(_csv_lines(text) if kind == "csv" else _json_lines(text))
    verdicts: list[Verdict] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for line in lines:
        found = _verdict(state, line, seen)
        if isinstance(found, str):
            wrong.append(f"line {line.number}: {found}")
        elif found is not None:
            verdicts.append(found)
    if wrong:
        more = f" (and {len(wrong) - MAX_SHOWN} more)" if len(wrong) > MAX_SHOWN else ""
        lines_text = "1 line is" if len(wrong) == 1 else f"{len(wrong)} lines are"
        hint = "Nothing was taken over. Mend them and import again."
        raise SgError(f"{lines_text} wrong: {'; '.join(wrong[:MAX_SHOWN])}{more}.", hint, exit_code=2)
    return verdicts


def _record(state: ReviewState, row: ReviewRow) -> dict[str, str]:
    verdict = state.verdicts.get(row.id)
    text = text_of(state, row)
    return {
        "id": row.id,
        "keep": "" if verdict is None else "yes" if verdict.keep else "no",
        "reason": "" if verdict is None else verdict.reason,
        "input": text[0],
        "output": text[1],
        "asked": row.candidate.label_asked or "",
        "votes": f"{max(row.candidate.votes.values(), default=0)} of {row.candidate.n_samples}",
        "filters": "keep" if row.kept else f"{row.filters.rule}: {row.filters.reason}" if row.filters else "",
    }


def _armoured(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _bared(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _csv_lines(text: str) -> Iterator[Line]:
    """The lines of CSV text. Cells may be as long as the text: it was read, so it fits."""
    before = csv.field_size_limit(max(len(text), 1))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        yield from _csv_rows(reader)
    except csv.Error as error:
        hint = "Save it as CSV in UTF-8, with cells of several lines in quotes."
        raise SgError(f"Line {reader.line_num} is not CSV ({error}).", hint, exit_code=2) from error
    finally:
        csv.field_size_limit(before)


def _csv_rows(reader: csv.DictReader[str]) -> Iterator[Line]:
    missing = {"id", "keep"} - set(reader.fieldnames or ())
    if missing:
        hint = f"The first line names the columns: {', '.join(COLUMNS)}."
        raise SgError(f"Line 1 has no column {min(missing)!r}.", hint, exit_code=2)
    start = 2
    for row in reader:
        yield Line(start, {name: _bared(cell) for name, cell in row.items() if name and isinstance(cell, str)})
        start = reader.line_num + 1


def _json_lines(text: str) -> Iterator[Line]:
    for number, line in lines_of(text):
        try:
            data = loads(line)
        except ValueError as error:
            raise SgError(f"Line {number} is not JSON.", "Each line is one object.", exit_code=2) from error
        if not isinstance(data, dict):
            raise SgError(f"Line {number} is not an object.", "Each line is one object.", exit_code=2)
        yield Line(number, {name: _cell(value) for name, value in data.items()})


def _cell(value: object) -> str:
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _verdict(state: ReviewState, line: Line, seen: set[str]) -> Verdict | str | None:
    """The verdict a line adds, None where it adds none, or what is wrong with it."""
    id, keep = line.cells.get("id", "").strip(), line.cells.get("keep", "").strip().lower()
    row = next((row for row in state.rows if row.id == id), None)
    if row is None:
        return f"no row has the id {id!r}"
    if id in seen:
        return f"the id {id} stands twice"
    seen.add(id)
    if keep not in (*YES, *NO, ""):
        return f"keep is {keep!r}, not yes, no or empty"
    before = text_of(state, row)
    after = tuple(line.cells.get(name, old) for name, old in zip(("input", "output"), before, strict=True))
    if not keep and after == before:
        return None
    wrong = "" if keep in NO else _unfit(state, after)
    if wrong:
        return wrong
    verdict = _made(state, row, keep in YES or not keep, line.cells.get("reason", "").strip(), after)
    return None if _same(state.verdicts.get(id), verdict) else verdict


def _unfit(state: ReviewState, texts: tuple[str, ...]) -> str:
    """Why a row with these texts cannot be trained on, or an empty string."""
    if not all(text.strip() for text in texts):
        return "the input or the output is empty"
    if state.labels and texts[1] not in state.labels:
        return f"the output {texts[1]!r} is not one of the labels"
    return ""


def _made(state: ReviewState, row: ReviewRow, keep: bool, reason: str, texts: tuple[str, ...]) -> Verdict:
    new_input = None if texts[0] == row.input else texts[0]
    new_output = None if texts[1] == row.output and not state.labels else texts[1]
    return Verdict(row.id, keep, state.judge, "review", reason, new_input, new_output)


def _same(old: Verdict | None, new: Verdict) -> bool:
    def told(verdict: Verdict) -> tuple[object, ...]:
        return verdict.keep, verdict.reason, verdict.input, verdict.output

    return old is not None and told(old) == told(new)


def as_file(text: str, output: str) -> str:
    """Both texts as the editor gets them."""
    return f"{INPUT_MARK}\n{text}\n{OUTPUT_MARK}\n{output}\n"


def from_file(text: str) -> tuple[str, str] | None:
    """Both texts from the edited file, or None where its marks are gone."""
    head, found_input, rest = text.partition(f"{INPUT_MARK}\n")
    before, found_output, after = rest.partition(f"{OUTPUT_MARK}\n")
    if not (found_input and found_output) or head.strip():
        return None
    return before.strip(), after.strip()
