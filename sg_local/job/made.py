"""The task as a run has it: which demonstrations it shows, the labels that its instruction names.

run.json keeps it as made, and as `task_written` the digest of the task as it was written, by which the file is known
again. Runs of 0.1.0 lack that: their task is one of a few forms of the file's (tasks.as_made).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sg_local import tasks
from sg_local.job import presets
from sg_local.records import Segment, Task, from_dict
from sg_local.words import counted

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun


def make_task(job: OpenRun, preset: str) -> None:
    """Give a run that begins its task as it is to be shown; says so where demonstrations are left out."""
    written = job.task
    published = preset == presets.AS_PUBLISHED
    if len(written.examples) > tasks.FEW:
        n = tasks.FEW if published else _n_fitting(job)
        job.task = tasks.drawn(written, n)
        if (n_left := len(written.examples) - len(job.task.examples)) > 0:
            why = "as published" if published else f"half of a context of {job.room} tokens"
            shown = counted(len(job.task.examples), "example", "are")
            job.said.append(f"{shown} shown in every prompt, {n_left} are not: {why} holds no more.")
    if not published:
        job.task = tasks.with_labels_named(job.task)


def _n_fitting(job: OpenRun) -> int:
    def n_tokens(text: str) -> int:
        return len(job.generator.tokenize((Segment(text, trusted=False),), bos=False))

    return tasks.n_fitting(job.task, n_tokens, job.room)


def task_of(data: dict[str, Any], task: Task | None) -> Task:
    """The task of a run with this run.json; with `task`, the file read anew, another one where the file has changed."""
    kept = from_dict(Task, data["task"])
    if task is None:
        return kept
    if "task_written" not in data:
        return tasks.as_made(task, data["task_digest"])
    return dataclasses.replace(kept, tests=task.tests) if task.digest == data["task_written"] else task
