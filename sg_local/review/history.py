"""What a reviewer did, action by action, read back from the journals: undo has no limit, not even a sitting's end.

A person's rows carry the number of the action that wrote them (`step`); taking action n back appends rows with -n. One
action wrote verdicts, notes, or both; several rows of one number belong together, and the first one of an id tells
what was there before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sg_local.records import Verdict

FILTERS = "filters"
WITHDRAWN = "undo"


@dataclass(frozen=True)
class Note:
    """One person's note on a candidate. The last one of an id and a judge counts; an empty text takes it away."""

    id: str
    judge: str
    text: str
    step: int = 0


Notes = dict[str, dict[str, str]]
"""The notes by the row's id, then by judge."""


@dataclass(frozen=True)
class Action:
    """One thing the reviewer did: its number, and each row's verdict, or own note, before it."""

    number: int
    before: tuple[tuple[str, Verdict | None], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Past:
    """What journals lead to: the people's last verdicts, all notes, one reviewer's actions and how many there were."""

    verdicts: dict[str, Verdict]
    notes: Notes
    actions: tuple[Action, ...]
    n_actions: int


def past_of(journal: Iterable[Verdict], notes: Iterable[Note], judge: str) -> Past:
    """The journals as `judge` finds them."""
    verdicts: dict[str, Verdict] = {}
    texts: Notes = {}
    actions: dict[int, Action] = {}
    numbers = [0]
    for row in journal:
        if row.judge == FILTERS:
            continue
        if row.judge == judge and row.step:
            numbers.append(abs(row.step))
            _remember(actions, row, verdicts.get(row.id))
        apply(verdicts, row)
    for note in notes:
        if note.judge == judge and note.step:
            numbers.append(abs(note.step))
            _remember_note(actions, note, texts.get(note.id, {}).get(judge, ""))
        write_down(texts, note)
    return Past(verdicts, texts, tuple(actions[number] for number in sorted(actions)), max(numbers))


def person_verdicts(journal: Iterable[Verdict]) -> dict[str, Verdict]:
    """The people's last verdict by id; a withdrawn one counts as none."""
    verdicts: dict[str, Verdict] = {}
    for row in journal:
        if row.judge != FILTERS:
            apply(verdicts, row)
    return verdicts


def notes_of(journal: Iterable[Note]) -> Notes:
    """Everybody's last note on each row."""
    notes: Notes = {}
    for note in journal:
        write_down(notes, note)
    return notes


def apply(verdicts: dict[str, Verdict], row: Verdict) -> None:
    """Let one more row of a journal count."""
    if row.rule == WITHDRAWN:
        verdicts.pop(row.id, None)
    else:
        verdicts[row.id] = row


def write_down(notes: Notes, note: Note) -> None:
    """Let one more note count."""
    texts = notes.setdefault(note.id, {})
    texts.pop(note.judge, None)
    if note.text:
        texts[note.judge] = note.text


def _remember(actions: dict[int, Action], row: Verdict, before: Verdict | None) -> None:
    """Add a journal row to its action, or take its action off."""
    if row.step < 0:
        actions.pop(-row.step, None)
        return
    action = actions.get(row.step, Action(row.step))
    if row.id not in dict(action.before):
        action = replace(action, before=(*action.before, (row.id, before)))
    actions[row.step] = action


def _remember_note(actions: dict[int, Action], note: Note, before: str) -> None:
    if note.step < 0:
        actions.pop(-note.step, None)
        return
    action = actions.get(note.step, Action(note.step))
    actions[note.step] = replace(action, notes=(*action.notes, (note.id, before)))
