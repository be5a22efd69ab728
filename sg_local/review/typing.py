"""One line of text under a caret: what typing keys do to the state's buffer."""

from __future__ import annotations

from sg_local.review.state import ReviewState

MOVES = {"left": -1, "right": 1}
PASTE = "paste:"
"""Begins the key that stands for a whole pasted text."""


def type_key(state: ReviewState, key: str) -> ReviewState:
    """The state with the key typed into the buffer; keys that type nothing change nothing."""
    text, caret = state.buffer, state.caret
    if key in MOVES:
        return state.but(caret=min(len(text), max(0, caret + MOVES[key])))
    if key in ("home", "end"):
        return state.but(caret=0 if key == "home" else len(text))
    if key == "backspace":
        return _cut(state, max(0, caret - 1), caret)
    if key == "delete":
        return _cut(state, caret, min(len(text), caret + 1))
    if key == "ctrl-u":
        return _cut(state, 0, caret)
    if key == "ctrl-w":
        return _cut(state, text[:caret].rstrip().rfind(" ") + 1, caret)
    typed = _typed(key)
    return state.but(buffer=text[:caret] + typed + text[caret:], caret=caret + len(typed))


def is_number(text: str) -> bool:
    """Whether a key or a typed text is digits of 0 to 9 alone, which `int` reads: a superscript two is none."""
    return text.isascii() and text.isdecimal()


def _typed(key: str) -> str:
    """The text that a key stands for: none for keys that only have a name."""
    if key.startswith(PASTE):
        lines = key.removeprefix(PASTE).replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
        return "".join(char for char in lines if char.isprintable() or char == "\n")
    typed = {"space": " ", "ctrl-j": "\n"}.get(key, key)
    return typed if len(typed) == 1 and (typed.isprintable() or typed == "\n") else ""


def _cut(state: ReviewState, start: int, end: int) -> ReviewState:
    return state.but(buffer=state.buffer[:start] + state.buffer[end:], caret=start)
