"""What a run keeps as it began, whatever the defaults have become since; first of all the layout of its prompts.

The base writes and labels rows in the layout that it finds natural (`OpenRun.form`); training, and all that asks the
tuned model, use the run's own (`train.layout`, prompts.leads). Runs that have none recorded are of the first one. How
many demonstrations the tuned model is shown (`train.shown`, prompts.shown) is kept by its adapter alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sg_local import prompts
from sg_local.backends.training.precision import F32
from sg_local.prompts import EVERY, LEAD, Form
from sg_local.run import ADAPTER

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun
    from sg_local.job.plan import Plan


BEGUN_WITH = (
    ("synth", "channel", False),
    ("synth", "n_per_draw", 1),
    ("filter", "evidence", "direct"),
    ("filter", "named_label", {"on": False}),
    ("train", "layout", LEAD),
    ("train", "layer_share", 1.0),
    ("train", "precision", F32),
    ("eval", "ensemble", 0),
)
"""Settings whose default a run keeps as it was when the run began: stage, name, and the default of runs without it."""


def begun_with(plan: Plan) -> dict[str, Any]:
    """What a new run records of them."""
    return {name: asdict(plan[stage])[name] for stage, name, _ in BEGUN_WITH}


def as_recorded(plan: Plan, record: Mapping[str, Any], *, anew: bool = False) -> Plan:
    """The plan of a run with the defaults that it began with, where nobody has set another value.

    What its preset says is a default, too, unless it was given `anew`: it may have said another thing, or nothing, when
    the run began.
    """
    for stage, name, before in BEGUN_WITH:
        if plan.source(f"{stage}.{name}") in ("default", "" if anew else plan.layers[0][0]):
            plan = plan.changed(stage, {name: record.get(name, before)})
    return plan


def training_form(job: OpenRun, base: Form | None = None) -> Form:
    """The form that rows train in, with as many demonstrations as use will show; `base` is the base's, if known."""
    settings = job.plan["train"]
    return _as_set(job.form if base is None else base, settings.layout, settings.shown)


def tuned_form(job: OpenRun, base: Form | None = None) -> Form:
    """The form that the run's adapter was trained in; where there is none yet, the one that it will be.

    `base` is the base's form, if known.
    """
    return _as_set(job.form if base is None else base, tuned_layout(job), _tuned_with(job, "shown", (EVERY,)))


def _as_set(form: Form, layout: str, shown: Sequence[str]) -> Form:
    return replace(prompts.in_layout(form, layout), n_shown=prompts.numbers(shown)[-1])


def asked_form(job: OpenRun, *, base: bool) -> Form:
    """The form in which the base or the tuned model is asked."""
    return job.form if base or job.alone else tuned_form(job)


def tuned_layout(job: OpenRun) -> str:
    """The layout of the run's adapter: its stamp says it, whatever has been set since."""
    layout: str = _tuned_with(job, "layout", LEAD)
    return layout


def _tuned_with(job: OpenRun, name: str, before: Any) -> Any:
    """A setting of training as the run's adapter was made with, `before` where its stamp lacks it; else as set."""
    stamp = job.run.stamp("train") if job.run.path(ADAPTER).exists() else None
    return getattr(job.plan["train"], name) if stamp is None else stamp["settings"].get(name, before)
