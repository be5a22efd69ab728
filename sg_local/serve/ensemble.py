"""Labels by two scores together: how likely the label is after the input, and how likely the input is after the label.

The direct score is the one that `Likeliest` compares, the other is the channel's (sg_local.channel). Both are in nats
and are added; then each label's mean over known inputs is taken off, so that no label wins by its words alone. A server
asks for one input at a time, by the same questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from sg_local.backends import Generator
from sg_local.backends.session import scored_asks
from sg_local.channel import CHUNK, Channel, ChannelAsk, Placed
from sg_local.prompts import continue_input_prompt
from sg_local.records import Pair, Score, ScoredPrompt, Segments
from sg_local.serve.answers import Ask, answer_room
from sg_local.serve.batch import Answerer, Found, Question, RowAnswer, Rows

AT_ONCE = 8
"""Questions of one input under way at a time: a server's queue is for clients."""

MOST_KEPT = 24
"""Questions up to which an engine is to keep what each begins with: it has room for some more such beginnings."""

T = TypeVar("T")
Build = Callable[[Generator], ScoredPrompt]
Heads = tuple[Segments, ...]
ScoreOne = Callable[[Build, Heads], Awaitable[Sequence[float]]]
"""Asks one question, which begins as these prompts do (none: nothing is known)."""


@dataclass(frozen=True)
class Ensemble:
    """The label with the best sum of direct and channel score; ties go to the first.

    `orders` are the demonstrations in each order that is scored; `means` are taken off the labels' sums (empty: nothing
    is). What an input is answered with does not depend on the others.
    """

    orders: tuple[tuple[Pair, ...], ...]
    means: tuple[float, ...] = ()

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        labels, tally = who.task.labels, Tally(self.channel(who), who, rows)
        for found in who.generator.score(scored_asks(tally.asks())):
            for number, sums in tally.take(found):
                scores = self.centred(sums)
                yield number, RowAnswer(labels[scores.index(max(scores))], scores)

    def centred(self, sums: Sequence[float]) -> tuple[float, ...]:
        """The labels' sums less their means."""
        means = self.means or (0.0,) * len(sums)
        return tuple(total - mean for total, mean in zip(sums, means, strict=True))

    def channel(self, who: Answerer) -> Channel:
        """What scores the inputs."""
        return Channel(who.task, answer_room(who.generator, who.task, who.settings), self.orders)


@dataclass
class Tally:
    """The questions under way, by id, and each row's sums so far.

    `inputs` are rows whose channel scores are not yet asked for.
    """

    channel: Channel
    who: Answerer
    rows: Rows
    inputs: list[Placed] = field(default_factory=list)
    sums: dict[int, list[float]] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)
    asked: dict[str, ChannelAsk] = field(default_factory=dict)

    def asks(self) -> Iterator[Ask]:
        """Every row's direct question and, behind each chunk of them, the channel's."""
        for ask in self.rows.asked(self._direct):
            yield ask
            if len(self.inputs) == CHUNK:
                yield from self._channel()
        yield from self._channel()

    def _direct(self, number: int, text: str) -> list[Ask]:
        ask, placed = self.who.ask(text, id=str(number)), self.channel.placed(number, self.who.trimmed(text))
        n_labels = len(self.who.task.labels)
        self.inputs.append(placed)
        self.sums[number] = [0.0] * n_labels
        self.missing[number] = 1 + n_labels * len(self.channel.orders)
        return [ask]

    def _channel(self) -> Iterator[Ask]:
        chunk, self.inputs = self.inputs, []
        for ask in self.channel.asks(chunk):
            self.asked[ask.prompt.id] = ask
            yield ask.prompt

    def take(self, found: Score) -> Iterator[tuple[int, list[float]]]:
        """The rows that this settles, with their sums by label."""
        ask = self.asked.pop(found.prompt_id, None)
        numbers = (int(found.prompt_id),) if ask is None else ask.numbers
        if ask is None:
            sums = self.sums[numbers[0]]
            sums[:] = [total + score for total, score in zip(sums, found.logprobs, strict=True)]
        else:
            for number, score in zip(numbers, found.logprobs, strict=True):
                self.sums[number][ask.label] += score / len(self.channel.orders)
        for number in numbers:
            self.missing[number] -= 1
            if not self.missing[number]:
                del self.missing[number]
                yield number, self.sums.pop(number)


@dataclass(frozen=True)
class Labeller:
    """An ensemble for inputs that come one by one."""

    who: Answerer
    way: Ensemble

    @cached_property
    def channel(self) -> Channel:
        """What scores the inputs; first asked for where prompts are built."""
        return self.way.channel(self.who)

    @cached_property
    def heads(self) -> list[Heads]:
        """What each question of an input begins with, in the order they are asked; the direct one's is not known."""
        task, orders = self.who.task, self.way.orders
        prompts = [continue_input_prompt(task, pairs, label) for pairs in orders for label in task.labels]
        return [(), *((one, one) if len(prompts) <= MOST_KEPT else () for one in prompts)]

    def reading(self, text: str) -> Reading:
        """This input under way."""
        return Reading(self, text)


@dataclass
class Reading:
    """One input's questions, built when the first of them is, and its scores. The first one is the direct question.

    `builds` raise SgError (TooLong) for an input that does not fit the context. They are for one thread.
    """

    labeller: Labeller
    text: str
    asks: list[ScoredPrompt] = field(default_factory=list)
    tally: Tally | None = None

    @property
    def builds(self) -> list[Build]:
        """How to make each question."""
        return [partial(self._built, i) for i in range(len(self.labeller.heads))]

    def _built(self, i: int, generator: Generator) -> ScoredPrompt:
        if not self.asks:
            rows = Rows([Question(self.text)], blank=True)
            self.tally = Tally(self.labeller.channel, self.labeller.who, rows)
            self.asks = list(scored_asks(self.tally.asks()))
            if not self.asks:
                failed = rows.done[0].failed
                assert failed is not None, "an input that is not asked about cannot be"
                raise failed
        return self.asks[i]

    async def scores(self, score: ScoreOne, builds: Sequence[Build] = ()) -> tuple[float, ...]:
        """Each label's sum less its mean, as the way has it for this input among others.

        `builds` are this reading's own, perhaps wrapped. What `score` raises ends the others.
        """
        turn = asyncio.Semaphore(AT_ONCE)

        async def asked(build: Build, heads: Heads) -> Sequence[float]:
            async with turn:
                return await score(build, heads)

        asks = zip(builds or self.builds, self.labeller.heads, strict=True)
        found = await together(asked(*ask) for ask in asks)
        assert self.tally is not None, "its questions were built"
        for ask, logprobs in zip(self.asks, found, strict=True):
            for _, sums in self.tally.take(Score(ask.id, tuple(logprobs))):
                return self.labeller.way.centred(sums)
        raise AssertionError("all of an input's questions settle it")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; what one raises ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
