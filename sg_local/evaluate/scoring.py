"""What a tuned model finds likely: every label after texts whose answers nobody knows, and known answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sg_local import prompts
from sg_local.evaluate.answering import Restricted, answer_room, segments
from sg_local.evaluate.job import EvalQuestion, Evaluation, OnEvent
from sg_local.evaluate.journal import AnswerJournal
from sg_local.records import Pair, ScoredPrompt, Segment


def label_scores(job: Evaluation, adapter: Path, texts: Sequence[str], on_event: OnEvent) -> list[tuple[float, ...]]:
    """log P(label | text) in nats for each text, in order, in the form that the job's adapter was trained in.

    Journalled chunk by chunk.
    """
    journal = AnswerJournal(job, on_event)
    journal.use_adapter(adapter)
    questions = [EvalQuestion(i, text, job.task.examples) for i, text in enumerate(texts)]
    found = journal.ask("relabelled", "labelling the rows anew", Restricted(job.form), questions)
    journal.use_adapter(None)
    return [row.scores for row in found]


def likelihood(job: Evaluation, adapter: Path, pairs: Sequence[Pair]) -> float:
    """The mean log-probability of these outputs, in nats a token, each after its input with the other pairs shown."""
    room, end = answer_room(job), job.form.end
    job.generator.use_adapter(adapter)
    asks = []
    for i, pair in enumerate(pairs):
        others = tuple(other for k, other in enumerate(pairs) if k != i)
        prompt = segments(job, job.form, EvalQuestion(i, pair.input, others), room)
        said = prompts.answer_text(job.form, pair.output)
        asks.append(ScoredPrompt(str(i), prompt, (said,), end=True, ending=end))
    total = sum(score.logprobs[0] for score in job.generator.score(asks))
    job.generator.use_adapter(None)
    texts = [(Segment(pair.output, trusted=False),) for pair in pairs]
    return total / sum(1 + len(job.generator.tokenize(text, bos=False)) for text in texts)
