"""Questions on the terminal, answered by texts that may have many lines: pasted e-mails, too.

The line under the caret is drawn on one row and scrolls sideways; finished lines stand above it. Ctrl-C interrupts, and
what was typed so far can still be had.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Self

from rich.cells import cell_len

from sg_local.console.keys import RESIZED, Keyboard
from sg_local.console.typed import Typed, type_key
from sg_local.words import counted, shown

MARK, NEXT_MARK = "> ", "| "
SEVERAL = "(several lines: end the text with a line that holds only a full stop)"
SHOWN_LINES = 12
PASTE_GAP_S = 0.03
"""Keys that come this soon behind an enter were not typed: the lines of a pasted text."""


class Asking:
    """The terminal for a sitting of questions: a context manager. What is drawn goes to stderr."""

    def __init__(self) -> None:
        self.keyboard = Keyboard(sys.stderr.fileno())
        self.keys: deque[str] = deque()
        self.typed = Typed()

    def __enter__(self) -> Self:
        self.keyboard.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.keyboard.__exit__(*exc)

    def ask(self, *, is_text: bool) -> str | None:
        """The answer, of several lines where `is_text`. None where the terminal is gone."""
        self.typed = before = Typed(is_text=is_text)
        while not self.typed.is_over:
            self._draw()
            key = self._key()
            if key is None:
                return None
            before = self.typed
            self.typed = type_key(before, key, is_followed=self._is_followed())
            self._show_done(before)
        is_stopped = len(self.typed.done) < len(before.done)  # its last line stands above the full stop already
        self._put("\r\x1b[K" + ("" if is_stopped else f"{self._mark()}{shown(self.typed.line)}\n"))
        return self.typed.text

    def _key(self) -> str | None:
        """The next key; None once the terminal is gone."""
        while not self.keys:
            found = self.keyboard.read()
            if found is None:
                return None
            self.keys.extend(key for key in found if key != RESIZED)
            if RESIZED in found:
                self._draw()
        return self.keys.popleft()

    def _is_followed(self) -> bool:
        return bool(self.keys) or self.keyboard.is_waiting(PASTE_GAP_S)

    def _show_done(self, before: Typed) -> None:
        """The lines that were finished since, above the caret's; of many, the first ones and how many more."""
        new = self.typed.done[len(before.done) :]
        if not new or self.typed.is_over:
            return
        marks = [MARK if i == 0 and not before.done else NEXT_MARK for i in range(len(new))]
        cut = new if len(new) <= SHOWN_LINES else new[:SHOWN_LINES]
        lines = [f"{mark}{shown(line)}" for mark, line in zip(marks, cut, strict=False)]
        lines += [f"{NEXT_MARK}... {counted(len(new) - len(cut), 'more line')}"] if len(cut) < len(new) else []
        lines += [SEVERAL] if not before.done else []
        self._put("\r\x1b[K" + "\n".join(lines) + "\n")

    def _draw(self) -> None:
        """The line under the caret, as much of it as fits."""
        mark = self._mark()
        room = max(8, self._columns() - len(mark) - 1)
        before = shown(self.typed.line[: self.typed.caret]).replace("\t", " ")
        while cell_len(before) > room:
            before = before[max(1, len(before) // 4) :]
        after = shown(self.typed.line[self.typed.caret :]).replace("\t", " ")[: room - cell_len(before)]
        while cell_len(before + after) > room:
            after = after[:-1]
        self._put(f"\r\x1b[K{mark}{before}{after}\r\x1b[{len(mark) + cell_len(before)}C")

    def _mark(self) -> str:
        return NEXT_MARK if self.typed.done else MARK

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.keyboard.screen).columns
        except OSError:
            return 80

    def _put(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
