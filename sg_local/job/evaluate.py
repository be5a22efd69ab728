"""The evaluation stage of a job: what it is given, and the scores told to the exported files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sg_local.backends import makes_weights
from sg_local.job.endpoint import tell_endpoint
from sg_local.job.events import Listener, Moved
from sg_local.job.export import export_job, pairs_of
from sg_local.job.job import OpenRun
from sg_local.job.layouts import asked_form
from sg_local.job.required import check_base
from sg_local.job.shipping import score_exported
from sg_local.job.train import train_canaries, train_examples
from sg_local.run import REPORT, TRAIN, VALID

UNMEASURED = "There are no test rows, so nothing was measured."

if TYPE_CHECKING:
    from pathlib import Path

    from sg_local.backends import Generator
    from sg_local.evaluate import BaseScores, Evaluation


def is_measurable(job: OpenRun) -> bool:
    """Whether there is a row to test on. Without one, a report of earlier test rows gives way: it is not this run's."""
    if not job.task.tests and job.run.path(REPORT).exists():
        job.run.path(REPORT).rename(job.run.path(f"{REPORT}.before"))
        job.run.clear_stage("eval")
    return bool(job.task.tests)


def evaluate(job: OpenRun, tell: Listener) -> str:
    """The test rows, by every system."""
    from sg_local import evaluate as room
    from sg_local.job.calibrating import calibration_of

    tell_endpoint(job.generator, tell, "; tuned models answer on this machine")
    examples_adapter = train_examples(job, tell) if job.plan["eval"].tuned_examples else None
    planted = train_canaries(job, tell) if job.plan["eval"].canaries > 0 else None
    work = evaluation_of(job, examples_adapter)
    if planted is not None:
        work = replace(work, canary_adapter=planted[0], canaries=planted[1])
    report = room.evaluate(work, lambda event: tell(Moved("eval", event)))
    for way in (room.LIKELIEST, room.CALIBRATED) if job.task.labels else ():
        calibration_of(job, way, base=False, held=True)
    _tell_the_files(job, tell)
    return f"base {report.base.score:.1f}, tuned {report.tuned.score:.1f}"


def evaluate_base(job: OpenRun, tell: Listener) -> BaseScores:
    """The test rows, by every system that needs no adapter; nothing is written."""
    from sg_local import evaluate as room

    check_base(job)
    tell_endpoint(job.generator, tell)
    return room.evaluate_base(evaluation_of(job), lambda event: tell(Moved("eval", event)))


def evaluation_of(job: OpenRun, examples_adapter: Path | None = None, generator: Generator | None = None) -> Evaluation:
    """The evaluation room's view of a job; `generator` answers in place of the base's engine."""
    from sg_local import evaluate as room
    from sg_local import filters

    gate, valid = filters.OutputGate(job.task, job.plan["filter"]), pairs_of(job, VALID)
    return room.Evaluation(
        run=job.run,
        task=job.task,
        form=asked_form(job, base=False),
        forms=job.forms,
        generator=job.generator if generator is None else generator,
        settings=job.plan["eval"],
        pairs=pairs_of(job, TRAIN) + valid,
        elect=gate.elect,
        gate=gate.digest,
        examples_adapter=examples_adapter,
        valid=valid,
        engine_ctx=job.plan["engine"].n_ctx,
    )


def _tell_the_files(job: OpenRun, tell: Listener) -> None:
    """The scores go into the exported files and their card; then the files stay as they are, and answer, too."""
    if makes_weights(job.trainer):
        from sg_local import export as room

        room.add_scores(export_job(job))
        score_exported(job, tell, "eval")
