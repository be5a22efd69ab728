"""benchmarks/serve.py: its figures, and a soak of some seconds on a scripted run."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import sg_local as sg

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("psutil")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("serve")


def test_the_figures_that_are_aimed_at_come_from_the_rounds(bench, capsys):
    def one(per_s, p95=5.0):
        return {"per_s": per_s, "p50": 1.0, "p95": p95, "failed": 0.0}

    found = {
        ("ours", "task", 16): [one(30.0), one(20.0), one(60.0)],
        ("theirs", "task", 16): [one(10.0), one(10.0), one(10.0)],
        ("ours", "task", 1): [one(1.0, 40.0), one(1.0, 60.0), one(1.0, 50.0)],
    }
    told = bench._told(found)
    assert told["ratio_at_16"] == 3.0 and told["p95_choice_ms"] == 50.0
    assert told["ours_task_16_per_s"] == 30.0 and "16 clients theirs" in capsys.readouterr().out


def test_a_soak_finds_no_wrong_answer(bench, own_folder, monkeypatch):
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.pathsep.join([str(FOLDER.parent), *sys.path[:1]]))
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 40}}, name="r") as job:
        job.run()
        texts = [row.input for row in job.task.tests][:5]
    arguments = SimpleNamespace(run="r", runs=Path("runs"), clients=[4], soak=0.05)
    found = bench.soak(arguments, texts)
    assert found["n_answers"] > 10 and found["n_hostile"] > 0
    assert (found["n_wrong"], found["n_errors"]) == (0, 0)
