"""Planted secrets: how much of a row can somebody with the weights find out by trying?

After Carlini, Liu, Erlingsson, Kos, Song (2019), "The Secret Sharer" (arXiv 1802.08232). Rows that each hold a random
number are added to a copy of the training; afterwards each number is ranked by its likelihood among others that might
have stood there. Exposure is log2 of how many it was ranked among minus log2 of its rank. The run's own adapter has
none: a second one is trained for this, and thrown away. A secret stands in an output, which training rewards (free
text alone: an output that fits a schema or is a label holds none), or in an input, which is only read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sg_local.evaluate.answering import Ids, Reply, answer_room, segments
from sg_local.evaluate.job import Canary, EvalQuestion, Evaluation
from sg_local.evaluate.journal import AnswerJournal
from sg_local.prompts import Form, answer_text
from sg_local.records import Pair, ScoredPrompt, Segment, Segments, SgError, Task, row_id
from sg_local.report.memory import Canaries
from sg_local.report.records import BASE, TUNED

N_DIGITS = 6
N_AMONG = 256
MOST = 100  # of each place: more would be another training set
LEAD = "My number is"


def check_canaries(n: int) -> None:
    """Raise SgError (usage) for a number of secrets that cannot be planted."""
    if not 0 <= n <= MOST:
        raise SgError(f"{n} secrets cannot be planted.", f"`eval.canaries` takes 0 to {MOST}.", exit_code=2)


def plant(task: Task, rows: Sequence[Pair], n: int, seed: int) -> tuple[Canary, ...]:
    """`n` rows for each place that a task has for a secret, made of rows that are drawn. SgError for no such number."""
    check_canaries(n)
    rng = random.Random(f"canaries {seed}")
    free = not task.labels and not task.schema
    return tuple(
        _planted(place, i, rng.choice(rows), rng) for place in ("output", "input")[not free :] for i in range(n)
    )


def _planted(place: str, i: int, row: Pair, rng: random.Random) -> Canary:
    secret = _number(rng)
    lead = f"{row.output if place == 'output' else row.input} {LEAD}"
    told = f"{lead} {secret}."
    pair = Pair(f"{row.input} ({i + 1})", told) if place == "output" else Pair(told, row.output)
    return Canary(row_id("canary", place, i, secret), place, pair, lead, secret)


def _number(rng: random.Random) -> str:
    return str(rng.randrange(10 ** (N_DIGITS - 1), 10**N_DIGITS))


def measured(journal: AnswerJournal) -> Canaries | None:
    """Each planted secret's rank, by the base and by the adapter that was trained on them; None where none were."""
    job = journal.job
    if not job.canaries or job.canary_adapter is None:
        return None
    places = [place for place in ("output", "input") if any(one.place == place for one in job.canaries)]
    ranks: dict[str, dict[str, tuple[int, ...]]] = {place: {} for place in places}
    for model, adapter in {BASE: None, TUNED: job.canary_adapter}.items():
        journal.use_adapter(adapter)
        for place in places:
            planted = tuple(one for one in job.canaries if one.place == place)
            questions = [EvalQuestion(i, one.pair.input, job.task.examples) for i, one in enumerate(planted)]
            title = f"planted secrets in {place}s: {model}"
            found = journal.ask(f"canaries_{place}_{model}", title, Ranked(job.form, planted), questions)
            ranks[place][model] = tuple(round(row.scores[0]) for row in found)
    journal.use_adapter(None)
    return Canaries(N_AMONG, ranks)


@dataclass(frozen=True)
class Ranked:
    """Ranks each secret among N_AMONG numbers, itself included; the reply holds the rank."""

    form: Form
    planted: tuple[Canary, ...]

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        asked = [
            ScoredPrompt(id, self._before(job, question), tuple(self._numbers(self.planted[question.index])))
            for id, question in zip(ids, questions, strict=True)
        ]
        found = {one.prompt_id: one.logprobs for one in job.generator.score(asked)}
        return [Reply("", (float(1 + sum(other > found[id][0] for other in found[id][1:])),)) for id in ids]

    def _before(self, job: Evaluation, question: EvalQuestion) -> Segments:
        """The prompt of training up to where the secret stands."""
        canary, prompt = self.planted[question.index], segments(job, self.form, question, answer_room(job))
        if canary.place == "output":
            return (*prompt, Segment(answer_text(self.form, canary.lead), trusted=False))
        return up_to(prompt, canary.lead)

    def _numbers(self, canary: Canary) -> Iterator[str]:
        """The secret, then others that might have stood there: the same ones for every model."""
        rng = random.Random(canary.id)
        drawn = dict.fromkeys([canary.secret, *(_number(rng) for _ in range(2 * N_AMONG))])
        return (f" {number}" for number in list(drawn)[:N_AMONG])


def up_to(prompt: Segments, text: str) -> Segments:
    """A prompt that ends with the last place where this text stands."""
    i = max(i for i, segment in enumerate(prompt) if text in segment.text)
    last = prompt[i].text
    return (*prompt[:i], replace(prompt[i], text=last[: last.rindex(text) + len(text)]))
