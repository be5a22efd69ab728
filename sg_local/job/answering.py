"""How a run is asked: which weights answer, how an answer is chosen, and what tells two ways of asking apart.

A further way of choosing among labels is a word in LABELS and a case in `_way`.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sg_local.calibration import Calibration, mean_scores
from sg_local.evaluate.job import CONTENT_FREE
from sg_local.files import file_digest
from sg_local.job.calibrating import calibration_of
from sg_local.job.export import pairs_of
from sg_local.job.job import OpenRun
from sg_local.job.layouts import asked_form
from sg_local.job.required import needs, synth_again
from sg_local.records import SgError, Task, digest
from sg_local.run import ADAPTER, TRAIN, VALID

if TYPE_CHECKING:
    from sg_local.serve import Answerer, Way

Labels = Literal["likeliest", "calibrated", "ensemble", "free"]
LABELS: tuple[str, ...] = typing.get_args(Labels)
CENTRED = ("calibrated", "ensemble")
"""Ways that take each label's mean score over known inputs off."""
MOST_ORDERS = 3  # of the demonstrations, for labels by ensemble
FEWEST_KNOWN = 8  # inputs; the mean of fewer says more of them than of the label
UNKEPT = ("abstain", "known", "fitted")
"""Fields that change nothing of what is kept of an answer, its label and scores, or that are told apart elsewhere."""


@dataclass(frozen=True)
class Asking:
    """How a run is asked.

    `labels` says how a label is chosen: the `likeliest`; `calibrated`, when each label's mean score over synthetic
    inputs is taken off first; `ensemble`, when how likely each label makes the input is counted in, too; `free`, when
    the model writes, and is held to no schema either. `votes` samples elect the answer (0: none), as the evaluation's
    `tuned_vote` does. `probabilities` asks for every label's probability. `base` asks the untuned model. Where the
    likeliest label is less probable than `abstain`, the answer is "unsure" (0: never). `known` are the inputs over
    which centred ways take each label's mean score (none: the run's). `fitted`: probabilities have the temperature
    that the run's rows fit.
    """

    base: bool = False
    labels: Labels = "likeliest"
    votes: int = 0
    probabilities: bool = False
    abstain: float = 0.0
    known: tuple[str, ...] = ()
    fitted: bool = True

    @property
    def weighs(self) -> bool:
        """Whether the labels' probabilities matter, not only which is the likeliest."""
        return self.probabilities or bool(self.abstain)


def check_asking(asking: Asking, task: Task) -> None:
    """Raises SgError (usage) for what does not go together, or not with this task."""
    if asking.labels not in LABELS:
        hint = f"`labels` takes one of: {', '.join(LABELS)}."
        raise SgError(f"There is no way of choosing labels called {asking.labels!r}.", hint, exit_code=2)
    if not 0 <= asking.abstain <= 1:
        raise SgError(f"{asking.abstain:g} is not a probability.", "Give `abstain` from 0 to 1.", exit_code=2)
    if not task.labels and (asking.weighs or asking.labels in CENTRED):
        hint = "Its answers are free text: `votes` tells how sure the model is."
        raise SgError(f"Task {task.name} has no labels.", hint, exit_code=2)
    if asking.votes < 0 or asking.votes == 1:
        raise SgError(f"{asking.votes} votes have no majority.", "Give `votes` two or more.", exit_code=2)
    if asking.weighs and (asking.votes or asking.labels == "free"):
        hint = "Leave out `probabilities` and `abstain`, or let the labels be chosen by their scores."
        raise SgError("Written answers and votes have no label probabilities.", hint, exit_code=2)
    if asking.votes and asking.labels in CENTRED:
        raise SgError(
            f"Votes are written answers, not {asking.labels}.", "Give one of `votes` and `labels`.", exit_code=2
        )


def answerer(job: OpenRun, asking: Asking) -> tuple[Answerer, Way]:
    """The run's engine as it is asked; opens it. Raises SgError without an adapter, unless the base is asked."""
    from sg_local import serve

    check_asking(asking, job.task)
    check_known(job, asking)
    settings = job.serve_settings(restricted=asking.labels != "free")
    form = asked_form(job, base=asking.base)
    who = serve.Answerer(job.adapted(base=asking.base), job.task, form, settings)
    return who, _way(job, asking, who)


def _way(job: OpenRun, asking: Asking, who: Answerer) -> Way:
    from sg_local import filters, serve

    settings = job.plan["eval"]
    if asking.votes:
        gate = filters.OutputGate(job.task, job.plan["filter"])
        return serve.Voted(asking.votes, settings.vote_temperature, settings.vote_top_k, gate.elect)
    if not job.task.labels or asking.labels == "free":
        return serve.Written()
    if asking.labels == "ensemble":
        return _ensemble(job, asking, who)
    if asking.labels == "calibrated" and asking.known:
        return serve.Likeliest(mean_scores(_scores(who, serve.Likeliest(), asking.known)))
    return serve.Likeliest(_calibration(job, asking).means if asking.labels == "calibrated" else ())


