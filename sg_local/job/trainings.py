"""Trainings beside the run's own, each in a folder of its own inside the run, which go on after a kill as that does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from sg_local.files import artefact
from sg_local.filters import Kept
from sg_local.job.events import Listener, Moved
from sg_local.job.job import OpenRun
from sg_local.job.train import train_anew, training_job
from sg_local.run import Run
from sg_local.training import WORK, Training


def train_beside(job: OpenRun, name: str, rows: Sequence[Kept], tell: Listener, share: float = 1.0) -> Training:
    """The training of one adapter on these rows, in the run's folder of this name, once it is done.

    `share` is its part of the epochs. Lets go of the engine. Raises NoRows for too few.
    """
    from sg_local.backends import open_trainer

    trainer = open_trainer(job.trainer, job.base.path)
    work = training_job(job, trainer, lambda sets: job.close(), rows, share)
    # Its time is `limit_s` alone: what is left of a job's time is another at every try, and would unmake it.
    alone = replace(work.settings, generations=1, policies=(), epochs=work.settings.epochs * share, time_s=None)
    work = replace(work, run=Run(job.run.path(name)), settings=alone, share=1.0, facts={})
    train_anew(work, lambda step: tell(Moved("train", step)))
    return work


def go_on_from(job: OpenRun, name: str) -> None:
    """Let the run's own training go on from that of a folder, which is the same work and finished."""
    mine, theirs = job.run.path(WORK), job.run.path(name) / WORK
    if job.plan["train"].n_seeds == 1 and theirs.exists() and not mine.exists():
        with artefact(mine) as partial:
            shutil.copytree(theirs, partial)
