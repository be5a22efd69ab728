"""Labels that a prompt would never name: three demonstrations cannot show more than three.

A run is begun with the task as `with_labels_named` gives it, and keeps it so. A run begun before (0.1.0) or as
published (`preset=paper`) has the task as written.
"""

from __future__ import annotations

import dataclasses

from sg_local.records import Task
from sg_local.splitting import holds


def unnamed_labels(task: Task) -> tuple[str, ...]:
    """The labels that stand neither in the instruction, as whole words, nor under a demonstration."""
    shown = {pair.output for pair in task.examples}
    return tuple(label for label in task.labels if label not in shown and not holds(task.instruction, label))


def with_labels_named(task: Task) -> Task:
    """The task, its instruction ended with one line of all labels where the prompt would not name each of them."""
    if not unnamed_labels(task):
        return task
    line = f"Answer with one of these: {', '.join(task.labels)}"
    return dataclasses.replace(task, instruction=f"{task.instruction}\n{line}")


def as_made(task: Task, digest: str) -> Task:
    """A task as it is written, or with its labels named where a run of this task digest was begun with it so."""
    named = with_labels_named(task)
    return named if named.digest == digest else task
