"""Single keys from the terminal, and the terminal given back on any exit."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator
from types import FrameType
from typing import Self

NAMES = {
    "\r": "enter",
    "\n": "ctrl-j",
    "\t": "tab",
    " ": "space",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "ctrl-u",
    "\x17": "ctrl-w",
    "\x01": "home",
    "\x05": "end",
}
SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "[H": "home",
    "[F": "end",
    "OH": "home",
    "OF": "end",
    "[1~": "home",
    "[4~": "end",
    "[3~": "delete",
    "[5~": "page_up",
    "[6~": "page_down",
}
ESCAPE_WAIT_S = 0.05
RESIZED = "resize"


def split_keys(text: str) -> list[str]:
    """The names of the keys behind a stretch of terminal input."""
    keys, at = [], 0
    while at < len(text):
        sequence = next((code for code in SEQUENCES if text.startswith("\x1b" + code, at)), None)
        if sequence is not None:
            keys.append(SEQUENCES[sequence])
            at += 1 + len(sequence)
        elif text[at] == "\x1b" and at + 1 < len(text) and text[at + 1] in "[O":
            at = _after_unknown(text, at + 2)
        else:
            keys.append("esc" if text[at] == "\x1b" else NAMES.get(text[at], text[at]))
            at += 1
    return keys


def _after_unknown(text: str, at: int) -> int:
    """The place after an escape sequence that we do not know."""
    while at < len(text) and not ("@" <= text[at] <= "~"):
        at += 1
    return at + 1


class Keyboard:
    """The terminal with echo and lines off. A context manager; `pause` hands the terminal to another program."""

    def __init__(self) -> None:
        self.fd = sys.stdin.fileno()
        self.saved: list | None = None
        self.waker, self.wake = os.pipe()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        os.set_blocking(self.wake, False)
        self.old_wakeup = signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self.old_handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, _note),
            signal.SIGTERM: signal.signal(signal.SIGTERM, _leave),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _leave),
        }
        self.take()
        return self

    def __exit__(self, *exc: object) -> None:
        self.give()
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.old_wakeup)
        os.close(self.wake)
        os.close(self.waker)

    def take(self) -> None:
        """Read keys one by one from now on. Ctrl-C still interrupts; ctrl-z, ctrl-s and ctrl-q do nothing."""
        self.saved = termios.tcgetattr(self.fd)
        new = termios.tcgetattr(self.fd)
        new[0] &= ~(termios.ICRNL | termios.IXON)
        new[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        new[6][termios.VSUSP] = b"\0"
        new[6][termios.VMIN], new[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSADRAIN, new)

    def give(self) -> None:
        """Put the terminal back as it was."""
        if self.saved is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.saved)
            self.saved = None

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Hand the terminal to another program."""
        self.give()
        try:
            yield
        finally:
            self.take()

    def read(self) -> list[str]:
        """Wait for keys, or for the window to change its size (`resize`). An empty list: the terminal is gone."""
        ready, _, _ = select.select([self.fd, self.waker], [], [])
        if self.waker in ready:
            os.read(self.waker, 1024)
            return [RESIZED]
        data = os.read(self.fd, 1024)
        if data.endswith(b"\x1b") and select.select([self.fd], [], [], ESCAPE_WAIT_S)[0]:
            data += os.read(self.fd, 1024)
        return split_keys(self.decoder.decode(data)) if data else []


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe has told already."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
