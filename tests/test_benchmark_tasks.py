"""The tasks that experiments alone use: every row is usable, and no two are alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import sg_local as sg
from sg_local.filters import leak_check
from sg_local.prompts import normalise

TASKS = sorted((Path(__file__).parent.parent / "benchmarks" / "tasks").glob("*.toml"))


def test_there_are_eight():
    assert len(TASKS) == 8


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_has_a_hundred_test_rows_of_every_label_none_of_them_shown(path):
    task = sg.load_task(path)
    assert (task.name, task.kind, len(task.examples), len(task.tests)) == (path.stem, "classification", 3, 100)
    assert len({normalise(row.input) for row in task.tests}) == 100
    counts = Counter(row.outputs[0] for row in task.tests)
    assert set(counts) == set(task.labels) and min(counts.values()) >= 12
    leaks = leak_check(task, 0.9)
    assert not any(leaks(pair.input) for pair in task.examples)
