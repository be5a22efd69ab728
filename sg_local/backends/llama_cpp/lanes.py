"""What is under way in one lane of a session: rows, scores, and their texts as they are told."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sg_local.backends.llama_cpp.prefix import FixedPrefix
from sg_local.backends.llama_cpp.rows import Row
from sg_local.backends.llama_cpp.scheduler import Scheduler
from sg_local.backends.llama_cpp.scoring import Part, Scorer, ScoreRequest
from sg_local.backends.session import Lane
from sg_local.backends.tails import Tail


@dataclass
class Scored:
    """A scored prompt on its way: its parts that are not computed yet, and the scores so far."""

    id: str
    n_left: int
    scores: list[float]
    key: int


@dataclass
class OpenLane:
    """A lane with its adapter, what waits and what runs in it. `held`: its rows wait for cells of others.

    `alone`: its scored prompts are tried one by one. `bare`: the next has no room beside the lane's beginning, and is
    computed without. The prompts of `unread` rows are told token by token before they are written on.
    """

    lane: Lane | None
    adapter: Any
    prefix: FixedPrefix
    scheduler: Scheduler
    scorer: Scorer
    inbox: deque[Row]
    parts: deque[Part] = field(default_factory=deque)
    unread: deque[Row] = field(default_factory=deque)
    scored: dict[int, Scored] = field(default_factory=dict)
    tails: dict[str, Tail] = field(default_factory=dict)
    alone: bool = False
    bare: bool = False
    held: bool = False

    @property
    def is_idle(self) -> bool:
        return not (self.parts or self.unread or self.inbox or self.scheduler.waiting or self.scheduler.running)

    @property
    def begins_alike(self) -> bool:
        """Whether what its prompts begin with is known."""
        return self.lane is not None and len(self.lane.heads) > 1

    @property
    def lone(self) -> ScoreRequest | None:
        """The question that waits, where it is the only one and none of it is computed yet."""
        one = next(iter(self.scored.values())) if len(self.scored) == 1 else None
        return self.parts[0].question if one is not None and one.n_left == len(self.parts) else None

    def take(self, row: Row) -> None:
        """A row that has come."""
        if row.watch is not None:
            self.tails[row.prompt.id] = Tail(row)
        reads = row.watch is not None and row.watch.reads
        (self.unread if reads else self.inbox).append(row)

    def drop(self, id: str) -> None:
        """Give up an ask, wherever it is."""
        self.tails.pop(id, None)
        for waiting in (self.inbox, self.unread):
            for row in [row for row in waiting if row.prompt.id == id]:
                row.sampler.close()
                waiting.remove(row)
        self.scheduler.drop(id)
        for key in [key for key, one in self.scored.items() if one.id == id]:
            del self.scored[key]
        self.parts = deque(part for part in self.parts if id != part.question.id)


def arrivals(inbox: deque[Row]) -> Iterator[Row | None]:
    """Rows as they come; None while there is none."""
    while True:
        yield inbox.popleft() if inbox else None
