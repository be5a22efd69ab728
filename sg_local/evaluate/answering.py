"""Ways to answer questions with a model: greedy, by vote, and restricted to the labels.

A way is a frozen value, so that its digest says what shaped an answer: its class's name and its fields are in the ids
of the answers on disk. All prompts of one call go to the engine as one stream, in which every prompt begins with the
same instruction and demonstrations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from sg_local import prompts
from sg_local.channel import Channel, channel_scores, orders_of
from sg_local.evaluate.job import EvalQuestion, Evaluation
from sg_local.metrics import typical
from sg_local.prompts import Form, Room
from sg_local.records import Pair, Prompt, Sampling, ScoredPrompt, Segments, seed_of

Ids = Sequence[str]


@dataclass(frozen=True)
class Reply:
    """An answer and the figures behind it: label log-probabilities, or the winner's share of the votes."""

    text: str
    scores: tuple[float, ...] = ()


class Way(Protocol):
    """Answers questions; the ids are the answers' own, one for each question. A dataclass, whose fields shape them."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        ...


@dataclass(frozen=True)
class Greedy:
    """Free text, the likeliest token each time."""

    form: Form
    settled: ClassVar[bool] = True
    """Whether near ties are decided alone, as wherever an answer is one that a person may get."""

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        room = answer_room(job)
        sampling = self._sampling(job, Sampling(temperature=0.0, max_tokens=room.n_new))
        asked = [
            Prompt(id, self._segments(job, question, room), sampling, settled=self.settled)
            for id, question in zip(ids, questions, strict=True)
        ]
        found = {one.prompt_id: one.text for one in job.generator.generate(asked)}
        return [Reply(prompts.parse_output(job.task, found[id], self.form.lead)) for id in ids]

    def _sampling(self, job: Evaluation, drawn: Sampling) -> Sampling:
        return _sampling(job, self.form, drawn)

    def _segments(self, job: Evaluation, question: EvalQuestion, room: Room) -> Segments:
        return segments(job, self.form, question, room)


@dataclass(frozen=True)
class Vote:
    """Several samples, of which the filters' gate elects one: half of SELF-GUIDE's gain.

    Ties go to the shortest, then to the first in the alphabet. None elected: an empty text with share 0.
    """

    form: Form
    n_votes: int
    temperature: float
    top_k: int
    gate: str = ""

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        room = answer_room(job)
        drawn = Sampling(temperature=self.temperature, top_k=self.top_k, max_tokens=room.n_new)
        sampling = _sampling(job, self.form, drawn)
        asked = [
            Prompt(f"{id}-{vote}", built, sampling, seed_of(id, vote))
            for id, question in zip(ids, questions, strict=True)
            for built in [segments(job, self.form, question, room)]
            for vote in range(self.n_votes)
        ]
        found = {one.prompt_id: one for one in job.generator.generate(asked)}
        return [
            self._winner(job, question.input, [found[f"{id}-{vote}"].text for vote in range(self.n_votes)])
            for id, question in zip(ids, questions, strict=True)
        ]

    def _winner(self, job: Evaluation, input: str, texts: Sequence[str]) -> Reply:
        outputs = [prompts.parse_output(job.task, text, self.form.lead) for text in texts]
        votes = Counter(output for output in outputs if output)
        winner = self._elected(job, input, votes)
        if not winner:
            return Reply("", (0.0,))
        return Reply(winner, (round(votes[winner] / self.n_votes, 4),))

    def _elected(self, job: Evaluation, input: str, votes: Counter[str]) -> str:
        return job.elect(input, votes)


@dataclass(frozen=True)
class Typical(Vote):
    """Several samples, of which the one most like the others stands, those left out that the gate refuses."""

    def _elected(self, job: Evaluation, input: str, votes: Counter[str]) -> str:
        return typical(votes, lambda alone: job.elect(input, alone))


@dataclass(frozen=True)
class Restricted:
    """The likeliest label, each with its end of sequence; the reply carries every label's log-probability."""

    form: Form
    settled: ClassVar[bool] = True

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        labels = job.task.labels
        answers = tuple(prompts.answer_text(self.form, label) for label in labels)
        found = scores_of(job, self.form, questions, ids, answers, end=True, settled=self.settled)
        return [Reply(best_label(labels, row), rounded(row)) for row in found]


