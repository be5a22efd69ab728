"""Who answers the test rows: the base in all its strength, the tuned model, and those that need no model.

Prompt forms are chosen on rows that are no test rows (job.dev_questions), for each way of answering by itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sg_local import metrics
from sg_local.evaluate.answering import Greedy, Reply, Restricted, Vote, best_label
from sg_local.evaluate.job import Question, calibration_questions, dev_questions, with_context
from sg_local.evaluate.journal import Desk
from sg_local.evaluate.retain import remember, retained
from sg_local.prompts import Form
from sg_local.records import Answer, SgError
from sg_local.run import ADAPTER


@dataclass(frozen=True)
class Outcome:
    """What a contest settled besides the answers: the base's form by system, and what tuning cost elsewhere."""

    chosen: dict[str, str]
    retain: dict[str, Any] | None


def answer_all(desk: Desk, questions: Sequence[Question]) -> Outcome:
    """Every system's answers, published on the desk."""
    retain = desk.job.settings.retain
    adapter = desk.job.run.path(ADAPTER)
    if not adapter.exists():
        raise SgError(
            f"Run {desk.job.run.name} has no adapter yet.", f"Make it with `sg-local train {desk.job.run.name}`."
        )
    desk.use_adapter(None)
    chosen = {"base": answer_free(desk, questions)}
    if desk.job.task.kind == "classification":
        chosen |= answer_restricted(desk, questions)
    answer_trivially(desk, questions)
    before = remember(desk, "base") if retain else None
    if desk.job.examples_adapter is not None:
        desk.use_adapter(desk.job.examples_adapter)
        answer_tuned(desk, questions, "tuned_examples")
    desk.use_adapter(adapter)
    answer_tuned(desk, questions, "tuned")
    after = remember(desk, "tuned") if retain else None
    desk.use_adapter(None)
    return Outcome(chosen, retained(before, after) if before and after else None)


def answer_free(desk: Desk, questions: Sequence[Question]) -> str:
    """The base in free text: greedy in every form, the best form again as `base`, and its vote. Returns the form."""
    job = desk.job
    for form in job.forms:
        desk.publish(f"base_{form.name}", desk.ask(f"base_{form.name}", Greedy(form), questions))
    best = form_best_at(desk, lambda form: desk.ask(f"dev_{form.name}", Greedy(form), dev_questions(job)))
    base = [Reply(answer.text) for answer in desk.public[f"base_{best.name}"]]
    desk.publish("base", desk.derive("base", questions, base))
    desk.publish("base_vote", voted(desk, "base_vote", best, questions, base))
    if job.settings.n_context:
        shown = with_context(job, questions)
        desk.publish("base_synthetic", desk.ask("base_synthetic", Greedy(best), shown))
    return best.name


def voted(desk: Desk, name: str, form: Form, questions: Sequence[Question], greedy: Sequence[Reply]) -> list[Answer]:
    """Answers by vote; a row without a winner gets the greedy answer."""
    settings = desk.job.settings
    system = Vote(form, settings.n_votes, settings.vote_temperature, settings.vote_top_k, desk.job.gate)
    raw = desk.ask(f"{name}_raw", system, questions)
    replies = [Reply(vote.text, vote.scores) if vote.text else one for vote, one in zip(raw, greedy, strict=True)]
    return desk.derive(name, questions, replies)


def form_best_at(desk: Desk, answer: Callable[[Form], Sequence[Answer]]) -> Form:
    """The form with the highest score on the dev rows; the first of equals. One form needs no rows."""
    forms = desk.job.forms
    if len(forms) == 1:
        return forms[0]
    task = desk.job.task
    score = metrics.metrics_of(task.kind, task.labels)[task.metric]
    wanted = [question.wanted for question in dev_questions(desk.job)]
    return max(forms, key=lambda form: sum(score(a.text, w) for a, w in zip(answer(form), wanted, strict=True)))


