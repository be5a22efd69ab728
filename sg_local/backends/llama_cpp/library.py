"""llama.cpp's shared library, quiet: what it logs is kept for error messages instead of written to stderr.

Every model of the package is loaded here, so that what this machine's build cannot do is left out everywhere.
"""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_log_callback, llama_log_set

from sg_local.backends.llama_cpp.amx import amx_fails

WARNING, ERROR, CONTINUED = 3, 4, 5  # enum ggml_log_level in ggml.h


class Log:
    """What llama.cpp complained of since `clear`: the first error and the last warning."""

    def __init__(self) -> None:
        self._kept: dict[int, str] = {}
        self._level = 0
        # llama.cpp keeps the bare pointer for the life of the process, so the callback must live as long.
        self._callback = llama_log_callback(self.take)
        llama_log_set(self._callback, ctypes.c_void_p(0))

    def take(self, level: int, text: bytes, _data: int | None = None) -> None:
        """One message of llama.cpp; a level of CONTINUED goes on with the message before."""
        piece = text.decode("utf-8", "replace")
        if level == CONTINUED:
            if self._level:
                self._kept[self._level] += piece
            return
        # The first error is the cause; the last one only says that loading failed.
        new = level == WARNING or (level == ERROR and not self._kept.get(ERROR, "").strip())
        self._level = level if new else 0
        if new:
            self._kept[level] = piece

    def clear(self) -> None:
        """Forget everything, so that `cause` speaks of what comes next."""
        self._kept, self._level = {}, 0

    def cause(self) -> str:
        """The first error since `clear`, else the last warning, without llama.cpp's function name."""
        line = self._kept.get(ERROR, "").strip() or self._kept.get(WARNING, "").strip()
        return line.partition(": ")[2] or line


@functools.cache
def log() -> Log:
    """The process's log. The first call starts llama.cpp's backend and silences it."""
    kept = Log()
    llama_cpp.llama_backend_init()
    return kept


def load_model(path: Path, *, gpu_layers: int = 0, vocab_only: bool = False, copies: bool = True) -> Any:
    """A loaded llama_model, or None where llama.cpp refuses the file: then `log().cause()` says why."""
    log().clear()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers, params.vocab_only = gpu_layers, vocab_only
    if not vocab_only and (not copies or amx_fails()):
        params.use_extra_bufts = False  # weights in another order, for the AMX kernels among others
    return llama_cpp.llama_model_load_from_file(os.fsencode(path), params)


_CAPTURING = threading.Lock()  # there is one descriptor 2: two that put it back at a time would lose it


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect what C code prints on file descriptor 2: llama.cpp reports grammar errors there, past its own log."""
    lines: list[str] = []
    with _CAPTURING, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines.extend(file.read().decode("utf-8", "replace").splitlines())
