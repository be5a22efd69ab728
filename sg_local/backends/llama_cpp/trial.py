"""Whether llama.cpp survives a file: tried once, in a process of its own that may end.

A failed assertion in ggml ends the process it happens in, and no check of a header foresees all of them: a norm whose
epsilon is no number is one. So a model or an adapter that this machine has not seen before is first opened and asked
by a child (`python -m sg_local.backends.llama_cpp`). One that came through is remembered by its digest in the folder
of caches, so that it is tried once; one that did not is tried again each time, since what was wrong may have been
the machine.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp as lib

from sg_local.backends import machine
from sg_local.backends.footprint import PROGRAM_BYTES
from sg_local.cache import TRIED
from sg_local.files import file_digest, write_cache
from sg_local.records import SgError

logger = logging.getLogger(__name__)

VERSION = 1  # of what is tried; a new one makes old verdicts void
TIMEOUT_S = 1800  # a model of 70 GB from a slow disk
PASSED, REFUSED, NO_NUMBERS = 0, 4, 5  # the child's exit codes; a refusal is said better by whoever opens the file
ANOTHER = "It is damaged, or made for another version of llama.cpp: fetch it again, or take another one."


@dataclass(frozen=True)
class Trial:
    """What a child opens: a model, whole or its vocabulary alone, and an adapter on it where one is given.

    An adapter is tried on the CPU: the model is loaded here already, and may not find room on the GPU twice.
    """

    model: Path
    cache: Path
    gpu_layers: int = 0
    adapter: Path | None = None
    vocab_only: bool = False

    @property
    def file(self) -> Path:
        """The file that is new here."""
        return self.adapter or self.model

    def to_json(self) -> str:
        """The child's only argument."""
        return json.dumps(dataclasses.asdict(self), default=str)

    def came_through(self) -> bool:
        """Whether these bytes have come through this trial here."""
        entry = self._entry()
        return entry in _came_through() or os.path.exists(entry)

    def remember(self, seconds: float = 0.0) -> None:
        """These bytes have come through."""
        entry = self._entry()
        write_cache(entry, {"path": str(self.file), "seconds": round(seconds, 1)})
        _came_through().add(entry)

    def _entry(self) -> Path:
        return self.cache / TRIED / f"{_key(self)}.json"

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """What `to_json` wrote."""
        data = json.loads(text)
        paths = {key: Path(data[key]) for key in ("model", "cache", "adapter") if data[key] is not None}
        return cls(**{**data, **paths})


def check_survives(trial: Trial) -> None:
    """Raise SgError for a file that makes llama.cpp end its process, hang or compute no numbers."""
    if trial.came_through():
        return
    began = time.monotonic()
    try:
        done = _ask_child(trial)
    except subprocess.TimeoutExpired as error:
        message = f"llama.cpp did not answer with {trial.file} within {TIMEOUT_S // 60} minutes."
        raise SgError(message, "Take a smaller model, or a machine with more memory.") from error
    logger.info("%s was tried in a process of its own: exit %d", trial.file.name, done.returncode)
    if done.returncode == PASSED:
        trial.remember(time.monotonic() - began)
    elif done.returncode == -signal.SIGKILL and trial.adapter is not None:
        logger.info("there is no memory to try an adapter beside its model: it is loaded untried")
    elif done.returncode != REFUSED:
        raise _failure(trial, done.returncode, done.stderr)


def _ask_child(trial: Trial) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sg_local.backends.llama_cpp", trial.to_json()]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)


def _key(trial: Trial) -> str:
    """One name for the same bytes, the same build and the same way to open them."""
    build = f"{lib.__version__} {(lib.llama_print_system_info() or b'').decode()}"
    digests = [file_digest(path, trial.cache) for path in (trial.model, trial.adapter) if path is not None]
    facts: tuple[Any, ...] = (VERSION, build, trial.gpu_layers, trial.vocab_only, *digests)
    return hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()[:32]


@functools.cache
def _came_through() -> set[Path]:
    """The process's own memory, for where no folder of caches can be written."""
    return set()


def _failure(trial: Trial, status: int, errors: str) -> SgError:
    """What a child's end says of the file."""
    path = trial.file
    if status == NO_NUMBERS:
        return SgError(f"{path} computes no numbers in llama.cpp: its weights or its settings hold NaN.", ANOTHER)
    if status == -signal.SIGKILL or machine.tells_of_memory(errors):
        machine.refuse_to_open(path, trial.model.stat().st_size + PROGRAM_BYTES)
    lines = [line.strip().removeprefix("what():").strip() for line in errors.splitlines() if line.strip()]
    asserted = [re.sub(r"^\S+: ?(?=GGML_ASSERT)", "", line) for line in lines if "GGML_ASSERT" in line]
    signals = {-one.value: f"it ended with {one.name}" for one in signal.Signals}
    cause = asserted[0] if asserted else signals.get(status) or (lines[-1] if lines else f"exit {status}")
    return SgError(f"llama.cpp breaks down on {path}: {cause}.", ANOTHER)
