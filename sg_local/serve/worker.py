"""One thread that owns the engine: requests of any thread go in, and the engine computes them together.

A request joins what is under way at the engine's next step, whatever kind it is, and leaves at the next step when it is
cancelled. What a request raises fails that request alone; the thread ends with `close` and not before.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sg_local.backends import Generator
from sg_local.backends.session import Ask, Ended, Event, Failed, Lane, Piece, Session, Watch, open_session, renamed
from sg_local.backends.wire import Wire, tell_prompt, tell_result
from sg_local.records import Score, SgError

BuildAsk = Callable[[Generator], Ask]
Result = Ended | Score

logger = logging.getLogger(__name__)

KEPT_LANES = 256
"""Adapters that are known to be sound."""


@dataclass(frozen=True)
class Order:
    """A request: how to build what is asked, in which lane, and who is told of it on its way.

    `on_piece` is called on the engine's thread with text as it is written; `n_top` asks for the tokens' log P with so
    many of the likeliest beside them, and `reads` for those of the prompt, too.
    """

    build: BuildAsk
    lane: Lane | None = None
    on_piece: Callable[[str], None] | None = None
    n_top: int | None = None
    reads: bool = False

    @property
    def watch(self) -> Watch | None:
        """What the engine is to tell."""
        is_watched = self.on_piece is not None or self.n_top is not None or self.reads
        return Watch(self.n_top, self.reads) if is_watched else None


@dataclass
class Ticket:
    """A request on its way. `result` raises what was wrong with it; cancelling frees its rows at the next step."""

    id: str
    order: Order
    future: Future[Result] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)

    def result(self, timeout_s: float | None = None) -> Result:
        """The answer, waited for."""
        return self.future.result(timeout_s)

    def end(self, result: Result | Exception) -> None:
        """Tell the answer to the one who waits, if anybody still does."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


@dataclass(frozen=True)
class Arrival:
    """An ask that has been built, on its way to the engine."""

    ticket: Ticket
    ask: Ask


class Closed(BaseException):
    """Raised through the engine to leave its work when the server closes; no handler of errors stops it."""


class Worker:
    """Owns a generator until `close`, which leaves the generator open.

    `adapter` is what it answers with where an order names no lane; None: as it stands.
    """

    def __init__(self, generator: Generator, adapter: Path | None = None) -> None:
        self._usual = None if adapter is None else Lane(adapter)
        self._told = isinstance(generator, Wire)
        self._generator = generator.generator if isinstance(generator, Wire) else generator
        self._incoming: queue.SimpleQueue[Arrival | Ticket | None] = queue.SimpleQueue()
        self._open: dict[str, Ticket] = {}
        self._tried: dict[Lane, None] = {}
        self._count = itertools.count(1)
        self._closing = threading.Event()
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="sg-local-prompts")
        self._session: Session = open_session(self._generator, self._arrivals)
        self._thread = threading.Thread(target=self._work, name="sg-local-engine", daemon=True)
        self._thread.start()

    @property
    def generator(self) -> Generator:
        """The engine, for what does not compute: its facts and its tokenizer."""
        return self._generator

    @property
    def is_alive(self) -> bool:
        """Whether requests are still answered."""
        return self._thread.is_alive() and not self._closing.is_set()

    @property
    def n_open(self) -> int:
        """Requests that wait or are computed."""
        return len(self._open)

    def submit(self, order: Order) -> Ticket:
        """Ask for an answer. The ask is built on a thread of its own, one at a time; its id is replaced.

        The ticket's result raises what the build or the engine raise, and SgError when the worker closes first.
        """
        ticket = Ticket(str(next(self._count)), order)
        self._open[ticket.id] = ticket
        try:
            self._builder.submit(self._build, ticket)
        except RuntimeError:  # closed
            self._end(ticket.id, _stopped())
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this any more. Cancelling what has ended is fine."""
        ticket.gone.set()
        ticket.future.cancel()
        if ticket.id in self._open:
            self._incoming.put(ticket)

    def close(self) -> None:
        """Stop within the engine's step; requests under way end with SgError. Closing twice is fine."""
        self._closing.set()
        self._session.interrupt()
        self._builder.shutdown(wait=False, cancel_futures=True)
        self._incoming.put(None)
        self._thread.join()
        for id in list(self._open):
            self._end(id, _stopped())

    def _build(self, ticket: Ticket) -> None:
        if ticket.gone.is_set():
            return
        try:
            self._try_lane(ticket.order.lane)
            ask = renamed(ticket.order.build(self._generator), ticket.id)
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            self._end(ticket.id, error)
            return
        self._incoming.put(Arrival(ticket, ask))

    def _try_lane(self, lane: Lane | None) -> None:
        """Let an adapter that was not met before be tried here, so that the engine need not wait for that."""
        try_adapter = getattr(self._generator, "try_adapter", None)
        if lane is None or lane.adapter is None or lane in self._tried or try_adapter is None:
            return
        try_adapter(lane.adapter)
        self._tried[lane] = None
        if len(self._tried) > KEPT_LANES:
            del self._tried[next(iter(self._tried))]

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Closed:
                break
            except Exception as error:  # noqa: BLE001 - told to those who asked; the engine goes on for the others
                logger.error("the engine failed on a step (%s) and goes on", type(error).__name__)
                logger.debug("the fault", exc_info=error)
                self._start_anew(error)
        self._session.close()

    def _turn(self) -> None:
        """Take in what has come, waiting for it where nothing is under way, and compute a step."""
        if self._session.is_idle:
            self._take(self._incoming.get())
        self._arrivals()
        for event in self._session.step():
            self._tell(event)

    def _arrivals(self) -> None:
        """Take in what has come by now."""
        for one in self._arrived():
            self._take(one)
        if self._closing.is_set():
            raise Closed

    def _arrived(self) -> Iterator[Arrival | Ticket | None]:
        while True:
            try:
                yield self._incoming.get_nowait()
            except queue.Empty:
                return

    def _take(self, one: Arrival | Ticket | None) -> None:
        if isinstance(one, Ticket):
            self._session.drop(one.id)
            self._open.pop(one.id, None)
        elif one is not None and one.ticket.gone.is_set():
            self._open.pop(one.ticket.id, None)
        elif one is not None and one.ticket.id in self._open:
            self._add(one)

    def _add(self, one: Arrival) -> None:
        order = one.ticket.order
        try:
            self._session.add(one.ask, order.lane or self._usual, order.watch)
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            self._end(one.ticket.id, error)
            return
        if self._told:
            tell_prompt(one.ask)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Piece):
            self._tell_piece(event)
            return
        if isinstance(event, Failed):
            self._end(event.prompt_id, event.error)
            return
        if self._told:
            tell_result(event.completion if isinstance(event, Ended) else event)
        self._end(event.prompt_id, event)

    def _tell_piece(self, piece: Piece) -> None:
        ticket = self._open.get(piece.prompt_id)
        if ticket is None or ticket.order.on_piece is None:
            return
        try:
            ticket.order.on_piece(piece.text)
        except Exception:  # noqa: BLE001 - whoever listened is gone
            self.cancel(ticket)

    def _end(self, id: str, result: Result | Exception) -> None:
        ticket = self._open.pop(id, None)
        if ticket is not None:
            ticket.end(result)

    def _start_anew(self, error: Exception) -> None:
        """After a fault of the engine as a whole: all that is open fails, and nothing of it is kept."""
        self._session.reset()
        for id in list(self._open):
            self._end(id, error)


def _stopped() -> SgError:
    return SgError("The engine has stopped.", "Start the server again.")
