"""What a run must have before a stage can work in it: the files of the stages before, and its base as it was."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sg_local.backends import needs_model
from sg_local.files import file_digest
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun


def needs(job: OpenRun, name: str, stage: str) -> None:
    """Raises SgError when the file that an earlier stage makes is not there."""
    if not job.run.path(name).exists():
        hint = f"Run `{synth_again(job) if stage == 'synth' else f'{stage} {job.run.typed}'}` first."
        raise SgError(f"Run {job.run.name} has no {name} yet.", hint)


def synth_again(job: OpenRun) -> str:
    """The command that lets this run's rows be written; a task that is a file of one's own is called TASK."""
    from sg_local import tasks

    named = job.task.name if tasks.is_shipped(job.task.name) else "TASK"
    return f"synth {named} name={shlex.quote(job.run.name)}"


def check_base(job: OpenRun) -> None:
    """Raises SgError when the base model's file is gone or has changed since the run began."""
    if not needs_model(job.backend):
        return
    found = file_digest(job.base.path, job.plan["engine"].cache)
    if found is None:
        hint = "Put it back, or see `models ls`."
        raise SgError(f"The base model {job.base.path} of run {job.run.name} is gone.", hint)
    if found != job.record["model"]["digest"]:
        hint = "Put the file back, or use another `name` for a new run."
        raise SgError(f"The base model {job.base.path} has changed since run {job.run.name} began.", hint)
