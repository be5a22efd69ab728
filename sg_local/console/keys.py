"""Single keys from the terminal, and the terminal given back on any exit."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import signal
import sys
import termios
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

from sg_local.review import PASTE

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
    "\x04": "ctrl-d",
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
ESCAPE_WAIT_S, PASTE_WAIT_S = 0.05, 1.0
RESIZED = "resize"
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"  # bracketed paste, as xterm's control sequences have it
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
UNFINISHED = re.compile(r"\x1b([\[O][0-9;?]*)?")


def split_keys(text: str) -> list[str]:
    """The names of the keys behind a stretch of terminal input; a pasted text is one key, `paste:TEXT`."""
    before, pasted, rest = text.partition(PASTE_BEGINS)
    if pasted:
        inside, _, after = rest.partition(PASTE_ENDS)
        return [*split_keys(before), PASTE + inside, *split_keys(after)]
    return _typed_keys(text)


def is_whole(text: str) -> bool:
    """False where the text ends inside a key's sequence or inside a pasted text: the rest is still under way."""
    if text.rpartition(PASTE_BEGINS)[1] and PASTE_ENDS not in text.rpartition(PASTE_BEGINS)[2]:
        return False
    last = text.rfind("\x1b")
    return last < 0 or UNFINISHED.fullmatch(text, last) is None


def _typed_keys(text: str) -> list[str]:
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

    def __init__(self, screen: int | None = None) -> None:
        """`screen` is the descriptor of the terminal that shows what happens, where stdout is not."""
        self.fd = sys.stdin.fileno()
        self.screen = sys.stdout.fileno() if screen is None else screen
        self.saved: list[Any] | None = None
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
        os.write(self.screen, PASTE_ON)

    def give(self) -> None:
        """Put the terminal back as it was."""
        if self.saved is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone, here and below
                os.write(self.screen, PASTE_OFF)
            with contextlib.suppress(termios.error):
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

    def read(self) -> list[str] | None:
        """Wait for keys, or for the window to change its size (`resize`); None once the terminal is gone.

        An empty list is a key that we have no name for.
        """
        ready, _, _ = select.select([self.fd, self.waker], [], [])
        if self.waker in ready:
            os.read(self.waker, 1024)
            return [RESIZED]
        data = self._bytes()
        if not data:
            return None
        text = self.decoder.decode(data)
        while data and not is_whole(text) and select.select([self.fd], [], [], self._patience(text))[0]:
            data = self._bytes()
            text += self.decoder.decode(data)
        return split_keys(text)

    def is_waiting(self, wait_s: float) -> bool:
        """Whether more keys come within this time."""
        return bool(select.select([self.fd], [], [], wait_s)[0])

    def _bytes(self) -> bytes:
        """What was typed; nothing where the terminal is gone."""
        try:
            return os.read(self.fd, 1024)
        except OSError:
            return b""

    @staticmethod
    def _patience(text: str) -> float:
        """Seconds to wait for the rest: a lone escape is a key of its own, a pasted text has an end."""
        return PASTE_WAIT_S if PASTE_BEGINS in text else ESCAPE_WAIT_S


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe has told already."""


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
