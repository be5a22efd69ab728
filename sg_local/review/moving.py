"""Where the reviewer stands: rows on and back, the first and the last, by number, by text; the view and its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sg_local.review.rows import ORDERS, reasons
from sg_local.review.state import JUDGED, MAX_VOTES, SHOW, ReviewState, View, first_open, visible
from sg_local.review.typing import PASTE, is_number, type_key

T = TypeVar("T")
PAGE = 10  # lines
ORDER_WORDS = {
    "file": "as synthesised",
    "doubt": "most doubtful first",
    "votes": "fewest votes first",
    "neighbour": "nearest duplicates first",
    "length": "most unusual length first",
    "likelihood": "least likely first",
    "disagreement": "labellers disagree most first",
}


def move(state: ReviewState, places: int) -> ReviewState:
    """Go so many rows on or back in the view; stops at its ends."""
    rows = visible(state)
    if not rows:
        return state.but(message="No row matches this view: press f to change it.")
    at = next((i for i, row in enumerate(rows) if row.id == state.cursor), None)
    to = (0 if places > 0 else len(rows) - 1) if at is None else at + places
    if not 0 <= to < len(rows):
        return state.but(message="This is the last row." if places > 0 else "This is the first row.")
    return state.but(cursor=rows[to].id, scroll=0, below=0)


def move_to_end(state: ReviewState, place: int) -> ReviewState:
    """Go to the first (0) or last (-1) row of the view."""
    rows = visible(state)
    return state.but(cursor=rows[place].id, scroll=0) if rows else state.but(message="No row matches this view.")


def scrolled(state: ReviewState, lines: int) -> ReviewState:
    """What stands on the left moved up by so many lines; the screen stops at its end."""
    return state.but(scroll=max(0, state.scroll + lines), below=max(0, state.below - lines))


def scrolled_or_moved(state: ReviewState, by: int) -> ReviewState:
    """A line on (1) or back (-1) in a card that does not fit; from its end, and in one that fits, the next row."""
    is_inside = state.below > 0 if by > 0 else state.scroll > 0
    return scrolled(state, by) if is_inside else move(state, by)


def settled(state: ReviewState, view: View) -> ReviewState:
    """Another view, with the cursor on a row of it."""
    after = state.but(view=view)
    if any(row.id == state.cursor for row in visible(after)):
        return after
    return after.but(cursor=first_open(after), scroll=0)


def next_order(state: ReviewState) -> ReviewState:
    """The rows in the next order."""
    return in_order(state, _after(ORDERS, state.view.order))


def disputed(state: ReviewState) -> ReviewState:
    """The queue of rows where the ways of labelling disagree most; and back to the order of the file."""
    return in_order(state, "file" if state.view.order == "disagreement" else "disagreement")


def in_order(state: ReviewState, order: str) -> ReviewState:
    """The rows in this order, from the first open one."""
    after = state.but(view=replace(state.view, order=order))
    return after.but(cursor=first_open(after), scroll=0, message=f"Order: {ORDER_WORDS[order]}.")


def filtered(state: ReviewState, key: str) -> ReviewState:
    """One key of the filter menu: the next value of a condition, all clear, or done."""
    view = state.view
    change = {
        "s": lambda: replace(view, show=_after(SHOW, view.show)),
        "j": lambda: replace(view, judged=_after(JUDGED, view.judged)),
        "l": lambda: replace(view, label=_after((None, *state.labels), view.label)),
        "w": lambda: replace(
            view, rule=(rule := _after((None, *reasons(state.rows)), view.rule)), show="rejected" if rule else "kept"
        ),
        "v": lambda: replace(view, max_votes=_after(MAX_VOTES, view.max_votes)),
        "p": lambda: replace(view, personal=not view.personal),
        "n": lambda: replace(view, noted=not view.noted),
        "c": lambda: View(order=view.order),
    }.get(key)
    if change is not None:
        return settled(state, change())
    return state.but(mode="cards" if key in ("enter", "esc", "f", "q") else "filter")


def searched(state: ReviewState, key: str) -> ReviewState:
    """One key while a text is looked for: the view follows it at once."""
    done = state.but(mode="cards", buffer="", caret=0)
    if key == "enter":
        return done
    if key == "esc":
        view, cursor = state.origin
        return settled(done.but(cursor=cursor), view)
    typed = type_key(state, key)
    return settled(typed, replace(state.view, text=typed.buffer))


def jumped(state: ReviewState, key: str) -> ReviewState:
    """One key while a row's number is typed."""
    if key == "esc":
        return state.but(mode="cards", buffer="", caret=0)
    if key != "enter":
        return type_key(state, key) if is_number(key) or (len(key) > 1 and not key.startswith(PASTE)) else state
    number = int(state.buffer) if is_number(state.buffer) else 0
    done = state.but(mode="cards", buffer="", caret=0)
    row = next((row for row in state.rows if row.number == number), None)
    if row is None:
        return done.but(message=f"There is no row {number}; the last one is {len(state.rows)}.")
    if row.id not in {seen.id for seen in visible(state)}:
        return done.but(message=f"Row {number} is outside this view; esc shows all kept rows.")
    return done.but(cursor=row.id, scroll=0)


def _after(choices: Sequence[T], value: T) -> T:
    """The choice that follows the value, round to the first."""
    at = choices.index(value) if value in choices else -1
    return choices[(at + 1) % len(choices)]
