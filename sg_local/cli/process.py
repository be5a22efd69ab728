"""The process around a command: three streams that are always there, and signals that end it as Ctrl-C does.

A stream that was closed is as /dev/null: otherwise the next file that is opened would take its number, and what a
library prints would land in it. SIGTERM and SIGHUP end a command as Ctrl-C does, at the next row, with the terminal
given back; one that is ignored stays so (nohup). An interruption that falls where Python drops exceptions, into a
destructor or a callback of C code (llama.cpp logs a lot while it loads), comes again a moment later.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO, cast

ENDING = (signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.05
"""How long after an interruption that was dropped it comes again."""


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number


def interruption(error: BaseException | None) -> int | None:
    """The exit code where an interruption led to this error: 128 and the signal's number, as shells say it; else None.

    Click wraps it, and where the terminal is gone the last words fail in its stead.
    """
    while error is not None:
        if isinstance(error, Ended):
            return error.exit_code
        if isinstance(error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """Let signals interrupt the body as Ctrl-C does. Elsewhere than on the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    heard = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, _end)
    try:
        with _never_dropped():
            yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


@contextlib.contextmanager
def _never_dropped() -> Iterator[None]:
    """Let an interruption that Python drops in the body come again, at the latest when the body ends.

    The hook is C code: a Python function could be interrupted itself. A thread sees to what the hook was given.
    """
    before, dropped = sys.unraisablehook, queue.SimpleQueue[Any]()
    ended, late = threading.Event(), list[KeyboardInterrupt]()

    def watch() -> None:
        while (one := dropped.get()) is not None:
            error = one.exc_value
            if not isinstance(error, KeyboardInterrupt):
                before(one)
            elif ended.wait(AGAIN_S):
                late.append(error)
            else:
                os.kill(os.getpid(), error.number if isinstance(error, Ended) else signal.SIGINT)

    watcher = threading.Thread(target=watch, name="interruptions", daemon=True)
    watcher.start()
    sys.unraisablehook = dropped.put
    try:
        yield
    finally:
        sys.unraisablehook = before
        ended.set()
        dropped.put(None)
        watcher.join()
    if late:
        raise late[0]


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)


def open_streams() -> None:
    """Put /dev/null where a stream is closed; let a terminal without Unicode show ? for what it lacks."""
    sys.stdin = sys.stdin or _nothing(0, "r")
    sys.stdout = sys.stdout or _nothing(1, "w")
    sys.stderr = sys.stderr or _nothing(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty() and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _nothing(number: int, mode: str) -> TextIO:
    """/dev/null under the number of a stream that is closed."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)
    return cast(TextIO, open(number, mode, encoding="utf-8", closefd=False))


def silence() -> None:
    """Leave nothing to flush into a pipe whose reader has gone, or to a terminal that is."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    os.close(null)
