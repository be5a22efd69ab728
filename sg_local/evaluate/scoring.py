"""Every label's score for texts whose answers nobody knows, by a tuned model; journalled chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sg_local.evaluate.answering import Restricted
from sg_local.evaluate.job import EvalQuestion, Evaluation, OnEvent
from sg_local.evaluate.journal import AnswerJournal


def label_scores(job: Evaluation, adapter: Path, texts: Sequence[str], on_event: OnEvent) -> list[tuple[float, ...]]:
    """log P(label | text) in nats for each text, in order, in the form that the job's adapter was trained in."""
    journal = AnswerJournal(job, on_event)
    journal.use_adapter(adapter)
    questions = [EvalQuestion(i, text, job.task.examples) for i, text in enumerate(texts)]
    found = journal.ask("relabelled", "labelling the rows anew", Restricted(job.form), questions)
    journal.use_adapter(None)
    return [row.scores for row in found]
