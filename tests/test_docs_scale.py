"""docs/scale.md: the example of two processes, by its very commands, and the settings that the page names."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import TinySpec, write_model
from tiny_walk import small_settings

from sg_local.backends import EngineSettings
from sg_local.job.presets import preset_toml

ROOT = Path(__file__).parent.parent
PAPER = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
SERVE, RUN = (shlex.split(line) for line in re.findall(r"^    sg-local (.+)$", PAPER, re.MULTILINE)[:2])
PROGRAM = "from sg_local.cli import main; main()"


def test_the_settings_of_the_page_are_there():
    named = set(re.findall(r"`engine\.(\w+)`", PAPER))
    assert named <= {item.name for item in dataclasses.fields(EngineSettings)}


@pytest.fixture
def env(tmp_path):
    """A home with small settings, whose jobs' base is a tiny model."""
    base = write_model(
        tmp_path / "tiny.gguf", TinySpec(type="F32", head_type="F32", width=64, ffn=128, embedding_std=0.1)
    )
    home = tmp_path / "home"
    home.mkdir()
    settings = small_settings({"types": ("F16",), "min_gain": -9.0})
    settings["synth"] |= {"n_asked": 16, "n_inputs": "none", "temperature": 2.0}
    settings["engine"] = {"n_ctx": 1024, "n_threads": 1, "fast_copy": False, "n_parallel": 4}
    settings["eval"] |= {"resamples": 20}
    (home / "config.toml").write_text(preset_toml(settings, "", "").replace('base = ""', f'model = "{base}"'))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    return {**kept, "SG_LOCAL_HOME": str(home), "PYTHONPATH": str(ROOT)}


def test_two_processes_make_a_tuned_model(env, tmp_path):
    words = [sys.executable, "-c", PROGRAM]
    serve = ["0" if word == SERVE[SERVE.index("--port") + 1] else word for word in SERVE]
    with subprocess.Popen([*words, *serve], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.match(r"http://[\d.:]+/v1", server.stdout.readline())
            assert address is not None
            there = [address[0] if word.startswith("http://") else word for word in RUN]
            done = subprocess.run(
                [*words, *there, "--tests", "4"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
            )
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert f"endpoint: {address[0]}, model " in done.stderr and "without scores" not in " ".join(done.stderr.split())
    folder = tmp_path / "runs" / "there"
    assert json.loads((folder / "run.json").read_text())["backend"] == "openai"
    assert (folder / "adapter.gguf").exists() and "base" in json.loads((folder / "report.json").read_text())["systems"]
