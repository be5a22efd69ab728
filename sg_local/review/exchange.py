"""Rows out to a spreadsheet and judgements back in, checked row by row before anything counts; and one row out to an
editor and back.

`keep` is empty where nobody has judged the row; the reviewer writes yes or no, and may change `input`, `output`,
`reason` and `note`, which needs no judgement. An empty `keep` beside a changed text means yes. `source` is synthetic,
own, labelled or earlier; `other_notes` are those of other people. `judge` is who exported the file, and whose notes
it holds: another's stay theirs.
"""

from __future__ import annotations

from pathlib import Path

from sg_local.personal import kinds
from sg_local.reading import read_text
from sg_local.records import SgError, Verdict
from sg_local.review.judging import note_of
from sg_local.review.rows import ReviewRow
from sg_local.review.state import ReviewState, text_of
from sg_local.schemas import misfit
from sg_local.tables import Grid, GridRow, control_in
from sg_local.words import brief

COLUMNS = (
    "id",
    "keep",
    "reason",
    "note",
    "input",
    "output",
    "asked",
    "votes",
    "source",
    "filters",
    "personal",
    "other_notes",
    "judge",
)
YES, NO = ("yes", "y", "true", "1", "keep", "accept"), ("no", "n", "false", "0", "reject")
MAX_SHOWN = 5
INPUT_MARK, OUTPUT_MARK = "# INPUT: the text below this line", "# OUTPUT: the text below this line"


def export_rows(state: ReviewState) -> list[dict[str, str]]:
    """Every row as a record with COLUMNS."""
    return [_record(state, row) for row in state.rows]


def import_rows(state: ReviewState, grid: Grid) -> list[Verdict]:
    """The verdicts that a filled-in file adds: rows that change nothing add none.

    Raises SgError (usage) that names the lines when any row is wrong; then nothing counts.
    """
    missing = {"id", "keep"} - set(grid.columns)
    if missing:
        hint = f"The first line names the columns: {', '.join(COLUMNS)}."
        raise SgError(f"{grid.path} has no column {min(missing)!r}.", hint, exit_code=2)
    known = {row.id: row for row in state.rows}
    verdicts: list[Verdict] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for line in grid.rows:
        found = _verdict(state, known, line, seen)
        if isinstance(found, str):
            wrong.append(f"line {line.line}: {found}")
        elif found is not None:
            verdicts.append(found)
    if wrong:
        more = f" (and {len(wrong) - MAX_SHOWN} more)" if len(wrong) > MAX_SHOWN else ""
        rows_text = "1 row is" if len(wrong) == 1 else f"{len(wrong)} rows are"
        hint = "Nothing was imported. Fix them and import again."
        message = f"{grid.path}: {rows_text} wrong: {'; '.join(wrong[:MAX_SHOWN])}{more}."
        raise SgError(message, hint, exit_code=2)
    return verdicts


def _record(state: ReviewState, row: ReviewRow) -> dict[str, str]:
    verdict = state.verdicts.get(row.id)
    text = text_of(state, row)
    return {
        "id": row.id,
        "keep": "" if verdict is None else "yes" if verdict.keep else "no",
        "reason": "" if verdict is None else verdict.reason,
        "note": note_of(state, row.id),
        "input": text[0],
        "output": text[1],
        "asked": row.candidate.label_asked or "",
        "votes": f"{max(row.candidate.votes.values(), default=0)} of {row.candidate.n_samples}",
        "source": row.candidate.source or "synthetic",
        "filters": "keep" if row.kept else f"{row.filters.rule}: {row.filters.reason}" if row.filters else "",
        "personal": ", ".join(kinds(*text)),
        "other_notes": "\n".join(f"{judge}: {note}" for judge, note in others_notes(state, row.id)),
        "judge": state.judge,
    }


