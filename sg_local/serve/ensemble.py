"""Labels by two scores together: how likely the label is after the input, and how likely the input is after the label.

The direct score is the one that `Likeliest` compares, the other is the channel's (sg_local.channel). Both are in nats
and are added; then each label's mean over known inputs is taken off, so that no label wins by its words alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sg_local.backends.session import scored_asks
from sg_local.channel import CHUNK, Channel, ChannelAsk, Placed
from sg_local.records import Pair, Score
from sg_local.serve.answers import Ask, answer_room
from sg_local.serve.batch import Answerer, Found, RowAnswer, Rows


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
        labels = who.task.labels
        means = self.means or (0.0,) * len(labels)
        tally = Tally(self.channel(who), who, rows)
        for found in who.generator.score(scored_asks(tally.asks())):
            for number, sums in tally.take(found):
                scores = tuple(total - mean for total, mean in zip(sums, means, strict=True))
                yield number, RowAnswer(labels[scores.index(max(scores))], scores)

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
        ask, placed = self.who.ask(text, id=str(number)), self.channel.placed(number, text)
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
