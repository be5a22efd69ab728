"""The stages of a job: skipped when finished with the same settings and inputs, timed, stamped, told of.

A stage that was finished with others stops with what differs, or is made again where `redo` says so (job.beside).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sg_local import limits
from sg_local.backends import machine, makes_weights
from sg_local.files import file_digest, remove, replacing
from sg_local.job import evaluate, export, forecast, synth, train
from sg_local.job import filter as filtering
from sg_local.job.beside import put_away
from sg_local.job.budget import fit_time
from sg_local.job.events import Began, Ended, Expected, Forecast, Listener, Said, Skipped, Waiting
from sg_local.job.job import OpenRun
from sg_local.job.meter import Meter
from sg_local.job.prospect import weigh
from sg_local.job.required import check_base, needs
from sg_local.records import GATE_NOT_MET, SgError, digest
from sg_local.run import (
    ADAPTER,
    ANSWERS,
    CANDIDATES,
    INPUTS,
    NOTES,
    REPORT,
    TRAIN,
    VALID,
    VERDICTS,
    MadeOtherwise,
    read_json,
)

logger = logging.getLogger(__name__)

BEFORE_REVIEW, AFTER_REVIEW = ("synth", "filter"), ("train", "export", "eval")
ALL = (*BEFORE_REVIEW, *AFTER_REVIEW)


@dataclass(frozen=True)
class Stage:
    """How a stage is run: its work, what `redo` puts away, the settings and files that its stamp holds.

    `lasting` are files that it makes and nothing adds to afterwards; `is_whole` looks into one that others add to.

    `run` returns one clause about what came out. `needs` is a file and the stage that makes it. With `settings` None
    the room keeps its own stamp, which it can only compare with an engine loaded; a seal over what it reads spares
    that where nothing has changed.
    """

    run: Callable[[OpenRun, Listener], str]
    makes: tuple[str, ...] = ()
    settings: Callable[[OpenRun], Any] | None = None
    reads: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    needs: tuple[str, str] | None = None
    has_model: bool = True
    is_whole: Callable[[OpenRun], bool] = lambda job: True


STAGES: dict[str, Stage] = {
    "synth": Stage(
        synth.synth, (INPUTS, CANDIDATES, VERDICTS, NOTES), synth.synth_settings, lasting=(INPUTS, CANDIDATES)
    ),
    "filter": Stage(
        filtering.filter_rows,
        settings=filtering.filter_settings,
        reads=(CANDIDATES,),
        needs=(CANDIDATES, "synth"),
        has_model=False,
        is_whole=filtering.all_judged,
    ),
    "train": Stage(
        train.train,
        ("adapter", ADAPTER, TRAIN, VALID),
        reads=(CANDIDATES, VERDICTS),
        needs=(CANDIDATES, "synth"),
    ),
    "export": Stage(export.export, settings=lambda job: job.plan["export"], reads=(ADAPTER,), needs=(ADAPTER, "train")),
    "eval": Stage(
        evaluate.evaluate, (REPORT, ANSWERS), reads=(CANDIDATES, VERDICTS, ADAPTER), needs=(ADAPTER, "train")
    ),
}


def perform_all(job: OpenRun, tell: Listener, stages: tuple[str, ...] = ALL) -> SgError | None:
    """Several stages one after the other.

    Returns what the export said where a fused file did not pass its gate: the adapter is evaluated all the same.
    """
    look_ahead(job, stages)
    expect(job, stages, tell)
    refused = None
    for stage in stages:
        if stage == "train" and "filter" in stages and "train" in to_come(job, ("train",)):
            weigh(job, tell)
        if stage == "export" and not makes_weights(job.trainer):
            logger.info("stage export skipped: the %s trainer makes no weights", job.trainer)
            tell(Skipped(stage, f"the {job.trainer} trainer makes no weights"))
            continue
        if stage == "eval" and not evaluate.is_measurable(job):
            logger.info("stage eval skipped: no test rows")
            tell(Skipped(stage, "skipped: the task has no test rows (add some to the task, or give `tests`)"))
            continue
        try:
            perform(job, stage, tell)
        except SgError as error:
            if stage != "export" or error.exit_code != GATE_NOT_MET:
                raise
            refused = error
            logger.info("the export did not pass its gate; the evaluation continues with the adapter")
            tell(Skipped(stage, f"{error.message} The evaluation continues with the adapter."))
    return refused


def perform(job: OpenRun, name: str, tell: Listener, *, again: bool = False) -> None:
    """Run one stage unless it is finished. `again` makes it once more in any case.

    Whatever can be refused is refused before anything is put away.
    """
    check(job, name)
    if STAGES[name].has_model and (again or name in to_come(job, (name,))):
        job.look_ahead((name,))
    while job.said:
        tell(Said(job.said.pop(0)))
    try:
        if not again:
            _perform(job, name, tell)
    except MadeOtherwise as error:
        if not job.redo:
            raise
        logger.info("stage %s of run %s is made again: %s", name, job.run.name, error.message)
        tell(Said(f"{name} runs again: {error.message}"))
        again = True
    if again:
        with put_away(job.run, name, STAGES[name].makes):
            _perform(job, name, tell)


def look_ahead(job: OpenRun, stages: tuple[str, ...] = ALL) -> None:
    """Raise the first SgError that one of these stages would end in, where it is not finished: now, not hours later."""
    ahead = to_come(job, stages)
    if ahead:
        check_base(job)
        job.look_ahead(ahead)


def expect(job: OpenRun, stages: tuple[str, ...], tell: Listener) -> None:
    """Tell what the stages to come will take, and keep it in run.json."""
    ahead = to_come(job, stages)
    fit_time(job, ahead)
    found = forecast.forecast(job, ahead)
    if found is not None and found.stages:
        forecast.keep(job, found)
        tell(Expected(found))


def foreseen(job: OpenRun) -> Forecast | None:
    """What the stages to come will take, within the job's budget; nothing is written."""
    look_ahead(job)
    with limits.within(job.budget.ram_bytes):
        ahead = to_come(job, ALL)
        fit_time(job, ahead)
        return forecast.forecast(job, ahead)


