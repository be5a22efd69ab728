"""The base alone on the test rows: what a model can do before anything is tuned, with the systems that a report has.

Nothing is written. Answers that an evaluation of the same run left are used again. Where there are no synthetic inputs,
the calibrated system takes each label's mean score over inputs without content, as Zhao et al. 2021
(arXiv 2102.09690) do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sg_local.evaluate.job import Evaluation, OnEvent
from sg_local.evaluate.journal import AnswerJournal
from sg_local.evaluate.rounds import answer_all
from sg_local.evaluate.scoreboard import Scoreboard
from sg_local.evaluate.stage import clean_questions, with_reliability
from sg_local.records import Kind
from sg_local.report.records import BASE, BaseFacts, Excluded, Gain, SystemResult


@dataclass(frozen=True)
class BaseScores:
    """What a base model scores: percent with 95 % intervals, by system; the other fields are as in a Report."""

    task: str
    kind: Kind
    model: BaseFacts
    metric: str
    n: int
    excluded: Excluded
    chosen: Mapping[str, str]
    systems: Mapping[str, SystemResult]

    @property
    def gains(self) -> Mapping[str, Gain]:
        """None: there is nothing tuned."""
        return {}


def evaluate_base(job: Evaluation, on_event: OnEvent = lambda event: None) -> BaseScores:
    """Answer the test rows with every system that needs no adapter.

    Raises SgError for a task without usable test rows.
    """
    questions, leaked = clean_questions(job)
    journal = AnswerJournal(job, on_event, keeps=False)
    settled = answer_all(journal, questions, (BASE,))
    texts = {system: [answer.text for answer in answers] for system, answers in journal.public.items()}
    inputs, wanted = ([getattr(one, name) for one in questions] for name in ("input", "wanted"))
    board = Scoreboard(job.task, texts, inputs, wanted, job.settings.seed, job.settings.resamples)
    info = job.generator.info
    return BaseScores(
        task=job.task.name,
        kind=job.task.kind,
        model=BaseFacts(info.name, info.digest, info.size_bytes),
        metric=job.task.metric,
        n=len(questions),
        excluded=leaked,
        chosen=settled.chosen,
        systems=with_reliability(board.results(), journal, questions, settled),
    )
