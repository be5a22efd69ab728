"""Rows and scores of many owners on one context, under many adapters, step by step (backends.session).

A step decodes for one lane, in turn: a batch of its scored prompts, then a token for each of its rows. Adapters belong
to the context, so one is switched on before its lane's decode; the cells of other lanes stay where they are, on
sequences that only their own lane reads. Each lane keeps the beginning of its prompts on a sequence of its own,
computed once and always in one go, so that no answer depends on the requests before it.

When the pool is full, beginnings that wait are given up first, then the rows of the lane that came last go back to its
queue with what they have written, and wait until another row has ended. After a fault a lane's rows run one by one,
until the one to blame has failed alone. The module is longer than most: all of it acts on
one pool and one set of lanes, and its steps are only right together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sg_local.backends.llama_cpp.context import MAX_SEQUENCES
from sg_local.backends.llama_cpp.lanes import OpenLane, Scored, arrivals
from sg_local.backends.llama_cpp.prefix import FixedPrefix
from sg_local.backends.llama_cpp.rows import PatientWriter, Row
from sg_local.backends.llama_cpp.scheduler import Scheduler, Share
from sg_local.backends.llama_cpp.scoring import NoCells, Part, Scorer
from sg_local.backends.session import Ask, Ended, Event, Failed, Lane, Piece, Watch
from sg_local.records import Prompt, Score, ScoredPrompt, SgError

if TYPE_CHECKING:
    from sg_local.backends.llama_cpp.engine import LlamaGenerator

MAX_LANES = 32
"""Lanes that are kept open; the one that has waited longest makes room for another."""
MAX_ROWS = 96
"""Rows under way at a time; the other sequences are for beginnings and for scores."""
TURN = 4
"""Steps of one lane before another's: switching adapters makes llama.cpp plan its graph anew, some milliseconds."""
MOST_PARTS = 64  # scored prompts looked at for one batch


