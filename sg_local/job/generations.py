"""Several trainings in a row: each model labels the rows anew for the next one, which begins from the base again.

All together make as many passes over the rows as one would, `train.epochs`, the last of them twice as many as each
before it: a model that only labels rows need not be trained to the end. The trainings before the last are kept inside
the run, in `generation-1` and so on, and go on after a kill as the run's own does. One whose labels agree less with the
asked ones than those before did (filters.relabelling) ends the row: the rows stay, and the run's own training makes all
its passes over them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sg_local.filters import Kept
from sg_local.filters.relabelling import Relabelled, first_agreement, is_asked, relabelled, unlabelled
from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.job.policies import best_rows
from sg_local.job.train import n_rounds
from sg_local.job.trainings import go_on_from, train_beside
from sg_local.run import ADAPTER
from sg_local.words import counted

logger = logging.getLogger(__name__)


def n_trainings(job: OpenRun) -> int:
    """How many trainings in a row the settings ask for, where labels can come of them and be compared; else 1."""
    n = n_rounds(job)
    return n if n > 1 and not _why_once(job) else 1


def _why_once(job: OpenRun) -> str:
    """Why there is one training only, though the settings ask for more; empty where there is no reason."""
    if not is_asked(job.run):
        return "no labels were asked for, so nothing can tell whether new ones are better"
    if first_agreement(job.run, job.task) is None:
        return "no labels were scored, so nothing can tell whether new ones are better"
    return ""


def share_of_epochs(n: int, *, is_last: bool) -> float:
    """What part of `train.epochs` the last of so many trainings makes, or each one before it."""
    return (2 if is_last else 1) / (n + 1)


@dataclass(frozen=True)
class Last:
    """The run's own training, after those before it: its rows, its share of the epochs, and of the time."""

    rows: list[Kept]
    share: float = 1.0
    time_share: float = 1.0


def last_of(job: OpenRun, tell: Listener) -> Last:
    """Make all trainings but the run's own; what that is made from.

    Rows that the filters kept, or the best of several sets (policies), where there is one training only (n_trainings).
    """
    (rows, folder), n = best_rows(job, tell), n_rounds(job)
    why = _why_once(job) if n > 1 else ""
    if n == 1 or why:
        if folder:
            go_on_from(job, folder)
        if why:
            tell(Said(f"  {why}: training once"))
        return Last(rows)
    before = first_agreement(job.run, job.task)
    share, last = share_of_epochs(n, is_last=False), share_of_epochs(n, is_last=True)
    for generation in range(1, n):
        tell(Said(f"  training {generation} of up to {n}: {counted(len(rows), 'row')}"))
        found = _next(job, generation, rows, share, tell)
        logger.info("generation %d: kappa %s, before %s, %d rows", generation, found.kappa, before, len(found.rows))
        assert found.kappa is not None and before is not None, "labels were asked for, and scored"
        said = f"kappa {found.kappa:.2f}, before {before:.2f}"
        if found.kappa < before:
            tell(Said(f"  its labels agree less with the asked ones than those before ({said}): the rows stay"))
            if generation == 1 and folder:
                go_on_from(job, folder)
            return Last(rows, 1.0, 1 - generation * share)
        tell(Said(f"  its labels agree with the asked ones ({said}): the next round trains on them"))
        rows, before = list(found.rows), found.kappa
    tell(Said(f"  training {n} of {n}: {counted(len(rows), 'row')}"))
    return Last(rows, last, last)


def _next(job: OpenRun, generation: int, rows: Sequence[Kept], share: float, tell: Listener) -> Relabelled:
    """Train on these rows beside the run's own training, in this share of the epochs; the rows as that model labels
    them."""
    from sg_local import evaluate
    from sg_local.job.evaluate import evaluation_of

    work = train_beside(job, f"generation-{generation}", rows, tell, share)
    candidates = unlabelled(job.run)
    texts = [row.input for row in candidates]
    judge = replace(evaluation_of(job), run=work.run, form=work.form)
    scores = evaluate.label_scores(judge, work.run.path(ADAPTER), texts, lambda event: tell(Moved("train", event)))
    found = {row.id: one for row, one in zip(candidates, scores, strict=True)}
    return relabelled(job.run, job.task, job.plan["filter"], found)
