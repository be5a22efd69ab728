"""Several contexts of one model at work side by side, each on some of the processors: data parallelism.

The threads of one llama.cpp context wait for each other at every operation, so that a neighbour that takes one of two
processors stops both threads. Contexts that compute on one processor each wait for nobody, and the system deals out the
processors: beside neighbours they get a fair share. Quiet, they are as fast, and Python's part of one runs while the
other computes. (Measured on two processors, rows a second: 13.0 either way; beside one neighbour 8.7 instead of 5.0,
beside two 6.6 instead of 4.8.)

Prompts are dealt out in turn before anything is computed, so what is computed together, and with it every text, does
not depend on the clock. A replica that ends first leaves its processors to the others.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from sg_local.records import Prompt, ScoredPrompt

if TYPE_CHECKING:
    from sg_local.backends.llama_cpp.engine import LlamaGenerator

Asked = TypeVar("Asked", Prompt, ScoredPrompt)
Found = TypeVar("Found")

FEWEST = 24  # prompts that are worth a second context
MOST_ALIKE = 8  # prompts of one text in a row that go to one replica, which reads it once
WAIT_S = 0.05  # for a thread that is interrupted


def dealt(prompts: Sequence[Asked], n: int) -> list[int]:
    """Whose each prompt is: in turn, those of one text together."""
    order: list[int] = []
    turn, n_alike = -1, 0
    for i, prompt in enumerate(prompts):
        n_alike += 1
        if i == 0 or n_alike > MOST_ALIKE or prompt.segments != prompts[i - 1].segments:
            turn, n_alike = (turn + 1) % n, 1
        order.append(turn)
    return order


@dataclass(frozen=True)
class _Ended:
    """A replica has no more to do, or cannot go on."""

    error: BaseException | None = None


class Work(Generic[Asked, Found]):
    """Replicas at work on a list of prompts, a thread each. `end` it, however it is left."""

    def __init__(
        self,
        replicas: Sequence[LlamaGenerator],
        prompts: Sequence[Asked],
        work: Callable[[LlamaGenerator, Sequence[Asked]], Iterator[Found]],
    ) -> None:
        self._replicas = replicas
        self._work: Callable[[LlamaGenerator, Sequence[Asked]], Iterator[Found]] = work
        self.order = dealt(prompts, len(replicas))
        self._shares: list[list[Asked]] = [[] for _ in replicas]
        for i, prompt in zip(self.order, prompts, strict=True):
            self._shares[i].append(prompt)
        self._left = set(range(len(replicas)))
        self._is_over = False
        self._found: queue.SimpleQueue[tuple[int, Found | _Ended]] = queue.SimpleQueue()
        go = [partial(contextvars.copy_context().run, self._go, i) for i in self._left]
        self._threads = [threading.Thread(target=one, name="replica", daemon=True) for one in go]

    def results(self) -> Iterator[tuple[int, Found]]:
        """What the replicas make of their shares, as it comes, each with the number of its replica.

        What one raises is raised here.
        """
        n_running = len(self._replicas)
        self._begin()
        while n_running:
            i, one = self._found.get()
            if not isinstance(one, _Ended):
                yield i, one
            elif one.error is not None:
                raise one.error
            else:
                n_running -= 1

    def end(self) -> None:
        """Let every thread end, whatever it computes; an interrupt meanwhile is raised when all have."""
        self._is_over = True
        interrupted: KeyboardInterrupt | None = None
        was_cut = False
        while any(thread.is_alive() for thread in self._threads):
            try:
                was_cut = True
                for one in self._replicas:
                    one.interrupt()
                for thread in self._threads:
                    if thread.ident is not None:
                        thread.join(WAIT_S)
            except KeyboardInterrupt as error:
                interrupted = error
        for one in self._replicas:
            one.limited(None)
            if was_cut:
                one.interrupt(wanted=False)
        if interrupted is not None:
            raise interrupted

    def _begin(self) -> None:
        """Each computes with its share of the threads."""
        for one in self._replicas:
            one.limited(max(1, one.n_threads // len(self._replicas)))
        for thread in self._threads:
            thread.start()

    def _go(self, i: int) -> None:
        ended = _Ended()
        try:
            for one in self._work(self._replicas[i], self._shares[i]):
                self._found.put((i, one))
                if self._is_over:
                    break
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are read
            ended = _Ended(error)
        self._left.discard(i)
        if len(self._left) == 1:
            self._replicas[min(self._left, default=i)].limited(None)
        self._found.put((i, ended))


def in_turn(pairs: Iterable[tuple[int, Found]], order: Sequence[int]) -> Iterator[Found]:
    """The results of replicas that keep the order of their shares, in the order in which the prompts came."""
    ready: dict[int, deque[Found]] = {i: deque() for i in order}
    due = iter(order)
    next_one = next(due, None)
    for i, one in pairs:
        ready[i].append(one)
        while next_one is not None and ready[next_one]:
            yield ready[next_one].popleft()
            next_one = next(due, None)
