"""llama.cpp's shared library, quiet: what it logs is kept for error messages instead of written to stderr."""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp
from llama_cpp import llama_log_callback, llama_log_set

WARNING, ERROR, CONTINUED = 2, 3, 5  # enum ggml_log_level in ggml.h


class Log:
    """The last warnings and errors that llama.cpp reported in this process."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=20)
        self._kept = False
        # llama.cpp keeps the bare pointer for the life of the process, so the callback must live as long.
        self._callback = llama_log_callback(self._take)
        llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _data: int | None) -> None:
        self._kept = self._kept if level == CONTINUED else level in (WARNING, ERROR)
        if self._kept:
            self._lines.append(text.decode("utf-8", "replace").strip())

    def clear(self) -> None:
        """Forget everything, so that `last` speaks of what comes next."""
        self._lines.clear()

    def last(self) -> str:
        """The most telling line since `clear`: the last one, without llama.cpp's function name."""
        line = next((line for line in reversed(self._lines) if line), "")
        return line.partition(": ")[2] or line


@functools.cache
def log() -> Log:
    """The process's log. The first call starts llama.cpp's backend and silences it."""
    kept = Log()
    llama_cpp.llama_backend_init()
    return kept


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect what C code prints on file descriptor 2: llama.cpp reports grammar errors there, past its own log."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines.extend(file.read().decode("utf-8", "replace").splitlines())
