"""One thread that owns the engine: requests of any thread go in, and the engine computes them together.

A request joins the rows that are being written as soon as the engine has room for it. Scored requests wait until
the written ones are through, and written ones that come later wait for them, so neither starves.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from sg_local.backends import Generator
from sg_local.records import Completion, ScoredPrompt, SgError
from sg_local.serve.answers import Ask, complete

BuildAsk = Callable[[Generator], Ask]


@dataclass
class Pending:
    """A request on its way: how to build what is asked, of the base or not, and where the completion is awaited."""

    build: BuildAsk
    base: bool = False
    future: Future[Completion] = field(default_factory=Future)


class Closed(Exception):
    """Raised through the engine to leave its work when the server closes."""


class Worker:
    """Owns a generator until `close`, which leaves the generator open. `adapter` is what it answers with."""

    def __init__(self, generator: Generator, adapter: Path | None = None) -> None:
        self._generator, self._adapter = generator, adapter
        self._incoming: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._built: deque[tuple[Pending, Ask]] = deque()
        self._open: dict[str, Pending] = {}
        self._count = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sg-local-engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are still answered."""
        return self._thread.is_alive() and not self._closing.is_set()

    def submit(self, build: BuildAsk, *, base: bool = False) -> Future[Completion]:
        """Ask for a completion, of the base where it says so. `build` runs on the engine's thread.

        Its ask's id is replaced. The future raises SgError for what the engine refuses, and when the worker closes
        first. Cancelling it works until the engine has taken the request.
        """
        job = Pending(build, base)
        self._incoming.put(job)
        if not self.is_alive:
            self._refuse_incoming()
        return job.future

    def close(self) -> None:
        """Stop after the engine's next step; requests under way end with SgError. Closing twice is fine."""
        self._closing.set()
        self._incoming.put(None)
        self._thread.join()
        self._refuse_incoming()

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                self._take(self._incoming.get())
                while self._built:
                    self._compute()
        except Closed:
            pass
        finally:
            self._closing.set()
            self._refuse_all()

    def _compute(self) -> None:
        """One call of the engine, for all waiting asks of the kind that came first."""
        first = self._next()
        scored, base = isinstance(first, ScoredPrompt), self._open[first.id].base
        asks = itertools.chain([first], self._scored(base) if scored else self._written())
        if base and self._adapter is not None:
            self._generator.use_adapter(None)
        try:
            for completion in complete(self._generator, asks, scored=scored):
                self._open.pop(completion.prompt_id).future.set_result(completion)
            assert not self._open, "the engine owes a completion for every prompt"
        except SgError as error:
            for job in self._open.values():
                job.future.set_exception(error)
            self._open.clear()
        finally:
            if base and self._adapter is not None:
                self._generator.use_adapter(self._adapter)

    def _written(self) -> Iterator[Ask | None]:
        """Asks to write for, and None while only those under way are left; ends with them, or for a scored ask."""
        while True:
            self._drain()
            if self._built and isinstance(self._built[0][1], ScoredPrompt):
                return
            if self._built:
                yield self._next()
            elif self._open:
                yield None
            else:
                return

    def _scored(self, base: bool) -> Iterator[Ask]:
        """Waiting asks up to the first to write for, or to ask of the other weights."""
        self._drain()
        while self._built and isinstance(self._built[0][1], ScoredPrompt) and self._built[0][0].base == base:
            yield self._next()

    def _next(self) -> Ask:
        job, ask = self._built.popleft()
        self._open[ask.id] = job
        return ask

    def _drain(self) -> None:
        """Take every request that has come in."""
        if self._closing.is_set():
            raise Closed
        for job in self._arrived():
            self._take(job)

    def _arrived(self) -> Iterator[Pending]:
        """Requests that have come in, without waiting for more."""
        while True:
            try:
                job = self._incoming.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                yield job

    def _take(self, job: Pending | None) -> None:
        """Build what a request asks; one that cannot be built fails alone."""
        if job is None or not job.future.set_running_or_notify_cancel():
            return
        try:
            ask = job.build(self._generator)
        except SgError as error:
            job.future.set_exception(error)
            return
        self._count += 1
        self._built.append((job, dataclasses.replace(ask, id=str(self._count))))

    def _refuse_all(self) -> None:
        """Fail whatever has not been answered: nobody may wait for ever."""
        for job in [*self._open.values(), *(job for job, _ in self._built)]:
            job.future.set_exception(_stopped())
        self._open.clear()
        self._built.clear()
        self._refuse_incoming()

    def _refuse_incoming(self) -> None:
        for job in self._arrived():
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(_stopped())


def _stopped() -> SgError:
    return SgError("The engine has stopped.", "Start the server again.")
