"""Labels that a prompt would never name: few demonstrations show few labels.

A run is begun with the task as `with_labels_named` gives it, and keeps it so. A run begun before (0.1.0) or as
published (`preset=paper`) has the task as written.
"""

from __future__ import annotations

import dataclasses

from sg_local.records import Pair, Task
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
    """A task as it is written, or in that form of it with which a run of this task digest was begun.

    A new run names all labels; 0.1.0 cut the blanks at the start of a demonstration.
    """
    cut = tuple(Pair(pair.input.strip(), pair.output.strip()) for pair in task.examples)
    made = (task, with_labels_named(task), dataclasses.replace(task, examples=cut))
    return next((one for one in made if one.digest == digest), task)
