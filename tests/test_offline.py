"""The whole job on a machine without a network: a namespace of its own whose only interface, loopback, is down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = ("unshare", "--map-root-user", "--net", "--")
SG_LOCAL = "import sys; from sg_local.cli import main; main(sys.argv[1:])"
NO_NETWORK = """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=5)
except OSError as error:
    print(error.errno)
"""
FEW = (
    "synth.n_inputs=24",
    "synth.n_asked=160",
    "synth.n_votes=2",
    "train.epochs=1",
    "eval.n_votes=2",
    "eval.n_dev=6",
    "eval.n_calibration=12",
    "engine.fast_copy=false",
)


def permitted() -> bool:
    """Whether this machine lets us make a network namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


def alone(code: str, *arguments: str, home: Path, text: str | None = None) -> subprocess.CompletedProcess:
    """Run Python code without a network, in an empty home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "SG_LOCAL_", "XDG_"))}
    command = [*UNSHARE, sys.executable, "-W", "ignore", "-c", code, *arguments]
    environment = {**kept, "HOME": str(home)}
    return subprocess.run(command, cwd=home, env=environment, input=text, capture_output=True, text=True, check=False)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.skipif(not permitted(), reason="this machine permits no network namespaces")
def test_the_whole_job_needs_no_network(embedded, tmp_path):
    # ENETUNREACH is 101: not even loopback answers, so nothing below can have been fetched.
    assert alone(NO_NETWORK, home=tmp_path).stdout.strip() == "101"
    settings = [word for setting in FEW for word in ("--set", setting)]
    job = ("run", "support_routing", "--yes", "--name", "alone", "--tests", "12", *settings)
    made = alone(SG_LOCAL, *job, home=tmp_path)
    assert made.returncode == 0, made.stderr
    report = json.loads((tmp_path / "runs" / "alone" / "report.json").read_text())
    assert report["n"] == 12 and {"base", "base_vote", "tuned"} <= set(report)
    answered = alone(SG_LOCAL, "predict", "alone", "-", home=tmp_path, text="My parcel is lost.\n\nI paid twice.\n")
    assert answered.returncode == 0, answered.stderr
    first, blank, last = answered.stdout.split("\n")[:3]
    assert {first, last} <= {"billing", "delivery", "technical"} and blank == ""


@pytest.mark.slow
@pytest.mark.skipif(not permitted(), reason="this machine permits no network namespaces")
def test_pull_says_that_there_is_no_network(tmp_path):
    refused = alone(SG_LOCAL, "models", "pull", "owner/repo/file.gguf", home=tmp_path)
    assert refused.returncode == 1
    assert "could not be fetched" in refused.stderr and "Traceback" not in refused.stderr
