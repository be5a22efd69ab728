"""What makes probabilities of a run's label scores: fitted when first needed, kept in calibration.json with a stamp.

`predict`, `predict_proba`, `serve` and `eval` all take it from here, so that they give the same numbers. It is fitted
anew when the adapter, the rows or the prompt have changed. A run that another process holds, or that cannot be written
to, is left as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import Any

from sg_local.calibration import LESS_SURE, SURER, Calibration
from sg_local.job.evaluate import evaluation_of
from sg_local.job.job import OpenRun
from sg_local.records import MadeOtherwise, SgError, digest, from_dict
from sg_local.report.records import BASE, TUNED
from sg_local.run import ADAPTER, CALIBRATION, CANDIDATES, VALID, read_json

logger = logging.getLogger(__name__)

STAGE = "calibrate"
READS = (ADAPTER, CANDIDATES, VALID)

Kept = dict[str, dict[str, Calibration]]
"""By model and way of choosing a label."""


def calibration_of(job: OpenRun, way: str, *, base: bool, held: bool = False) -> Calibration:
    """What makes probabilities of a task's label scores, the labels being chosen in this way.

    Opens the engine where it was not fitted before, with the adapter on or off as it is asked. `held` says that this
    process holds the run's lock. Raises SgError without an adapter, unless the base is asked.
    """
    model = BASE if base or job.alone else TUNED
    kept = read_kept(job)
    if way not in kept.get(model, {}):
        kept[model] = {**kept.get(model, {}), way: _fit(job, model, way)}
        keep(job, kept, held=held)
    return kept[model][way]


def _fit(job: OpenRun, model: str, way: str) -> Calibration:
    from sg_local import evaluate

    job.adapted(base=model == BASE)
    found = evaluate.fit(evaluation_of(job), model, way)
    logger.info("run %s: probabilities of the %s model, %s labels: %s", job.run.name, model, way, found)
    return found


def read_kept(job: OpenRun) -> Kept:
    """What was fitted on the adapter, the rows and the prompt as they are; empty where nothing was."""
    with contextlib.suppress(MadeOtherwise):
        if job.run.is_done(STAGE, fitted_with(job), READS):
            data = read_json(job.run.path(CALIBRATION))
            return {
                model: {way: from_dict(Calibration, one) for way, one in ways.items()}
                for model, ways in data["models"].items()
            }
    return {}


def keep(job: OpenRun, kept: Kept, *, held: bool = False) -> None:
    """Write it beside the adapter, and the stamp behind it; not what was fitted in another form than the run's own."""
    if job.alone or not job.run.exists() or job.record.get("form") != job.run.settings.get("form"):
        return
    models = {model: {way: dataclasses.asdict(one) for way, one in ways.items()} for model, ways in kept.items()}
    with contextlib.suppress(SgError), contextlib.nullcontext() if held else job.run.lock():
        job.run.write_json(CALIBRATION, {"labels": job.task.labels, "models": models})
        job.run.write_stamp(STAGE, fitted_with(job), READS, (CALIBRATION,))


def fitted_with(job: OpenRun) -> dict[str, Any]:
    """What a fit depends on besides the files that it reads."""
    settings = job.plan["eval"]
    return {
        "prior": [SURER, LESS_SURE],
        "task": job.record.get("task_digest"),
        "base": job.record["model"].get("digest"),
        "form": [job.record.get("form"), job.record.get("turn_end"), job.record["model"].get("template")],
        "room": [job.n_ctx, settings.max_tokens],
        "rows": [settings.n_calibration, settings.seed],
        "tests": digest([dataclasses.asdict(row) for row in job.task.tests]),
    }
