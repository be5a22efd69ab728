"""The benchmark of the ceiling: arms of as many steps, the share of the gap closed, what inputs and labels cost."""

import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def ceiling(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("ceiling")


def row(task, arm, score, base=40.0, untuned=60.0, seed=0, scores=None):
    return {"task": task, "seed": seed, "arm": arm, "score": score, "base": base, "untuned": untuned,
            "scores": scores or {0: score / 100}}  # fmt: skip


def test_the_share_closed_is_of_the_gap_between_base_and_ceiling(ceiling):
    rows = [row("one", "ours", 70.0), row("one", "ours", 80.0, seed=1), row("one", "right labels", 90.0)]
    found = ceiling.summary("one", rows)
    assert found["closed"] == 70.0 and found["leaves_room"] and found["ours"] == 75.0
    flat = ceiling.summary("two", [row("two", "ours", 43.0), row("two", "right labels", 44.0)])
    assert flat["closed"] is None and not flat["leaves_room"]


def test_costs_are_paired_by_test_row(ceiling):
    rows = [
        row("one", "ours", 50.0, scores={0: 0.0, 1: 1.0}),
        row("one", "our labels", 50.0, scores={0: 1.0, 1: 1.0}),
        row("one", "right labels", 50.0, scores={0: 1.0, 1: 0.5}),
    ]
    assert ceiling.pooled_cost("inputs cost", rows)["gain"][0] == 50.0
    assert ceiling.pooled_cost("labels cost", rows)["gain"][0] == -25.0
    assert ceiling.pooled_cost("labels cost", rows[:1]) is None


def test_it_runs_in_as_many_steps_resumes_and_ends_with_json(ceiling, tmp_path, monkeypatch, capsys):
    options = ("backend=scripted", "trainer=scripted", "synth.n_inputs=30", "filter.input_length.on=false")
    command = ["ceiling.py", "support_routing", "--runs", str(tmp_path / "runs"), "--tests", "12", "--", *options]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    assert ceiling.main() == 0
    first = capsys.readouterr().out
    found = json.loads(first.splitlines()[-1])
    assert [one["arm"] for one in found["rows"]] == list(ceiling.ARMS) and not found["failed"]
    assert found["rows"][2]["kept"] == 30 and len({one["base"] for one in found["rows"]}) == 1
    epochs = [
        json.loads((tmp_path / "runs" / f"support_routing-s0-{arm.replace(' ', '-')}" / "run.json").read_text())
        for arm in ceiling.ARMS
    ]
    passes = [float(one["set"]["train"]["epochs"]) * r["kept"] for one, r in zip(epochs, found["rows"], strict=True)]
    assert max(passes) - min(passes) < 1
    assert ceiling.main() == 0 and capsys.readouterr().out == first
