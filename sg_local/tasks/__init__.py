"""Tasks: reading and checking task files and rows, and what is doubtful about a task that is well-formed."""

from __future__ import annotations

from sg_local.tasks.examples import FEW, drawn, n_fitting
from sg_local.tasks.files import (
    load_task,
    read_placed_task,
    read_task,
    read_tests,
    task_from,
    tests_of,
    with_tests,
)
from sg_local.tasks.find import find_task, is_shipped, shipped_folder, shipped_tasks
from sg_local.tasks.labels import as_made, with_labels_named
from sg_local.tasks.lint import check_task

__all__ = [
    "FEW",
    "as_made",
    "check_task",
    "drawn",
    "find_task",
    "is_shipped",
    "load_task",
    "n_fitting",
    "read_placed_task",
    "read_task",
    "read_tests",
    "shipped_folder",
    "shipped_tasks",
    "task_from",
    "tests_of",
    "with_labels_named",
    "with_tests",
]
