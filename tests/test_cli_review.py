"""What `run` asks between the filters and the training, and what of the answers stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sg_local import review
from sg_local.cli import review as command
from sg_local.cli.app import app
from sg_local.cli.config import Environment
from sg_local.job import review as job_review
from sg_local.job import review_files
from sg_local.job.begun import job_for_run
from sg_local.job.options import Home, Options
from sg_local.job.rows import rows_of
from sg_local.review import step
from sg_local.views.review_end import agreement_lines

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
        review_files.import_rows(job, "me", Path("judged.csv"))
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


def told(*args):
    """What a review without a screen printed; AssertionError where it failed."""
    done = CliRunner().invoke(app, ["review", "r", *args])
    assert done.exit_code == 0, done.output
    return done.stdout


def write_rows(path, judged):
    """A file of judgements: (keep, reason, note) by place of the row."""
    ids = [row["id"] for row in json.loads(told("--json"))["rows"]]
    lines = [f"{ids[i]},{','.join(cells)}\n" for i, cells in judged.items()]
    path.write_text("".join(["id,keep,reason,note\n", *lines]))
    return str(path)


def scores_on_screen(job):
    """The first row's label scores as the screen has them."""
    row = next(row for row in job_review.open_state(job, "me").rows if row.number == 1)
    assert [one.share for one in row.scores] == sorted((one.share for one in row.scores), reverse=True)
    return [{"label": one.label, "share": one.share, "ways": list(one.ways)} for one in row.scores]


def test_what_was_decided_comes_out_as_json_with_reasons_and_notes(job, own_folder):
    found = json.loads(told("--json"))
    assert all(row["scores"] for row in found["rows"]) and found["rows"][0]["scores"] == scores_on_screen(job)
    assert found["run"] == "r" and (found["accepted"], found["rejected"]) == (0, 0) and found["open"] > 0
    rows = write_rows(
        own_folder / "a.csv", {0: ("no", "off the task", "ask bob"), 1: ("yes", "", ""), 2: ("", "", "hm")}
    )
    found = json.loads(told("--judge", "ann", "--import", rows, "--json"))
    assert (found["accepted"], found["rejected"]) == (1, 1)
    first, second, third = found["rows"][:3]
    assert (first["judged"], first["reason"], first["notes"]) == ("rejected", "off the task", {"ann": "ask bob"})
    assert (second["judged"], second["judge"], second["notes"]) == ("accepted", "ann", {})
    assert (third["judged"], third["notes"]) == ("open", {"ann": "hm"})
    assert [(row.reason, row.notes) for row in rows_of(job.run)][0] == ("off the task", {"ann": "ask bob"})
    assert "Nothing changed" in told("--judge", "ann", "--import", rows)
    told("--judge", "ann", "--export", "out.csv")
    assert "off the task,ask bob," in Path("out.csv").read_text()
    assert json.loads(told("--judge", "ann", "--import", "out.csv", "--json")) == found


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--import", "a.csv", "--merge", "b"), "--import and --merge"),
        (("--export", "a.csv", "--import", "b.csv"), "--export and --import"),
        (("--export", "a.csv", "--merge", "b"), "--export and --merge"),
        (("--export", "a.csv", "--json"), "--export and --json"),
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(options, named):
    done = CliRunner().invoke(app, ["review", "r", *options])
    assert done.exit_code == 2 and f"{named} contradict each other" in done.output and not Path("a.csv").exists()


def test_agreement_is_told_in_plain_words():
    found = review.Agreement(("ann", "bob"), n=4, alike=3, kappa=0.5, low=0.1, high=0.9)
    assert agreement_lines((found,))[0].endswith("1 is full agreement, 0 is chance.")
    assert agreement_lines(())[0].endswith("so agreement cannot be computed.")


def test_an_import_is_one_action_for_undo(job, own_folder):
    rows = write_rows(own_folder / "a.csv", {0: ("no", "off the task", "ask bob"), 1: ("", "", "hm")})
    told("--judge", "ann", "--import", rows)
    state = job_review.open_state(job, "ann")
    assert len(state.history) == 1
    state = step(state, "u")
    assert state.message.startswith("Taken back: 1 verdict and 2 notes.")
    job_review.keep(job, state)
    state = job_review.open_state(job, "ann")
    assert not state.history and not state.verdicts and not any(state.notes.values())


def test_a_merge_tells_how_far_two_reviewers_agree_and_brings_their_notes(job, own_folder):
    shutil.copytree("runs/r", "theirs/r")
    mine = {0: ("yes", "", ""), 1: ("yes", "", ""), 2: ("no", "", ""), 3: ("no", "", "")}
    theirs = {0: ("yes", "", "nice"), 1: ("no", "dull", ""), 2: ("no", "", ""), 3: ("no", "", "")}
    told("--judge", "ann", "--import", write_rows(own_folder / "mine.csv", mine))
    rows = write_rows(own_folder / "theirs.csv", theirs)
    told("--judge", "bob", "--runs", "theirs", "--import", rows)
    shutil.copytree("runs/r", "copy/r")
    printed = told("--merge", "theirs/r")
    assert "ann and bob both judged 4 rows on their own, 3 alike (75%). Cohen's kappa 0." in printed
    assert "1 note taken over." in printed and "bob rejected it (dull)" in printed
    found = json.loads(told("--runs", "copy", "--merge", "theirs/r", "--json"))
    (agreed,) = found["agreements"]
    assert (agreed["judges"], agreed["n"], agreed["alike"], found["notes"]) == (["ann", "bob"], 4, 3, 1)
    assert [row["there"] for row in found["conflicts"]] == ["bob rejected it (dull)"]
    again = json.loads(told("--merge", "theirs/r", "--json"))
    assert again["agreements"] == found["agreements"] and (again["notes"], again["known"]) == (0, 1)


def test_new_pairs_put_notes_aside_with_the_judgements(job, own_folder):
    told("--judge", "ann", "--import", write_rows(own_folder / "a.csv", {0: ("no", "", "hm")}))
    again = ["synth", "support_routing", "--backend", "scripted", "--name", "r", "--set", "synth.n_inputs=13", "--redo"]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert job.run.path("notes.jsonl.before").exists() and not job.run.path("notes.jsonl").exists()
