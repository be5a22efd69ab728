"""How fast a count moves and how long it still takes, told so that a bar that stands still never promises more time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sg_local.words import duration, size

SLOW = 0.1
"""Units a second below which the time of one unit says more."""
LEAST_S = 1.0
"""What comes at once, such as the first rows of a batch, tells no rate: so long a figure must have been watched."""


@dataclass
class Pace:
    """The pace of one phase. It counts from the first figure to the last change, so that waiting slows nothing down."""

    now_s: Callable[[], float] = time.monotonic
    first: int = 0
    done: int = 0
    began: float = 0.0
    changed: float = 0.0

    def begin(self, done: int) -> None:
        """A phase starts here."""
        self.first = self.done = done
        self.began = self.changed = self.now_s()

    def take(self, done: int) -> None:
        """The phase stands here."""
        if done != self.done:
            self.done, self.changed = done, self.now_s()

    @property
    def rate(self) -> float:
        """Units a second up to the last change; 0 before there was one that says anything."""
        seconds = self.changed - self.began
        return (self.done - self.first) / seconds if seconds >= LEAST_S else 0.0

    def left_s(self, wanted: int) -> float | None:
        """The seconds to go, less with every moment; None where nobody knows, or the last guess has run out."""
        if self.rate <= 0 or self.done >= wanted:
            return None
        left = (wanted - self.done) / self.rate - (self.now_s() - self.changed)
        return left if left > 0 else None


def rate_words(rate: float, unit: str) -> str:
    """A rate for reading: 3.2 rows/s, 25 s a row, 48.2 MB/s; empty where nothing moves."""
    if rate <= 0:
        return ""
    if unit == "bytes":
        return f"{size(rate)}/s"
    if rate < SLOW:
        return f"{duration(1 / rate)} a {unit.removesuffix('s')}"
    return f"{rate:.1f} {unit}/s"
