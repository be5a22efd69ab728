"""One key pressed: the rules of the review, mode by mode.

Keys are single characters or names: enter, esc, space, tab, backspace, delete, left, right, up, down, home, end,
page_up, page_down, ctrl-u, ctrl-w, ctrl-j, and `paste:TEXT` for a text that was pasted. Unknown keys leave the state
as it is, with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sg_local.review.bulk import SCROLLING, ask_all, ask_surest, confirmed
from sg_local.review.judging import decide, edited, left_alone, note_of, noted, reasoned, relabel, to_open, undo
from sg_local.review.moving import (
    PAGE,
    disputed,
    filtered,
    jumped,
    move,
    move_to_end,
    next_order,
    scrolled,
    scrolled_or_moved,
    searched,
    settled,
)
from sg_local.review.rows import ReviewRow
from sg_local.review.state import REASONS, Play, ReviewState, View, current, text_of
from sg_local.review.typing import PASTE, is_number, type_key


def step(state: ReviewState, key: str) -> ReviewState:
    """The state after one key. Pure: what must be written or done outside is in `new`, `new_notes` and `wants`."""
    fresh = state.but(message="", new=(), new_notes=(), wants="")
    if key.startswith(PASTE) and state.mode not in TYPING:
        return fresh.but(message="Pasted text does nothing here.")
    after = MODES[state.mode](fresh, key)
    return after if after.cursor == state.cursor else after.but(below=0)


# Modes


def _cards(state: ReviewState, key: str) -> ReviewState:
    if is_number(key) and key != "0":
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


def _play(state: ReviewState) -> ReviewState:
    if not state.thresholds:
        return state.but(message="The filters of this run have no thresholds to move.")
    return state.but(mode="thresholds", saved=state.thresholds, play=None, scroll=0, wants="play")


def _note(state: ReviewState) -> ReviewState:
    row = current(state)
    if row is None:
        return state.but(message="No row here.")
    text = note_of(state, row.id)
    return state.but(mode="note", buffer=text, caret=len(text))


CARD_KEYS: dict[str, Callable[[ReviewState], ReviewState]] = {
    "a": lambda state: decide(state, True),
    "enter": lambda state: decide(state, True),
    "r": lambda state: decide(state, False),
    "n": _note,
    "e": lambda state: _edit(state, "output"),
    "i": lambda state: _edit(state, "input"),
    "E": lambda state: _ask(state, "editor"),
    "G": lambda state: _ask(state, "regenerate"),
    "u": undo,
    "s": lambda state: move(state, 1),
    "space": lambda state: move(state, 1),
    "right": lambda state: move(state, 1),
    "j": lambda state: move(state, 1),
    "tab": to_open,
    "b": lambda state: move(state, -1),
    "left": lambda state: move(state, -1),
    "k": lambda state: move(state, -1),
    "down": lambda state: scrolled_or_moved(state, 1),
    "up": lambda state: scrolled_or_moved(state, -1),
    "page_down": lambda state: scrolled(state, PAGE),
    "page_up": lambda state: scrolled(state, -PAGE),
    "home": lambda state: move_to_end(state, 0),
    "end": lambda state: move_to_end(state, -1),
    "g": lambda state: state.but(mode="jump", buffer="", caret=0),
    "/": lambda state: state.but(
        mode="search", buffer=state.view.text, caret=len(state.view.text), origin=(state.view, state.cursor)
    ),
    "f": lambda state: state.but(mode="filter"),
    "o": next_order,
    "d": disputed,
    "A": lambda state: ask_all(state, True),
    "R": lambda state: ask_all(state, False),
    "S": ask_surest,
    "t": _play,
    "T": lambda state: state.but(mode="task", scroll=0),
    "?": lambda state: state.but(mode="help", scroll=0),
    "q": lambda state: state.but(wants="quit"),
    "esc": lambda state: settled(state, View(order=state.view.order)),
}


def _reason(state: ReviewState, key: str) -> ReviewState:
    """After a rejection: a digit says why, o asks for another reason, enter or space gives none, esc takes it back.

    Any other key acts on the card in sight, which is the next one.
    """
    if is_number(key) and 1 <= int(key) <= len(REASONS):
        return reasoned(state, REASONS[int(key) - 1])
    if key == "o":
        return state.but(mode="reason_text", buffer="", caret=0)
    if key == "esc":
        return undo(state)
    return state.but(mode="cards") if key in ("enter", "space") else _cards(state.but(mode="cards"), key)


def _reason_text(state: ReviewState, key: str) -> ReviewState:
    if key == "enter":
        return reasoned(state, state.buffer.strip())
    return state.but(mode="cards", buffer="") if key == "esc" else type_key(state, key)


def _noting(state: ReviewState, key: str) -> ReviewState:
    row = current(state)
    if key == "esc" or row is None:
        return state.but(mode="cards", buffer="", message="Nothing changed.")
    if key != "enter":
        return type_key(state, key)
    text = state.buffer.strip()
    done = state.but(mode="cards", buffer="", caret=0)
    if text == note_of(state, row.id):
        return done.but(message="Nothing changed.")
    return noted(done, {row.id: text}).but(message="Noted; u takes it back." if text else "The note is gone.")


def _editing(state: ReviewState, key: str) -> ReviewState:
    if key == "esc":
        return state.but(mode="cards", message=left_alone(state))
    if key != "enter":
        return type_key(state, key)
    return edited(state.but(mode="cards", buffer="", caret=0), **{state.edits: state.buffer})


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


def _reading(state: ReviewState, key: str) -> ReviewState:
    """A page of text: scrolled by the keys that scroll, left by any other."""
    return scrolled(state, SCROLLING[key]) if key in SCROLLING else state.but(mode="cards", scroll=0)


TYPING = ("edit", "search", "jump", "reason_text", "note")
MODES: Mapping[str, Callable[[ReviewState, str], ReviewState]] = {
    "cards": _cards,
    "reason": _reason,
    "reason_text": _reason_text,
    "edit": _editing,
    "note": _noting,
    "search": searched,
    "jump": jumped,
    "filter": filtered,
    "confirm": confirmed,
    "thresholds": _thresholds,
    "help": _reading,
    "task": _reading,
}
