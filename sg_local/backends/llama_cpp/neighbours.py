"""How much of the processors a trial got, and for how long its figures hold.

A trial beside busy neighbours measures them, too: a format may win that loses on the quiet machine. Such a choice holds
for some minutes only; while the machine stays busy it is tried ever more seldom, since a trial takes ten seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from sg_local.backends.llama_cpp.threads import BUSY_SHARE

HOLDS_S, LONGER = 600.0, 4  # the first choice of a busy moment; each later one so many times as long
SHORTEST_S = 0.1  # measured in all; below, the clocks tell nothing


class Watch:
    """Watches what `n_threads` threads get of the processors while they are measured."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._wall_s = self._cpu_s = 0.0

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """A piece of work that all the threads share."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wall_s += time.perf_counter() - wall
        self._cpu_s += time.process_time() - cpu

    @property
    def got(self) -> float:
        """The share of their time that the threads ran, 0 to 1: 1 where nobody else had the processors."""
        if self._wall_s < SHORTEST_S:
            return 1.0
        return round(min(1.0, self._cpu_s / self._wall_s / self._n_threads), 2)


def holds(entry: Path, got: float, n_tries: int) -> bool:
    """Whether the choice in this file still counts, that got this share of the processors in so many tries."""
    age_s = time.time() - entry.stat().st_mtime
    return got >= BUSY_SHARE or 0 <= age_s < HOLDS_S * LONGER ** (n_tries - 1)
