"""Streams that are closed, full or no longer read: one sentence at most, and a job's files do not suffer."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from tests.faults.jobs import SCRIPTED, result_of

PROGRAM = f"{shlex.quote(sys.executable)} -W ignore -c 'from sg_local.cli import main; main()'"


def shell(folder, line):
    """A line of the shell in which $P is the program; what the last of it gave."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SG_LOCAL_", "XDG_"))}
    env = {**kept, "SG_LOCAL_HOME": str(folder / "home"), "HOME": str(folder)}
    line = line.replace("$P", PROGRAM)
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_dev_null(finished, closed):
    done = shell(finished, f"$P runs ls {closed}")
    assert done.returncode == 0 and done.stderr == ""
    assert ("trial" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_nothing_lands_in_a_file_of_a_job_whose_streams_are_closed(finished, tmp_path):
    """The next file that is opened would take the number of a closed stream, and its bytes."""
    done = shell(tmp_path, f"$P {shlex.join(SCRIPTED)} <&- >&- 2>&-")
    assert done.returncode == 0
    assert result_of(tmp_path) == result_of(finished)


@pytest.mark.parametrize("words", ["runs ls --json", "tasks show support_routing", "--help", "predict trial x"])
def test_a_reader_that_has_gone_is_no_failure_to_speak_of(finished, words):
    done = shell(finished, f"set -o pipefail; $P {words} | true")
    assert done.returncode in (0, 1) and done.stderr == ""


def test_a_job_whose_narration_nobody_reads_stops_at_a_row_and_goes_on(finished, tmp_path):
    stopped = shell(tmp_path, f"set -o pipefail; $P {shlex.join(SCRIPTED)} 2>&1 | head -1")
    assert stopped.returncode == 1 and stopped.stdout.count("\n") == 1
    assert shell(tmp_path, f"$P {shlex.join(SCRIPTED)}").returncode == 0
    assert result_of(tmp_path) == result_of(finished)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_result_that_cannot_be_written_is_a_failure(finished):
    done = shell(finished, "$P runs ls > /dev/full")
    assert done.returncode == 1 and done.stderr.startswith("Error: The disk is full.")
    assert shell(finished, "$P runs show gone 2> /dev/full").returncode == 2
