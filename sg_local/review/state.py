"""The state of a review: rows, verdicts and notes, where the reviewer stands, and what the last key asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sg_local.personal import kinds
from sg_local.records import Pair, Verdict
from sg_local.review.history import Action, Note, past_of
from sg_local.review.rows import ReviewRow, order_key
from sg_local.splitting import composed

MERGED = "conflict"
REASONS = ("wrong output", "off the task", "unnatural input", "duplicate", "personal or unsafe")
SHOW = ("kept", "rejected", "all")
JUDGED = ("any", "open", "accepted", "rejected", "edited", "conflicts")
MAX_VOTES = (None, 0.9, 0.7, 0.5, 0.3)


@dataclass(frozen=True)
class View:
    """Which rows are shown, and in what order.

    `show` goes by the filters' verdict, `judged` by the people's; `max_votes` shows rows with at most that share;
    `personal` those with likely personal data, `noted` those with a note. `text` is looked for in notes, too.
    """

    show: str = "kept"
    judged: str = "any"
    label: str | None = None
    rule: str | None = None
    max_votes: float | None = None
    text: str = ""
    personal: bool = False
    order: str = "file"
    noted: bool = False


@dataclass(frozen=True)
class MovableThreshold:
    """One number of the filters that the reviewer may move. `name` is the setting's dotted name."""

    name: str
    value: float
    step: float
    low: float = 0.0
    high: float = math.inf
    whole: bool = False

    def moved(self, steps: int) -> MovableThreshold:
        """The threshold so many steps up or down, within its bounds."""
        value = min(self.high, max(self.low, round(self.value + steps * self.step, 6)))
        return dataclasses.replace(self, value=int(value) if self.whole else value)


@dataclass(frozen=True)
class Play:
    """What moved thresholds would do: `keep` by id now, and one step stricter or looser for the edge."""

    keep: Mapping[str, bool] = field(default_factory=dict)
    below: Mapping[str, bool] = field(default_factory=dict)
    above: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class ReviewState:
    """Everything the screen shows and the next key acts on.

    `mode` says what keys mean: cards, reason, reason_text, note, edit, search, jump, filter, confirm, thresholds, help,
    task. `instruction` and `examples` are the task's; `schema` is the one that outputs fit, as JSON text; empty where
    they are free text. `notes` holds texts by row id and judge.
    `new` and `new_notes` hold what the last key made, for the journals. `wants` asks the program around for `quit`,
    `editor`, `regenerate`, `play` (thresholds moved) or `save` (keep them). `origin` is where a search began. `about`
    is the row just rejected, which may get a reason. `scroll` lines of the screen are above its upper edge, and `below`
    ones under its lower edge.
    """

    rows: tuple[ReviewRow, ...]
    labels: tuple[str, ...] = ()
    schema: str = ""
    instruction: str = ""
    examples: tuple[Pair, ...] = ()
    judge: str = "me"
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    history: tuple[Action, ...] = ()
    n_actions: int = 0
    view: View = View()
    cursor: str | None = None
    sample: tuple[str, ...] = ()
    mode: str = "cards"
    buffer: str = ""
    caret: int = 0
    edits: str = "output"
    origin: tuple[View, str | None] = (View(), None)
    bulk: tuple[bool, tuple[str, ...]] = (True, ())
    question: str = ""
    thresholds: tuple[MovableThreshold, ...] = ()
    saved: tuple[MovableThreshold, ...] = ()
    selected: int = 0
    play: Play | None = None
    about: str | None = None
    scroll: int = 0
    below: int = 0
    message: str = ""
    new: tuple[Verdict, ...] = ()
    new_notes: tuple[Note, ...] = ()
    wants: str = ""

    def but(self, **changes: Any) -> ReviewState:
        """The state with these fields changed."""
        return dataclasses.replace(self, **changes)


def open_review(
    rows: Sequence[ReviewRow],
    journal: Iterable[Verdict],
    notes: Iterable[Note] = (),
    *,
    labels: Sequence[str] = (),
    schema: str = "",
    judge: str = "me",
) -> ReviewState:
    """The state that the journals lead to: verdicts, notes, undo history, the first open row as cursor."""
    past = past_of(journal, notes, judge)
    state = ReviewState(
        rows=tuple(rows),
        labels=tuple(labels),
        schema=schema,
        judge=judge,
        verdicts=past.verdicts,
        notes=past.notes,
        history=past.actions,
        n_actions=past.n_actions,
    )
    return state.but(cursor=first_open(state))


