"""What changes under a job: another process, another base, another task, the clock, lines torn or interleaved."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.faults.jobs import SCRIPTED, Programs, result_of
from tests.tiny_models import TinySpec, write_model

TASK = Path(__file__).parent.parent.parent / "tasks" / "support_routing.toml"
# Stops a job, which holds its run, until the file `go` is there.
HELD = """
import os, time
from sg_local import run as room

append = room.Run.append

def append_and_wait(self, name, rows):
    append(self, name, rows)
    if not os.path.exists("here"):
        open("here", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.02)

room.Run.append = append_and_wait
"""
SHIFTED = "import time\nreal = time.time\ntime.time = lambda: real() + {seconds}\n"
YEARS = 365 * 86_400
JOURNALS = ("inputs.jsonl", "candidates.jsonl", "verdicts.jsonl", "answers.jsonl")


@pytest.fixture(scope="module")
def others():
    """Programs beside the first ones."""
    with Programs() as found:
        yield found


def beside(work):
    """Work on a thread of its own, begun; what it returns is in the list once it has ended."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return thread, found


# Two processes


def test_a_second_process_is_refused_and_can_read_meanwhile(programs, others, finished, tmp_path):
    first, found = beside(lambda: programs.run(tmp_path, *SCRIPTED, before=HELD))
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "here").exists():
            assert time.monotonic() < end and first.is_alive()
            time.sleep(0.02)
        for words in (SCRIPTED, ("filter", "trial"), ("runs", "rm", "trial", "--yes")):
            refused = others.run(tmp_path, *words)
            assert refused.status == 1 and "is in use by process" in refused.err, (words, refused.err)
        assert others.run(tmp_path, "runs", "ls").status == others.run(tmp_path, "runs", "show", "trial").status == 0
    finally:
        (tmp_path / "go").touch()
        first.join()
    assert found[0].status == 0 and result_of(tmp_path) == result_of(finished)


@pytest.mark.parametrize("round", [0, *(pytest.param(n, marks=pytest.mark.faults) for n in range(1, 10))])
def test_two_that_begin_at_once_make_one_run(programs, others, finished, tmp_path, round):
    second, found = beside(lambda: others.run(tmp_path, *SCRIPTED))
    ended = programs.run(tmp_path, *SCRIPTED)
    second.join()
    assert {ended.status, found[0].status} in ({0}, {0, 1})
    for one in (ended, found[0]):
        assert one.status == 0 or "in use by process" in one.err or "by another process" in one.err, one.err
    assert result_of(tmp_path) == result_of(finished)


def test_two_first_starts_fill_one_cache(programs, others, tmp_path):
    pytest.importorskip("llama_cpp")
    model = write_model(tmp_path / "tiny.gguf", TinySpec(type="Q4_1", layers=1))
    words = ("predict", "support_routing", "Where is my parcel?", "--base", "--model", str(model))
    small = "import sg_local.backends.llama_cpp.probe as probe; probe.TOO_SMALL_BYTES = 0"
    second, found = beside(lambda: others.run(tmp_path, *words, before=small))
    ended = programs.run(tmp_path, *words, before=small)
    second.join()
    assert ended.status == found[0].status == 0, (ended.err, found[0].err)
    assert ended.out == found[0].out
    left = [path.name for path in (tmp_path / "home").rglob("*") if path.suffix == ".partial" or "trial-" in path.name]
    assert not left and list((tmp_path / "home/tried").iterdir())


# Another base, another task


