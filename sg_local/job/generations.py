"""Several trainings in a row: each model labels the rows anew for the next one, which begins from the base again.

The trainings before the last are kept inside the run, in `generation-1` and so on, and go on after a kill as the run's
own does. One whose labels agree less with the asked ones than those before did (filters.relabelling) ends the row: it
is then the run's own training, from the rows that it had. Each training has an equal share of `train.time_s`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from sg_local.filters import Kept
from sg_local.filters.relabelling import Relabelled, first_agreement, is_asked, relabelled, unlabelled
from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.job.policies import best_rows
from sg_local.job.trainings import go_on_from, train_beside
from sg_local.run import ADAPTER
from sg_local.words import counted

logger = logging.getLogger(__name__)


def n_trainings(job: OpenRun) -> int:
    """How many trainings in a row the settings ask for, where labels can come of them and be compared; else 1."""
    n: int = job.plan["train"].generations
    return n if n > 1 and job.task.labels and is_asked(job.run) else 1


def rows_of_last(job: OpenRun, tell: Listener) -> list[Kept]:
    """The rows that the run's own training is made from, after the trainings before it.

    Those that the filters kept, or the best of several sets (policies), where there is one training only (n_trainings).
    """
    (rows, folder), n = best_rows(job, tell), n_trainings(job)
    if n == 1:
        if folder:
            go_on_from(job, folder)
        if job.plan["train"].generations > 1 and job.task.labels:
            why = "no labels were asked for, so nothing can tell whether new ones are better"
            tell(Said(f"  {why}: training once"))
        return rows
    before = first_agreement(job.run, job.task)
    for generation in range(1, n):
        tell(Said(f"  training {generation} of up to {n}: {counted(len(rows), 'row')}"))
        found = _next(job, generation, rows, tell)
        logger.info("generation %d: kappa %s, before %s, %d rows", generation, found.kappa, before, len(found.rows))
        assert found.kappa is not None, "labels were asked for"
        said = _kappas(found.kappa, before)
        if before is not None and found.kappa < before:
            tell(Said(f"  its labels agree less with the asked ones than those before ({said}): the rows stay"))
            go_on_from(job, f"generation-{generation}")
            return rows
        tell(Said(f"  its labels agree with the asked ones ({said}): the next round trains on them"))
        rows, before = list(found.rows), found.kappa
    return rows


def _next(job: OpenRun, generation: int, rows: Sequence[Kept], tell: Listener) -> Relabelled:
    """Train on these rows beside the run's own training; the rows as that model labels them."""
    from sg_local import evaluate
    from sg_local.job.evaluate import evaluation_of

    work = train_beside(job, f"generation-{generation}", rows, tell)
    candidates = unlabelled(job.run)
    texts = [row.input for row in candidates]
    judge = replace(evaluation_of(job), run=work.run, form=work.form)
    scores = evaluate.label_scores(judge, work.run.path(ADAPTER), texts, lambda event: tell(Moved("train", event)))
    found = {row.id: one for row, one in zip(candidates, scores, strict=True)}
    return relabelled(job.run, job.task, job.plan["filter"], found)


def _kappas(now: float, before: float | None) -> str:
    said = f"kappa {now:.2f}"
    return said if before is None else f"{said}, before {before:.2f}"
