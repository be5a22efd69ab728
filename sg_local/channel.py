"""How likely each label makes an input: log P(input | label), in a list that gives outputs first.

This is the noisy channel of Min et al. (arXiv 2108.04106), turned round: what the model would write for a label, not
which label it would write. A small model often knows the first better. Each figure is the mean over some orders of the
demonstrations, in nats. Inputs of a call share the reading of each prompt. Of free texts `backward_scores` tells the
same for a few outputs of each input's own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sg_local.backends import Generator
from sg_local.prompts import PLAIN, Room, TooLong, continue_input_prompt
from sg_local.records import Pair, ScoredPrompt, Segment, Segments, Task

CHUNK = 32  # inputs that are scored behind one reading of a prompt


@dataclass(frozen=True)
class Placed:
    """An input to score: its number among others, and how many demonstrations leave room for it."""

    number: int
    text: str
    n_shown: int


@dataclass(frozen=True)
class ChannelAsk:
    """One request: the inputs of these numbers after one label, in one order of the demonstrations."""

    label: int
    numbers: tuple[int, ...]
    prompt: ScoredPrompt


@dataclass(frozen=True)
class Channel:
    """A task's labels as they are scored: `orders` are the demonstrations in each order, `room` is a prompt's."""

    task: Task
    room: Room
    orders: tuple[tuple[Pair, ...], ...]

    @cached_property
    def _n_longest(self) -> list[int]:
        """Tokens of the longest prompt with so many demonstrations, from none on."""
        n_most = len(self.orders[0]) if self.orders else 0
        return [
            max(
                len(self.room.tokenize(self._prompt(pairs[:n], label)))
                for pairs in self.orders
                for label in self.task.labels
            )
            for n in range(n_most + 1)
        ]

    def placed(self, number: int, text: str) -> Placed:
        """The input with as many demonstrations as leave room for it in every order. TooLong where even none does."""
        n_text = len(self.room.tokenize((Segment(said(text), trusted=False),), bos=False))
        for n in range(len(self._n_longest) - 1, -1, -1):
            if self._n_longest[n] + n_text <= self.room.n_ctx:
                return Placed(number, text, n)
        raise TooLong(f"The input has {n_text} tokens, and the context holds {self.room.n_ctx}.", self.room.hint)

    def asks(self, inputs: Sequence[Placed]) -> Iterator[ChannelAsk]:
        """All these inputs after each label, in each order; those with less room behind shorter prompts."""
        by_room = sorted(inputs, key=lambda one: one.n_shown)
        for n_shown, group in itertools.groupby(by_room, key=lambda one: one.n_shown):
            found = list(group)
            numbers, texts = tuple(one.number for one in found), tuple(said(one.text) for one in found)
            for k, pairs in enumerate(self.orders):
                for i, label in enumerate(self.task.labels):
                    id = f"{numbers[0]}-{i}-{k}"
                    yield ChannelAsk(i, numbers, ScoredPrompt(id, self._prompt(pairs[:n_shown], label), texts))

    def _prompt(self, pairs: Sequence[Pair], label: str) -> Segments:
        return continue_input_prompt(self.task, pairs, label)


def channel_scores(generator: Generator, channel: Channel, texts: Sequence[str]) -> list[tuple[float, ...]]:
    """Each text's scores in the order of the labels: log P(text | label) in nats, the mean over the orders.

    What a text scores does not depend on the others. Raises TooLong for one that does not fit the context.
    """
    placed = [channel.placed(number, text) for number, text in enumerate(texts)]
    sums = [[0.0] * len(channel.task.labels) for _ in texts]
    chunks = (placed[start : start + CHUNK] for start in range(0, len(placed), CHUNK))
    asks = {ask.prompt.id: ask for chunk in chunks for ask in channel.asks(chunk)}
    for found in generator.score([ask.prompt for ask in asks.values()]):
        ask = asks[found.prompt_id]
        for number, score in zip(ask.numbers, found.logprobs, strict=True):
            sums[number][ask.label] += score / len(channel.orders)
    return [tuple(row) for row in sums]


def backward_scores(
    generator: Generator, channel: Channel, rows: Sequence[tuple[str, Sequence[str]]]
) -> list[dict[str, float]]:
    """For each (input, outputs): log P(input | output) in nats by output, the mean over the orders.

    Empty for an input that does not fit the context behind its longest output.
    """
    asks: dict[str, ChannelAsk] = {}
    for number, (text, outputs) in enumerate(rows):
        one = replace(channel, task=replace(channel.task, labels=tuple(outputs)))
        with contextlib.suppress(TooLong):
            asks |= {ask.prompt.id: ask for ask in one.asks([one.placed(number, text)])}
    found: list[dict[str, float]] = [{} for _ in rows]
    for score in generator.score([ask.prompt for ask in asks.values()]):
        ask = asks[score.prompt_id]
        (number,), output = ask.numbers, rows[ask.numbers[0]][1][ask.label]
        found[number][output] = found[number].get(output, 0.0) + score.logprobs[0] / len(channel.orders)
    return found


def said(text: str) -> str:
    """An input as it stands behind its cue."""
    return PLAIN.lead + text


def orders_of(pairs: Sequence[Pair], most: int = 3) -> tuple[tuple[Pair, ...], ...]:
    """The demonstrations begun at each of the first few in turn."""
    return tuple((*pairs[i:], *pairs[:i]) for i in range(min(most, len(pairs))))
