"""docs/decisions.md: from a logged call to a served model, by the very commands of the page."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sg_local.decisions import read_request

ROOT = Path(__file__).parent.parent
PAPER = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
CALL = json.loads(re.search(r"^```json\n(.+?)^```", PAPER, re.MULTILINE | re.DOTALL)[1])
COMMANDS = [shlex.split(line) for line in re.findall(r"^    sg-local (.+)$", PAPER, re.MULTILINE)]
CURL = shlex.split(re.search(r"^    curl .+$", PAPER, re.MULTILINE)[0])[-1]
PROGRAM = "from sg_local.cli import main; main()"
SETTINGS = 'backend = "scripted"\n[synth]\nn_inputs = 40\nn_asked = 160\n[eval]\nresamples = 50\n[train]\nepochs = 1\n'
OFF = "".join(f"[filter.{rule}]\non = false\n" for rule in ("grounding", "copied_output", "vote_share"))


@pytest.fixture
def office(tmp_path):
    """A folder with the logged call and test rows, and an environment with small settings."""
    (tmp_path / "call.json").write_text(json.dumps(CALL))
    with open(tmp_path / "tests.csv", "w", newline="") as file:
        texts = [
            ["Where does my refund hide?", "billing"],
            ["The box came open.", "delivery"],
            ["Error 503.", "technical"],
        ]
        csv.writer(file).writerows([["input", "output"], *texts])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(SETTINGS + OFF)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    return tmp_path, {**kept, "SG_LOCAL_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}


def test_the_walk_leads_from_a_logged_call_to_an_answer_of_the_same_form(office):
    folder, env = office
    assert [command[0] for command in COMMANDS] == ["tasks", "run", "eval", "serve"]
    for command in COMMANDS[:-1]:
        args = [sys.executable, "-c", PROGRAM, *command]
        done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0 and "Traceback" not in done.stderr, (command, done.stdout, done.stderr)
    assert "Calibrated probabilities (temperature" in done.stdout and "Above 0.7" in done.stdout
    asked, logged = CALL["request"], CALL["response"]
    for body in (json.dumps(asked), CURL):
        answer = served(folder, env, body)
        assert set(answer) == set(logged) and answer["model"] == "team"
        mine, theirs = answer["answers"]["team"], logged["answers"]["team"]
        assert set(mine) >= set(theirs) and list(mine["probabilities"]) == list(theirs["probabilities"])
        assert mine["x_model"] == "team" and mine["x_calibrated"]


def served(folder, env, body):
    """What the server answers to a request at the hosted service's path; the port is a free one."""
    args = [sys.executable, "-c", PROGRAM, *COMMANDS[-1], "--port", "0"]
    with subprocess.Popen(args, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[0].removesuffix("/v1")
            headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
            request = urllib.request.Request(f"{url}/v1/systemone", body.encode(), headers)
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        finally:
            process.terminate()


def test_the_page_s_request_is_the_logged_question_on_another_state():
    mine, logged = read_request(json.loads(CURL)), read_request(CALL["request"])
    assert mine.questions == logged.questions and mine.state != logged.state
