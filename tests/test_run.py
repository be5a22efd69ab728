"""The run folder: journals, stamps, artefacts, lock."""

import errno
import hashlib
import os
import subprocess
import sys

import pytest

from sg_local.records import Pair, SgError
from sg_local.run import (
    Run,
    artefact,
    check_name,
    file_digest,
    list_runs,
    open_run,
    replacing,
    translated,
    write_cache,
    write_text,
)

ROWS = [Pair(f"in {i}", "\u00e4 \n") for i in range(5)]


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


def test_an_artefact_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(ValueError), artefact(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with artefact(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("one", "two"):
        with artefact(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / text).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


def test_a_shared_artefact_is_built_beside_that_of_another_process(tmp_path):
    with artefact(tmp_path / "entry", shared=True) as partial:
        partial.write_text("mine")
        (tmp_path / "entry.partial").write_text("another's")
        assert str(os.getpid()) in partial.name
    assert (tmp_path / "entry").read_text() == "mine" and (tmp_path / "entry.partial").exists()


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ValueError), replacing(path) as file:
        file.write(b"half")
        raise ValueError
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "whole"


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "file").touch()
    write_cache(tmp_path / "file" / "entry.json", {})


@pytest.fixture
def hashed(monkeypatch):
    """The files whose bytes were hashed, in order."""
    real, names = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: names.append(file.name) or real(file, kind))
    return names


def old(path, text):
    path.write_text(text)
    os.utime(path, (1e9, 1e9))
    return path


def test_a_rested_file_is_hashed_once(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "weights")
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"weights").hexdigest()
    assert len(hashed) == 1


def test_a_file_that_was_just_written_is_hashed_each_time(tmp_path, hashed):
    path = tmp_path / "rows.jsonl"
    for text in ("one", "two"):
        path.write_text(text)
        assert file_digest(path) == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_of_the_same_size_and_time_in_another_s_place_is_hashed(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "one")
    file_digest(path)
    os.replace(old(tmp_path / "other.gguf", "two"), path)
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()


def test_another_process_finds_the_digest_in_the_cache_folder(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "weights")
    code = "import sys; from pathlib import Path; from sg_local.run import file_digest; "
    code += "print(file_digest(Path(sys.argv[1]), Path(sys.argv[2])))"
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "cache"], capture_output=True, text=True, check=True
    )
    assert file_digest(path, tmp_path / "cache") == done.stdout.strip()
    assert hashed == []


def test_no_file_has_no_digest(tmp_path):
    assert file_digest(tmp_path / "none") is None


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    with pytest.raises(SgError, match="disk is full"), translated(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


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


def test_a_mistyped_run_is_told_the_nearest(tmp_path):
    for name in ("spring", "summer"):
        Run(tmp_path / name).write_json("run.json", {})
    for wrong, words in (
        ("sumer", "Did you mean summer"),
        ("spr", "mean spring"),
        ("xyz", "Runs here: spring, summer"),
    ):
        with pytest.raises(SgError) as caught:
            open_run(tmp_path, wrong)
        assert words in caught.value.hint
