"""A text under way at a question: finished lines, and one under the caret. Pure: what each key does to it.

Enter ends a text of one line. A text has several lines once one is pasted, or begun by ctrl-j: then a line that holds
only a full stop, or ctrl-d, ends it. Where a terminal has no bracketed paste, an enter that more keys follow at once is
the end of a pasted line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sg_local.review import PASTE

STOP = "."
MOVES = {"left": -1, "right": 1}


@dataclass(frozen=True)
class Typed:
    """The text so far. `is_text`: it may have several lines; `is_over`: it is finished."""

    done: tuple[str, ...] = ()
    line: str = ""
    caret: int = 0
    is_text: bool = False
    is_over: bool = False

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join((*self.done, self.line))


def type_key(typed: Typed, key: str, *, is_followed: bool = False) -> Typed:
    """The text with one more key; keys that type nothing change nothing."""
    line, caret = typed.line, typed.caret
    if key == "enter":
        return _entered(typed, is_followed)
    if key == "ctrl-j":
        return _with(typed, "\n") if typed.is_text else _entered(typed, is_followed)
    if key == "ctrl-d":
        return replace(typed, is_over=True)
    if key in MOVES:
        return replace(typed, caret=min(len(line), max(0, caret + MOVES[key])))
    if key in ("home", "end"):
        return replace(typed, caret=0 if key == "home" else len(line))
    if key in ("backspace", "delete", "ctrl-u", "ctrl-w"):
        return _cut(typed, key)
    if key.startswith(PASTE):
        return _with(typed, _pasted(key, typed.is_text))
    text = {"space": " "}.get(key, key)
    return _with(typed, text) if len(text) == 1 else typed


def _entered(typed: Typed, is_followed: bool) -> Typed:
    """A line ended: the text, too, unless it has several lines."""
    if not typed.is_text or not (typed.done or is_followed):
        return replace(typed, is_over=True)
    if typed.line == STOP and not is_followed:
        *done, line = typed.done
        return replace(typed, done=tuple(done), line=line, caret=len(line), is_over=True)
    return _with(replace(typed, caret=len(typed.line)), "\n")


def _cut(typed: Typed, key: str) -> Typed:
    line, caret = typed.line, typed.caret
    starts = {
        "backspace": max(0, caret - 1),
        "delete": caret,
        "ctrl-u": 0,
        "ctrl-w": line[:caret].rstrip().rfind(" ") + 1,
    }
    start, end = starts[key], min(len(line), caret + 1) if key == "delete" else caret
    return replace(typed, line=line[:start] + line[end:], caret=start)


def _pasted(key: str, is_text: bool) -> str:
    """A pasted text: one line of it ends nothing; where one line is asked for, its lines become a list."""
    text = key.removeprefix(PASTE).replace("\r\n", "\n").replace("\r", "\n")
    if not is_text:
        return ", ".join(line.strip() for line in text.split("\n") if line.strip())
    return text.rstrip("\n") if "\n" not in text.strip("\n") else text


def _with(typed: Typed, text: str) -> Typed:
    """Text put in at the caret; control characters are none."""
    kept = "".join(char for char in text if char.isprintable() or char in "\n\t")
    *done, last = f"{typed.line[: typed.caret]}{kept}".split("\n")
    return replace(typed, done=(*typed.done, *done), line=last + typed.line[typed.caret :], caret=len(last))
