"""What the rows tell of a task before anything is trained on them: whether this model knows it better than by chance.

Every input was written for a label, and the untuned model judges it without being told which. Where the two agree more
often than chance would have it, the model knows something of the task that training can use. Where that is not shown it
may still be so: the inputs may miss what they were written for. Only synthetic rows are looked at, never test rows.
"""

from __future__ import annotations

import logging

from sg_local.job.events import Listener, Prospect, Weighed
from sg_local.job.job import OpenRun
from sg_local.records import LABELLED, Candidate
from sg_local.run import CANDIDATES

logger = logging.getLogger(__name__)

FEWEST = 20
"""Rows of which agreement can be told at all."""
ENOUGH_RIGHT = 30
"""Labelled rows of a person's own that are worth training on whatever the others say."""


def prospect(job: OpenRun) -> Prospect | None:
    """What the rows of a job tell; None for a task of generation, and where too few labels were asked for."""
    from sg_local import review
    from sg_local.filters.labels import SURE, kappa, second_opinion

    candidates = job.run.read(CANDIDATES, Candidate)
    asked: dict[str, str | None] = {
        row.id: row.label_asked for row in candidates if row.label_asked is not None and row.source != LABELLED
    }
    if not job.task.labels or len(asked) < FEWEST:
        return None
    written = [row for row in candidates if row.id in asked]
    opinion = second_opinion(written, job.task.labels)
    by_both = job.plan["filter"].evidence == "both" and any(row.channel_scores for row in written)
    found = kappa(asked, opinion.labels)
    n_right = sum(row.source == LABELLED for row in candidates)
    n_apart = sum(opinion.labels.get(id) != label for id, label in asked.items())
    return Prospect(
        judge=opinion.name,
        n=len(asked),
        agreed=round(100 * (1 - n_apart / len(asked)), 1),
        kappa=round(found.kappa, 2),
        z=round(found.z, 1),
        at_least=round(100 * (1 - review.upper_bound(n_apart, len(asked))), 1),
        n_right=n_right,
        is_sure=found.z >= SURE,
        is_doubtful=found.z < SURE and n_right < ENOUGH_RIGHT,
        without_training="ensemble" if by_both else "calibrated",
    )


def weigh(job: OpenRun, tell: Listener) -> None:
    """Tell what the rows say before they train, where they can say anything. Nothing is stopped by it."""
    found = prospect(job)
    if found is not None:
        logger.info("run %s before training: %s", job.run.name, found)
        tell(Weighed(job.run.typed, found))