def _verdict(state: ReviewState, known: dict[str, ReviewRow], line: GridRow, seen: set[str]) -> Verdict | str | None:
    """The verdict a line adds, None where it adds none, or what is wrong with it."""
    if line.error:
        return line.error
    id, keep = line.cells["id"].strip(), line.cells["keep"].strip().lower()
    row = known.get(id)
    if row is None:
        return f"no row has the id {id!r}"
    if id in seen:
        return f"the id {id} is there twice"
    seen.add(id)
    if keep not in (*YES, *NO, ""):
        return f"keep is {keep!r}, not yes, no or empty"
    before = text_of(state, row)
    after = tuple(_text(line, name, old) for name, old in zip(("input", "output"), before, strict=True))
    if found := control_in(_note(state, line, id)):
        return f"the note holds {found}"
    if not keep and after == before:
        return None
    wrong = "" if keep in NO else _unfit(state, after)
    wrong = wrong or next(
        (f"a text holds {found}" for text in after if text not in before and (found := control_in(text))), ""
    )
    if wrong:
        return wrong
    verdict = _made(state, row, keep in YES or not keep, line.cells.get("reason", "").strip(), after)
    return None if _same(state.verdicts.get(id), verdict) else verdict


def import_notes(state: ReviewState, grid: Grid) -> dict[str, str]:
    """The notes by id that a filled-in file changes; call import_rows first, which checks it. No such column: none.

    A line of another's export changes none. One that does not say whose it is may add a note, but takes none away.
    """
    if "note" not in grid.columns:
        return {}
    found = {}
    for line in grid.rows:
        id, owner = line.cells["id"].strip(), _owner(state, line)
        text = _note(state, line, id)
        if text != note_of(state, id) and (owner == state.judge or (text and not owner)):
            found[id] = text
    return found


def others_notes(state: ReviewState, id: str) -> list[tuple[str, str]]:
    """The notes of other people on a row: (judge, text)."""
    return [(judge, text) for judge, text in state.notes.get(id, {}).items() if judge != state.judge]


def _owner(state: ReviewState, line: GridRow) -> str:
    """Who exported a line; empty where it does not say."""
    return _text(line, "judge", state.judge).strip() if line.cells.get("judge") else ""


def _note(state: ReviewState, line: GridRow, id: str) -> str:
    """The note as it came back; what stood there where the file does not say."""
    old = note_of(state, id)
    return _text(line, "note", old).strip() if "note" in line.cells else old


def _text(line: GridRow, name: str, old: str) -> str:
    """A text as it came back: the old one where nothing stands, or where a spreadsheet alone has changed it.

    Saved as XLSX, a CSV's armour stays on, and lines inside cells may end as those of Windows do.
    """
    cell = line.cells.get(name, old)
    if line.values.get(name, "") is None:
        return old
    plain = old.replace("\r\n", "\n")
    return old if cell.replace("\r\n", "\n") in (plain, f"'{plain}") else cell


def _unfit(state: ReviewState, texts: tuple[str, ...]) -> str:
    """Why a row with these texts cannot be trained on, or an empty string."""
    if not all(text.strip() for text in texts):
        return "the input or the output is empty"
    if state.labels and texts[1] not in state.labels:
        return f"the output {texts[1]!r} is not one of the labels"
    wrong = misfit(state.schema, texts[1]) if state.schema else ""
    return f"the output does not fit the schema ({brief(wrong, 120)})" if wrong else ""


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


def read_edited(path: Path) -> tuple[str, str] | None:
    """Both texts from the edited file, or None where its marks are gone. Raises SgError for what is no text."""
    return from_file(read_text(path))


def from_file(text: str) -> tuple[str, str] | None:
    """Both texts from an edited text, or None where its marks are gone."""
    head, found_input, rest = text.partition(f"{INPUT_MARK}\n")
    before, found_output, after = rest.partition(f"{OUTPUT_MARK}\n")
    if not (found_input and found_output) or head.strip():
        return None
    return before.strip(), after.strip()
