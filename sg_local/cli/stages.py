"""The stages of a job: skipped when finished with the same settings and inputs, timed, stamped, told of.

A stage that was finished with others stops with what differs, or is made again where `--redo` says so; what it had
made stays beside as NAME.before.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sg_local.cli import evaluate, train, work
from sg_local.cli.job import Job
from sg_local.cli.narration import Narrator
from sg_local.records import SgError, digest
from sg_local.run import (
    ADAPTER,
    ANSWERS,
    CANDIDATES,
    INPUTS,
    REPORT,
    TRAIN,
    VALID,
    VERDICTS,
    file_digest,
    read_json,
    remove,
)


@dataclass(frozen=True)
class Stage:
    """How a stage is run: its work, what `--redo` puts away, the settings and files that its stamp holds.

    `run` returns one clause about what came out. With `settings` None the room keeps its own stamp, which it can only
    compare with an engine loaded; a seal over what it reads spares that where nothing has changed.
    """

    run: Callable[[Job, Narrator], str]
    makes: tuple[str, ...] = ()
    settings: Callable[[Job], Any] | None = None
    reads: tuple[str, ...] = ()


STAGES: dict[str, Stage] = {
    "synth": Stage(work.synth, (INPUTS, CANDIDATES, VERDICTS), work.synth_settings),
    "filter": Stage(work.filter_rows, (), work.filter_settings, (CANDIDATES,)),
    "train": Stage(train.train, ("adapter", ADAPTER, TRAIN, VALID), None, (CANDIDATES, VERDICTS)),
    "export": Stage(work.export, (), lambda job: job.plan["export"], (ADAPTER,)),
    "eval": Stage(evaluate.evaluate, (REPORT, ANSWERS), None, (CANDIDATES, VERDICTS, ADAPTER)),
}


def perform(job: Job, name: str, narrate: Narrator, *, again: bool = False) -> None:
    """Run one stage unless it is finished. `again` makes it once more in any case."""
    if again:
        put_away(job, name)
    try:
        _perform(job, name, narrate)
    except SgError:
        made_otherwise = job.run.stamp(name) is not None
        if again or not (job.redo and made_otherwise):
            raise
        put_away(job, name)
        _perform(job, name, narrate)


def _perform(job: Job, name: str, narrate: Narrator) -> None:
    stage, before = STAGES[name], job.run.stamp(name)
    if _is_done(job, name):
        narrate.skip(name, "finished before")
        return
    narrate.begin(name)
    started = time.monotonic()
    note = stage.run(job, narrate)
    seconds = time.monotonic() - started
    if stage.settings is None:
        job.run.write_json(f"stages/{name}.seal", seal(job, name))
        if before is not None and job.run.stamp(name) == before:
            narrate.skip(name, "finished before")
            return
    elif job.run.stamp(name) is None:
        job.run.write_stamp(name, stage.settings(job), stage.reads, seconds=round(seconds, 1), note=note)
    narrate.end(name, seconds, note)


def _is_done(job: Job, name: str) -> bool:
    """True when the stage is finished with these settings and inputs; SgError when finished with others."""
    stage = STAGES[name]
    if stage.settings is not None:
        return job.run.is_done(name, stage.settings(job), stage.reads)
    path = job.run.path(f"stages/{name}.seal")
    sealed = path.exists() and job.run.stamp(name) is not None and read_json(path) == seal(job, name)
    return sealed and all(job.run.path(file).exists() for file in stage.makes)


def seal(job: Job, name: str) -> dict[str, Any]:
    """Everything that the stage's result depends on, as digests."""
    return {
        "settings": digest(job.plan[name]),
        "task": digest(dataclasses.asdict(job.task)),
        "base": [str(job.base.path), job.run.settings["model"]["digest"], job.form_name, job.seed],
        "engines": [job.backend, job.trainer],
        "reads": {file: file_digest(job.run.path(file)) for file in STAGES[name].reads},
        "made": {file: file_digest(job.run.path(file)) for file in STAGES[name].makes},
    }


def forget(job: Job, name: str) -> None:
    """Forget that a stage is finished; what it made stays."""
    job.run.clear_stage(name)
    remove(job.run.path(f"stages/{name}.seal"))


def put_away(job: Job, name: str) -> None:
    """Forget a finished stage; what it made stays beside as NAME.before until the next time."""
    forget(job, name)
    for file in STAGES[name].makes:
        path = job.run.path(file)
        if path.exists():
            before = path.with_name(f"{path.name}.before")
            remove(before)
            path.rename(before)