class LlamaSession:
    """backends.session.Session over a LlamaGenerator, which does nothing else until it is closed."""

    def __init__(self, generator: LlamaGenerator) -> None:
        self._generator = generator
        self._parts = generator.parts
        self._context = generator.parts.context
        self._own = self._active = generator.adapter
        n_rows = min(self._context.plan.n_parallel, MAX_ROWS)
        self._free = list(range(n_rows, 0, -1))
        self._scores = range(n_rows + 1, MAX_SEQUENCES - MAX_LANES)
        self._places = list(range(MAX_SEQUENCES - MAX_LANES, MAX_SEQUENCES))
        self._lanes: dict[Lane | None, OpenLane] = {}
        self._where: dict[str, OpenLane] = {}
        self._last: OpenLane | None = None
        self._n_turn = 0
        self._context.clear()

    @property
    def is_idle(self) -> bool:
        return all(lane.is_idle for lane in self._lanes.values())

    def add(self, ask: Ask, lane: Lane | None = None, watch: Watch | None = None) -> None:
        opened = self._lane(lane)
        if isinstance(ask, Prompt):
            opened.take(self._generator.row(ask, watch))
        else:
            self._ask(opened, ask)
        self._where[ask.id] = opened

    def drop(self, id: str) -> None:
        lane = self._where.pop(id, None)
        if lane is None:
            return
        lane.drop(id)
        self._let_go()

    def step(self) -> list[Event]:
        lane = self._next()
        if lane is None:
            return []
        events: list[Event] = []
        self._switch(lane)
        if lane.parts:
            events += self._score(lane)
        if lane.unread:
            events += self._read(lane)
        if not lane.held and lane.scheduler.fill():
            events += self._write(lane)
        for event in events:
            if not isinstance(event, Piece):
                self._where.pop(event.prompt_id, None)
        return events

    def reset(self) -> None:
        for lane in list(self._lanes.values()):
            self._close(lane)
        self._where.clear()
        self._context.discard()
        self._context.clear()

    def interrupt(self) -> None:
        self._context.interrupt()
        self._generator.referee.interrupt()

    def close(self) -> None:
        self._context.interrupt(wanted=False)
        self._generator.referee.interrupt(wanted=False)
        self.reset()
        self._set(self._own)
        self._generator.release()

    def _lane(self, lane: Lane | None) -> OpenLane:
        """The lane, opened where it is not yet; the last used is the last in order."""
        if lane in self._lanes:
            return self._lanes[lane]
        if len(self._lanes) >= MAX_LANES:
            idle = next((one for one in self._lanes.values() if one.is_idle), None)
            if idle is None:
                message = f"{MAX_LANES} adapters are at work, and no more can be at a time."
                raise SgError(message, "Ask again when some of the requests have been answered.")
            self._close(idle)
        adapter = self._own
        if lane is not None:
            adapter = None if lane.adapter is None else self._generator.load_adapter(lane.adapter)
        opened = self._lanes[lane] = self._opened(lane, adapter)
        return opened

    def _opened(self, lane: Lane | None, adapter: Any) -> OpenLane:
        heads = () if lane is None else lane.heads
        prefix = FixedPrefix(self._context, self._places.pop(), self._generator.beginning(heads))
        writer = PatientWriter(self._generator.tools, self._context.plan.n_ctx, self._generator.referee)
        inbox: deque[Row] = deque()
        share = Share(self._free, lambda: self._make_room(opened))
        opened = OpenLane(
            lane,
            adapter,
            prefix,
            Scheduler(self._context, prefix, writer, arrivals(inbox), share),
            Scorer(self._context, prefix, self._parts.vocab.size, self._scores),
            inbox,
        )
        return opened

    def _close(self, lane: OpenLane) -> None:
        """Forget a lane with all that is under way in it."""
        for row in (*lane.inbox, *lane.unread):
            row.sampler.close()
        lane.scheduler.abandon()
        lane.prefix.clear()
        self._places.append(lane.prefix.sequence)
        del self._lanes[lane.lane]
        if lane.adapter is not None and lane.lane is not None:
            if self._active is lane.adapter:
                self._set(None)
            self._generator.free_adapter(lane.adapter)

    def _next(self) -> OpenLane | None:
        """The lane whose turn it is; it goes to the end of the order with its last step."""
        busy = [lane for lane in self._lanes.values() if not lane.is_idle]
        lane = next((lane for lane in busy if lane.parts or lane.unread or not lane.held), None)
        if lane is None and busy:
            lane = busy[0]
            lane.held = False
        if lane is None:
            return None
        self._n_turn = self._n_turn + 1 if lane is self._last else 1
        self._last = lane
        if self._n_turn >= TURN:
            self._n_turn = 0
            self._lanes[lane.lane] = self._lanes.pop(lane.lane)
        return lane

    def _switch(self, lane: OpenLane) -> None:
        if self._active is not lane.adapter:
            self._set(lane.adapter)

    def _set(self, adapter: Any) -> None:
        self._generator.set_adapter(adapter)
        self._active = adapter

    def _ask(self, lane: OpenLane, ask: ScoredPrompt) -> None:
        question = self._generator.question(ask)
        parts = list(lane.scorer.parts(question))
        lane.scored[id(question)] = Scored(ask.id, len(parts), [0.0] * len(question.continuations), id(question))
        lane.parts.extend(parts)

    def _score(self, lane: OpenLane) -> list[Event]:
        """One batch of the lane's scored prompts."""
        if events := self._scored_alone(lane):
            return events
        waiting = [part for part, _ in zip(lane.parts, range(1 if lane.alone else MOST_PARTS), strict=False)]
        try:
            if not lane.bare:
                lane.scorer.cover(waiting)
            batch = lane.scorer.batch(waiting)
            lane.scorer.score(batch, {key: one.scores for key, one in lane.scored.items()})
        except NoCells:
            if not self._give_way(lane):
                lane.alone = lane.bare = True
            return []
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            return self._score_failed(lane, error)
        lane.alone = lane.bare = False
        return self._scored(lane, [lane.parts.popleft() for _ in batch])

    def _scored_alone(self, lane: OpenLane) -> list[Event]:
        """The scores of a question that waits alone, where those that settle a near tie can be had at once."""
        question, referee = lane.lone, self._generator.referee
        others = any(one.begins_alike for one in self._lanes.values() if one is not lane)
        if question is None or not referee.is_ready_for(question, begins=not others):
            return []
        lane.parts.clear()
        lane.scored.clear()
        return [self._told(question.id, partial(referee.scores, question))]

    def _read(self, lane: OpenLane) -> list[Event]:
        """One prompt token by token; then its row is written like others."""
        row = lane.unread[0]
        try:
            row.told = lane.scorer.read(self._parts.vocab, row.tokens, row.n_top)
        except NoCells:
            self._give_way(lane)
            return []
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            self.drop(row.prompt.id)
            return [Failed(row.prompt.id, error)]
        lane.inbox.append(lane.unread.popleft())
        return []

    def _scored(self, lane: OpenLane, parts: list[Part]) -> list[Event]:
        """The scores that are complete with these parts."""
        events: list[Event] = []
        for part in parts:
            one = lane.scored[id(part.question)]
            one.n_left -= 1
            if not one.n_left:
                del lane.scored[one.key]
                settle = partial(self._generator.referee.settled, part.question, tuple(one.scores))
                events.append(self._told(one.id, settle))
        return events

    def _told(self, id: str, settle: Callable[[], tuple[float, ...]]) -> Event:
        try:
            return Score(id, settle())
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            return Failed(id, error)

    def _score_failed(self, lane: OpenLane, error: Exception) -> list[Event]:
        """The one to blame fails; where there are several to choose from, they are tried one by one."""
        lane.prefix.clear()
        if len(lane.parts) > 1 and not lane.alone:
            lane.alone = True
            return []
        id = lane.parts[0].question.id
        self.drop(id)
        return [Failed(id, error)]

    def _write(self, lane: OpenLane) -> list[Event]:
        """A token for each of the lane's rows."""
        try:
            done = lane.scheduler.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            return self._write_failed(lane, error)
        events: list[Event] = []
        for id, tail in list(lane.tails.items()):
            if tail.row.finish is None and (text := tail.fresh()):
                events.append(Piece(id, text))
        for row in done:
            events += self._ended(lane, row)
        if done:
            self._let_go()
        return events

    def _ended(self, lane: OpenLane, row: Row) -> list[Event]:
        tail = lane.tails.pop(row.prompt.id, None)
        if row.error is not None:
            return [Failed(row.prompt.id, row.error)]
        text = "" if tail is None else tail.fresh()
        pieces: list[Event] = [Piece(row.prompt.id, text)] if text else []
        return [*pieces, Ended(row.completion(), tuple(row.told))]

    def _write_failed(self, lane: OpenLane, error: Exception) -> list[Event]:
        """One row alone, or the queue's first where none runs, is to blame and fails; several go on one by one."""
        running = lane.scheduler.running or lane.scheduler.waiting[:1]
        lane.scheduler.retreat(limit=1)
        lane.prefix.clear()
        if len(running) != 1:
            return []
        id = running[0].prompt.id
        self.drop(id)
        return [Failed(id, error)]

    def _make_room(self, lane: OpenLane) -> bool:
        """Cells for a lane, at the expense of what waits or came later; False where nobody else has any."""
        others = [one for one in self._lanes.values() if one is not lane]
        for one in others:
            if len(one.prefix) and not one.scheduler.running:
                one.prefix.clear()
                return True
        for one in reversed(others):
            if one.scheduler.running:
                one.scheduler.retreat()
                one.prefix.clear()
                one.held = True
                return True
        return False

    def _give_way(self, lane: OpenLane) -> bool:
        """Cells for scores or a prompt to read: those of others or, where they have none, the lane's own (False)."""
        if self._make_room(lane):
            return True
        lane.scheduler.retreat(limit=1)
        lane.prefix.clear()
        return False

    def _let_go(self) -> None:
        """A row has ended: lanes that were held may try again."""
        for lane in self._lanes.values():
            lane.held = False
