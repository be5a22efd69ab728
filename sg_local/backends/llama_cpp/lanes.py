"""What is under way in one lane of a session: rows, scores, and their texts as they are told."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sg_local.backends.llama_cpp.prefix import FixedPrefix
from sg_local.backends.llama_cpp.rows import Row
from sg_local.backends.llama_cpp.scheduler import Scheduler
from sg_local.backends.llama_cpp.scoring import Part, Scorer
from sg_local.backends.session import Lane


@dataclass
class Scored:
    """A scored prompt on its way: its parts that are not computed yet, and the scores so far."""

    id: str
    n_left: int
    scores: list[float]
    key: int


@dataclass
class OpenLane:
    """A lane with its adapter, what waits and what runs in it. `held`: its rows wait for cells of others."""

    lane: Lane | None
    adapter: Any
    prefix: FixedPrefix
    scheduler: Scheduler
    scorer: Scorer
    inbox: deque[Row]
    parts: deque[Part] = field(default_factory=deque)
    scored: dict[int, Scored] = field(default_factory=dict)
    tails: dict[str, Tail] = field(default_factory=dict)
    alone: bool = False
    held: bool = False

    @property
    def is_idle(self) -> bool:
        return not (self.parts or self.inbox or self.scheduler.waiting or self.scheduler.running)


class Tail:
    """A row's text as it is told: what may be the beginning of a stop string is held back, and half a character."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self._stops = [stop.encode("utf-8", "surrogatepass") for stop in row.prompt.sampling.stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n_told = 0

    def fresh(self) -> str:
        """The text that is certain by now and was not told before."""
        data = self.row.data
        n_held = 0 if self.row.finish is not None else max((_overlap(data, stop) for stop in self._stops), default=0)
        end = max(self._n_told, len(data) - n_held)
        text = self._decoder.decode(bytes(data[self._n_told : end]))
        self._n_told = end
        return text


def _overlap(data: bytearray, stop: bytes) -> int:
    """How many bytes at the end could be the beginning of a stop string."""
    return next((n for n in range(min(len(stop) - 1, len(data)), 0, -1) if data.endswith(stop[:n])), 0)


def arrivals(inbox: deque[Row]) -> Iterator[Row | None]:
    """Rows as they come; None while there is none."""
    while True:
        yield inbox.popleft() if inbox else None