@dataclass(frozen=True)
class RoughGreedy(Greedy):
    """Free text for rows that only choose or calibrate: a near tie falls as it may."""

    known_as: ClassVar[str] = Greedy.__name__
    settled: ClassVar[bool] = False


@dataclass(frozen=True)
class RoughRestricted(Restricted):
    """Labels for rows that only choose or calibrate: a near tie falls as it may."""

    known_as: ClassVar[str] = Restricted.__name__
    settled: ClassVar[bool] = False


@dataclass(frozen=True)
class ByChannel:
    """How likely each label makes the input, in so many orders of the demonstrations; no prompt form has a part in it.

    The reply carries every label's score, and the best one as its text.
    """

    n_orders: int

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        room = answer_room(job)
        found: dict[int, tuple[float, ...]] = {}
        for examples, group in _by_examples(questions).items():
            channel = Channel(job.task, room, orders_of(examples, self.n_orders))
            scores = channel_scores(job.generator, channel, [questions[i].input for i in group])
            found |= dict(zip(group, scores, strict=True))
        labels = job.task.labels
        return [Reply(best_label(labels, found[i]), rounded(found[i])) for i in range(len(questions))]


def scores_of(
    job: Evaluation,
    form: Form,
    questions: Sequence[EvalQuestion],
    ids: Ids,
    continuations: tuple[str, ...],
    *,
    end: bool = False,
    settled: bool = False,
) -> list[tuple[float, ...]]:
    """log P of each continuation behind each question's prompt, in nats; with `end` the answer's end counts, too.

    Where they are `settled`, near ties are decided alone.
    """
    room, ending = answer_room(job), form.end if end else ""
    found: dict[str, tuple[float, ...]] = {}
    for examples, places in _by_examples(questions).items():  # what a call's prompts share is read once
        heads = prompts.answer_heads(job.task, form, examples) if end else ()
        asked = [
            ScoredPrompt(ids[i], built, continuations, end=end, ending=ending, settled=settled, heads=heads)
            for i in places
            for built in [segments(job, form, questions[i], room)]
        ]
        found |= {one.prompt_id: one.logprobs for one in job.generator.score(asked)}
    return [found[id] for id in ids]


def rounded(scores: Sequence[float]) -> tuple[float, ...]:
    """Scores as the journal keeps them."""
    return tuple(round(p, 4) for p in scores)


def _by_examples(questions: Sequence[EvalQuestion]) -> dict[tuple[Pair, ...], list[int]]:
    """The places of the questions that show the same demonstrations."""
    found: dict[tuple[Pair, ...], list[int]] = {}
    for i, question in enumerate(questions):
        found.setdefault(question.examples, []).append(i)
    return found


def best_label(labels: Sequence[str], scores: Sequence[float], means: Sequence[float] | None = None) -> str:
    """The label with the highest score, minus its mean score where means are given; ties go to the first."""
    shift = means or [0.0] * len(labels)
    return max(zip(labels, scores, shift, strict=True), key=lambda one: one[1] - one[2])[0]


def segments(job: Evaluation, form: Form, question: EvalQuestion, room: Room) -> Segments:
    """The prompt for one question, as synthesis, training and serving would ask it."""
    return prompts.fitted_answer(room, job.task, form, question.input, question.examples).segments


def answer_room(job: Evaluation) -> Room:
    """The room of a prompt and its answer."""
    return prompts.answer_room(job.generator.tokenize, job.task, job.room, job.settings.max_tokens)


def _sampling(job: Evaluation, form: Form, drawn: Sampling) -> Sampling:
    return Sampling(
        temperature=drawn.temperature,
        top_k=drawn.top_k,
        max_tokens=drawn.max_tokens,
        stop=prompts.answer_stops(job.task, form),
        schema=job.task.schema or None if job.settings.constrain else None,
    )
