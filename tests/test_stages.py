"""What a stage may refuse, put away and remember: nothing finished is unmade because something else went wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local.cli.app import app
from sg_local.job import stages
from sg_local.job.stages import STAGES, perform
from sg_local.records import InputRow, NoRows
from sg_local.run import ADAPTER, INPUTS, RUN, TRAIN, MadeOtherwise, Run

SMALL = ("--set", "synth.n_inputs=24", "--set", "synth.n_asked=96")
LINE = ("run", "support_routing", "--backend", "scripted", "--name", "r", "--yes", *SMALL)


def run(*args, code=0):
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def finished(own_folder):
    run(*LINE)
    return Run(own_folder / "runs" / "r")


def contents(run: Run) -> dict[str, bytes]:
    """Every file of a run but its lock."""
    files = sorted(path for path in run.root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run.root)): path.read_bytes() for path in files}


FAILURES = {
    "a full disk": sg.SgError("The disk is full while writing x.", "Free some space."),
    "a divergence": sg.SgError("The loss is not a number at step 3.", "Lower the learning rate."),
    "too few rows": NoRows("Training needs at least 3 rows.", "Keep more."),
    "our own mistake": ZeroDivisionError("a bug"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("how", ["--redo", "--redo and other settings"])
def test_a_failure_while_a_stage_is_made_again_leaves_it_as_it_was(finished, monkeypatch, failure, how):
    def fail(job, tell):
        job.run.path(ADAPTER).write_bytes(b"half")
        raise failure

    before = contents(finished)
    monkeypatch.setitem(STAGES, "train", stages.dataclasses.replace(STAGES["train"], run=fail))
    more = ("--set", "epochs=3") if "settings" in how else ()
    result = CliRunner().invoke(app, ["train", "r", "--redo", *more])
    assert result.exit_code != 0
    assert contents(finished) == before


@pytest.mark.parametrize("line", [("train", "r", "--redo"), ("eval", "r", "--redo"), (*LINE, "--redo")])
def test_a_base_that_is_gone_is_refused_before_anything_is_put_away(finished, monkeypatch, line):
    def gone(job):
        raise sg.SgError("The base model has changed since run r began.", "Put the file back.")

    before = contents(finished)
    monkeypatch.setattr(stages, "check_base", gone)
    assert "has changed" in run(*line, code=1).stderr
    assert contents(finished) == before


def test_only_what_was_made_otherwise_is_made_again(finished, monkeypatch):
    def broken(job, tell):
        raise sg.SgError("The disk is full while writing adapter.gguf.", "Free some space.")

    with sg.load("r") as job, job.opened.lock():
        job.opened.redo = True
        job.opened.run.path(ADAPTER).unlink()
        monkeypatch.setitem(STAGES, "train", stages.dataclasses.replace(STAGES["train"], run=broken))
        before = contents(finished)
        with pytest.raises(sg.SgError, match="disk is full"):
            perform(job.opened, "train", lambda event: None)
    assert contents(finished) == before


def test_what_was_made_stays_beside_when_it_is_made_again(finished):
    rows = finished.path(TRAIN).read_bytes()
    run("train", "r", "--redo", "--set", "epochs=3")
    assert finished.path(f"{TRAIN}.before").read_bytes() == rows
    assert not list(finished.root.glob("stages/*.before"))


def test_unfinished_work_never_takes_the_place_of_what_was_finished(finished, monkeypatch):
    def interrupt(job, tell):
        job.run.path(TRAIN).write_text("half")
        raise KeyboardInterrupt

    rows, work = finished.path(TRAIN).read_bytes(), STAGES["train"]
    for _ in range(2):  # the second time, what stands there is the half of the first
        monkeypatch.setitem(STAGES, "train", stages.dataclasses.replace(work, run=interrupt))
        run("train", "r", "--redo", code=130)
        assert finished.path(f"{TRAIN}.before").read_bytes() == rows
    monkeypatch.setitem(STAGES, "train", work)
    run("train", "r", "--redo")
    assert finished.path(f"{TRAIN}.before").read_bytes() == rows == finished.path(TRAIN).read_bytes()


def test_made_otherwise_is_told_apart_from_every_other_failure(finished):
    with pytest.raises(MadeOtherwise, match="made with"):
        finished.is_done("filter", {"other": 1})


# run.json


def test_a_refused_command_leaves_run_json_as_it_was(finished):
    before = finished.path(RUN).read_bytes()
    run("predict", "r", "Where is my parcel?", "--backend", "mlx", code=1)
    run("train", "r", "--set", "epochs=5", code=1)  # finished with others, and no --redo
    run("train", "r", "--set", "epochs=many", code=2)
    run("filter", "r", "--set", "near_duplicate.threshold=high", code=2)
    assert finished.path(RUN).read_bytes() == before


def test_a_command_that_worked_is_remembered(finished):
    run("train", "r", "--set", "epochs=3", "--redo")
    assert json.loads(finished.path(RUN).read_text())["set"]["train"] == {"epochs": "3"}
    assert "already finished" in run("train", "r").stderr


def test_a_new_run_that_is_refused_leaves_nothing(own_folder, monkeypatch):
    def fail(job, tell):
        raise sg.SgError("The engine cannot be opened.", "Try again.")

    monkeypatch.setitem(STAGES, "synth", stages.dataclasses.replace(STAGES["synth"], run=fail))
    run(*LINE, code=1)
    assert not (own_folder / "runs" / "r").exists()


def _begin(seed, barrier, results):
    barrier.wait()
    result = CliRunner().invoke(app, [*LINE, "--seed", str(seed)])
    results.put((seed, result.exit_code))


def test_of_two_new_runs_of_one_name_one_wins_whole(own_folder):
    for attempt in range(3):
        context = multiprocessing.get_context("fork")
        barrier, results = context.Barrier(2), context.Queue()
        both = [context.Process(target=_begin, args=(seed, barrier, results)) for seed in (1, 2)]
        for process in both:
            process.start()
        codes = dict(results.get(timeout=120) for _ in both)
        for process in both:
            process.join()
        made = Run(own_folder / "runs" / "r")
        seed = made.settings["seed"]
        assert codes[seed] == 0, attempt
        assert [code for one, code in codes.items() if one != seed] == [1]
        run(*LINE, "--seed", str(seed))  # nothing left to do: rows and run.json are of one seed
        assert made.read(INPUTS, InputRow)[0].seed
        os.rename(made.root, own_folder / f"won-{attempt}")


# Reading commands


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc"), reason="cannot drop rights")
def test_commands_that_only_read_need_no_right_to_write(finished, own_folder, monkeypatch):
    def never(*args, **more):
        raise AssertionError(f"a reading command writes: {args}")

    before = contents(finished)
    for path in [finished.root, *finished.root.rglob("*")]:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR if path.is_dir() else stat.S_IRUSR)
    for name in ("append", "replace", "write_json", "write_stamp", "lock"):
        monkeypatch.setattr(Run, name, never)
    try:
        run("predict", "r", "Where is my parcel?", "--set", "engine.n_ctx=1024")
        run("review", "r", "--export", "rows.csv")
        run("report", "r")
        run("runs", "show", "r")
        run("runs", "ls")
    finally:
        for path in [finished.root, *finished.root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert contents(finished) == before
    assert Path("rows.csv").exists() and Path("r.html").exists()


DAMAGES = {
    "cut by some bytes": lambda path: os.truncate(path, path.stat().st_size - 20),
    "cut at a line": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3])),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("name", ["inputs.jsonl", "candidates.jsonl", "adapter.gguf", "train.jsonl", "answers.jsonl"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_a_finished_stage_made_is_repaired_where_it_was_damaged(finished, name, damage):
    before = contents(finished)
    damage(finished.path(name))
    assert f"{name} was damaged or deleted" in run(*LINE).stderr
    after = contents(finished)
    assert {file: after[file] for file in before if not file.startswith("stages/") and file != "report.json"} == {
        file: data for file, data in before.items() if not file.startswith("stages/") and file != "report.json"
    }
    assert "damaged" not in run(*LINE).stderr
