"""Answers to many inputs, in order, each with what speaks for it; an input that cannot be answered is passed over.

A way of answering is a class: `Likeliest` chooses among a task's labels, `Written` writes greedily, `Voted` draws
several samples and elects one of them, as the evaluation's systems of those names do. A new way is a class with an
`answers` like theirs. Inputs are read as the engine has room for them, and all under way are computed together.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.backends.session import scored_asks, written_asks
from sg_local.parsing import trimmed
from sg_local.prompts import Form
from sg_local.records import Prompt, Sampling, SgError, Task, row_id, seed_of
from sg_local.serve.answers import Ask, ServeSettings, is_scored, task_ask

Elect = Callable[[str, Mapping[str, int]], str]


@dataclass(frozen=True)
class Question:
    """One input; `failed` says why there is none where it could not be read."""

    text: str
    failed: SgError | None = None


@dataclass(frozen=True)
class RowAnswer:
    """What came of one input.

    `scores` holds log P of each label in nats, less its mean where the way is calibrated; `share` is the winner's share
    of the votes, 0 to 1; `seconds` went by from the moment the input was taken, with others, to its answer. `failed`
    says why there is no answer.
    """

    text: str = ""
    scores: tuple[float, ...] = ()
    share: float | None = None
    seconds: float = 0.0
    failed: SgError | None = None


@dataclass(frozen=True)
class Answerer:
    """Who answers: an engine with a task, the prompt form, and lengths and limits as it is served with."""

    generator: Generator
    task: Task
    form: Form
    settings: ServeSettings = ServeSettings()

    def ask(self, text: str, *, id: str, sampling: Sampling | None = None, seed: int = 0) -> Ask:
        """The question for an input. Raises SgError where it does not fit the context."""
        text = self.trimmed(text)
        return task_ask(self.generator, self.task, self.form, text, self.settings, sampling=sampling, seed=seed, id=id)

    def trimmed(self, text: str) -> str:
        """An input as it is asked about: without what is blank around it."""
        return trimmed(text, (pair.input for pair in self.task.examples))

    @property
    def writing(self) -> Answerer:
        """The same, not held to the labels; a schema still binds it where it did."""
        if not self.task.labels:
            return self
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, restricted=False))

    def parse(self, text: str) -> str:
        """The answer in a completion's text."""
        return prompts.parse_output(self.task, text, self.form.lead)


Found = tuple[int, RowAnswer]


class Way(Protocol):
    """A way of answering: takes inputs as it has room for them, and gives each one's answer as it is known."""

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        ...


@dataclass
class Rows:
    """The rows between being read and being given out in order. `blank` asks inputs of blanks, too."""

    questions: Iterable[Question]
    blank: bool = False
    done: dict[int, RowAnswer] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    n_given: int = 0

    def asked(self, build: Callable[[int, str], list[Ask]]) -> Iterator[Ask]:
        """What `build` asks for each row, by its number and text; a row that cannot be asked ends here."""
        for number, question in enumerate(self.questions):
            self.began[number] = time.monotonic()
            if question.failed is not None or not (self.blank or question.text.strip()):
                self.end(number, RowAnswer(failed=question.failed))
                continue
            try:
                asks = build(number, question.text)
            except SgError as error:
                self.end(number, RowAnswer(failed=error))
                continue
            yield from asks

    def end(self, number: int, answer: RowAnswer) -> None:
        """A row's answer is known."""
        seconds = time.monotonic() - self.began.pop(number)
        self.done[number] = dataclasses.replace(answer, seconds=seconds)

    def ready(self) -> Iterator[RowAnswer]:
        """The answers whose turn it is."""
        while self.n_given in self.done:
            yield self.done.pop(self.n_given)
            self.n_given += 1


def answer_rows(who: Answerer, way: Way, questions: Iterable[Question], *, blank: bool = False) -> Iterator[RowAnswer]:
    """One answer for each input, in order, as soon as it and those before it are known.

    A blank input answers itself with an empty text, unless `blank` has it asked.
    """
    rows = Rows(questions, blank)
    for number, answer in way.answers(who, rows):
        rows.end(number, answer)
        yield from rows.ready()
    yield from rows.ready()


@dataclass(frozen=True)
class Likeliest:
    """The likeliest label; ties go to the first. `means` are taken off the labels' scores (empty: nothing is)."""

    means: tuple[float, ...] = ()

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        labels = who.task.labels
        means = self.means or (0.0,) * len(labels)
        asks = rows.asked(lambda number, text: [who.ask(text, id=str(number))])
        for found in who.generator.score(scored_asks(asks)):
            scores = tuple(score - mean for score, mean in zip(found.logprobs, means, strict=True))
            yield int(found.prompt_id), RowAnswer(labels[scores.index(max(scores))], scores)