def to_come(job: OpenRun, stages: tuple[str, ...]) -> list[str]:
    """Those of the stages that will work. One that was made otherwise refuses by itself, unless `redo` lets it."""
    found = []
    for name in stages:
        possible = {"export": makes_weights(job.trainer), "eval": bool(job.task.tests)}.get(name, True)
        try:
            done = _is_done(job, name)
        except MadeOtherwise:
            done = not job.redo
        if possible and not done:
            found.append(name)
    return found


def check(job: OpenRun, name: str) -> None:
    """Raises SgError where the stage cannot begin: an earlier one is missing, the base is gone or another."""
    stage = STAGES[name]
    if stage.has_model:
        check_base(job)
    if stage.needs is not None:
        needs(job, *stage.needs)


EARLIER = ("generation-*", "policy-*")
"""Folders of trainings that a run's own stands on."""


def _perform(job: OpenRun, name: str, tell: Listener) -> None:
    if damaged := job.run.damaged(name):
        tell(Said(f"{name}: {' and '.join(damaged)} was damaged or deleted: the stage continues from what is intact."))
    stage, before = STAGES[name], job.run.stamp(name)
    if _is_done(job, name):
        logger.info("stage %s of run %s skipped: finished with settings %s", name, job.run.name, job.plan.digest(name))
        tell(Skipped(name, "already finished"))
        job.worked = True
        return
    tell(Began(name))
    job.hear = lambda what: tell(Waiting(what))
    logger.info("stage %s of run %s begins, settings %s", name, job.run.name, job.plan.digest(name))
    before_it = [path for kind in EARLIER for path in job.run.root.glob(kind)] if name == "train" else []
    begun = [*(job.run.path(file) for file in stage.makes), *before_it]
    meter, whole = Meter(), not any(path.exists() for path in begun)
    try:
        with still_sealed(job, "eval") if name == "export" else contextlib.nullcontext():
            note = stage.run(job, tell)
    except (MemoryError, RuntimeError, OSError) as error:
        if not machine.is_out_of_memory(error):
            raise
        from sg_local.job import resources  # loads NumPy

        raise resources.ran_out(job, name) from error
    took = meter.read()
    job.worked = True
    logger.info("stage %s of run %s ended in %.1f s: %s", name, job.run.name, took.seconds, note)
    if stage.settings is None:
        job.run.write_json(f"stages/{name}.seal", seal(job, name))
        if not damaged and before is not None and job.run.stamp(name) == before:
            tell(Skipped(name, "already finished"))
            return
    elif damaged or job.run.stamp(name) is None:
        job.run.write_stamp(
            name, stage.settings(job), stage.reads, stage.lasting, seconds=round(took.seconds, 1), note=note
        )
    if not damaged:  # what repairing took says nothing of the stage
        forecast.note(job, name, took, whole=whole)
    machine.give_back_memory()
    tell(Ended(name, took.seconds, note))


def _is_done(job: OpenRun, name: str) -> bool:
    """True when the stage is finished with these settings and inputs; MadeOtherwise when finished with others."""
    stage = STAGES[name]
    if stage.settings is not None:
        return job.run.is_done(name, stage.settings(job), stage.reads) and stage.is_whole(job)
    path = job.run.path(f"stages/{name}.seal")
    sealed = path.exists() and job.run.stamp(name) is not None and read_json(path) == seal(job, name)
    return sealed and all(job.run.path(file).exists() for file in stage.makes)


def seal(job: OpenRun, name: str) -> dict[str, Any]:
    """Everything that the stage's result depends on, as digests."""
    return {
        "settings": job.plan.digest(name),
        "task": digest(dataclasses.asdict(job.task)),
        "base": [str(job.base.path), job.record["model"]["digest"], job.form_name, job.seed],
        "engines": [job.backend, job.trainer],
        "reads": {file: file_digest(job.run.path(file)) for file in STAGES[name].reads},
        "made": {file: file_digest(job.run.path(file)) for file in STAGES[name].makes},
    }


@contextlib.contextmanager
def still_sealed(job: OpenRun, name: str) -> Iterator[None]:
    """A finished stage that keeps its own stamp stays finished while others add to what it made."""
    done = _is_done(job, name)
    try:
        yield
    finally:
        if done:
            job.run.write_json(f"stages/{name}.seal", seal(job, name))


@contextlib.contextmanager
def forgotten(job: OpenRun, name: str) -> Iterator[None]:
    """Forget that a stage is finished, while it is made anew over what it made; a failure leaves all as it was."""
    stamps = [job.run.path(f"stages/{name}.{kind}") for kind in ("json", "seal")]
    made = [job.run.path(file) for file in STAGES[name].makes]
    kept = {path: path.read_bytes() for path in (*made, *stamps) if path.is_file()}
    for path in stamps:
        remove(path)
    try:
        yield
    except Exception:
        for path, data in kept.items():
            with replacing(path) as file:
                file.write(data)
        raise
