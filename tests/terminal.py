"""The real program in a pseudo-terminal: keys go in, and the screen is read as a terminal would show it."""

from __future__ import annotations

import os
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

PROGRAM = "from sg_local.cli import main; main()"
PATIENCE_S = 60.0


class Terminal:
    """`sg-local ARGS` in a terminal of its own. `screen` keeps what is shown, `raw` every byte that came."""

    def __init__(self, args: Sequence[str], cwd: Path, size: tuple[int, int] = (80, 24), **env: str) -> None:
        self.columns, self.rows = size
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable, ["-c", PROGRAM, *args], cwd=str(cwd), env=_environment(env), dimensions=(size[1], size[0])
        )
        self.child.delaybeforesend = None

    def text(self) -> str:
        """What is on the screen, trailing blanks cut."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, keys: str) -> None:
        """Type keys."""
        self.child.send(keys)

    def wait(self, *words: str, gone: str = "") -> str:
        """The screen once it shows all the words, and no longer `gone`; AssertionError when that takes too long."""
        return self.until(lambda text: all(word in text for word in words) and not (gone and gone in text), words)

    def until(self, holds: Callable[[str], bool], what: object) -> str:
        """The screen once the condition holds; AssertionError that names it when that takes too long."""
        end = time.monotonic() + PATIENCE_S
        while not holds(self.text()):
            assert time.monotonic() < end and self._read(), f"{what} not shown:\n{self.text()}"
        return self.text()

    def settle(self) -> None:
        """Read until nothing more comes: the last frame is whole then."""
        before = -1
        while before != len(self.raw):
            before = len(self.raw)
            self._read()

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def end(self) -> int:
        """The exit code (128 + signal where one ended it), once the program is over and all is read."""
        end = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < end, f"the program does not end:\n{self.text()}"
        self.left = self.modes()
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else 128 + self.child.signalstatus

    def modes(self) -> list:
        """The terminal's settings as termios has them; `left` keeps those from after the program's end."""
        return termios.tcgetattr(self.child.child_fd)

    def is_restored(self) -> bool:
        """True when the main screen, the cursor and plain pasting are back."""
        return all(
            self.raw.rfind(back) > self.raw.rfind(taken)
            for taken, back in (
                (b"\x1b[?1049h", b"\x1b[?1049l"),
                (b"\x1b[?25l", b"\x1b[?25h"),
                (b"\x1b[?2004h", b"\x1b[?2004l"),
            )
        )

    def _read(self) -> bool:
        """Take in what has come; False once nothing more can come."""
        try:
            data = self.child.read_nonblocking(65536, 0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change the screen, and a terminal that can do everything."""
    left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {k: v for k, v in os.environ.items() if k not in left_out}
    return {**kept, "TERM": "xterm-256color", "COLORTERM": "", "USER": "ann", **more}
