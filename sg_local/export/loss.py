"""How much score a file loses to the adapter on the run's own rows: what a type may be chosen by.

These rows validated the training, and for a task with labels there are inputs besides that were not trained on. They
are never test rows: a type chosen on these would be judged on the rows that chose it, and look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from sg_local import metrics
from sg_local.export.job import Check, Export, unmeasured
from sg_local.export.rows import own_rows

LOST = "score lost on own rows"
N_DRAWS = 2000


def check_lost(job: Export, ours: Sequence[str], adapters: Sequence[str]) -> tuple[Check, ...]:
    """Whether the file surely loses no more than it may: the far end of the paired 95 % interval counts.

    Where no right output is known, an answer that is not the adapter's counts as lost. Empty where nothing is asked.
    """
    may_lose, rows = job.settings.may_lose, own_rows(job)
    if may_lose is None:
        return ()
    if not rows:
        return (unmeasured(LOST, "there are no rows of the run's own"),)
    metric = metrics.metrics_of(job.task.kind, job.task.labels, job.task.schema)[job.task.metric]
    wanted = [(theirs if row.wanted is None else row.wanted,) for row, theirs in zip(rows, adapters, strict=True)]
    scores = [list(map(metric, texts, wanted)) for texts in (ours, adapters)]
    found = metrics.paired(scores[0], scores[1], metrics.resamples(len(rows), job.settings.seed, N_DRAWS))
    n_known = sum(row.wanted is not None for row in rows)
    said = f"{-found.gain:.1f} points ({-found.high:.1f} to {-found.low:.1f}; {len(rows)} rows, {n_known} with outputs)"
    return (Check(LOST, -found.low <= may_lose, said.replace("-0.0", "0.0"), f"surely <= {may_lose:g} points"),)