def text_of(state: ReviewState, row: ReviewRow) -> tuple[str, str]:
    """A row's input and output as they would be trained on now."""
    verdict = state.verdicts.get(row.id)
    edited_input = verdict.input if verdict else None
    edited_output = verdict.output if verdict else None
    return (
        row.input if edited_input is None else edited_input,
        row.output if edited_output is None else edited_output,
    )


def is_judged(state: ReviewState, row: ReviewRow) -> bool:
    """True when a person has decided on the row."""
    return row.id in state.verdicts


def is_kept(state: ReviewState, row: ReviewRow) -> bool:
    """True when the row would be trained on: a person's verdict over the filters'."""
    verdict = state.verdicts.get(row.id)
    return row.kept if verdict is None else verdict.keep


def is_edited(state: ReviewState, row: ReviewRow) -> bool:
    """True when a person changed the row's text."""
    return text_of(state, row) != (row.input, row.output)


def in_conflict(state: ReviewState, row: ReviewRow) -> bool:
    """True when a merge found another judgement of this row and nobody has decided since."""
    verdict = state.verdicts.get(row.id)
    return verdict is not None and verdict.rule == MERGED


def decision(state: ReviewState, row: ReviewRow) -> str:
    """What people decided on a row, in a word: open, accepted, rejected or conflict."""
    if in_conflict(state, row):
        return "conflict"
    if not is_judged(state, row):
        return "open"
    return "accepted" if is_kept(state, row) else "rejected"


def visible(state: ReviewState) -> list[ReviewRow]:
    """The rows of the view in its order; in a sample, the sample's rows."""
    if state.sample:
        chosen = set(state.sample)
        rows = [row for row in state.rows if row.id in chosen]
    else:
        rows = [row for row in state.rows if matches(state, row)]
    return sorted(rows, key=lambda row: order_key(state.view.order, row))


def matches(state: ReviewState, row: ReviewRow) -> bool:
    """True when the view's conditions hold for the row."""
    view = state.view
    text = text_of(state, row)
    notes = tuple(state.notes.get(row.id, {}).values())
    return (
        (view.show == "all" or row.kept == (view.show == "kept"))
        and _judged_as(state, row, view.judged)
        and (view.label is None or text[1] == view.label)
        and (view.rule is None or row.rule == view.rule)
        and (view.max_votes is None or row.candidate.vote_share <= view.max_votes)
        and (not view.personal or bool(kinds(*text)))
        and (not view.noted or bool(notes))
        and (not view.text or any(composed(view.text) in composed(part) for part in (*text, *notes)))
    )


def _judged_as(state: ReviewState, row: ReviewRow, judged: str) -> bool:
    if judged == "any":
        return True
    if judged == "open":
        return not is_judged(state, row)
    if judged == "edited":
        return is_edited(state, row)
    if judged == "conflicts":
        return in_conflict(state, row)
    return is_judged(state, row) and is_kept(state, row) == (judged == "accepted")


def counted_rows(state: ReviewState) -> list[ReviewRow]:
    """The rows that progress counts: the sample; else those past the filters, and what people judged besides."""
    if state.sample:
        chosen = set(state.sample)
        return [row for row in state.rows if row.id in chosen]
    return [row for row in state.rows if row.kept or is_judged(state, row)]


def current(state: ReviewState) -> ReviewRow | None:
    """The row under the cursor."""
    return next((row for row in state.rows if row.id == state.cursor), None)


def first_open(state: ReviewState) -> str | None:
    """The first row of the view that nobody judged, else its first row."""
    rows = visible(state)
    return next((row.id for row in rows if not is_judged(state, row)), rows[0].id if rows else None)


def describe(view: View) -> str:
    """The view's conditions in words."""
    parts = [
        f"filters: {view.show}" if view.show != "kept" else "",
        f"judged: {view.judged}" if view.judged != "any" else "",
        f"label: {view.label}" if view.label is not None else "",
        f"rule: {view.rule}" if view.rule is not None else "",
        f"votes at most {view.max_votes:.0%}" if view.max_votes is not None else "",
        f"text: {view.text}" if view.text else "",
        "personal data" if view.personal else "",
        "with a note" if view.noted else "",
    ]
    return ", ".join(part for part in parts if part)
