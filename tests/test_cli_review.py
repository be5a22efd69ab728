"""What `run` asks between the filters and the training, and what of the answers stays."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sg_local.cli import review as command
from sg_local.cli.app import app
from sg_local.cli.config import Environment
from sg_local.job import review as job_review
from sg_local.job.begun import job_for_run
from sg_local.job.options import Home, Options

LOOK, TRAIN = "Look through them now", "Train on the kept pairs now"
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def job(own_folder, monkeypatch):
    """A filtered run, whose review is left at once."""
    made = CliRunner().invoke(
        app, ["synth", "support_routing", "--backend", "scripted", "--name", "r", "--set", "synth.n_inputs=12"]
    )
    assert made.exit_code == 0 and CliRunner().invoke(app, ["filter", "r"]).exit_code == 0
    monkeypatch.setattr(command, "review_on_screen", lambda job, environment, judge: job_review.open_state(job, judge))
    with job_for_run("r", Options(), Home(own_folder)) as opened:
        yield opened


@pytest.fixture
def stop(job, own_folder, monkeypatch):
    """Answers the questions of the stop in turn: whether it goes on, and what was asked."""

    def stop(*answers):
        asked, left = [], list(answers)

        def confirm(question, **more):
            asked.append(question)
            return left.pop(0)

        monkeypatch.setattr(click, "confirm", confirm)
        with job_for_run("r", Options(), Home(own_folder)) as opened, opened.lock():
            goes_on = command.review_before_training(opened, Environment.read({"USER": "me"}))
        assert not left
        return goes_on, asked

    return stop


def test_no_to_training_stays_no_until_somebody_says_yes(job, stop):
    for _ in range(2):
        goes_on, asked = stop(True, False)
        assert not goes_on and LOOK in asked[0] and TRAIN in asked[1]
        assert job.run.stamp("review") is None
    assert stop(True, True)[0] and job.run.stamp("review") is not None
    assert stop() == (True, [])


def test_who_judged_every_pair_is_asked_about_the_training_alone(job, stop):
    state = job_review.open_state(job, "me")
    kept = [row.id for row in state.rows if row.kept]
    assert job_review.n_open(state) == len(kept) > 0
    with open("judged.csv", "w") as file:
        file.writelines(["id,keep\n", *(f"{id},yes\n" for id in kept)])
    with job.lock():
        job_review.import_rows(job, "me", Path("judged.csv"))
    goes_on, asked = stop(False)
    assert not goes_on and len(asked) == 1 and TRAIN in asked[0]


def test_a_trained_run_asks_again_only_when_its_rows_have_changed(job, stop):
    assert CliRunner().invoke(app, ["train", "r"]).exit_code == 0
    assert stop() == (True, [])
    assert CliRunner().invoke(app, ["filter", "r", "--set", "policy=voted"]).exit_code == 0
    assert LOOK in stop(True, False)[1][0]


def test_the_time_of_all_sittings_counts(job):
    with job.lock():
        job_review.note_time(job, 2.0)
        job_review.remember_place(job, job_review.open_state(job, "me"))
        job_review.note_time(job, 3.0)
        job_review.finish(job, job_review.open_state(job, "me"))
    assert job.run.stamp("review")["seconds"] == 5.0


def test_a_review_of_earlier_rows_is_not_the_review_of_these(job, stop):
    assert stop(True, True)[0]
    path = job.run.path("candidates.jsonl")
    with job.lock():
        path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])
    assert not stop(True, False)[0]
