"""Asks answered step by step, while others come and go: what a server needs of an engine.

A session owns its generator until it is closed. Whatever one ask raises ends that ask alone, as a `Failed`. Asks are
grouped by lane: an adapter with what its prompts begin with. What was computed in one lane is never read in another.
`PlainSession` works on any generator by its `generate` and `score`; an engine that can do better has a `session`, or a
`written` that gives pieces of text among the completions.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sg_local.backends import Generator
from sg_local.records import Completion, Prompt, Score, ScoredPrompt, Segments, SgError

Ask = Prompt | ScoredPrompt


@dataclass(frozen=True)
class Lane:
    """An adapter (None: the base) and two prompts that begin as most prompts under it do.

    `version` tells apart what the adapter's file held at different times.
    """

    adapter: Path | None
    version: str = ""
    heads: tuple[Segments, ...] = ()


@dataclass(frozen=True)
class Watch:
    """What is to be told of an ask on its way: `n_top` likeliest tokens beside each drawn one (None: no tokens).

    `reads`: the prompt's own tokens come first among those told.
    """

    n_top: int | None = None
    reads: bool = False


@dataclass(frozen=True)
class Token:
    """A token: its bytes and log P in nats at temperature 1, and the likeliest in its place, best first.

    Of a prompt's first token, which nothing stands before, log P is NaN.
    """

    data: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Text that has been written since the last piece of this ask; what a stop may still cut off is held back."""

    prompt_id: str
    text: str


@dataclass(frozen=True)
class Ended:
    """A written ask's completion, with its tokens where they were asked for."""

    completion: Completion
    tokens: tuple[Token, ...] = ()

    @property
    def prompt_id(self) -> str:
        return self.completion.prompt_id


@dataclass(frozen=True)
class Failed:
    """An ask that ended without an answer."""

    prompt_id: str
    error: Exception


Event = Piece | Ended | Score | Failed


class Session(Protocol):
    """Asks under way on one generator. Only `interrupt` may be called from another thread."""

    def add(self, ask: Ask, lane: Lane | None = None, watch: Watch | None = None) -> None:
        """Take an ask with an id of its own. Raises what is wrong with it; nothing else is touched.

        No lane: the generator as it stood when the session began.
        """
        ...

    def drop(self, id: str) -> None:
        """Give up an ask, if it is still under way: nothing more is told of it."""
        ...

    def step(self) -> list[Event]:
        """Compute a little for those under way."""
        ...

    @property
    def is_idle(self) -> bool:
        """True when nothing is under way."""
        ...

    def reset(self) -> None:
        """Forget all asks and all that was computed, after a fault."""
        ...

    def interrupt(self) -> None:
        """End the step that is being computed, with an error."""
        ...

    def close(self) -> None:
        """Give the generator back as it was."""
        ...


def open_session(generator: Generator, poll: Callable[[], None]) -> Session:
    """A session on a generator. `poll` is called where a long step could take asks in; it may `add` and `drop`."""
    make = getattr(generator, "session", None)
    if make is None:
        return PlainSession(generator, poll)
    session: Session = make()
    return session


@dataclass
class Waiting:
    """An ask of a plain session and its lane."""

    ask: Ask
    lane: Lane | None


class PlainSession:
    """A session on `generate` (or `written`) and `score`: a step ends with the next thing that is told, and those under
    way go on beside it.

    An adapter serves until all of its asks are through; asks that are dropped are computed to their end unheard. After
    a fault those under way are tried again one by one, so that only the one to blame fails.
    """

    def __init__(self, generator: Generator, poll: Callable[[], None]) -> None:
        self._generator, self._poll = generator, poll
        self._waiting: deque[Waiting] = deque()
        self._running: dict[str, Waiting] = {}
        self._results: Iterator[Completion | Piece | Score] | None = None
        self._lane: Lane | None = None
        self._alone = 0

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    def add(self, ask: Ask, lane: Lane | None = None, watch: Watch | None = None) -> None:
        if watch is not None and watch.n_top is not None:
            raise SgError("This engine tells no log-probabilities of tokens.", "Leave `logprobs` out.")
        if watch is not None and watch.reads:
            raise SgError("This engine reads no prompt back.", "Leave `echo` out.")
        self._waiting.append(Waiting(ask, lane))

    def drop(self, id: str) -> None:
        self._waiting = deque(one for one in self._waiting if one.ask.id != id)

    def step(self) -> list[Event]:
        if self._results is None:
            if not self._waiting:
                return []
            self._results = self._begin()
        try:
            found = next(self._results, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            return self._failed(error)
        if found is None:
            self._results = None
            return []
        if isinstance(found, Piece):
            return [found]
        self._running.pop(found.prompt_id, None)
        return [Ended(found) if isinstance(found, Completion) else found]

    def reset(self) -> None:
        self._waiting.clear()
        self._running.clear()
        self._results = None

    def interrupt(self) -> None:
        """Nothing can be done: the step goes to its end."""

    def close(self) -> None:
        self.reset()

    def _begin(self) -> Iterator[Completion | Piece | Score]:
        """The answers to the asks of the first one's kind and lane."""
        first = self._waiting[0]
        if first.lane != self._lane:
            self._generator.use_adapter(None if first.lane is None else first.lane.adapter)
            self._lane = first.lane
        if isinstance(first.ask, ScoredPrompt):
            return iter(self._generator.score(scored_asks(self._alike(first))))
        write = getattr(self._generator, "written", self._generator.generate)
        return iter(write(written_asks(self._alike(first))))

    def _alike(self, first: Waiting) -> Iterator[Ask | None]:
        """Waiting asks of the same kind and lane, as they come; None while only those under way are left."""
        scored = isinstance(first.ask, ScoredPrompt)
        while True:
            self._poll()
            if self._fits(first):
                one = self._waiting.popleft()
                self._running[one.ask.id] = one
                yield one.ask
                if self._alone:
                    self._alone -= 1
                    return
            elif self._running and not scored and not self._waiting:
                yield None
            else:
                return

    def _fits(self, first: Waiting) -> bool:
        if not self._waiting:
            return False
        one = self._waiting[0]
        return type(one.ask) is type(first.ask) and one.lane == first.lane

    def _failed(self, error: Exception) -> list[Event]:
        running, self._running, self._results = list(self._running.values()), {}, None
        if not running:  # the lane cannot be opened
            return [Failed(self._waiting.popleft().ask.id, error)]
        if len(running) == 1:
            return [Failed(running[0].ask.id, error)]
        self._waiting.extendleft(reversed(running))
        self._alone = len(running)
        return []


def written_asks(asks: Iterable[Ask | None]) -> Iterator[Prompt | None]:
    """The asks, all of the kind that is written."""
    for ask in asks:
        assert not isinstance(ask, ScoredPrompt)
        yield ask


def scored_asks(asks: Iterable[Ask | None]) -> Iterator[ScoredPrompt]:
    """The asks, all of the kind that is scored."""
    for ask in asks:
        assert isinstance(ask, ScoredPrompt)
        yield ask


def renamed(ask: Ask, id: str) -> Ask:
    """The same ask under another id."""
    return dataclasses.replace(ask, id=id)
