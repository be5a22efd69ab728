"""A run as the server has it: its task and form, what makes probabilities of its label scores, its adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sg_local.calibration import UNFITTED
from sg_local.job.answering import Asking, check_asking
from sg_local.job.calibrating import calibration_of
from sg_local.job.job import OpenRun
from sg_local.run import ADAPTER

if TYPE_CHECKING:
    from sg_local.serve import Service


def service_of(job: OpenRun, *, base: bool = False, free: bool = False, abstain: float = 0.0) -> Service:
    """The service of a run, or of its base; opens the engine. Labels less probable than `abstain` become "unsure".

    Raises SgError (usage) for a threshold on a task without labels, and without an adapter.
    """
    from sg_local import serve

    check_asking(Asking(base, "free" if free else "likeliest", abstain=abstain), job.task)
    tuned = not (base or job.alone)
    calibration = calibration_of(job, "likeliest", base=base) if job.task.labels else UNFITTED
    return serve.Service(
        name=job.run.name,
        chat=job.forms[0] if job.forms[0].template is not None else None,
        task=job.task,
        form=job.form,
        calibration=calibration,
        abstain=abstain,
        adapter=job.run.path(ADAPTER) if tuned else None,
    )
