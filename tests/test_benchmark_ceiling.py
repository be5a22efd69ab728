"""The benchmark of the ceiling: arms of as many steps, the share of the gap closed, what inputs and labels cost."""

import importlib
import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from sg_local.backends.training.lora import BatchPlan
from sg_local.validation import split_rows

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


@pytest.mark.parametrize(("n_first", "n_kept"), [(150, 25), (25, 150), (77, 11), (40, 40)])
def test_epochs_are_chosen_so_that_arms_take_equally_many_steps(ceiling, n_first, n_kept):
    train = SimpleNamespace(epochs=3.0, batch_size=8, grad_accumulation=1)
    job = nullcontext(SimpleNamespace(opened=SimpleNamespace(plan={"train": train})))
    at = SimpleNamespace(job=lambda arm: job, settings={"eval": {"n_votes": 2}})
    found = ceiling.in_as_many_steps(at, n_first, n_kept)
    first, mine = (BatchPlan((1,) * len(split_rows([""] * n, 7).train), 8, 7) for n in (n_first, n_kept))
    assert mine.n_steps(found["train"]["epochs"]) == first.n_steps(3.0) and found["eval"] == {"n_votes": 2}
    assert n_first != n_kept or found["train"]["epochs"] == 3.0


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
    passes = [float(one["set"]["train"]["epochs"]) for one in epochs]
    steps = [one * math.ceil(r["trained"] / 8) for one, r in zip(passes, found["rows"], strict=True)]
    assert max(steps) - min(steps) < 0.01
    assert ceiling.main() == 0 and capsys.readouterr().out == first
