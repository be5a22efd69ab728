"""Labels that a prompt would never name: few demonstrations show few labels.

A run is begun with the task as `with_labels_named` gives it, and keeps it so. A run begun before (0.1.0) or as
published (`preset=paper`) has the task as written.
"""

from __future__ import annotations

import dataclasses

from sg_local.prompts import PLAIN
from sg_local.records import Pair, Task
from sg_local.splitting import holds


def unnamed_labels(task: Task, n_shown: int | None = None) -> tuple[str, ...]:
    """The labels that no prompt would name: not the output of one of the last `n_shown` demonstrations (None: all).

    An instruction names labels where it lists them all; some alone may stand there as words of their own ("a question"
    does not name the label A).
    """
    if all(holds(task.instruction, label) for label in task.labels):
        return ()
    shown = {pair.output for pair in dataclasses.replace(PLAIN, n_shown=n_shown).shown(task.examples)}
    return tuple(label for label in task.labels if label not in shown)


def with_labels_named(task: Task, n_shown: int | None = None) -> Task:
    """The task, its instruction ended with one line of all labels where some prompt would not name each of them."""
    if not unnamed_labels(task, n_shown):
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
