"""Ctrl-C, SIGTERM and SIGHUP in every stage and under the live view: a row's end, the terminal given back, goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.faults.jobs import SCRIPTED, job, result_of
from tests.terminal import Terminal

# A signal to itself once so many rows, or a file, of a stage were written: `append` and `replace` of the run.
SIGNALLED = """
import os, signal
from sg_local import run as room

signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background is started deaf to it
left = {left}

def after(way):
    work = getattr(room.Run, way)
    def wrapped(self, name, *rest):
        global left
        work(self, name, *rest)
        if name == "{name}":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), {number})
    return wrapped

for way in ("append", "replace", "write_json"):
    setattr(room.Run, way, after(way))
"""
PLACES = {
    "synth, inputs": ("inputs.jsonl", 3),
    "synth, outputs": ("candidates.jsonl", 2),
    "filter": ("verdicts.jsonl", 1),
    "train": ("train.jsonl", 1),
    "eval": ("answers.jsonl", 4),
    "report": ("report.json", 1),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLICE = {("synth, outputs", signal.SIGTERM), ("train", signal.SIGINT), ("eval", signal.SIGHUP)}
EVERY = [
    pytest.param(place, number, marks=() if (place, number) in SLICE else pytest.mark.faults, id=f"{place}-{number}")
    for place in PLACES
    for number in SIGNALS
]
LONG = job("synth.n_inputs=4000", options=("--backend", "scripted"))


@pytest.mark.parametrize(("place", "number"), EVERY)
def test_a_signal_ends_a_stage_as_ctrl_c_does(programs, wanted, tmp_path, place, number):
    name, left = PLACES[place]
    before = SIGNALLED.format(name=name, left=left, number=int(number))
    ended = programs.run(tmp_path / "job", *SCRIPTED, before=before)
    assert ended.status == 128 + number, ended.err
    assert "Interrupted. Run the same command again to continue." in ended.err
    assert programs.run(tmp_path / "job", *SCRIPTED).status == 0
    assert result_of(tmp_path / "job") == wanted


def test_a_signal_that_is_ignored_stays_so(programs, wanted, tmp_path):
    """nohup: the terminal may go, the job stays."""
    before = SIGNALLED.format(name="candidates.jsonl", left=1, number=int(signal.SIGHUP))
    done = programs.run(tmp_path / "job", *SCRIPTED, before=f"{before}\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert done.status == 0 and result_of(tmp_path / "job") == wanted


@pytest.mark.parametrize("way", ["ctrl-c", "terminate", "hang up"])
def test_the_live_view_gives_the_terminal_back(tmp_path, way):
    view = Terminal(LONG, tmp_path, SG_LOCAL_HOME=str(tmp_path / "home"))
    view.wait("synth", "/s")
    if way == "ctrl-c":
        view.press("\x03")
    else:
        view.child.kill({"terminate": signal.SIGTERM, "hang up": signal.SIGHUP}[way])
    assert view.end() == {"ctrl-c": 130, "terminate": 143, "hang up": 129}[way]
    assert view.raw.rfind(b"\x1b[?25h") > view.raw.rfind(b"\x1b[?25l") >= 0
    assert b"Interrupted. Run the same command again" in view.raw and b"Traceback" not in view.raw


def test_a_terminal_that_is_closed_ends_the_job_at_a_row(tmp_path):
    view = Terminal(LONG, tmp_path, SG_LOCAL_HOME=str(tmp_path / "home"))
    view.wait("synth", "/s")
    os.close(view.child.child_fd)
    end = time.monotonic() + 60
    while view.child.isalive():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert view.child.exitstatus == 129
    rows = (tmp_path / "runs/trial/inputs.jsonl").read_bytes()
    assert rows.endswith(b"\n")