def test_a_base_that_was_replaced_is_noticed(programs, finished, tmp_path):
    """The new file has the old one's size and time: only its bytes tell."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    base = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1))
    record = tmp_path / "runs/trial/run.json"
    data = json.loads(record.read_text())
    os.utime(base, (1e9, 1e9))
    data["model"] |= {"path": str(base), "digest": hashlib.sha256(base.read_bytes()).hexdigest()}
    record.write_text(json.dumps({**data, "backend": "llama.cpp", "trainer": "torch"}))
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")}
    content = bytearray(base.read_bytes())
    content[-1] ^= 1
    base.write_bytes(content)
    os.utime(base, (1e9, 1e9))
    changed = programs.run(tmp_path, "eval", "trial", "--redo")
    assert changed.status == 1 and "has changed since run trial began" in changed.err, changed.err
    base.unlink()
    gone = programs.run(tmp_path, "eval", "trial", "--redo")
    assert gone.status == 1 and "is gone" in gone.err
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")} == before


def test_a_task_that_was_changed_is_noticed(programs, tmp_path):
    task = tmp_path / "support_routing.toml"
    task.write_text(TASK.read_text())
    line = tuple(str(task) if word == "support_routing" else word for word in SCRIPTED)
    assert programs.run(tmp_path, *line).status == 0
    before = result_of(tmp_path)
    task.write_text(TASK.read_text().replace("small online shop", "large online shop"))
    changed = programs.run(tmp_path, *line)
    assert changed.status == 1 and "was made from another version of task support_routing" in changed.err
    assert "instruction" in changed.err and result_of(tmp_path) == before
    task.write_text(TASK.read_text())
    assert programs.run(tmp_path, *line).status == 0


# The clock


def test_the_clock_may_go_back_and_beyond_2038(programs, finished, tmp_path):
    """Each try lives in another year, and its files say so."""
    for years, after_s in ((0, 0.5), (-30, 0.5), (70, 0.5), (-50, None)):
        shifted = SHIFTED.format(seconds=years * YEARS)
        done = programs.run(tmp_path, *SCRIPTED, before=shifted, end_after_s=after_s)
        for path in (tmp_path / "runs").rglob("*"):
            os.utime(path, (time.time() + years * YEARS,) * 2)
    assert done.status == 0, done.err
    assert result_of(tmp_path) == result_of(finished)
    assert programs.run(tmp_path, *SCRIPTED).err.count("already finished") == 4
    assert programs.run(tmp_path, "runs", "ls").status == programs.run(tmp_path, "runs", "show", "trial").status == 0


# Lines


@pytest.mark.parametrize(
    ("journal", "end"),
    [
        ("candidates.jsonl", "zeros"),
        ("verdicts.jsonl", "torn"),
        *(pytest.param(name, end, marks=pytest.mark.faults) for name in JOURNALS for end in ("torn", "zeros")),
    ],
)
def test_a_last_line_that_a_crash_left_is_cut_and_its_row_made_again(programs, finished, tmp_path, journal, end):
    """A file system that was cut off may leave half a line, or zeros in its place."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    path = tmp_path / "runs/trial" / journal
    lines = path.read_bytes().splitlines(keepends=True)
    half = lines[-1][: len(lines[-1]) // 2]
    path.write_bytes(b"".join(lines[:-1]) + (half if end == "torn" else bytes(len(half))))
    done = programs.run(tmp_path, *SCRIPTED)
    assert done.status == 0, done.err
    assert result_of(tmp_path) == result_of(finished)


@pytest.mark.parametrize(
    "journal", ["answers.jsonl", *(pytest.param(name, marks=pytest.mark.faults) for name in JOURNALS[:3])]
)
def test_lines_that_two_writers_interleaved_are_named_and_nothing_is_lost(programs, finished, tmp_path, journal):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    path = tmp_path / "runs/trial" / journal
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    whole = lines[middle]
    lines[middle] = whole[:20] + lines[0].rstrip(b"\n") + whole[20:]
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    done = programs.run(tmp_path, *SCRIPTED)
    assert done.status == 1 and f"{journal}:{middle + 1}: this line is not JSON" in done.err, done.err
    assert "Fix or delete this line" in done.err and path.read_bytes() == before
    lines[middle] = whole
    path.write_bytes(b"".join(lines))
    assert programs.run(tmp_path, *SCRIPTED).status == 0
    assert result_of(tmp_path) == result_of(finished)
