"""The run folder: journals, stamps, artefacts, lock."""

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sg_local.records import Pair, SgError, Task
from sg_local.run import Run, check_name, default_name, list_runs, open_run, usual_run

ROWS = [Pair(f"in {i}", "\u00e4 \n") for i in range(5)]


def test_tasks_in_another_script_have_runs_of_their_own():
    names = {default_name(task, "SmolLM2") for task in ("письма", "срок", "заказ 7", "mails")}
    assert len(names) == 4 and {"mails-smollm2", "7-smollm2"} < names
    assert all(check_name(name) == name and name.endswith("smollm2") for name in names)


def test_a_run_of_0_1_0_that_is_named_after_its_model_alone_is_found_for_its_task(tmp_path):
    older = Run(tmp_path / "m")
    older.root.mkdir()
    assert usual_run(tmp_path, "письма", "m").name == default_name("письма", "m")
    task = Task("письма", "generation", "i", (Pair("a", "b"),))
    older.write_json("run.json", {"task": dataclasses.asdict(task)})
    assert usual_run(tmp_path, "письма", "m").name == "m"
    assert usual_run(tmp_path, "срок", "m").name == default_name("срок", "m")
    assert usual_run(tmp_path, "mails", "m").name == "mails-m"


def test_rows_come_back_as_they_went(run):
    run.append("rows.jsonl", ROWS[:2])
    run.append("rows.jsonl", ROWS[2:])
    assert run.read("rows.jsonl", Pair) == ROWS


def test_a_line_of_a_journal_may_hold_what_unicode_calls_a_line_end(run):
    text = "one\u2028two\x85three\u2029"
    run.append("rows.jsonl", [Pair(text, "x"), Pair("plain", "y")])
    assert [row["input"] for row in run.lines("rows.jsonl")] == [text, "plain"]


@pytest.mark.parametrize("lost", [1, 2, 7, 10_000])
def test_a_torn_line_is_passed_over_and_cut_before_the_next_append(run, lost):
    run.append("rows.jsonl", ROWS)
    path = run.path("rows.jsonl")
    size = path.stat().st_size
    os.truncate(path, max(0, size - lost))
    left = run.read("rows.jsonl", Pair)
    assert left == ROWS[: len(left)] and len(left) < 5
    run.append("rows.jsonl", ROWS[len(left) :])
    assert run.read("rows.jsonl", Pair) == ROWS


def test_a_broken_line_is_named(run):
    run.path("rows.jsonl").write_text('{"input": "a", "output": "b"}\nnot json\n')
    with pytest.raises(SgError, match=r"rows.jsonl:2"):
        run.read("rows.jsonl", Pair)


def test_a_stamp_skips_the_same_work_and_names_what_differs(run):
    run.path("in.txt").write_text("one")
    run.write_stamp("train", {"lr": 0.1, "rank": 8}, ["in.txt"])
    assert run.is_done("train", {"lr": 0.1, "rank": 8}, ["in.txt"])
    with pytest.raises(SgError, match="lr 0.1 \\(now 0.2\\)"):
        run.is_done("train", {"lr": 0.2, "rank": 8}, ["in.txt"])
    run.path("in.txt").write_text("two")
    with pytest.raises(SgError, match="another in.txt"):
        run.is_done("train", {"lr": 0.1, "rank": 8}, ["in.txt"])
    run.clear_stage("train")
    assert not run.is_done("train", {"lr": 0.1, "rank": 8}, ["in.txt"])


def test_a_setting_that_a_stage_gained_later_stands_as_what_was_done_before(run):
    run.write_stamp("filter", {"policy": "auto"})
    assert run.is_done("filter", {"policy": "auto", "evidence": "direct"})
    with pytest.raises(SgError, match='evidence "direct" .now "both".'):
        run.is_done("filter", {"policy": "auto", "evidence": "both"})


def test_a_second_process_is_refused_and_the_first_is_named(run):
    code = (
        "import sys; from pathlib import Path; from sg_local.run import Run\nwith Run(Path(sys.argv[1])).lock(): pass"
    )
    with run.lock():
        other = subprocess.run([sys.executable, "-c", code, str(run.root)], capture_output=True, text=True)
        assert f"in use by process {os.getpid()}" in other.stderr
    subprocess.run([sys.executable, "-c", code, str(run.root)], check=True)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x" * 101])
def test_names_that_are_not_one_folder_are_refused(name):
    with pytest.raises(SgError) as error:
        check_name(name)
    assert error.value.exit_code == 2