def _ensemble(job: OpenRun, asking: Asking, who: Answerer) -> Way:
    """Direct and channel scores, in as many orders of the demonstrations as are evaluated, centred as there.

    Direct scores are centred on all known inputs, channel scores on the first ones.
    """
    from sg_local import serve
    from sg_local.channel import channel_scores, orders_of
    from sg_local.evaluate.calibrating import MOST_CHANNEL

    known = asking.known or _known(job)
    way = serve.Ensemble(orders_of(job.task.examples, _n_orders(job)))
    direct = mean_scores(_scores(who, serve.Likeliest(), known))
    first = [who.trimmed(text) for text in known[:MOST_CHANNEL]]
    channel = mean_scores(channel_scores(who.generator, way.channel(who), first))
    return replace(way, means=tuple(one + other for one, other in zip(direct, channel, strict=True)))


def _n_orders(job: OpenRun) -> int:
    """How many orders the run's `base_ensemble` averages over; three where it is not evaluated."""
    n_orders: int = job.plan["eval"].ensemble
    return n_orders or MOST_ORDERS


def check_known(job: OpenRun, asking: Asking) -> None:
    """Raises SgError (usage) where labels by ensemble would have too few inputs to centre on; opens no engine."""
    if asking.labels != "ensemble" or asking.known:
        return
    n = len(set(_known(job)).difference(CONTENT_FREE))
    wanted = job.plan["eval"].n_calibration
    if n < FEWEST_KNOWN and wanted < FEWEST_KNOWN:
        hint = f"Give `eval.n_calibration={FEWEST_KNOWN}` or more, or evaluate again with it."
        message = f"Labels by ensemble need {FEWEST_KNOWN} inputs to calibrate with, and this run takes {wanted}."
        raise SgError(message, hint, exit_code=2)
    if n < FEWEST_KNOWN:
        hint = f"Let the model write some: `{synth_again(job)}`. No training is needed."
        message = f"Labels by ensemble need a run's inputs, and run {job.run.name} has {n or 'none'}."
        raise SgError(message, hint, exit_code=2)


def temperature_of(job: OpenRun, asking: Asking) -> float:
    """What the labels' scores are divided by before they become probabilities; 1 where no probability matters.

    Labels by ensemble have none of their own, nor have those centred on inputs that are not the run's: their
    probabilities are not calibrated.
    """
    is_fitted = asking.fitted and not asking.known and asking.labels in ("likeliest", "calibrated")
    if not (job.task.labels and asking.weighs and is_fitted):
        return 1.0
    return _calibration(job, asking).temperature


def _calibration(job: OpenRun, asking: Asking) -> Calibration:
    return calibration_of(job, asking.labels, base=asking.base)


def _known(job: OpenRun) -> tuple[str, ...]:
    """The inputs that calibrate the evaluation; where the run has none, such that say nothing."""
    from sg_local import evaluate

    pairs = pairs_of(job, TRAIN) + pairs_of(job, VALID)
    return tuple(evaluate.calibration_inputs(job.run, job.task, job.plan["eval"], pairs))


def _scores(who: Answerer, way: Way, texts: Sequence[str]) -> list[tuple[float, ...]]:
    """Each label's score of each text, in nats. Raises SgError for a text that does not fit the context."""
    from sg_local import serve

    scores = []
    for answer in serve.answer_rows(who, way, map(serve.Question, texts), blank=True):
        if answer.failed is not None:
            raise answer.failed
        scores.append(answer.scores)
    return scores


def fingerprint(job: OpenRun, asking: Asking) -> str:
    """What an answer depends on besides its input, as a digest; nothing is loaded for it. Raises as `answerer`."""
    from sg_local import filters

    check_asking(asking, job.task)
    check_known(job, asking)
    untuned = asking.base or job.alone
    if not untuned:
        needs(job, ADAPTER, "train")
    made_with = {key: job.record.get(key) for key in ("task_digest", "form", "turn_end")}
    model = {key: job.record["model"].get(key) for key in ("digest", "template")}
    lengths, asked = asdict(job.serve_settings()), asdict(replace(asking, base=untuned, probabilities=False))
    settings = job.plan["eval"]
    voted = [settings.vote_temperature, settings.vote_top_k, filters.OutputGate(job.task, job.plan["filter"]).digest]
    calibrated = [settings.n_calibration, settings.seed]
    facts: list[Any] = [
        made_with,
        model,
        job.backend,
        None if untuned else file_digest(job.run.path(ADAPTER)),
        [lengths["n_ctx"], lengths["max_tokens"]],
        {key: value for key, value in asked.items() if key not in UNKEPT},
        voted if asking.votes else None,
        calibrated if asking.labels in CENTRED else None,
        *([asking.known] if asking.known else ()),
        *([["orders", _n_orders(job)]] if asking.labels == "ensemble" else ()),
    ]
    return digest(facts)
