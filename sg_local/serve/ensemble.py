"""Labels by two scores together: how likely the label is after the input, and how likely the input is after the label.

The direct score is the one that `Likeliest` compares. The channel score is log P(input | label) in a list that gives
outputs first, the mean over some orders of the demonstrations (noisy channel: Min et al., arXiv 2108.04106). Both are
in nats and are added; then each label's mean over known inputs is taken off, so that no label wins by its words alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sg_local import prompts
from sg_local.prompts import TooLong
from sg_local.records import Pair, Score, ScoredPrompt, Segment, Segments
from sg_local.serve.answers import Ask, answer_room, scored_asks
from sg_local.serve.batch import Answerer, Found, RowAnswer, Rows

Build = Callable[[Sequence[Pair], str], Segments]
"""(demonstrations, label) -> a prompt that goes on with an input for the label."""

CHUNK = 32  # inputs that are scored behind one reading of a prompt


@dataclass(frozen=True)
class Ensemble:
    """The label with the best sum of direct and channel score; ties go to the first.

    `orders` are the demonstrations in each order that is scored; `means` are taken off the labels' sums (empty: nothing
    is). What an input is answered with does not depend on the others.
    """

    build: Build
    orders: tuple[tuple[Pair, ...], ...]
    means: tuple[float, ...] = ()

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        labels = who.task.labels
        means = self.means or (0.0,) * len(labels)
        tally = Tally(self, who, rows)
        for found in who.generator.score(scored_asks(tally.asks())):
            for number, sums in tally.take(found):
                scores = tuple(total - mean for total, mean in zip(sums, means, strict=True))
                yield number, RowAnswer(labels[scores.index(max(scores))], scores)

    def n_fitting(self, who: Answerer, text: str) -> int:
        """How many demonstrations leave room for an input behind them, in every order. TooLong where none does."""
        room = answer_room(who.generator, who.task, who.settings)
        n_text = len(room.tokenize((Segment(said(text), trusted=False),), bos=False))
        for n in range(len(self.orders[0]), -1, -1):
            shown = (self.build(pairs[:n], label) for pairs in self.orders for label in who.task.labels)
            if all(len(room.tokenize(segments)) + n_text <= room.n_ctx for segments in shown):
                return n
        raise TooLong(f"The input has {n_text} tokens, and the context holds {room.n_ctx}.", room.hint)


@dataclass
class Tally:
    """The questions under way, by id, and each row's sums so far.

    `inputs` are rows whose channel scores are not yet asked for: (number, text, demonstrations that fit).
    """

    way: Ensemble
    who: Answerer
    rows: Rows
    inputs: list[tuple[int, str, int]] = field(default_factory=list)
    sums: dict[int, list[float]] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)
    asked: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)

    def asks(self) -> Iterator[Ask]:
        """Every row's direct question and, behind each chunk of them, the channel's."""
        for ask in self.rows.asked(self._direct):
            yield ask
            if len(self.inputs) == CHUNK:
                yield from self._channel()
        yield from self._channel()

    def _direct(self, number: int, text: str) -> list[Ask]:
        n_labels = len(self.who.task.labels)
        ask, n_shown = self.who.ask(text, id=str(number)), self.way.n_fitting(self.who, text)
        self.inputs.append((number, text, n_shown))
        self.sums[number] = [0.0] * n_labels
        self.missing[number] = 1 + n_labels * len(self.way.orders)
        return [ask]

    def _channel(self) -> Iterator[ScoredPrompt]:
        """All inputs of the chunk after each label, in each order; those with less room behind shorter prompts."""
        chunk, self.inputs = sorted(self.inputs, key=lambda one: one[2]), []
        for n_shown, group in itertools.groupby(chunk, key=lambda one: one[2]):
            numbers, texts, _ = zip(*group, strict=True)
            for k, pairs in enumerate(self.way.orders):
                for i, label in enumerate(self.who.task.labels):
                    id = f"{numbers[0]}-{i}-{k}"
                    self.asked[id] = (i, numbers)
                    yield ScoredPrompt(id, self.way.build(pairs[:n_shown], label), tuple(map(said, texts)))

    def take(self, found: Score) -> Iterator[tuple[int, list[float]]]:
        """The rows that this settles, with their sums by label."""
        label, numbers = self.asked.pop(found.prompt_id, (None, (int(found.prompt_id.split("-")[0]),)))
        if label is None:
            sums = self.sums[numbers[0]]
            sums[:] = [total + score for total, score in zip(sums, found.logprobs, strict=True)]
        else:
            for number, score in zip(numbers, found.logprobs, strict=True):
                self.sums[number][label] += score / len(self.way.orders)
        for number in numbers:
            self.missing[number] -= 1
            if not self.missing[number]:
                del self.missing[number]
                yield number, self.sums.pop(number)


def said(text: str) -> str:
    """An input as it stands behind its cue."""
    return prompts.PLAIN.lead + text


def orders_of(pairs: Sequence[Pair], most: int = 3) -> tuple[tuple[Pair, ...], ...]:
    """The demonstrations begun at each of the first few in turn."""
    return tuple((*pairs[i:], *pairs[:i]) for i in range(min(most, len(pairs))))
