"""`tune-settings` with the scripted backend: the preset that comes out, a kill and the way on, what it refuses."""

import json

import pytest
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.job import trials
from sg_local.job.presets import load_preset
from sg_local.run import Run

SMALL = ("--set", "synth.n_inputs=40", "--set", "eval.resamples=20", "--set", "eval.n_dev=4", "--tests", "8")
LINE = ("tune-settings", "support_routing", "review_sentiment", "--backend", "scripted", *SMALL)
GRID = ("--temperatures", "0.7,0.9", "--epochs", "1")
pytestmark = pytest.mark.usefixtures("own_folder")


def run(*args, code=0):
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def made(folder, name="tune-settings"):
    return {file: (folder / "runs" / name / file).read_bytes() for file in ("trials.jsonl", "preset.toml")}


def test_the_preset_file_is_what_run_uses(own_folder):
    result = run(*LINE, *GRID, "--out", "mine.toml")
    assert "test rows: 8 of support_routing, 8 of review_sentiment" in result.stderr
    assert result.stdout.splitlines()[-1] == "mine.toml" and "chosen" in result.stdout
    values = load_preset("mine.toml", "generation")
    assert values["synth"]["temperature"] in (0.7, 0.9) and values["train"]["epochs"] == 1.0
    assert values["synth"]["n_inputs"] == 40 and values["eval"]["resamples"] == 20
    run("run", "support_routing", "--backend", "scripted", "--yes", "--name", "with", "--preset", "mine.toml")
    stamp = Run(own_folder / "runs" / "with").stamp("synth")["settings"]
    assert (stamp["temperature"], stamp["n_inputs"]) == (values["synth"]["temperature"], 40)


def test_interrupted_anywhere_it_goes_on_and_ends_with_the_same_bytes(own_folder, monkeypatch):
    run(*LINE, *GRID, "--name", "whole")
    wanted, perform = made(own_folder, "whole"), trials.perform
    for n_before in (1, 3, 6, 2):  # stages done before Ctrl-C comes
        calls = []

        def interrupted(job, stage, narrate, calls=calls, n_before=n_before):
            calls.append(stage)
            if len(calls) > n_before:
                raise KeyboardInterrupt
            perform(job, stage, narrate)

        with monkeypatch.context() as patch:
            patch.setattr(trials, "perform", interrupted)
            run(*LINE, *GRID, code=130)
        assert not (own_folder / "runs/tune-settings/preset.toml").exists()
    run(*LINE, *GRID)
    assert made(own_folder) == wanted


def test_a_finished_search_makes_no_trial_again(own_folder):
    run(*LINE, *GRID)
    before = made(own_folder)
    assert "trial" not in run(*LINE, *GRID).stderr.replace("tune-settings", "")
    assert made(own_folder) == before
    found = json.loads(run(*LINE, *GRID, "--json").stdout)
    assert set(found) == {"chosen", "worst_gain", "trials"} and len(found["trials"]) == before["trials.jsonl"].count(
        b"\n"
    )


def test_each_number_of_epochs_trains_anew_on_the_same_rows(own_folder):
    line = (
        "tune-settings",
        "support_routing",
        "--backend",
        "scripted",
        *SMALL,
        "--temperatures",
        "0.7",
        "--epochs",
        "1,2",
    )
    result = run(*line, "--all")
    assert result.stderr.count("synth: already finished") == 1 and result.stderr.count("train: done") == 2
    assert [t["epochs"] for t in json.loads(run(*line, "--json").stdout)["trials"]] == [1.0, 2.0]


def test_a_search_made_otherwise_says_what_differs_and_redo_begins_anew(own_folder):
    run(*LINE, *GRID)
    assert "seed 0 (now 5)" in run(*LINE, *GRID, "--seed", "5", code=1).stderr
    assert "--redo" in run(*LINE, *GRID, "--preset", "paper", code=1).stderr
    run(*LINE, *GRID, "--seed", "5", "--redo")


def test_a_setting_without_rows_is_out(own_folder):
    strict = ("--set", "filter.vote_share.threshold=1.1", "--set", "filter.policy=voted")
    result = run(*LINE, *GRID, *strict, code=1)
    assert "This setting is out: Training needs at least" in result.stderr
    assert "No setting could be used on every task" in result.stderr


def test_what_cannot_be_searched_is_refused(own_folder):
    (own_folder / "bare.toml").write_text(
        'kind = "generation"\ninstruction = "Shorten."\n[[examples]]\ninput = "a b"\noutput = "a"\n'
    )
    assert "has no test rows" in run("tune-settings", "bare.toml", code=2).stderr
    assert "same name" in run("tune-settings", "iso_date", "iso_date", code=2).stderr
    assert "not a list of numbers" in run("tune-settings", "iso_date", "--epochs", "two", code=2).stderr
    assert "above zero" in run("tune-settings", "iso_date", "--temperatures", "0", code=2).stderr
    (own_folder / "runs/taken").mkdir(parents=True)
    (own_folder / "runs/taken/run.json").write_text("{}")
    assert "is a run" in run("tune-settings", "iso_date", "--name", "taken", code=2).stderr
