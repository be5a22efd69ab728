"""Ctrl-C in the middle of a synthesis on real weights: it ends at a row, and the same line goes on to the same rows.

The interrupted process sends itself SIGINT a moment after it has appended the row named, while the engine decodes.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading
from sg_local import run as room
from sg_local.cli import main

name, left = sys.argv.pop(1), int(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started deaf to it
append = room.Run.append

def append_and_interrupt(self, journal, rows):
    global left
    append(self, journal, rows)
    left -= journal == name
    if left == 0:
        left = -1
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

room.Run.append = append_and_interrupt
main(sys.argv[1:])
"""
SETS = ("synth.n_inputs=12", "synth.n_asked=60", "synth.round_size=6", "synth.chunk_size=4", "synth.n_votes=2")
LINE = (
    "synth",
    "support_routing",
    "--name",
    "trial",
    "--no-fast-copy",
    *(word for one in SETS for word in ("--set", one)),
)
JOURNALS = {"inputs.jsonl": 8, "candidates.jsonl": 2}


def sg_local(folder, name="none", left=-1):
    """The command in its own process, interrupted after so many appends to a journal; none: left alone."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-c", PROGRAM, name, str(left), *LINE]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.usefixtures("embedded")
def test_ctrl_c_ends_a_synthesis_at_a_row_and_the_same_line_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    once, often = tmp_path / "once/runs/trial", tmp_path / "often/runs/trial"
    assert sg_local(tmp_path / "once").returncode == 0
    for journal, n_rows in JOURNALS.items():
        stopped = sg_local(tmp_path / "often", journal, n_rows)
        assert stopped.returncode == 130, stopped.stderr
        assert "Interrupted. Run the same command again" in stopped.stderr
        rows = (often / journal).read_bytes()
        assert rows.endswith(b"\n") and (once / journal).read_bytes().startswith(rows)
        assert not list(often.glob("stages/*"))
    assert sg_local(tmp_path / "often").returncode == 0
    for journal in JOURNALS:
        assert (often / journal).read_bytes() == (once / journal).read_bytes()
