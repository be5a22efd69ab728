"""The layout of a run's prompts: recorded when it begins, and kept by its adapter however settings change.

The base writes and labels rows in the layout that it finds natural (`OpenRun.form`); training, and all that asks the
tuned model, use the run's own (`train.layout`, prompts.leads). Runs that have none recorded are of the first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sg_local import prompts
from sg_local.prompts import LEAD, Form
from sg_local.run import ADAPTER

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun
    from sg_local.job.plan import Plan


def as_recorded(plan: Plan, record: Mapping[str, Any]) -> Plan:
    """The plan of a run, in the layout that it began with where nobody has set another."""
    if plan.source("train.layout") != "default":
        return plan
    return plan.changed("train", {"layout": record.get("layout", LEAD)})


def training_form(job: OpenRun) -> Form:
    """The form that rows train in."""
    return prompts.in_layout(job.form, job.plan["train"].layout)


def tuned_form(job: OpenRun) -> Form:
    """The form that the run's adapter was trained in; where there is none yet, the one that it will be."""
    return prompts.in_layout(job.form, tuned_layout(job))


def asked_form(job: OpenRun, *, base: bool) -> Form:
    """The form in which the base or the tuned model is asked."""
    return job.form if base or job.alone else tuned_form(job)


def tuned_layout(job: OpenRun) -> str:
    """The layout of the run's adapter: its stamp says it, whatever has been set since."""
    stamp = job.run.stamp("train") if job.run.path(ADAPTER).exists() else None
    layout: str = job.plan["train"].layout if stamp is None else stamp["settings"].get("layout", LEAD)
    return layout