@dataclass(frozen=True)
class Written:
    """Free text, the likeliest token each time."""

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        asks = rows.asked(lambda number, text: [who.writing.ask(text, id=str(number))])
        for found in who.generator.generate(written_asks(asks)):
            yield int(found.prompt_id), RowAnswer(who.parse(found.text))


@dataclass(frozen=True)
class Voted:
    """Several samples, of which `elect` makes one the answer, given the input and the votes.

    Where none is elected, the answer is what `Written` gives, with share 0. The same input draws the same samples.
    """

    n_votes: int
    temperature: float
    top_k: int
    elect: Elect

    def answers(self, who: Answerer, rows: Rows) -> Iterator[Found]:
        """(number of the row, answer), in any order."""
        count = Count(self, who.writing, rows)
        for found in who.generator.generate(written_asks(count.asks())):
            number, _, vote = found.prompt_id.partition("-")
            answer = count.take(int(number), vote, who.parse(found.text))
            if answer is not None:
                yield int(number), answer

    def draws(self, who: Answerer, number: int, text: str) -> list[Ask]:
        """The samples of one input."""
        sampling = Sampling(temperature=self.temperature, top_k=self.top_k, max_tokens=who.settings.max_tokens)
        ask, id = who.ask(text, id=str(number), sampling=sampling), row_id("vote", text)
        assert isinstance(ask, Prompt)
        return [dataclasses.replace(ask, id=f"{number}-{vote}", seed=seed_of(id, vote)) for vote in range(self.n_votes)]


@dataclass
class Count:
    """The votes that have come in, by row, and the greedy answers to ask for where they elect nobody."""

    way: Voted
    who: Answerer
    rows: Rows
    texts: dict[int, str] = field(default_factory=dict)
    votes: dict[int, list[str]] = field(default_factory=dict)
    undecided: deque[int] = field(default_factory=deque)

    def asks(self) -> Iterator[Ask | None]:
        """Every sample of every input and, behind those that elected nobody, a greedy answer; then None, until all are
        answered.
        """
        for ask in self.rows.asked(self._draws):
            yield from self._greedy()
            yield ask
        while self.texts:
            yield from self._greedy()
            if self.texts:
                yield None

    def _draws(self, number: int, text: str) -> list[Ask]:
        asks = self.way.draws(self.who, number, text)
        self.texts[number], self.votes[number] = text, []
        return asks

    def _greedy(self) -> Iterator[Ask]:
        while self.undecided:
            number = self.undecided.popleft()
            yield self.who.ask(self.texts[number], id=f"{number}-")

    def take(self, number: int, vote: str, output: str) -> RowAnswer | None:
        """The row's answer, where this output settles it."""
        if not vote:
            del self.texts[number]
            return RowAnswer(output, share=0.0)
        self.votes[number].append(output)
        if len(self.votes[number]) < self.way.n_votes:
            return None
        votes = Counter(output for output in self.votes.pop(number) if output)
        winner = self.way.elect(self.texts[number], votes)
        if not winner:
            self.undecided.append(number)
            return None
        del self.texts[number]
        return RowAnswer(winner, share=votes[winner] / self.way.n_votes)


def predict(
    generator: Generator, task: Task, form: Form, lines: Iterable[str], settings: ServeSettings | None = None
) -> Iterator[str]:
    """One answer for each line, in order, as soon as it and those before it are known. A blank line answers itself.

    Lines are read as the engine has room for them. For a line that does not fit the context, SgError names it
    after the lines before it have been answered.
    """
    settings = settings or ServeSettings()
    way: Way = Likeliest() if is_scored(task, settings) else Written()
    who = Answerer(generator, task, form, settings)
    for number, answer in enumerate(answer_rows(who, way, map(Question, lines)), 1):
        if answer.failed is not None:
            raise SgError(f"Line {number}: {answer.failed.message}", answer.failed.hint)
        yield answer.text


def label_scores(
    generator: Generator, task: Task, form: Form, texts: Iterable[str], settings: ServeSettings | None = None
) -> Iterator[tuple[float, ...]]:
    """For each text, log P(label and its end | prompt) of every label, in nats, in the task's order of labels.

    Raises SgError for a text that does not fit the context.
    """
    settings = dataclasses.replace(settings or ServeSettings(), restricted=True)
    who = Answerer(generator, task, form, settings)
    for answer in answer_rows(who, Likeliest(), map(Question, texts), blank=True):
        if answer.failed is not None:
            raise answer.failed
        yield answer.scores
