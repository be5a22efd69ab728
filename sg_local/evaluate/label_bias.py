"""Calibrated labels for other people's servers: an offset on each label's first token, where that does any good.

Our own server takes a label's mean score off its score. Others write an answer token by token and know no more than a
bias on a token's logit; where the labels begin with different tokens, one on each first token does nearly the same. The
offsets are means over the run's inputs; what they gain is measured on rows that validated the training, never on test
rows, and where it is nothing they are not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sg_local import metrics, prompts
from sg_local.calibration import mean_scores
from sg_local.evaluate.answering import Ids, Reply, answer_room, best_label, rounded, scores_of, segments
from sg_local.evaluate.calibrating import known_rows
from sg_local.evaluate.job import EvalQuestion, Evaluation, calibration_questions
from sg_local.evaluate.journal import AnswerJournal
from sg_local.prompts import Form, answer_tokens
from sg_local.records import Segments
from sg_local.run import ADAPTER

DIGITS = 3
N_DRAWS = 2000


@dataclass(frozen=True)
class LabelBias:
    """Offsets in nats for the labels' first tokens, by label and token id; `why` says why they are not offered, if so.

    `plain` and `biased` are the percentages right without and with them, on the `n` validation rows that decided this.
    """

    labels: tuple[str, ...]
    tokens: tuple[int, ...] = ()
    bias: tuple[float, ...] = ()
    n: int = 0
    plain: float = 0.0
    biased: float = 0.0
    why: str = ""

    @property
    def is_offered(self) -> bool:
        """Whether they are worth sending along."""
        return not self.why

    @property
    def said(self) -> str:
        """What was found, in one sentence."""
        if not self.n:
            return f"No logit bias for the labels: {self.why}."
        rows = f"on the {self.n} validation rows that decided this"
        found = f"{self.plain:.1f} % right without, {self.biased:.1f} % with, {rows}"
        offered = "A logit bias on the labels' first tokens" if self.is_offered else "No logit bias for the labels"
        return f"{offered}: {found}." if self.is_offered else f"{offered}: {self.why} ({found})."


def label_bias(job: Evaluation) -> LabelBias:
    """What to send along with requests to a server that knows nothing of calibrated labels; asks the tuned model."""
    labels, questions = job.task.labels, known_rows(job)
    job.generator.use_adapter(job.run.path(ADAPTER))
    first = first_tokens(job)
    if isinstance(first, str):
        return LabelBias(labels, why=first)
    if not questions:
        return LabelBias(labels, why="no row was used for validation")
    journal = AnswerJournal(job, lambda event: None, keeps=False)
    way = Beginnings(job.form, tuple(text for text, _ in first))
    means = mean_scores([r.scores for r in journal.ask("bias_means", "", way, calibration_questions(job))])
    rows = [row.scores for row in journal.ask("bias_rows", "", way, questions)]
    middle = sum(means) / len(means)
    bias = tuple(round(middle - mean, DIGITS) for mean in means)
    plain, biased = (
        [float(best_label(labels, row, shift) == one.wanted[0]) for row, one in zip(rows, questions, strict=True)]
        for shift in (None, [-b for b in bias])
    )
    gain = metrics.paired(biased, plain, metrics.resamples(len(rows), job.settings.seed, N_DRAWS))
    why = "" if gain.gain > 0 and gain.low >= 0 else "their offsets gain nothing that is sure"
    before, after = (round(100 * sum(one) / len(rows), 2) for one in (plain, biased))
    return LabelBias(labels, tuple(token for _, token in first), bias, len(rows), before, after, why)


def first_tokens(job: Evaluation) -> list[tuple[str, int]] | str:
    """Each label's first token behind a prompt, as text and id; or why one token cannot stand for each label."""
    prompt = segments(job, job.form, EvalQuestion(0, job.task.examples[0].input, ()), answer_room(job))
    found: list[tuple[str, int]] = []
    for label in job.task.labels:
        begun = _beginning(job, prompt, prompts.answer_text(job.form, label))
        if begun is None:
            return f"the first token of {label!r} is not a text by itself"
        found.append(begun)
    by_token = dict.fromkeys(token for _, token in found)
    if len(by_token) < len(found):
        return "two labels begin with the same token"
    return found


def _beginning(job: Evaluation, prompt: Segments, answer: str) -> tuple[str, int] | None:
    """The shortest beginning of an answer that is exactly its first token."""
    first = answer_tokens(job.generator.tokenize, prompt, answer)[0]
    for n in range(1, len(answer) + 1):
        if answer_tokens(job.generator.tokenize, prompt, answer[:n]) == (first,):
            return answer[:n], first
    return None


@dataclass(frozen=True)
class Beginnings:
    """Log-probabilities of the labels' first tokens; the reply's text is of no account."""

    form: Form
    texts: tuple[str, ...]

    def replies(self, job: Evaluation, questions: Sequence[EvalQuestion], ids: Ids) -> list[Reply]:
        """One reply for each question, in order."""
        return [Reply("", rounded(row)) for row in scores_of(job, self.form, questions, ids, self.texts)]
