"""`runs compare`, `runs tag` and `runs rename`, on real runs of the scripted backend."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.job.naming import rename
from sg_local.records import SgError
from sg_local.run import Run, open_run
from sg_local.views.runs import run_cells

SMALL = ("--backend", "scripted", "--yes", "--set", "synth.n_inputs=40", "--set", "eval.resamples=50")
pytestmark = pytest.mark.usefixtures("own_folder")


def run(*args, code=0):
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory):
    """A folder with the runs `one` and `two`, which differ in seed and epochs, made once."""
    folder, before = tmp_path_factory.mktemp("two"), os.getcwd()
    os.chdir(folder)
    try:
        run("run", "support_routing", "--name", "one", *SMALL)
        run("run", "support_routing", "--name", "two", "--seed", "1", "--set", "train.epochs=2", *SMALL)
    finally:
        os.chdir(before)
    return folder / "runs"


@pytest.fixture
def runs(two_runs, own_folder):
    """A copy of that folder, as `runs` in the working folder."""
    shutil.copytree(two_runs, own_folder / "runs")
    return Path("runs")


def compared(*names):
    return json.loads(run("runs", "compare", *names, "--json").stdout)


def test_runs_are_compared_on_the_rows_that_both_have(runs):
    found = compared("one", "two")
    reports = [json.loads((runs / name / "report.json").read_text()) for name in ("one", "two")]
    assert [one["score"] for one in found["runs"]] == [r["systems"][r["served"]]["score"] for r in reports]
    [pair] = found["pairs"]
    assert (pair["run"], pair["against"], pair["n"]) == ("two", "one", 60)
    assert pair["gain"] == pytest.approx(found["runs"][1]["score"] - found["runs"][0]["score"], abs=0.02)
    assert pair["low"] <= pair["gain"] <= pair["high"]
    settings = {one["setting"]: one["values"] for one in found["settings"]}
    assert settings["seed"] == [0, 1] and settings["train.epochs"] == [3.0, 2.0]
    assert not any(name.startswith(("synth.n_", "filter.")) for name in settings)
    text = run("runs", "compare", "one", "two").stdout
    assert "on the 60 test rows of both" in text and "train.epochs" in text


def test_runs_without_rows_in_common_are_not_held_against_each_other(runs):
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"input": f"Refund {i}?", "output": "billing"}) + "\n" for i in range(4))
    )
    run("eval", "two", "--tests", "rows.jsonl")
    assert compared("one", "two")["pairs"] == []
    assert "share no test rows" in run("runs", "compare", "one", "two").stdout


def test_a_copied_run_is_compared_under_its_own_name(runs):
    shutil.copytree(runs / "one", runs / "copy")
    [pair] = compared("one", "copy")["pairs"]
    assert (pair["run"], pair["against"], pair["n"], pair["gain"]) == ("copy", "one", 60, 0.0)
    assert "copy is not shown to differ from one" in run("runs", "compare", "one", "copy").stdout


def test_a_run_that_was_not_measured_has_no_figures(runs):
    (runs / "two" / "report.json").unlink()
    found = compared("one", "two")
    assert found["runs"][1]["score"] is None and found["pairs"] == []
    assert "cannot be compared" in run("runs", "compare", "one", code=2).stderr


def test_the_list_shows_the_score_of_what_is_served(runs):
    report = json.loads((runs / "one" / "report.json").read_text())
    row = json.loads(run("runs", "ls", "--json").stdout)[0]
    score = report["systems"][report["served"]]["score"]
    assert row["served"] == score and row["tuned"] == report["tuned"]["score"]
    changed = {**row, "served": 12.3}
    assert run_cells(changed)[2:4] == (f"{row['base']:.1f}", "12.3")


def test_tags_are_kept_shown_and_looked_for(runs):
    run("runs", "tag", "one", "paper", "v1.0")
    assert json.loads(run("runs", "show", "one", "--json").stdout)["tags"] == ["paper", "v1.0"]
    assert [row["run"] for row in json.loads(run("runs", "ls", "--tag", "paper", "--json").stdout)] == ["one"]
    assert "paper, v1.0" in run("runs", "ls").stdout and "paper, v1.0" in run("runs", "show", "one").stdout
    run("runs", "tag", "one", "paper", "--remove")
    assert Run(runs / "one").settings["tags"] == ["v1.0"]
    run("filter", "one", "--redo")
    assert Run(runs / "one").settings["tags"] == ["v1.0"]
    assert "cannot be a tag" in run("runs", "tag", "one", "a b", code=2).stderr


def test_a_renamed_run_goes_on_under_its_name_alone(runs):
    inside = str((runs / "one" / "hf").absolute())
    data = json.loads((runs / "one" / "run.json").read_text())
    (runs / "one" / "run.json").write_text(json.dumps({**data, "set": {**data["set"], "export": {"hf": inside}}}))
    before = {name: (runs / "one" / name).read_bytes() for name in ("candidates.jsonl", "adapter.gguf")}
    run("runs", "rename", "one", "mails")
    assert not (runs / "one").exists() and {name: (runs / "mails" / name).read_bytes() for name in before} == before
    text = "".join(path.read_text() for path in (runs / "mails").rglob("*.json"))
    assert str(Path("runs/one")) not in text and '"run": "mails"' in (runs / "mails" / "report.json").read_text()
    assert Run(runs / "mails").settings["set"]["export"]["hf"] == inside.replace("/one/", "/mails/")
    again = run("run", "support_routing", "--name", "mails", *SMALL)
    assert again.stderr.count("already finished") == 4
    assert json.loads(run("report", "mails", "--json").stdout)["run"] == "mails"
    assert len(run("predict", "mails", "Where is my parcel?").stdout.splitlines()) == 1


@pytest.mark.parametrize(("name", "words"), [("two", "already"), ("../x", "cannot be a run name"), (".x", "cannot")])
def test_a_name_that_is_taken_or_none_is_refused(runs, name, words):
    assert words in run("runs", "rename", "one", name, code=2).stderr and (runs / "one").exists()


def test_a_run_in_use_is_not_renamed(runs):
    with open_run(runs, "one").lock(), pytest.raises(SgError, match="in use"):
        rename(open_run(runs, "one"), "mails")
    assert (runs / "one").exists()
