"""What turns a model's label scores into probabilities: label means over known inputs, a temperature from known rows.

The temperature is fitted on rows that validated the training: synthetic ones, and a person's own labelled rows that
were held back from it. Never on test rows; without such rows it is 1.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

from sg_local.calibration import Calibration, Reliability, fitted, mean_scores, reliability
from sg_local.evaluate.answering import ByChannel, Reply, RoughRestricted, Way, best_label
from sg_local.evaluate.job import EvalQuestion, Evaluation, calibration_questions
from sg_local.evaluate.journal import AnswerJournal
from sg_local.evaluate.systems import SYSTEMS
from sg_local.prompts import Form, form_named, match_label, normalise
from sg_local.records import Answer, Candidate
from sg_local.report.records import BASE, TUNED
from sg_local.run import ADAPTER, CANDIDATES

logger = logging.getLogger(__name__)

MOST_ROWS = 256
MOST_CHANNEL = 32
"""Inputs that give the means of channel scores: each costs a reading of the input for every label."""
N_SAMPLE, APART = 8, 0.5
"""Scores that synthesis left are believed where so many of them, asked for anew, come out within so many nats: what is
computed beside other rows moves by a fifth of a nat at most, and another prompt, model or order by much more."""
LIKELIEST, CALIBRATED = "likeliest", "calibrated"
WAYS: Mapping[str, str] = {"restricted": LIKELIEST, "calibrated": CALIBRATED}
"""The ways of the table of systems that have probabilities, and what predict calls them."""


def fit(job: Evaluation, model: str, way: str) -> Calibration:
    """What makes probabilities of the scores of the base or the tuned model, each in the form that it is asked in.

    Answers that an evaluation left are used again, and nothing is written.
    """
    journal = AnswerJournal(job, lambda event: None, keeps=False)
    journal.use_adapter(job.run.path(ADAPTER) if model == TUNED else None)
    form = form_named(job.forms, job.form.name) if model == BASE else job.form
    return calibration(journal, model, form, way)


def calibration(journal: AnswerJournal, model: str, form: Form, way: str) -> Calibration:
    """The calibration of one way, its questions asked once."""
    means = label_means(journal, model, form) if way == CALIBRATED else ()
    questions = known_rows(journal.job)
    if not questions:
        return Calibration(means)
    title = f"fitting the temperature: {_title(model, form)}"
    rows = _scores(journal, f"temperature_{_name(model, form)}", title, RoughRestricted(form), questions, {})
    labels = journal.job.task.labels
    return fitted(rows, [labels.index(question.wanted[0]) for question in questions], means)


def label_means(journal: AnswerJournal, model: str, form: Form) -> tuple[float, ...]:
    """Each label's mean log-probability over inputs without known outputs, asked for once."""
    questions = calibration_questions(journal.job)
    title = f"calibrating: {_title(model, form)}"
    job, name = journal.job, f"calibration_{_name(model, form)}"
    left = {row.input: row.label_scores for row in job.run.read(CANDIDATES, Candidate)} if model == BASE else {}
    if left and form.name != job.run.settings.get("form"):
        left = {}
    return mean_scores(_scores(journal, name, title, RoughRestricted(form), questions, left))


def channel_means(journal: AnswerJournal) -> tuple[float, ...]:
    """Each label's mean channel score over inputs without known outputs, asked for once."""
    questions = calibration_questions(journal.job)[:MOST_CHANNEL]
    title, way = "calibrating: base, labels by ensemble", ByChannel(journal.job.settings.ensemble)
    left = {row.input: row.channel_scores for row in journal.job.run.read(CANDIDATES, Candidate)}
    return mean_scores(_scores(journal, "calibration_channel", title, way, questions, left))


def known_rows(job: Evaluation) -> list[EvalQuestion]:
    """The rows that validated the training, with their labels; those that are test rows by now are left out."""
    labels, tests = job.task.labels, {normalise(text) for text in job.test_inputs}
    rows = [(pair.input, match_label(labels, pair.output)) for pair in job.valid]
    usable = [(text, label) for text, label in rows if label is not None and normalise(text) not in tests]
    drawn = random.Random(job.settings.seed).sample(usable, MOST_ROWS) if len(usable) > MOST_ROWS else usable
    return [EvalQuestion(i, text, job.task.examples, (label,)) for i, (text, label) in enumerate(drawn)]


def reliabilities(
    journal: AnswerJournal, questions: Sequence[EvalQuestion], found: Mapping[str, Calibration]
) -> dict[str, Reliability]:
    """How far the probabilities of each system that has them mean what they say, on the test rows."""
    labels = journal.job.task.labels
    right = [frozenset(i for i, label in enumerate(labels) if _is_right(label, question)) for question in questions]
    answers = {system.name: rows for system, rows in journal.public.items()}
    abstain = journal.job.settings.abstain
    return {
        name: reliability([row.scores for row in answers[name]], right, one, abstain) for name, one in found.items()
    }


def _is_right(label: str, question: EvalQuestion) -> bool:
    return any(normalise(label) == normalise(output) for output in question.wanted)


Left = Mapping[str, tuple[float, ...]]
"""Scores that synthesis left, by the input; empty where it asked for none."""


def _scores(
    journal: AnswerJournal, name: str, title: str, way: Way, questions: Sequence[EvalQuestion], left: Left
) -> list[tuple[float, ...]]:
    """The scores of these questions, from what is known before anything is asked."""
    rows: Sequence[Answer] | None = journal.given.get(name)
    if rows is None and not journal.knows(name, title, way, questions):
        rows = _left_over(journal, name, title, way, questions, left)
    return [row.scores for row in rows or journal.ask(name, title, way, questions)]


def _left_over(
    journal: AnswerJournal, name: str, title: str, way: Way, questions: Sequence[EvalQuestion], left: Left
) -> Sequence[Answer] | None:
    """Answers from the scores that synthesis left, those that it lacks asked for; None where they are not the same."""
    labels = journal.job.task.labels
    known = {question.input: left.get(question.input, ()) for question in questions}
    usable = [question for question in questions if len(known[question.input]) == len(labels)]
    if len(usable) <= 2 * N_SAMPLE:
        return None
    asked = [*usable[:N_SAMPLE], *(question for question in questions if question not in usable)]
    found = {row.input: row.scores for row in journal.ask(f"{name}_sample", title, way, asked)}
    pairs = [(found[question.input], known[question.input]) for question in usable[:N_SAMPLE]]
    apart = max(abs(one - other) for now, then in pairs for one, other in zip(now, then, strict=True))
    logger.info("%s: %d scores are left from the synthesis, %.2f nats apart", name, len(usable), apart)
    if apart > APART:
        return None
    scores = [found.get(question.input, known[question.input]) for question in questions]
    return journal.derive(name, questions, [Reply(best_label(labels, row), row) for row in scores])


def _name(model: str, form: Form) -> str:
    return form.name if model == BASE else model


def _title(model: str, form: Form) -> str:
    whose = next(system for system in SYSTEMS if system.name == model)
    return whose.in_form(form.name).title if model == BASE else whose.title
