"""What benchmarks/rows.py works out from a run's journals, on the scripted backend."""

import importlib
import json
from pathlib import Path

import pytest

from sg_local.records import Candidate
from sg_local.run import CANDIDATES, Run

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("rows")


@pytest.fixture
def ask(rows, own_folder, monkeypatch, capsys):
    """Runs the benchmark on the shipped tasks named and returns its JSON line."""

    def begin(*words):
        monkeypatch.setattr("sys.argv", ["rows.py", *words, "--backend", "scripted", "--asked", "40", "--tests", "9"])
        assert rows.main() == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return begin


@pytest.mark.parametrize(
    ("counts", "share"), [([5, 5, 5], 1.0), ([9, 0], 0.0), ([3, 1], 0.811), ([0, 0], None), ([], None)]
)
def test_evenness(rows, counts, share):
    assert rows.evenness(counts) == share


def test_both_presets_are_asked_alike_and_told_apart(ask):
    found = ask("support_routing", "iso_date")
    assert not found["failed"]
    told = {(row["task"], row["preset"]): row for row in found["rows"]}
    assert len(told) == 4 and all(row["asked"] in (40, 64) for row in told.values())
    assert all(row["asked"] == row["accepted"] + gate_rejections(row) for row in told.values())
    assert told["support_routing", "paper"]["policy"] == "voted" and told["iso_date", "paper"]["labels"] is None
    ours = told["support_routing", "recommended"]
    assert ours["apart"] == 1.0 and ours["labels"]["n"] == 9 and ours["labels"]["chance"] == 33.3


def gate_rejections(row):
    """Rejections while inputs were written: all but those of the pass over candidates."""
    return sum(row["rules"].values()) - (row["accepted"] - row["kept"])


def test_a_finished_run_is_only_read(ask, own_folder):
    first = ask("support_routing")
    runs = own_folder / "runs-rows"
    before = {path: path.read_bytes() for path in runs.rglob("*.jsonl")}
    assert len(before) == 10 and ask("support_routing") == first
    assert {path: path.read_bytes() for path in runs.rglob("*.jsonl")} == before


def test_unfinished_labels_of_test_rows_are_made_up(ask, own_folder):
    first = ask("support_routing")
    run = Run(own_folder / "runs-rows/support_routing-paper/tests-9")
    run.replace(CANDIDATES, run.read(CANDIDATES, Candidate)[:4])
    assert ask("support_routing") == first
