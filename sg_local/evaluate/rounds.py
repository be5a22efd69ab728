"""One round of answers for each set of weights: the base, the tune on the examples alone, the tuned model.

In each round the systems of the table answer that have these weights, in the table's order. Prompt forms are chosen on
rows that are no test rows (job.dev_questions), for each way of answering by itself.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sg_local import metrics
from sg_local.calibration import DIGITS, Calibration
from sg_local.evaluate.answering import (
    ByChannel,
    Greedy,
    Reply,
    Restricted,
    RoughGreedy,
    RoughRestricted,
    Typical,
    Vote,
    best_label,
)
from sg_local.evaluate.calibrating import WAYS as PROBABLE
from sg_local.evaluate.calibrating import calibration, channel_means, label_means
from sg_local.evaluate.canaries import measured
from sg_local.evaluate.job import EvalQuestion, Evaluation, dev_questions, with_context
from sg_local.evaluate.journal import AnswerJournal, Ask
from sg_local.evaluate.retain import Memory, remember, retained
from sg_local.evaluate.systems import EACH, EXAMPLES, MODELS, SAME, SYSTEMS, TRAINED, System
from sg_local.prompts import Form
from sg_local.records import Answer, SgError
from sg_local.report.memory import Canaries
from sg_local.report.records import BASE, TUNED, RetainResult
from sg_local.run import ADAPTER

logger = logging.getLogger(__name__)

Questions = Sequence[EvalQuestion]
ASKED = ("greedy", "restricted")
"""Ways that ask prompts of their own; the other ways that have a form build on these."""


@dataclass(frozen=True)
class Settled:
    """What the rounds settled besides the answers: the base's form by system, and what tuning cost elsewhere.

    `calibrations` holds, for each system whose answers have probabilities, what makes them of its scores; `canaries`
    where planted secrets ended.
    """

    chosen: dict[str, str]
    retain: RetainResult | None
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    canaries: Canaries | None = None


@dataclass(frozen=True)
class Contest:
    """What a system finds when its turn comes: the journal, the test questions, the forms chosen before it.

    What makes probabilities of its scores is left here for the report.
    """

    journal: AnswerJournal
    questions: Questions
    chosen: dict[str, Form] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)

    @property
    def job(self) -> Evaluation:
        """The evaluation that the journal is kept for."""
        return self.journal.job

    @cached_property
    def dev(self) -> list[EvalQuestion]:
        """The rows that choose between prompt forms."""
        return dev_questions(self.job)

    def form_of(self, system: System) -> Form:
        """The one form in which a system answers that is not tried in each."""
        return self.chosen[system.on] if system.form == SAME else self.job.form


def answer_all(journal: AnswerJournal, questions: Questions, models: Sequence[str] = MODELS) -> Settled:
    """Every system's answers with the weights of these models, published in the journal."""
    job, contest, memories = journal.job, Contest(journal, questions), {}
    weights = _weights(job, models)
    answering = {model: [one for one in SYSTEMS if _answers(job, one, model)] for model in weights}
    journal.n_parts = sum(map(len, answering.values()))
    for model, adapter in weights.items():
        logger.info("weights: %s", "the base" if adapter is None else adapter)
        journal.use_adapter(adapter)
        for i, system in enumerate(answering[model]):
            journal.part += 1
            if i == 0:
                bind(contest, answering[model])
            answer(contest, system)
            if system.way in PROBABLE:
                form = contest.chosen.get(system.name, job.form)
                contest.calibrations[system.name] = calibration(journal, model, form, PROBABLE[system.way])
        if job.settings.retain and TUNED in models and model != EXAMPLES:
            memories[model] = remember(journal, model)
    journal.use_adapter(None)
    forms = {name: form.name for name, form in contest.chosen.items()}
    return Settled(forms, _retained(memories), contest.calibrations, measured(journal))