def answer_restricted(desk: Desk, questions: Sequence[Question]) -> dict[str, str]:
    """The base restricted to the labels, and calibrated, in every form and in the best. Returns the best forms."""
    chosen = {}
    dev = dev_questions(desk.job)
    answers: dict[str, dict[str, tuple[list[Answer], list[Answer]]]] = {"restricted": {}, "calibrated": {}}
    for form in desk.job.forms:
        system = Restricted(form)
        means = label_means(desk, f"calibration_{form.name}", system)
        tests = desk.ask(f"base_restricted_{form.name}", system, questions)
        tried = desk.ask(f"dev_restricted_{form.name}", system, dev)
        answers["restricted"][form.name] = tests, tried
        answers["calibrated"][form.name] = (
            calibrated(desk, f"base_calibrated_{form.name}", questions, tests, means),
            calibrated(desk, f"dev_calibrated_{form.name}", dev, tried, means),
        )
    for kind, found in answers.items():
        tried = {name: answers for name, (_, answers) in found.items()}
        best = form_best_at(desk, lambda form, tried=tried: tried[form.name])
        chosen[f"base_{kind}"] = best.name
        for name, (tests, _) in found.items():
            desk.publish(f"base_{kind}_{name}", tests)
        replies = [Reply(answer.text, answer.scores) for answer in found[best.name][0]]
        desk.publish(f"base_{kind}", desk.derive(f"base_{kind}", questions, replies))
    return chosen


def label_means(desk: Desk, name: str, system: Restricted) -> list[float]:
    """Each label's mean log-probability over synthetic inputs."""
    rows = [answer.scores for answer in desk.ask(name, system, calibration_questions(desk.job))]
    return (
        [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else [0.0] * len(desk.job.task.labels)
    )


def calibrated(
    desk: Desk, name: str, questions: Sequence[Question], answers: Sequence[Answer], means: Sequence[float]
) -> list[Answer]:
    """The answers decided anew, each label's mean score subtracted."""
    labels = desk.job.task.labels
    replies = [Reply(best_label(labels, answer.scores, means), answer.scores) for answer in answers]
    return desk.derive(name, questions, replies)


def answer_tuned(desk: Desk, questions: Sequence[Question], name: str) -> None:
    """An adapter's answers: greedy, restricted and calibrated for labels; the run's own by vote too, where wanted."""
    form = desk.job.form
    greedy = desk.ask(name, Greedy(form), questions)
    desk.publish(name, greedy)
    if desk.job.settings.tuned_vote and name == "tuned":
        desk.publish("tuned_vote", voted(desk, "tuned_vote", form, questions, [Reply(a.text) for a in greedy]))
    if desk.job.task.kind == "classification":
        system = Restricted(form)
        means = label_means(desk, f"calibration_{name}", system)
        tests = desk.ask(f"{name}_restricted", system, questions)
        desk.publish(f"{name}_restricted", tests)
        desk.publish(f"{name}_calibrated", calibrated(desk, f"{name}_calibrated", questions, tests, means))


def answer_trivially(desk: Desk, questions: Sequence[Question]) -> None:
    """Answers that take no model: what a gain must beat to mean something.

    `majority_label` is the test rows' own commonest label, which bounds every constant answer from above.
    """
    job = desk.job
    rng = random.Random(job.settings.seed)
    if job.task.kind == "classification":
        common = Counter(question.wanted[0] for question in questions).most_common(1)[0][0]
        desk.publish("majority_label", desk.derive("majority_label", questions, [Reply(common)] * len(questions)))
    else:
        copies = [Reply(question.input) for question in questions]
        desk.publish("copy_input", desk.derive("copy_input", questions, copies))
    outputs = [pair.output for pair in job.pairs or job.task.examples]
    drawn = [Reply(rng.choice(outputs)) for _ in questions]
    desk.publish("random_output", desk.derive("random_output", questions, drawn))
