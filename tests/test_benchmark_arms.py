"""The benchmark of arms: what an arm may set, what arms share, gains over the first one and over the untuned."""

import importlib
import json
from pathlib import Path

import pytest

from sg_local.records import SgError

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def arms(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("arms")


def row(task, arm, scores, seed=0, kind="generation"):
    means = {name: 100 * sum(found) / len(found) for name, found in scores.items()}
    by_row = {name: dict(enumerate(found)) for name, found in scores.items()}
    return {"task": task, "kind": kind, "seed": seed, "arm": arm, "free": means["tuned"], "served": means["tuned"],
            "systems": means, "scores": by_row}  # fmt: skip


def test_an_arm_sets_what_comes_behind_synthesis(arms):
    arm = arms.arm_of("fast: train.lr=1e-3  filter.policy=asked")
    assert arm.name == "fast" and arm.settings == {"train": {"lr": "1e-3"}, "filter": {"policy": "asked"}}
    assert arms.arm_of("train.epochs=6 train.lr=5e-4").run == "arm-train.epochs-6-train.lr-5e-4"
    long = arms.arm_of("train.lr=1e-3 train.epochs=6 train.rank=32 train.alpha=64")
    assert len(long.run) < 60 and long.run != arms.arm_of(f"{long.name} train.seed=2").run
    for text in ("synth.n_inputs=4", "seed=3", "train.lr=1e-3 model=x", ""):
        with pytest.raises(SgError, match="is no arm"):
            arms.arm_of(text)


def test_gains_are_over_the_first_arm_and_over_the_best_untuned_by_its_mean(arms):
    first = {"base": [0.0, 0.0], "base_vote": [1.0, 0.0], "copy_input": [1.0, 1.0]}
    rows = [
        row("one", arms.AS_IS, {**first, "tuned": [0.0, 1.0]}),
        row("one", "fast", {"tuned": [1.0, 1.0]}),
        row("one", arms.AS_IS, {**first, "base": [1.0, 0.5], "tuned": [1.0, 0.0]}, seed=1),
        row("one", "fast", {"tuned": [0.0, 1.0]}, seed=1),
    ]
    task = arms.summary("one", rows)
    assert (task["untuned_is"], task["untuned"], task["base"]) == ("base_vote", 50.0, 37.5)
    assert task["free"] == {arms.AS_IS: 50.0, "fast": 75.0}
    found = arms.pooled_gains([arms.AS_IS, "fast"], rows, {"one": "base_vote"})
    of = {(one["of"], one["over"], one["kind"], one["arm"]): one["gain"][0] for one in found}
    assert of["free", arms.AS_IS, "generation", "fast"] == 25.0 and of["free", arms.UNTUNED, "all", "fast"] == 25.0
    assert of["served", arms.UNTUNED, "all", arms.AS_IS] == 0.0
    assert not [key for key in of if key[2] == "classification"]
    assert arms.summary("one", rows[1:2]) is None


def test_it_shares_rows_and_base_answers_resumes_with_more_arms_and_ends_with_json(arms, tmp_path, monkeypatch, capsys):
    options = ("backend=scripted", "trainer=scripted", "synth.n_inputs=30", "filter.input_length.on=false")
    base = ["arms.py", "support_routing", "--seeds", "2", "--runs", str(tmp_path / "runs"), "--tests", "12"]
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))

    def found(*given):
        monkeypatch.setattr("sys.argv", [*base, *(word for arm in given for word in ("--arm", arm)), "--", *options])
        code = arms.main()
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    code, first = found("train.lr=1e-3")
    assert code == 0 and [one["arm"] for one in first["rows"]] == [arms.AS_IS, "train.lr=1e-3"] * 2
    assert first["rows"][0]["kept"] == first["rows"][1]["kept"]
    systems = [set(one["systems"]) for one in first["rows"][:2]]
    assert {"base", "base_calibrated", "tuned_restricted"} < systems[0] and systems[1] == {"tuned", "tuned_restricted"}
    runs = tmp_path / "runs"
    written = (runs / "support_routing-s0-written" / "candidates.jsonl").read_bytes()
    arm = runs / "support_routing-s0-arm-train.lr-1e-3"
    assert (arm / "candidates.jsonl").read_bytes() == written and not (arm / "report.json").exists()
    kept = (arm / "answers.jsonl").read_bytes()
    code, more = found("train.lr=1e-3", "lean: train.epochs=2 train.shown=0", "bad: filter.policy=nonsense")
    assert code == 1 and [one["arm"] for one in more["rows"][:3]] == [arms.AS_IS, "train.lr=1e-3", "lean"]
    assert more["rows"][2]["prompt"] < 0.6 * more["rows"][1]["prompt"] == 0.6 * more["rows"][0]["prompt"]
    assert more["rows"][:2] == first["rows"][:2] and (arm / "answers.jsonl").read_bytes() == kept
    assert "bad: " in more["failed"]["support_routing seed 0"]