def _answers(job: Evaluation, system: System, model: str) -> bool:
    return system.model == model and system.answers(job.task, job.settings)


def _weights(job: Evaluation, models: Sequence[str]) -> dict[str, Path | None]:
    """Each set of weights with its adapter, in order. Raises SgError where one is asked for and not there."""
    adapter = job.run.path(ADAPTER)
    if TUNED in models and not adapter.exists():
        raise SgError(f"Run {job.run.name} has no adapter yet.", f"Make it with `train {job.run.typed}`.")
    adapters = {BASE: None, EXAMPLES: job.examples_adapter, TUNED: adapter}
    return {model: adapters[model] for model in models if model == BASE or adapters[model] is not None}


def _retained(memories: Mapping[str, Memory]) -> RetainResult | None:
    return retained(memories[BASE], memories[TUNED]) if memories else None


def bind(contest: Contest, systems: Sequence[System]) -> None:
    """Let the systems that ask the same prompts be answered together, so that these are read once.

    Forms are chosen first, so that one that asks as another does in its best form is among them.
    """
    job, tried = contest.job, [one for one in systems if one.form == EACH]
    for form in job.forms if len(job.forms) > 1 else ():
        _bind(contest, [(one.in_form(form.name).on_trial(), form) for one in tried])
    for one in tried:
        if one.way in ASKED:
            contest.chosen[one.name] = best_form(contest, one)
    for form in job.forms:
        alike = [one for one in systems if one.form == SAME and contest.chosen.get(one.on) == form]
        _bind(contest, [*((one.in_form(form.name), form) for one in tried), *((one, form) for one in alike)])
    _bind(contest, [(one, job.form) for one in systems if one.form == TRAINED])


def _bind(contest: Contest, group: Sequence[tuple[System, Form]]) -> None:
    """Those that ask of these, labels first: what they read, the others write from."""
    asks = [ask_of(contest.job, *one) for one in sorted(group, key=lambda one: one[0].way != "restricted")]
    contest.journal.bind(ask for ask in asks if ask is not None)


def ask_of(job: Evaluation, system: System, form: Form) -> Ask | None:
    """What a system asks of the model in a prompt form; None where it asks nothing, or other prompts."""
    settings = job.settings
    if system.way == "greedy":
        return Ask(system.name, system.title, (RoughGreedy if system.is_on_trial else Greedy)(form))
    if system.way == "restricted":
        return Ask(system.name, system.title, (RoughRestricted if system.is_on_trial else Restricted)(form))
    if system.way == "vote":
        way = Vote(form, settings.n_votes, settings.vote_temperature, settings.vote_top_k, job.gate)
        return Ask(f"{system.name}_raw", system.title, way)
    if system.way == "typical":
        way = Typical(form, settings.mbr, settings.mbr_temperature, settings.vote_top_k, job.gate)
        return Ask(f"{system.name}_raw", system.title, way)
    return None


def answer(contest: Contest, system: System) -> None:
    """One system's answers, published; where it is tried in each form, those of each form and the best form's again."""
    journal, way = contest.journal, WAYS[system.way]
    if system.form != EACH:
        form = contest.form_of(system)
        settled = replace(system, form=form.name if system.form else "")
        logger.info("system %s answers%s", system.name, f" in the {form.name} prompt" if system.form else "")
        journal.publish(settled, way(contest, system, form, contest.questions))
        return
    for form in contest.job.forms:
        one = system.in_form(form.name)
        journal.publish(one, way(contest, one, form, contest.questions))
    best = contest.chosen[system.name] = contest.chosen.get(system.name) or best_form(contest, system)
    logger.info("system %s answers in the %s prompt, the best of %d", system.name, best.name, len(contest.job.forms))
    replies = [Reply(row.text, row.scores) for row in journal.given[system.in_form(best.name).name]]
    journal.publish(replace(system, form=best.name), journal.derive(system.name, contest.questions, replies))


