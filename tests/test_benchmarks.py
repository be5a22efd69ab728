"""What the benchmarks compute by themselves: the paper's split, and when a mean gain is marked."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from sg_local.records import TestRow

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("paper")


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("quality")


def test_the_paper_has_fourteen_and_eight_tasks_half_of_them_held_out(paper, tmp_path):
    (tmp_path / "task039_qasc.json").write_text("{}")
    entries = paper.paper_tasks(tmp_path)
    assert Counter(entry.kind for entry in entries) == {"classification": 14, "generation": 8}
    assert Counter(entry.split for entry in entries) == {"dev": 11, "held-out": 11}
    assert [entry.name for entry in entries if entry.path is not None] == ["task039"]


def test_a_tenth_of_each_answer_is_left_out_and_the_draw_is_fixed(paper):
    rows = [TestRow(f"input {i}", ("yes" if i < 30 else "no",)) for i in range(100)]
    kept = paper.test_rows(rows, "classification", 190)
    assert Counter(row.outputs[0] for row in kept) == {"yes": 27, "no": 63}
    assert kept == paper.test_rows(rows, "classification", 190) != paper.test_rows(rows, "classification", 199)
    assert len(paper.test_rows(rows, "generation", 36)) == 90


def test_a_folder_without_any_of_the_tasks_fails_and_names_them(paper, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["paper.py", str(tmp_path), "--split", "held-out"])
    assert paper.main() == 1
    said = capsys.readouterr()
    assert "left out: task284, task329" in said.err and '"missing": ["task284"' in said.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("over_base", "over_trivial", "marked"),
    [([1, 1, 0, 1], [1, 1, 1, 1], False), ([1, 1, 0, 1], [0, 1, -1, 0], True), ([-1, 0], [-1, -1], False)],
)
def test_a_mean_that_trivial_systems_reach_is_marked(quality, over_base, over_trivial, marked):
    rows = [{"gaps": {"gain": over_base * 10, "trivial": over_trivial * 10}}] * 2
    assert quality.mean_is_marked(rows, "gain", "trivial") is marked


def test_a_fair_share_is_what_neighbours_with_a_core_each_leave(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    busy = importlib.import_module("busy")
    speeds = {"plain": {0: 400.0, 1: 150.0, 2: 85.0}, "ours": {0: 396.0, 1: 240.0, 2: 160.0}}
    assert busy.report(speeds, 2) == {"share_of_fair_1": 0.9, "share_of_fair_2": 0.8, "ratio_quiet": 0.99}


def test_a_forecast_is_judged_by_its_worst_stage(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    forecast = importlib.import_module("forecast")

    def stage(expected: tuple[float, int], took: tuple[float, int]) -> dict:
        facts = {"seconds": took[0], "peak_bytes": took[1]}
        return {"seconds": expected[0], "memory_bytes": expected[1], "took": facts}

    stages = {"synth": stage((10.0, 1000), (15.0, 900)), "filter": stage((0.5, 100), (5.0, 110))}
    stages |= {"train": stage((20.0, 1000), (16.0, 1150))}
    found = forecast.figures({"first": stages})
    assert found == {"memory": 1.15, "time_first": 10.0, "whole_first": 1.18}
