"""The stages of a job: skipped when finished with the same settings and inputs, timed, stamped, told of.

A stage that was finished with others stops with what differs, or is made again where `--redo` says so; what it had
made stays beside as NAME.before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sg_local.cli import work
from sg_local.cli.job import Job
from sg_local.cli.narration import Narrator
from sg_local.records import SgError
from sg_local.run import ADAPTER, ANSWERS, CANDIDATES, INPUTS, REPORT, TRAIN, VALID, VERDICTS, remove


@dataclass(frozen=True)
class Stage:
    """How a stage is run: its work, what `--redo` puts away, the settings and files that its stamp holds.

    `run` returns one clause about what came out. With `settings` None the room keeps its own stamp, and is called
    to say whether anything is left to do.
    """

    run: Callable[[Job, Narrator], str]
    makes: tuple[str, ...] = ()
    settings: Callable[[Job], Any] | None = None
    reads: tuple[str, ...] = ()


STAGES: dict[str, Stage] = {
    "synth": Stage(work.synth, (INPUTS, CANDIDATES, VERDICTS), work.synth_settings),
    "filter": Stage(work.filter_rows, (), work.filter_settings, (CANDIDATES,)),
    "train": Stage(work.train, ("adapter", ADAPTER, TRAIN, VALID)),
    "export": Stage(work.export, (), lambda job: job.plan["export"], (ADAPTER,)),
    "eval": Stage(work.evaluate, (REPORT, ANSWERS)),
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
    if stage.settings is not None and job.run.is_done(name, stage.settings(job), stage.reads):
        narrate.skip(name, "finished before")
        return
    narrate.begin(name)
    started = time.monotonic()
    note = stage.run(job, narrate)
    seconds = time.monotonic() - started
    if stage.settings is None and before is not None and job.run.stamp(name) == before:
        narrate.skip(name, "finished before")
        return
    if stage.settings is not None and job.run.stamp(name) is None:
        job.run.write_stamp(name, stage.settings(job), stage.reads, seconds=round(seconds, 1), note=note)
    narrate.end(name, seconds, note)


def put_away(job: Job, name: str) -> None:
    """Forget a finished stage; what it made stays beside as NAME.before until the next time."""
    job.run.clear_stage(name)
    for file in STAGES[name].makes:
        path = job.run.path(file)
        if path.exists():
            before = path.with_name(f"{path.name}.before")
            remove(before)
            path.rename(before)
