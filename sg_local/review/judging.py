"""What a judgement or a note does: rows for the journals, the history that undo walks back, where the cursor goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sg_local.records import Verdict
from sg_local.review.history import WITHDRAWN, Action, Note, apply, write_down
from sg_local.review.rows import ReviewRow
from sg_local.review.state import ReviewState, current, first_open, is_judged, text_of, visible
from sg_local.schemas import misfit
from sg_local.tables import control_in
from sg_local.words import counted

RULE = "review"
UNFIT = "the output does not fit the schema"


def judged(state: ReviewState, verdicts: Sequence[Verdict], notes: Mapping[str, str] | None = None) -> ReviewState:
    """The state with these verdicts, and this reviewer's notes by row id, recorded as one action.

    An empty note takes the one that stands away.
    """
    number, texts = state.n_actions + 1, notes or {}
    rows = tuple(replace(verdict, step=number) for verdict in verdicts)
    before = tuple((row.id, state.verdicts.get(row.id)) for row in rows)
    action = Action(number, before, tuple((id, note_of(state, id)) for id in texts))
    return _with_notes(state, [Note(id, state.judge, text, number) for id, text in texts.items()]).but(
        verdicts={**state.verdicts, **{row.id: row for row in rows}},
        history=(*state.history, action),
        n_actions=number,
        new=rows,
    )


def verdict_on(state: ReviewState, row: ReviewRow, keep: bool, reason: str = "") -> Verdict:
    """This reviewer's verdict on a row as it stands now.

    A label is written down even where it is the filters' own: filtering again may choose another one, and the
    reviewer has judged this one.
    """
    before = state.verdicts.get(row.id)
    input, output = (None, None) if before is None else (before.input, before.output)
    if state.labels:
        output = text_of(state, row)[1]
    return Verdict(row.id, keep, state.judge, RULE, reason, input, output)


def decide(state: ReviewState, keep: bool) -> ReviewState:
    """Judge the current row and go on. A rejected one may be given a reason next; rejected again, it keeps its own."""
    row = current(state)
    if row is None:
        return state.but(message="No row matches this view: press f to change it.", mode="cards")
    if keep and (wrong := misfit_of(state, row)):
        return state.but(message=f"Its output does not fit the schema ({wrong}): e edits it.", mode="cards")
    old = state.verdicts.get(row.id)
    reason = old.reason if old is not None and (old.keep, old.rule, keep) == (False, RULE, False) else ""
    after = onward(state, judged(state, [verdict_on(state, row, keep, reason)]))
    return after.but(mode="cards" if keep else "reason", about=row.id, buffer="", caret=0)


def reasoned(state: ReviewState, reason: str) -> ReviewState:
    """The row just rejected, with a reason: part of the same action, so that one undo takes both back."""
    assert state.about is not None, "a reason is given to a rejected row"
    row = replace(state.verdicts[state.about], reason=reason)
    message = f"#{number_of(state, row.id)} is rejected: {reason}." if reason else ""
    verdicts = {**state.verdicts, row.id: row}
    return state.but(verdicts=verdicts, new=(row,), mode="cards", buffer="", caret=0, message=message)


def number_of(state: ReviewState, id: str) -> int:
    """The number of the row with this id."""
    return next(row.number for row in state.rows if row.id == id)


def noted(state: ReviewState, texts: Mapping[str, str]) -> ReviewState:
    """The state with this reviewer's notes on these rows, by id, as one action. An empty text takes a note away."""
    return judged(state, (), texts)


def note_of(state: ReviewState, id: str) -> str:
    """This reviewer's note on a row; empty where there is none."""
    return state.notes.get(id, {}).get(state.judge, "")


def _with_notes(state: ReviewState, rows: Sequence[Note]) -> ReviewState:
    notes = {id: dict(texts) for id, texts in state.notes.items()}
    for row in rows:
        write_down(notes, row)
    return state.but(notes=notes, new_notes=tuple(rows))


def misfit_of(state: ReviewState, row: ReviewRow) -> str:
    """Why a row's output does not fit the task's schema; empty where it does, and where there is none."""
    return misfit(state.schema, text_of(state, row)[1]) if state.schema else ""


def onward(before: ReviewState, after: ReviewState) -> ReviewState:
    """Move to the next open row after the cursor, in the view as it was; round to the first; stay when none is open."""
    rows = visible(before)
    at = next((i for i, row in enumerate(rows) if row.id == before.cursor), -1)
    still = {row.id for row in visible(after)}
    for row in (*rows[at + 1 :], *rows[: max(0, at)]):
        if row.id in still and not is_judged(after, row):
            return after.but(cursor=row.id, scroll=0)
    cursor = after.cursor if after.cursor in still else first_open(after)
    return after.but(cursor=cursor, scroll=0, message="Every row of this view is judged. q ends the review.")


