"""The benchmark of own data: who is drawn, what arms share, and the figures."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sg_local.records import LABELLED, OWN, Candidate, InputRow, Pair, Task, TestRow

FOLDER = Path(__file__).parent.parent / "benchmarks"
WORDS = (
    "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ocean plain quay river".split()
)


@pytest.fixture
def own_data(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("own_data")


def text(i):
    return f"{WORDS[i % 18]} {WORDS[i // 18 % 18]} {WORDS[(5 * i + 1) % 18]} number {i}"


def test_own_rows_are_no_test_rows_nor_near_them_and_no_example(own_data):
    task = Task("t", "classification", "Say.", (Pair(text(0), "a"), Pair(text(1), "b")), ("a", "b"))
    rows = [TestRow(text(i), ("ab"[i % 2],)) for i in range(60)]
    tests, rest = own_data.parted(rows, 20)
    assert len(tests) == 20 and len(rest) == 40 and not {r.input for r in tests} & {r.input for r in rest}
    near = TestRow(tests[0].input.upper() + "!", ("a",))
    found = own_data.own_rows(replace(task, tests=tests), [*rest, near, *rest[:3]], 1, 30)
    inputs = [row.input for row in found]
    assert len(set(inputs)) == len(inputs) == 30 and near not in found and not {text(0), text(1)} & set(inputs)
    assert found != own_data.own_rows(replace(task, tests=tests), rest, 2, 30)


def rows_of(n, source=""):
    inputs = [
        InputRow(f"{source}{i}", 0, i, 0, text(i), rejected="" if i % 4 else "noise: x", source=source)
        for i in range(n)
    ]
    kept = [row for row in inputs if not row.rejected]
    return inputs, [Candidate(f"c{row.id}", row.input, "a", {"a": 1}, 1, 1.0, source=source) for row in kept]


def test_arms_hold_as_many_rows_as_a_job_wants(own_data, tmp_path):
    task = Task("t", "classification", "Say.", (Pair("x", "a"), Pair("y", "b")), ("a", "b"))
    own = tuple(TestRow(f"own {text(i)}", ("b",)) for i in range(50))
    at = own_data.Setting("t-s0", task, own, tmp_path, {}, {})
    written, answered = rows_of(40), rows_of(60, OWN)  # 30 and 45 accepted
    for arm, n_own, n_all in (("synthetic", 0, 30), ("inputs", 10, 30), ("inputs", 40, 40), ("rows", 10, 40)):
        size = n_own
        inputs, candidates = own_data.composed(at, own_data.Arm(arm, size), written, answered)
        assert len(candidates) == n_all == sum(not row.rejected for row in inputs)
        assert sum(bool(row.source) for row in candidates) == n_own
        assert {row.source for row in candidates} <= {"", LABELLED if arm == "rows" else OWN}
    assert all(row.output == "b" for row in candidates if row.source)


def test_gains_are_paired_by_row_and_averaged_over_seeds(own_data):
    def row(task, seed, arm, scores):
        return {"task": task, "seed": seed, "arm": arm, "scores": scores}

    rows = [
        row("one", 0, "synthetic", {0: 0.0, 1: 1.0, 2: 0.0}),
        row("one", 0, "rows 10", {0: 1.0, 1: 1.0, 3: 1.0}),  # row 2 leaked in this arm, row 3 in the other
        row("one", 1, "synthetic", {0: 0.0, 1: 0.0, 2: 1.0}),
        row("one", 1, "rows 10", {0: 0.0, 1: 1.0, 2: 1.0}),
        row("two", 0, "synthetic", {0: 0.5, 1: 0.5}),
        row("two", 0, "rows 10", {0: 0.5, 1: 0.5}),
    ]
    assert own_data.gaps_of("rows 10", rows) == {"one": [0.5, 0.5, 0.0], "two": [0.0, 0.0]}
    found = own_data.pooled_gain("rows 10", rows)
    assert found["gain"][0] == pytest.approx(16.67) and found["tasks"]["two"] == (0.0, 0.0, 0.0)
    assert found["gain"][1] <= found["gain"][0] <= found["gain"][2] and found["n_tasks"] == 2
    assert own_data.pooled_gain("synthetic", rows) is None and own_data.pooled_gain("inputs 25", rows) is None


def test_few_tasks_make_wide_intervals(own_data):
    same, apart = [[0.1] * 50, [0.1] * 50], [[0.0] * 50, [0.2] * 50]
    assert own_data.gain_of(same) == (10.0, 10.0, 10.0)
    assert own_data.gain_of(apart) == (10.0, 0.0, 20.0)  # either task may be drawn twice


def test_it_runs_resumes_and_ends_with_json(own_data, tmp_path, monkeypatch, capsys):
    instances = [{"input": f"{text(i)} is what they say", "output": ["yes" if i % 2 else "no"]} for i in range(120)]
    shown = [{"input": f"{text(200 + i)} is an example", "output": "yes" if i else "no"} for i in range(3)]
    data = {"Definition": ["Say yes or no."], "Positive Examples": shown, "Instances": instances}
    (tmp_path / "task190_x.json").write_text(json.dumps(data))
    options = ("backend=scripted", "trainer=scripted", "synth.n_inputs=30", "filter.input_length.on=false")
    command = ["own_data.py", str(tmp_path), "--runs", str(tmp_path / "runs"), "--tests", "12", "--", *options]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    assert own_data.main() == 0
    first = capsys.readouterr().out
    found = json.loads(first.splitlines()[-1])
    assert [row["arm"] for row in found["rows"]] == ["synthetic", "inputs 25", "rows 10"]
    assert found["rows"][2]["right"] == 100.0 and found["rows"][0]["right"] is None and not found["failed"]
    assert [one["arm"] for one in found["pooled"]] == ["inputs 25", "rows 10"]
    assert own_data.main() == 0 and capsys.readouterr().out == first
