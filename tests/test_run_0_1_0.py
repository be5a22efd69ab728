"""Runs made by sg-local 0.1.0 (tests/data/run_0_1_0, see make.py there) are read, shown and gone on with today."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local.cli.app import app
from sg_local.records import Candidate
from sg_local.run import CANDIDATES, REPORT, VERDICTS, Run

DATA = Path(__file__).parent / "data" / "run_0_1_0"
FINISHED_STAGES = ("synth", "filter", "train", "eval")


@pytest.fixture
def route(own_folder):
    """The finished run in a folder of its own."""
    return copied("route", own_folder)


def copied(name: str, folder: Path) -> Run:
    shutil.copytree(DATA / name, folder / "runs" / name)
    shutil.copy(DATA / f"{name}.toml", folder)
    return Run(folder / "runs" / name)


def sg_local(*args: str):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def contents(run: Run) -> dict[str, bytes]:
    """Every file of the run by its name, the lock left out."""
    files = (path for path in run.root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run.root)): path.read_bytes() for path in files}


def test_it_is_listed_and_shown(route):
    assert "route" in sg_local("runs", "ls").stdout
    shown = " ".join(sg_local("runs", "show", "route").stdout.split())
    for words in ("stage eval done", "inputs asked for 32", "pairs kept 31", "5 rows judged by people"):
        assert words in shown


def test_filtered_again_it_keeps_the_same_rows_and_the_persons_verdicts(route):
    before = route.path(VERDICTS).read_bytes()
    assert json.loads(sg_local("filter", "route", "--json").stdout)["kept"] == 31
    assert route.path(VERDICTS).read_bytes() == before


def test_filtered_otherwise_it_adds_verdicts(route):
    before = route.path(VERDICTS).read_bytes()
    found = json.loads(sg_local("filter", "route", "--set", "policy=asked", "--json").stdout)
    assert found["by_person"] == 5 and route.stamp("filter")["funnel"]["policy"] == "asked"
    after = route.path(VERDICTS).read_bytes()
    assert after.startswith(before) and after != before


def test_its_review_goes_out_and_comes_back_unchanged(route, own_folder):
    sg_local("review", "route", "--judge", "ada", "--export", "rows.csv")
    with open("rows.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["keep"] for row in rows][:6] == ["yes", "yes", "yes", "no", "yes", ""]
    assert rows[1]["input"].endswith("Please help.") and rows[3]["reason"] == "unnatural input"
    before = route.path(VERDICTS).read_bytes()
    sg_local("review", "route", "--judge", "ada", "--import", "rows.csv")
    assert route.path(VERDICTS).read_bytes() == before


def test_its_report_is_written(route):
    page = Path(sg_local("report", "route").stdout.strip())
    assert "The courier left my box in the rain." in page.read_text(encoding="utf-8")


def test_its_single_answers_are_shown_without_asking_again(route):
    report, answers = route.path(REPORT).read_bytes(), route.path("answers.jsonl").read_bytes()
    rows = json.loads(sg_local("eval", "route", "--show", "wrong", "--json").stdout)
    wrong = [row["index"] for row in json.loads(report)["rows"] if row["scores"]["tuned_restricted"] < 100]
    assert sorted(row["index"] for row in rows) == wrong
    assert (route.path(REPORT).read_bytes(), route.path("answers.jsonl").read_bytes()) == (report, answers)


def test_evaluated_otherwise_it_keeps_every_answer(route):
    before = route.path("answers.jsonl").read_text(encoding="utf-8").splitlines()
    report = json.loads(sg_local("eval", "route", "--set", "resamples=300", "--json").stdout)
    assert report["tuned"]["score"] == json.loads((DATA / "route" / REPORT).read_text())["tuned"]["score"]
    after = route.path("answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before
    assert {json.loads(line)["system"] for line in after[len(before) :]} == {"temperature_plain", "temperature_tuned"}


def test_it_answers(route):
    assert sg_local("predict", "route", "Where is my parcel?").stdout.strip() in ("billing", "delivery", "technical")


def test_the_python_face_opens_it(route):
    before = contents(route)
    with sg.load(route.root) as job:
        assert job.report.n == 6 and len(job.rows()) == 32
        assert [row.judge for row in job.rows() if row.reason == "unnatural input"] == ["ada"]
        assert set(job.predict(["Where is my parcel?"])) <= {"billing", "delivery", "technical"}
    assert contents(route) == before


@pytest.mark.parametrize("sealed", [True, False], ids=["as it is", "without seals"])
def test_a_finished_run_has_nothing_left_to_do(route, sealed):
    if not sealed:
        for path in route.root.glob("stages/*.seal"):
            path.unlink()
    before = contents(route)
    result = sg_local("run", "route.toml", "--name", "route", "--yes", "--backend", "scripted")
    assert [f"{stage}: already finished" in result.stderr for stage in FINISHED_STAGES] == [True] * 4
    after = contents(route)
    assert {name: after[name] for name in before} == before


def test_a_killed_run_goes_on_to_the_same_rows(own_folder):
    run = copied("lower", own_folder)
    sg_local("synth", "lower.toml", "--name", "lower", "--backend", "scripted")
    wanted = [json.loads(line) for line in (DATA / "lower.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = run.read(CANDIDATES, Candidate)
    assert [(row.id, row.input, row.output, row.votes) for row in rows] == [
        (row["id"], row["input"], row["output"], row["votes"]) for row in wanted
    ]
    assert run.stamp("synth") is not None