def best_form(contest: Contest, system: System) -> Form:
    """The form with the highest score on the dev rows; the first of equals. One form needs no rows."""
    forms, task = contest.job.forms, contest.job.task
    if len(forms) == 1:
        return forms[0]
    score = metrics.metrics_of(task.kind, task.labels)[task.metric]

    def total(form: Form) -> float:
        found = WAYS[system.way](contest, system.in_form(form.name).on_trial(), form, contest.dev)
        return sum(score(row.text, question.wanted) for row, question in zip(found, contest.dev, strict=True))

    return max(forms, key=total)


# The ways: how a system of the table answers questions in a prompt form


def greedy(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """Free text, the likeliest token each time."""
    return _asked(contest, system, form, questions)


def voted(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The majority of several samples; a row without a winner gets the greedy answer of the system it builds on."""
    return _drawn(contest, system, form, questions)


def typical(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The sample most like the others; a row without one gets the greedy answer of the system it builds on."""
    return _drawn(contest, system, form, questions)


def _asked(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    ask = ask_of(contest.job, system, form)
    assert ask is not None, system.way
    return contest.journal.ask(ask.name, ask.title, ask.way, questions)


def _drawn(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    raw = _asked(contest, system, form, questions)
    plain = contest.journal.given[system.on]
    replies = [
        Reply(vote.text, vote.scores) if vote.text else Reply(one.text) for vote, one in zip(raw, plain, strict=True)
    ]
    return contest.journal.derive(system.name, questions, replies)


def with_rows(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """Free text, with synthetic rows among the demonstrations."""
    return contest.journal.ask(system.name, system.title, Greedy(form), with_context(contest.job, questions))


def restricted(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The likeliest label."""
    return _asked(contest, system, form, questions)


def calibrated(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The restricted answers that it builds on decided anew, each label's mean score subtracted."""
    labels, means = contest.job.task.labels, label_means(contest.journal, system.model, form)
    replies = [Reply(best_label(labels, row.scores, means), row.scores) for row in contest.journal.given[system.on]]
    return contest.journal.derive(system.name, questions, replies)


def ensemble(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The calibrated answers that it builds on decided anew: each label's channel score added, its mean subtracted."""
    journal, labels, n_orders = contest.journal, contest.job.task.labels, contest.job.settings.ensemble
    channel = journal.ask("base_channel", system.title, ByChannel(n_orders), questions)
    direct = label_means(journal, system.model, form)
    means = [one + other for one, other in zip(direct, channel_means(journal), strict=True)]
    sums = [
        tuple(round(a + b, DIGITS) for a, b in zip(one.scores, other.scores, strict=True))
        for one, other in zip(journal.given[system.on], channel, strict=True)
    ]
    return journal.derive(system.name, questions, [Reply(best_label(labels, row, means), row) for row in sums])


def copied(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The input itself."""
    return contest.journal.derive(system.name, questions, [Reply(question.input) for question in questions])


def commonest(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """The test rows' own commonest label, which bounds every constant answer from above."""
    label = Counter(question.wanted[0] for question in questions).most_common(1)[0][0]
    return contest.journal.derive(system.name, questions, [Reply(label)] * len(questions))


def drawn(contest: Contest, system: System, form: Form, questions: Questions) -> list[Answer]:
    """A random output of the training rows."""
    rng = random.Random(contest.job.settings.seed)
    outputs = [pair.output for pair in contest.job.pairs or contest.job.task.examples]
    return contest.journal.derive(system.name, questions, [Reply(rng.choice(outputs)) for _ in questions])


WAYS: Mapping[str, Callable[[Contest, System, Form, Questions], list[Answer]]] = {
    "greedy": greedy,
    "vote": voted,
    "typical": typical,
    "with rows": with_rows,
    "restricted": restricted,
    "calibrated": calibrated,
    "ensemble": ensemble,
    "copy": copied,
    "commonest label": commonest,
    "drawn output": drawn,
}
