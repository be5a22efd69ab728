"""How much score a file loses to the adapter on the run's own rows: what a type may be chosen by.

These rows validated the training, and for a task with labels there are inputs besides that were not trained on. They
are never test rows: a type chosen on these would be judged on the rows that chose it, and look better than it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from sg_local import metrics
from sg_local.export.job import Check, Export, unmeasured
from sg_local.export.rows import own_rows

if TYPE_CHECKING:
    from sg_local.export.gate import Reference

NO_ROWS = "there are no held-out rows"
WITHOUT = "answers without the examples"
LOST = "score lost on own rows"
N_DRAWS = 2000


def check_lost(
    job: Export, ours: Sequence[str], adapters: Sequence[str], tied: Collection[int] = ()
) -> tuple[Check, ...]:
    """Whether the file surely loses no more than it may: the far end of the paired 95 % interval counts.

    Where no right output is known, an answer that is not the adapter's counts as lost, but for those that are `tied`:
    they turn over by rounding alone, as often for the better. Empty where nothing is asked.
    """
    may_lose = job.settings.may_lose
    if may_lose is None:
        return ()
    rows = own_rows(job)
    if not rows:
        return (unmeasured(LOST, "there are no rows of the run's own"),)
    metric = metrics.metrics_of(job.task.kind, job.task.labels, job.task.schema)[job.task.metric]
    wanted = [(theirs if row.wanted is None else row.wanted,) for row, theirs in zip(rows, adapters, strict=True)]
    spared = {i for i in tied if rows[i].wanted is None}
    counted = [theirs if i in spared else text for i, (text, theirs) in enumerate(zip(ours, adapters, strict=True))]
    scores = [list(map(metric, texts, wanted)) for texts in (counted, adapters)]
    found = metrics.paired(scores[0], scores[1], metrics.resamples(len(rows), job.settings.seed, N_DRAWS))
    n_known = sum(row.wanted is not None for row in rows)
    told = f"{len(rows)} rows, {n_known} with outputs" + (f", {len(spared)} near ties" if spared else "")
    said = f"{-found.gain:.1f} points ({-found.high:.1f} to {-found.low:.1f}; {told})"
    return (Check(LOST, -found.low <= may_lose, said.replace("-0.0", "0.0"), f"surely <= {may_lose:g} points"),)


def told_without(reference: Reference) -> tuple[Check, ...]:
    """What leaving out the demonstrations costs, where they are left out: told, and no reason to refuse a file."""
    if reference.n_equal_without is None:
        return ()
    if not reference.answers:
        return (unmeasured(WITHOUT, NO_ROWS),)
    value = f"{reference.n_equal_without} of {len(reference.answers)} as with them"
    return (Check(WITHOUT, True, value, "for information"),)
