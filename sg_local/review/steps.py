"""One key pressed: the rules of the review, mode by mode.

Keys are single characters or names: enter, esc, space, tab, backspace, delete, left, right, up, down, home, end,
page_up, page_down, ctrl-u, ctrl-w, ctrl-j, and `paste:TEXT` for a text that was pasted. Unknown keys leave the state
as it is, with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sg_local.review.judging import decide, edited, judged, misfit_of, onward, relabel, undo, verdict_on
from sg_local.review.rows import ORDERS, ReviewRow, n_rows, reasons
from sg_local.review.state import (
    JUDGED,
    MAX_VOTES,
    REASONS,
    SHOW,
    Play,
    ReviewState,
    View,
    current,
    describe,
    first_open,
    is_judged,
    text_of,
    visible,
)
from sg_local.review.typing import PASTE, type_key

T = TypeVar("T")
PAGE = 10  # lines
ORDER_WORDS = {
    "file": "as synthesised",
    "doubt": "most doubtful first",
    "votes": "fewest votes first",
    "neighbour": "nearest duplicates first",
    "length": "most unusual length first",
    "likelihood": "least likely first",
}


def step(state: ReviewState, key: str) -> ReviewState:
    """The state after one key. Pure: what must be written or done outside is in `new` and `wants`."""
    fresh = state.but(message="", new=(), wants="")
    if key.startswith(PASTE) and state.mode not in TYPING:
        return fresh.but(message="Pasted text does nothing here.")
    return MODES[state.mode](fresh, key)


# Moving


def move(state: ReviewState, places: int) -> ReviewState:
    """Go so many rows on or back in the view; stops at its ends."""
    rows = visible(state)
    if not rows:
        return state.but(message="No row matches this view: press f to change it.")
    at = next((i for i, row in enumerate(rows) if row.id == state.cursor), None)
    to = (0 if places > 0 else len(rows) - 1) if at is None else at + places
    if not 0 <= to < len(rows):
        return state.but(message="This is the last row." if places > 0 else "This is the first row.")
    return state.but(cursor=rows[to].id, scroll=0)


def settled(state: ReviewState, view: View) -> ReviewState:
    """Another view, with the cursor on a row of it."""
    after = state.but(view=view)
    if any(row.id == state.cursor for row in visible(after)):
        return after
    return after.but(cursor=first_open(after), scroll=0)


def _order(state: ReviewState) -> ReviewState:
    order = _after(ORDERS, state.view.order)
    after = state.but(view=replace(state.view, order=order))
    return after.but(cursor=first_open(after), scroll=0, message=f"Order: {ORDER_WORDS[order]}.")


def _after(choices: Sequence[T], value: T) -> T:
    """The choice that follows the value, round to the first."""
    at = choices.index(value) if value in choices else -1
    return choices[(at + 1) % len(choices)]


# Modes


def _cards(state: ReviewState, key: str) -> ReviewState:
    if key.isdigit() and key != "0":
        return relabel(state, key)
    action = CARD_KEYS.get(key)
    if action is None:
        return state.but(message=f"{key} does nothing here; ? shows the keys.")
    return action(state)


def _edit(state: ReviewState, field: str) -> ReviewState:
    row = current(state)
    if row is None:
        return state.but(message="No row to edit.")
    if field == "output" and state.labels:
        return state.but(message="Relabel with the digits; the output of this task is a label.")
    text = text_of(state, row)[field == "output"]
    return state.but(mode="edit", edits=field, buffer=text, caret=len(text))


def _ask(state: ReviewState, wants: str) -> ReviewState:
    return state.but(wants=wants) if current(state) else state.but(message="No row here.")


def _ask_bulk(state: ReviewState, keep: bool) -> ReviewState:
    ids = tuple(row.id for row in visible(state) if not (is_judged(state, row) or (keep and misfit_of(state, row))))
    if not ids:
        return state.but(message="No open row in this view.")
    verb = "Accept" if keep else "Reject"
    where = f" ({describe(state.view)})" if describe(state.view) else ""
    message = f"{verb} {'all ' if len(ids) > 1 else ''}{n_rows(len(ids), 'open')}{where}? y or n"
    return state.but(mode="confirm", bulk=(keep, ids), message=message)


def _play(state: ReviewState) -> ReviewState:
    if not state.thresholds:
        return state.but(message="The filters of this run have no thresholds to move.")
    return state.but(mode="thresholds", saved=state.thresholds, play=None, scroll=0, wants="play")


CARD_KEYS: dict[str, Callable[[ReviewState], ReviewState]] = {
    "a": lambda state: decide(state, True),
    "enter": lambda state: decide(state, True),
    "r": lambda state: state.but(mode="reason") if current(state) else state.but(message="No row here."),
    "e": lambda state: _edit(state, "output"),
    "i": lambda state: _edit(state, "input"),
    "E": lambda state: _ask(state, "editor"),
    "G": lambda state: _ask(state, "regenerate"),
    "u": undo,
    "s": lambda state: move(state, 1),
    "space": lambda state: move(state, 1),
    "right": lambda state: move(state, 1),
    "b": lambda state: move(state, -1),
    "left": lambda state: move(state, -1),
    "down": lambda state: scrolled(state, 1),
    "up": lambda state: scrolled(state, -1),
    "page_down": lambda state: scrolled(state, PAGE),
    "page_up": lambda state: scrolled(state, -PAGE),
    "home": lambda state: move_to_end(state, 0),
    "end": lambda state: move_to_end(state, -1),
    "g": lambda state: state.but(mode="jump", buffer="", caret=0),
    "/": lambda state: state.but(
        mode="search", buffer=state.view.text, caret=len(state.view.text), origin=(state.view, state.cursor)
    ),
    "f": lambda state: state.but(mode="filter"),
    "o": _order,
    "A": lambda state: _ask_bulk(state, True),
    "R": lambda state: _ask_bulk(state, False),
    "t": _play,
    "?": lambda state: state.but(mode="help"),
    "q": lambda state: state.but(wants="quit"),
    "esc": lambda state: settled(state, View(order=state.view.order)),
}


def scrolled(state: ReviewState, lines: int) -> ReviewState:
    """What stands on the left moved up by so many lines; the screen stops at its end."""
    return state.but(scroll=max(0, state.scroll + lines))


def move_to_end(state: ReviewState, place: int) -> ReviewState:
    """Go to the first (0) or last (-1) row of the view."""
    rows = visible(state)
    return state.but(cursor=rows[place].id, scroll=0) if rows else state.but(message="No row matches this view.")


def _reason(state: ReviewState, key: str) -> ReviewState:
    if key in ("enter", "r"):
        return decide(state, False)
    if key.isdigit() and 1 <= int(key) <= len(REASONS):
        return decide(state, False, REASONS[int(key) - 1])
    if key == "o":
        return state.but(mode="reason_text", buffer="", caret=0)
    return state.but(mode="cards", message="" if key == "esc" else "Not rejected.")


def _reason_text(state: ReviewState, key: str) -> ReviewState:
    if key == "enter":
        return decide(state, False, state.buffer.strip())
    return state.but(mode="cards") if key == "esc" else type_key(state, key)


def _editing(state: ReviewState, key: str) -> ReviewState:
    if key == "esc":
        return state.but(mode="cards", message="Nothing changed.")
    if key != "enter":
        return type_key(state, key)
    return edited(state.but(mode="cards", buffer="", caret=0), **{state.edits: state.buffer})


def _search(state: ReviewState, key: str) -> ReviewState:
    done = state.but(mode="cards", buffer="", caret=0)
    if key == "enter":
        return done
    if key == "esc":
        view, cursor = state.origin
        return settled(done.but(cursor=cursor), view)
    typed = type_key(state, key)
    return settled(typed, replace(state.view, text=typed.buffer))


def _jump(state: ReviewState, key: str) -> ReviewState:
    if key == "esc":
        return state.but(mode="cards", buffer="", caret=0)
    if key != "enter":
        return type_key(state, key) if key.isdigit() or (len(key) > 1 and not key.startswith(PASTE)) else state
    number = int(state.buffer) if state.buffer.isdigit() else 0
    done = state.but(mode="cards", buffer="", caret=0)
    row = next((row for row in state.rows if row.number == number), None)
    if row is None:
        return done.but(message=f"There is no row {number}; the last one is {len(state.rows)}.")
    if row.id not in {seen.id for seen in visible(state)}:
        return done.but(message=f"Row {number} is outside this view; esc shows all kept rows.")
    return done.but(cursor=row.id, scroll=0)


def _filter(state: ReviewState, key: str) -> ReviewState:
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
        "c": lambda: View(order=view.order),
    }.get(key)
    if change is not None:
        return settled(state, change())
    return state.but(mode="cards" if key in ("enter", "esc", "f", "q") else "filter")


def _confirm(state: ReviewState, key: str) -> ReviewState:
    keep, ids = state.bulk
    if key != "y":
        return state.but(mode="cards", message="Nothing changed.")
    chosen = set(ids)
    reason = f"all that match {describe(state.view)}".strip() if not keep else ""
    verdicts = [verdict_on(state, row, keep, reason) for row in state.rows if row.id in chosen]
    after = onward(state, judged(state, verdicts))
    verb = "Accepted" if keep else "Rejected"
    return after.but(mode="cards", message=f"{verb} {n_rows(len(verdicts))}; u takes that back.")


def _thresholds(state: ReviewState, key: str) -> ReviewState:
    if key in ("page_up", "page_down"):
        return scrolled(state, PAGE if key == "page_down" else -PAGE)
    if key in ("up", "down"):
        by = -1 if key == "up" else 1
        return state.but(selected=(state.selected + by) % len(state.thresholds), scroll=0, wants="play")
    if key in ("left", "right", "-", "+"):
        chosen = state.thresholds[state.selected].moved(1 if key in ("right", "+") else -1)
        new = (*state.thresholds[: state.selected], chosen, *state.thresholds[state.selected + 1 :])
        return state.but(thresholds=new, wants="play")
    if key == "enter":
        same = state.thresholds == state.saved
        return state.but(
            mode="cards", play=None, wants="" if same else "save", message="Nothing moved." if same else ""
        )
    if key in ("esc", "q"):
        return state.but(mode="cards", play=None, thresholds=state.saved, message="The thresholds are as they were.")
    return state


def played(state: ReviewState, play: Play) -> ReviewState:
    """The state with what the moved thresholds would do."""
    return state.but(play=play)


def reloaded(state: ReviewState, rows: Sequence[ReviewRow]) -> ReviewState:
    """The state over rows that the filters judged anew."""
    after = state.but(rows=tuple(rows), saved=state.thresholds)
    return settled(after, after.view).but(message="The filters have judged all rows again.")


TYPING = ("edit", "search", "jump", "reason_text")
MODES: Mapping[str, Callable[[ReviewState, str], ReviewState]] = {
    "cards": _cards,
    "reason": _reason,
    "reason_text": _reason_text,
    "edit": _editing,
    "search": _search,
    "jump": _jump,
    "filter": _filter,
    "confirm": _confirm,
    "thresholds": _thresholds,
    "help": lambda state, key: state.but(mode="cards", scroll=0),
}
