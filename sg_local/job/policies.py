"""The best of several training sets: the rows of each policy train an adapter, and the demonstrations say which stays.

No adapter trains on a demonstration, so each is a row with a right answer that nobody has trained on; it is scored with
the others shown. Test rows are never looked at. The folders `policy-NAME` inside the run hold the trainings.
Demonstrations are few: where two sets come out alike, chance decides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from sg_local.filters import Kept
from sg_local.job.events import Listener, Said
from sg_local.job.job import OpenRun
from sg_local.job.trainings import train_beside
from sg_local.records import NoRows
from sg_local.run import ADAPTER
from sg_local.words import counted

logger = logging.getLogger(__name__)

FILTERED = "filtered"
"""What the rows are called that the filters kept under their own policy."""
FEWEST_EXAMPLES = 2


def best_rows(job: OpenRun, tell: Listener) -> tuple[list[Kept], str]:
    """The rows whose adapter finds the demonstrations likeliest, and the folder of its training.

    Those that the filters kept, and no folder, where `train.policies` names no other rows. Raises NoRows where no set
    has enough.
    """
    sets = _sets(job)
    if len(sets) == 1 or len(job.task.examples) < FEWEST_EXAMPLES:
        if job.plan["train"].policies:
            why = "the policies keep the same rows" if len(sets) == 1 else "one example cannot tell which rows are best"
            tell(Said(f"  {why}: training once"))
        return sets[FILTERED], ""
    scores = {name: score for name, rows in sets.items() if (score := _score(job, name, rows, tell)) is not None}
    if not scores:
        return sets[FILTERED], ""
    best = max(scores, key=lambda name: scores[name])
    logger.info("policies by the likelihood of the examples: %s; kept %s", scores, best)
    tell(Said(f"  the examples are likeliest after training on the rows of {best}: these are kept"))
    return sets[best], _folder(best)


def _sets(job: OpenRun) -> dict[str, list[Kept]]:
    """The rows of the filters and of each policy to try, by name, but for a policy that keeps the same as another."""
    from sg_local import filters
    from sg_local.filters.policies import rows_under

    found = {FILTERED: filters.kept_rows(job.run)}
    for policy in job.plan["train"].policies:
        rows = rows_under(job.run, job.task, replace(job.plan["filter"], policy=policy))
        if _pairs(rows) not in map(_pairs, found.values()):
            found[policy] = rows
    return found


def _pairs(rows: list[Kept]) -> Mapping[str, object]:
    return {row.id: row.pair for row in rows}


def _score(job: OpenRun, name: str, rows: list[Kept], tell: Listener) -> float | None:
    """How likely the demonstrations are to an adapter that these rows trained, in nats a token; None for too few."""
    from sg_local import evaluate
    from sg_local.job.evaluate import evaluation_of

    tell(Said(f"  training on the rows of {name}: {counted(len(rows), 'row')}"))
    try:
        work = train_beside(job, _folder(name), rows, tell)
    except NoRows as error:
        tell(Said(f"  {error.message}"))
        return None
    score = evaluate.likelihood(replace(evaluation_of(job), form=work.form), work.run.path(ADAPTER), job.task.examples)
    tell(Said(f"  {score:.3f} nats a token for the examples, each beside the others"))
    return score


def _folder(name: str) -> str:
    return f"policy-{name}"