def to_open(state: ReviewState) -> ReviewState:
    """Go to the next open row of the view, round to the first."""
    rows = [row for row in visible(state) if not is_judged(state, row)]
    if [row.id for row in rows] == [state.cursor]:
        return state.but(message="This is the only open row of the view.")
    return onward(state, state)


def relabel(state: ReviewState, key: str) -> ReviewState:
    row, number = current(state), int(key)
    if row is None or number > len(state.labels):
        return state.but(message=f"There is no label {number}." if state.labels else "This task has no labels.")
    label = state.labels[number - 1]
    verdict = replace(verdict_on(state, row, True), output=label)
    return onward(state, judged(state, [verdict]))


def undo(state: ReviewState) -> ReviewState:
    """Take the last action back, by appending what was there before it."""
    if not state.history:
        return state.but(message="Nothing to undo.")
    action = state.history[-1]
    by_id = {row.id: row for row in state.rows}
    rows, verdicts = [], dict(state.verdicts)
    for id, before in action.before:
        blank = Verdict(id, by_id[id].kept if id in by_id else True, state.judge, WITHDRAWN)
        rows.append(replace(blank if before is None else replace(before, judge=state.judge), step=-action.number))
        apply(verdicts, rows[-1])
    notes = [Note(id, state.judge, text, -action.number) for id, text in action.notes]
    first = next(id for id, _ in (*action.before, *action.notes))
    after = _with_notes(state, notes).but(
        verdicts=verdicts, history=state.history[:-1], new=tuple(rows), mode="cards", cursor=first, scroll=0
    )
    is_shown = any(row.id == after.cursor for row in visible(after))
    return after.but(
        message=_told(action) if is_shown else f"{_told(action)} This row is outside the view: esc shows all."
    )


def _told(action: Action) -> str:
    """What was taken back, in words."""
    n_verdicts, n_notes = len(action.before), len(action.notes)
    if n_verdicts + n_notes == 1:
        return "Taken back." if n_verdicts else "Note taken back."
    parts = (counted(n_verdicts, "verdict") if n_verdicts else "", counted(n_notes, "note") if n_notes else "")
    return f"Taken back: {' and '.join(filter(None, parts))}."


def edited(state: ReviewState, *, input: str | None = None, output: str | None = None) -> ReviewState:
    """The current row with another text, kept. An empty text, or an output outside the labels, is not taken.

    An output that does not fit the task's schema is put up for editing again; until it does, the row is rejected.
    """
    row = current(state)
    texts = {"input": input, "output": output}
    changes = {name: text.strip() for name, text in texts.items() if text is not None}
    if row is None or not all(changes.values()):
        return state.but(message="An empty text is not kept: nothing changed.")
    if found := next(filter(None, map(control_in, changes.values())), ""):
        return state.but(message=f"A text holds {found}: nothing changed.")
    if state.labels and changes.get("output", state.labels[0]) not in state.labels:
        return state.but(message=f"{changes['output']!r} is not one of the labels: nothing changed.")
    if state.schema and (wrong := misfit(state.schema, changes.get("output", text_of(state, row)[1]))):
        return _put_up(state, changes, row, wrong)
    plain = {"input": row.input, "output": row.output}
    new: dict[str, Any] = {name: None if text == plain[name] else text for name, text in changes.items()}
    if state.labels and "output" in changes:
        new["output"] = changes["output"]
    after = judged(state, [replace(verdict_on(state, row, True), **new)])
    return after.but(message="Saved and accepted. Space shows the next row.")


def _put_up(state: ReviewState, changes: Mapping[str, str], row: ReviewRow, wrong: str) -> ReviewState:
    """The output for editing, as it was typed, with what is wrong with it. A new input is taken at once."""
    text = changes.get("output", text_of(state, row)[1])
    if "input" in changes:
        rejected = verdict_on(state, row, False, UNFIT)
        state = judged(state, [replace(rejected, input=changes["input"])])
    message = f"The output does not fit the schema: {wrong}"
    return state.but(mode="edit", edits="output", buffer=text, caret=len(text), message=message)


def left_alone(state: ReviewState) -> str:
    """What is true once an edit is left: nothing changed, unless its input was taken and the row rejected."""
    last = state.verdicts.get(state.cursor or "")
    is_put_up = last is not None and (last.keep, last.reason) == (False, UNFIT) and last.judge == state.judge
    if last is None or not is_put_up or not state.history or state.history[-1].number != last.step:
        return "Nothing changed."
    return "The output stays as it was; the row is rejected (u takes it back)."


def answered(state: ReviewState, output: str) -> ReviewState:
    """A new answer of the model for the current row: a text is put up for editing, of a label the message tells."""
    text = output.strip()
    if not state.labels:
        return state.but(
            mode="edit", edits="output", buffer=text, caret=len(text), message="New answer: enter takes it."
        )
    if text not in state.labels:
        return state.but(message=f"The model answers {text[:40]!r}, which is not one of the labels.")
    return state.but(message=f"The model answers {text}: {state.labels.index(text) + 1} takes it.")
