"""What benchmarks/decisions.py works out and measures, on the scripted backend."""

import importlib
import json
from pathlib import Path

import pytest
from small_reports import report_of

from sg_local.report import SystemResult

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def decisions(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("decisions")


def test_a_task_is_judged_and_its_server_timed(decisions, own_folder, monkeypatch, capsys):
    words = ["support_routing", "--tests", "12", "--requests", "5", "--", "backend=scripted", "synth.n_inputs=40"]
    monkeypatch.setattr("sys.argv", ["decisions.py", *words])
    assert decisions.main() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    [row] = found["rows"]
    assert (row["n"], row["labels"]) == (12, 3) and row["n_fitted"] > 0 and not found["failed"]
    assert found["n_requests"] == 5 and 0 < found["p50_choice_ms"] <= found["p95_choice_ms"]
    assert decisions.GOALS.keys() <= found.keys()


def test_a_task_without_labels_is_told(decisions, own_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["decisions.py", "iso_date", "--tests", "4", "--", "backend=scripted"])
    assert decisions.main() == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == {"iso_date": "the task has no labels"}


def test_hopeless_tasks_do_not_count(decisions):
    row = {"hopeless": False, "ece_before": 8.0, "ece_after": 4.0, "brier": 0.2, "above": 50.0}
    rows = [
        {**row, "n_above": 10, "n_above_right": 10},
        {**row, "n_above": 30, "n_above_right": 27, "ece_after": 2.0},
        {**row, "hopeless": True, "n_above": 100, "n_above_right": 0},
    ]
    found = decisions.summary(rows)
    assert (found["n_tasks"], found["n_above"], found["above_right"], found["ece_after"]) == (2, 40, 92.5, 3.0)
    assert decisions.summary(rows[2:])["above_right"] is None


def test_hopeless_is_what_the_commonest_label_may_reach(decisions):
    def served(score):
        found = report_of({"tuned": score, "base": 40.0})
        trivial = SystemResult(60.0, 50.0, 70.0, 40, {}, 0.0, "t", "trivial", "trivial")
        return report_of({"tuned": score, "base": 40.0}, systems={**found.systems, "commonest": trivial})

    assert decisions.is_hopeless(served(65.0)) and not decisions.is_hopeless(served(75.0))


def test_percentiles(decisions):
    assert [decisions.at(range(100), share) for share in (0.5, 0.95)] == [50, 95] and decisions.at([7.0], 0.95) == 7.0