def test_runs_are_listed_and_a_missing_one_names_the_others(run):
    runs = run.root.parent
    assert [r.name for r in list_runs(runs)] == ["trial"]
    assert open_run(runs, "trial").root == run.root
    with pytest.raises(SgError, match="no run named 'other'") as error:
        open_run(runs, "other")
    assert "trial" in error.value.hint


def test_run_json_that_is_broken_is_named(run):
    run.path("run.json").write_text("{")
    with pytest.raises(SgError, match=r"run.json:1"):
        _ = Run(run.root).settings


def test_what_stands_for_a_run_can_be_pasted_into_a_shell(tmp_path):
    assert Run(Path("runs/mails")).typed == "mails"
    assert Run(tmp_path / "runs" / "mails").typed == f"{tmp_path}/runs/mails"
    spaced = Run(tmp_path / "Ann's runs; $HOME" / "mails")
    assert shlex.split(f"sg-local train {spaced.typed}") == ["sg-local", "train", str(spaced.root)]


def test_a_mistyped_run_is_told_the_nearest(tmp_path):
    for name in ("spring", "summer"):
        Run(tmp_path / name).write_json("run.json", {})
    for wrong, words in (
        ("sumer", "Did you mean summer"),
        ("SPR", "mean spring"),
        ("xyz", "Runs here: spring, summer"),
    ):
        with pytest.raises(SgError) as caught:
            open_run(tmp_path, wrong)
        assert words in caught.value.hint


def test_a_run_goes_by_the_beginning_of_its_name_and_by_its_folder(tmp_path):
    for name in ("mails", "mails-two", "spring"):
        Run(tmp_path / name).write_json("run.json", {})
    for typed, name in (("spr", "spring"), ("mails", "mails"), ("mails-", "mails-two")):
        assert open_run(tmp_path, typed).root == tmp_path / name
    for typed in ("spring", "spring/", "./mails/../spring"):
        assert open_run(tmp_path / "elsewhere", f"{tmp_path}/{typed}").root == tmp_path / "spring"
    with pytest.raises(SgError, match="begin with 'mail': mails, mails-two") as several:
        open_run(tmp_path, "mail")
    assert several.value.exit_code == 2
    with pytest.raises(SgError, match="There is no run named"):
        open_run(tmp_path, f"{tmp_path}/winter")


@pytest.mark.parametrize("name", [".lock", "rows.jsonl"])
def test_a_link_in_a_foreign_run_is_not_written_through(run, tmp_path, name):
    target = tmp_path / "precious"
    target.write_text("mine")
    run.path(name).symlink_to(target)
    with pytest.raises(SgError, match="it is a link"):
        if name == ".lock":
            with run.lock():
                pass
        else:
            run.append(name, ROWS)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("name", ["report.json", "stages", "adapter/curve.jsonl"])
def test_work_is_refused_in_a_run_that_holds_a_link(run, tmp_path, name):
    path = run.path(name)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path)
    with pytest.raises(SgError, match=f"{name} is a link"), run.lock():
        pass


def test_a_run_that_others_could_read_is_closed_off_when_work_begins(run):
    run.root.chmod(0o755)
    with run.lock():
        run.append("rows.jsonl", ROWS)
    assert run.root.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in run.root.iterdir() if path.is_file()} == {0o600}


def test_what_a_killed_process_left_half_written_is_gone_when_work_begins(run):
    """A training that was prepared writes into `adapter` without the lock: its files may be in the making."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    fused = "SmolLM2-135M-support-routing-v1.0-F16.gguf"
    left = [f"adapter/parity-f32.{child.pid}.gguf", f"adapter/x.{child.pid}.partial", f"{fused}.partial"]
    kept = [f"adapter/parity-f32.{os.getpid()}.gguf", "adapter/checkpoint.npz.partial", "fused-F16.gguf", fused]
    for name in (*left, *kept):
        run.path(name).parent.mkdir(exist_ok=True)
        run.path(name).write_text("x")
    run.path("mlx.partial").mkdir()
    run.path("mlx.partial/weights").write_text("x")
    with run.lock():
        found = {str(path.relative_to(run.root)) for path in run.root.rglob("*") if path.is_file()}
    assert found == {*kept, "run.json", ".lock"} and not run.path("mlx.partial").exists()


def test_a_task_in_run_json_that_is_none_is_named_with_its_file(run, routing):
    run.write_json("run.json", {"task": dataclasses.asdict(routing)})
    assert run.task() == routing
    run.write_json("run.json", {"task": {**dataclasses.asdict(routing), "examples": [{"input": 1}]}})
    with pytest.raises(SgError, match=r"run\.json: Task: examples\[0\]\.input is not a text"):
        run.task()
