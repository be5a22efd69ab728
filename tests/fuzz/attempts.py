"""One malformed file given to one reader: what came of it, how long it took and what memory it asked for.

A reader ends in a value or in its own refusal, which names the file and says what to do. Anything else is a failure:
another exception, a refusal without these, more than SLOW_S of this thread's time, more than MEMORY beyond twice the
file. Whatever spins in Python for PATIENCE_S is broken off.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from bounds import PATIENCE_S
from mutators import Mutator, mutated

from sg_local.records import SgError

SLOW_S = 2.0
MEMORY = 64 << 20
LONGEST_MESSAGE = 1500
CHECKED_EVERY = 250
"""Time is taken of every input; memory of large files, and of one small one in so many."""
LARGE = 20_000  # bytes
PACKAGE = "sg_local"


@dataclass(frozen=True)
class Reader:
    """A reader under test: `read` is given the path of `file`, in a folder that `prepare` has filled.

    `sound` makes the files that mutators begin with, `kinds` are these mutators. `names_file`: a refusal names the
    file. `refusals` are the errors that are refusals.
    """

    name: str
    file: str
    sound: Callable[[], Sequence[bytes]]
    kinds: tuple[Mutator, ...]
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None
    names_file: bool = True
    refusals: tuple[type[Exception], ...] = (SgError,)


@dataclass
class Count:
    """What came of one reader's inputs. `kinds` counts the failures of each kind, `first` the first file of each."""

    tried: int = 0
    values: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.kinds.values())

    def row(self, name: str) -> str:
        """A line of the table."""
        return f"{name:<20}{self.tried:>8}{self.values:>8}{self.refused:>9}{self.failed:>9}{self.slowest_s:>10.2f}"


HEADING = f"{'reader':<20}{'tried':>8}{'values':>8}{'refused':>9}{'failed':>9}{'slowest s':>10}"


class Bench:
    """A reader with its folder: takes inputs one after the other."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder, self.count = reader, folder, Count()
        self.refused = False  # what came last was a refusal
        self.path = folder / reader.file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        reader.prepare(folder)
        self.sound = tuple(reader.sound())
        self.path.write_bytes(self.sound[0])
        self._outcome()  # so that modules are loaded before memory is measured

    def numbered(self, number: int) -> bytes:
        """The malformed file of this number."""
        rng = random.Random(f"{self.reader.name}:{number}")
        return mutated(rng, rng.choice(self.sound), self.reader.kinds)

    def take(self, data: bytes, label: str) -> str:
        """Give the reader a file; what is wrong with the outcome, or an empty string."""
        self.path.write_bytes(data)
        measures = len(data) > LARGE or self.count.tried % CHECKED_EVERY == 0
        outcome, seconds = self._watched(data, measures)
        if seconds > SLOW_S and not outcome and not measures:
            outcome = f"takes more than {SLOW_S:g} s" if min(seconds, self._watched(data, False)[1]) > SLOW_S else ""
        self.count.tried += 1
        self.count.slowest_s = max(self.count.slowest_s, seconds)
        if outcome:
            self._keep(data, outcome, label)
        else:
            self.count.refused += self.refused
            self.count.values += not self.refused
        return outcome

    def _watched(self, data: bytes, measures: bool) -> tuple[str, float]:
        """What is wrong, and this thread's seconds."""
        if not measures:
            began = time.thread_time()
            return self._outcome(), time.thread_time() - began
        tracemalloc.start()
        try:
            outcome = self._outcome()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if not outcome and peak > 2 * len(data) + MEMORY:
            outcome = f"asks for more than twice the file and {MEMORY >> 20} MB"
        began = time.thread_time()
        self._outcome()
        seconds = time.thread_time() - began
        return outcome or (f"takes more than {SLOW_S:g} s" if seconds > SLOW_S else ""), seconds

    def _outcome(self) -> str:
        """What is wrong with what the reader makes of the file."""
        self.refused = False
        try:
            with broken_off():
                self.reader.read(self.path)
        except self.reader.refusals as error:
            self.refused = True
            wrong = _wrong_refusal(error, self.folder) if self.reader.names_file else ""
        except Exception as error:  # noqa: BLE001 - whatever else comes is what is looked for
            wrong = _kind_of(error)
        else:
            wrong = ""
        return wrong

    def _keep(self, data: bytes, outcome: str, label: str) -> None:
        """Count a failure, and keep the first file of its kind."""
        self.count.kinds[outcome] += 1
        if outcome not in self.count.first:
            kept = self.folder.parent / f"{self.reader.name}-{label}"
            kept.write_bytes(data)
            self.count.first[outcome] = str(kept)

    def clean(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Spins(BaseException):
    """Raised in a reader that does not come to an end; nothing in it catches that."""


@contextmanager
def broken_off() -> Iterator[None]:
    """Break off what takes PATIENCE_S of the process's time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Spins

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)
    try:
        yield
    except Spins as spins:
        raise RuntimeError("does not come to an end") from spins
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _wrong_refusal(error: Exception, folder: Path) -> str:
    """What is wrong with a refusal; an empty string for one that names the file and says what to do."""
    assert isinstance(error, SgError)
    where = _place(error.__traceback__)
    if not error.hint:
        return f"no hint ({where})"
    if str(folder) not in error.message and "/dev/" not in error.message:
        return f"names no file ({where})"
    if len(error.message) > LONGEST_MESSAGE:
        return f"a message of {len(error.message) // 1000} k characters ({where})"
    try:
        (error.message + error.hint).encode()
    except UnicodeEncodeError:
        return f"a message that cannot be written ({where})"
    return ""


def _kind_of(error: Exception) -> str:
    return f"{type(error).__name__} ({_place(error.__traceback__)})"


def _place(trace: TracebackType | None) -> str:
    """The innermost line of the package in a traceback."""
    found = "?"
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"/{PACKAGE}/" in name:
            found = f"{name.rpartition(f'/{PACKAGE}/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def written(value: Any) -> str:
    """A value as JSON, as it would be written again: what a reader lets through can be kept and be shown."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
