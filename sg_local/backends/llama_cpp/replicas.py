"""Several contexts of one model at work side by side, each on some of the processors: data parallelism.

The threads of one llama.cpp context wait for each other at every operation, so that a neighbour that takes one of two
processors stops both threads. Contexts that compute on one processor each wait for nobody, and the system deals out the
processors: beside neighbours they get a fair share. Quiet, they are as fast, and Python's part of one runs while the
other computes. (Measured on two processors, rows a second: 13.0 either way; beside one neighbour 8.7 instead of 5.0,
beside two 6.6 instead of 4.8.)

Prompts are dealt out in turn, whoever is ahead, so what is computed together, and with it every text, does not depend
on the clock. One that ends first leaves its processors to the others.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from sg_local.records import Prompt, ScoredPrompt

Asked = TypeVar("Asked", Prompt, ScoredPrompt)
Found = TypeVar("Found")

FEWEST = 24  # prompts that are worth a second context
MOST_WAITING = 256  # prompts dealt to one that is behind, before those ahead wait for it
PAUSE_S = 0.002  # until a source is asked again that had nothing for now
WAIT_S = 0.05  # for a thread that is interrupted


class Dealt(Generic[Asked]):
    """Prompts dealt out in turn, those of one text to one replica; read from their source as they are needed."""

    def __init__(self, prompts: Iterable[Asked | None], n: int) -> None:
        self._source: Iterator[Asked | None] = iter(prompts)
        self._waiting: list[deque[Asked]] = [deque() for _ in range(n)]
        self._changed = threading.Condition()
        self._last: Any = None
        self._turn = -1
        self._is_over = False
        self.order: deque[int] = deque()
        """Whose each prompt is, in the order in which they came."""

    def few(self) -> list[Asked] | None:
        """The first prompts, where all of them are not worth several replicas; None, and none is taken, where they are.

        A source that has nothing for now is told by what came before.
        """
        if len(self._waiting) == 1:
            return []
        with self._changed:
            while len(self.order) < FEWEST and not self._is_over and self._deal():
                pass
            if len(self.order) >= FEWEST:
                return None
            return [self._waiting[i].popleft() for i in self.order]

    def ahead(self, n: int) -> list[Asked]:
        """The first prompts, at most so many, which stay to be dealt out."""
        with self._changed:
            while len(self.order) < n and self._deal():
                pass
            queues = [iter(one) for one in self._waiting]
            return [next(queues[i]) for i in self.order]

    def rest(self) -> Iterator[Asked | None]:
        """What the source has left."""
        return self._source

    def share(self, i: int) -> Iterator[Asked | None]:
        """One replica's prompts; None where there are no more for now."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._waiting[i] or not self._is_behind())
                while not self._waiting[i] and not self._is_over:
                    if not self._deal():
                        break
                    self._changed.notify_all()
                found = self._waiting[i].popleft() if self._waiting[i] else None
                self._changed.notify_all()
                if found is None and self._is_over:
                    return
            if found is None:
                time.sleep(PAUSE_S)
            yield found

    def is_done(self, i: int) -> bool:
        """Whether nothing more will come for a replica."""
        with self._changed:
            return self._is_over and not self._waiting[i]

    def stop(self) -> None:
        """Nothing more is dealt out."""
        with self._changed:
            self._is_over = True
            for one in self._waiting:
                one.clear()
            self._changed.notify_all()

    def _is_behind(self) -> bool:
        return max(map(len, self._waiting)) >= MOST_WAITING

    def _deal(self) -> bool:
        """Read one prompt; False where there is none for now, or none at all."""
        try:
            prompt = next(self._source)
        except StopIteration:
            self._is_over = True
            return False
        if prompt is None:
            return False
        if prompt.segments != self._last:
            self._last, self._turn = prompt.segments, (self._turn + 1) % len(self._waiting)
        self._waiting[self._turn].append(prompt)
        self.order.append(self._turn)
        return True


@dataclass(frozen=True)
class _Ended:
    """A replica has no more to do, or cannot go on."""

    error: BaseException | None = None


class _Work(Generic[Asked, Found]):
    """The replicas at work, a thread each; `found` is what they make, as it comes."""

    def __init__(
        self,
        replicas: Sequence[Any],
        dealt: Dealt[Asked],
        work: Callable[[Any, Iterator[Asked | None]], Iterator[Found]],
    ) -> None:
        self._replicas = replicas
        self._dealt: Dealt[Asked] = dealt
        self._work: Callable[[Any, Iterator[Asked | None]], Iterator[Found]] = work
        self._left = set(range(len(replicas)))
        self.found: queue.SimpleQueue[tuple[int, Found | _Ended]] = queue.SimpleQueue()
        go = [partial(contextvars.copy_context().run, self._go, i) for i in self._left]
        self._threads = [threading.Thread(target=one, name="replica", daemon=True) for one in go]

    def begin(self) -> None:
        """Each computes with its share of the threads."""
        for one in self._replicas:
            one.limited(max(1, one.n_threads // len(self._replicas)))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let every thread end, whatever it computes."""
        self._dealt.stop()
        was_cut = False
        while any(thread.is_alive() for thread in self._threads):
            was_cut = True
            for one in self._replicas:
                one.interrupt()
            for thread in self._threads:
                thread.join(WAIT_S)
        for one in self._replicas:
            one.limited(None)
            if was_cut:
                one.interrupt(wanted=False)

    def _go(self, i: int) -> None:
        ended = _Ended()
        try:
            while not self._dealt.is_done(i):
                for one in self._work(self._replicas[i], self._dealt.share(i)):
                    self.found.put((i, one))
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are read
            ended = _Ended(error)
        self._left.discard(i)
        if len(self._left) == 1:
            self._replicas[min(self._left, default=i)].limited(None)
        self.found.put((i, ended))


def side_by_side(
    replicas: Sequence[Any], dealt: Dealt[Asked], work: Callable[[Any, Iterator[Asked | None]], Iterator[Found]]
) -> Generator[tuple[int, Found], None, None]:
    """What the replicas make of their shares, as it comes, each with the number of its replica.

    What one raises is raised here. However it is left, nothing goes on.
    """
    works = _Work(replicas, dealt, work)
    n_running = len(replicas)
    works.begin()
    try:
        while n_running:
            i, one = works.found.get()
            if not isinstance(one, _Ended):
                yield i, one
            elif one.error is not None:
                raise one.error
            else:
                n_running -= 1
    finally:
        works.end()


def in_turn(pairs: Iterable[tuple[int, Found]], order: deque[int], n: int) -> Iterator[Found]:
    """The results of replicas that keep the order of their shares, in the order in which the prompts came."""
    ready: list[deque[Found]] = [deque() for _ in range(n)]
    for i, one in pairs:
        ready[i].append(one)
        while order and ready[order[0]]:
            yield ready[order.popleft()].popleft()
