"""docs/privacy.md: every command runs, and texts of a task stand in the files that the page names and in no other."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
from sg_local.run import Run

ROOT = Path(__file__).parent.parent
PAPER = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    sg-local (.+)$", PAPER, re.MULTILINE)
NAMED = [name for line in re.findall(r"^\| (`.+?) \|", PAPER, re.MULTILINE) for name in re.findall(r"`([^`]+)`", line)]
PROGRAM = "from sg_local.cli import main; main()"
SECRET = "zebrafish"
TEXTS = ("zebrafish", "quokka", "narwhal")
"""A word of each own row, of each example, of each test row."""

TEAMS = """name = "teams"
kind = "classification"
instruction = "Say which team: Billing, Delivery or Technical."
labels = ["Billing", "Delivery", "Technical"]
examples = [
    { input = "quokka I was charged twice for one order.", output = "Billing" },
    { input = "quokka My parcel is not here.", output = "Delivery" },
    { input = "quokka The app closes as soon as I tap.", output = "Technical" },
]
tests = [
    { input = "narwhal The invoice is wrong.", output = "Billing" },
    { input = "narwhal The box stood in the rain.", output = "Delivery" },
]
"""


@pytest.fixture
def office(tmp_path):
    """A folder with a task, own rows and an empty home with small settings."""
    (tmp_path / "home").mkdir()
    text = 'backend = "scripted"\n[synth]\nn_inputs = 20\n[eval]\nresamples = 20\n'
    (tmp_path / "home" / "config.toml").write_text(text)
    (tmp_path / "teams.toml").write_text(TEAMS)
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        rows = [[f"{SECRET} {i}: my parcel number {i} is late", team] for i, team in enumerate(["Billing"] * 6)]
        rows += [["", ""], [f"{SECRET} write to ann@firma.de", "Delivery"]]
        csv.writer(file).writerows([["input", "output"], *rows])
    return tmp_path


def typed(folder: Path, line: str) -> str:
    """What a command line prints on both streams; it must succeed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    env = {**kept, "SG_LOCAL_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hub")}
    args = [sys.executable, "-c", PROGRAM, *shlex.split(line)]
    done = subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, (line, done.stdout, done.stderr)
    return done.stdout + done.stderr


def holders(folder: Path) -> set[str]:
    """The files below a folder that hold a text of the task."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)) for path in files if any(word.encode() in path.read_bytes() for word in TEXTS)
    }


def test_texts_stand_where_the_page_says_and_go_when_they_are_wiped(office):
    typed(office, "run teams.toml --rows rows.csv --name RUN --yes")
    filtered = typed(office, COMMANDS[0])
    assert "1 of the kept rows holds likely personal data (e-mail address 1)." in filtered
    typed(office, "report RUN")
    found = holders(office / "runs" / "RUN")
    assert {"run.json", "candidates.jsonl", "train.jsonl", "answers.jsonl"} < found
    assert [name for name in found if not any(fnmatch.fnmatch(name, named) for named in NAMED)] == []
    assert holders(office / "home") == set() and SECRET in (office / "RUN.html").read_text(encoding="utf-8")
    typed(office, next(line for line in COMMANDS if line.startswith("runs rm")))
    assert holders(office) == {"teams.toml", "rows.csv", "RUN.html"}


def test_rows_with_personal_data_can_be_left_out(office):
    typed(office, "synth teams.toml --rows rows.csv --name RUN")
    assert "personal" in typed(office, next(line for line in COMMANDS if "personal.on" in line))


def test_caches_and_models_are_wiped(office):
    write_model(office / "m.gguf", TinySpec(layers=1))
    typed(office, "models add my-model m.gguf")
    for line in COMMANDS:
        if line.startswith(("cache", "models")):
            typed(office, line)
    assert "my-model" not in typed(office, "models ls")


def test_a_real_run_is_exported_without_its_examples_and_measured(office):
    settings = small_settings()
    base = write_model(office / "base.gguf", TinySpec(layers=1))
    with sg.open_job(
        {**TASK, "name": "RUN"}, model=base, settings=settings, runs=office / "runs", name="RUN", home=office / "home"
    ) as job:
        for stage in (job.synth, job.filter, job.train):
            stage()
    first = typed(office, "export RUN --type Q8_0 --set min_equal=0 --set min_gain=-9")
    assert "anyone who gets the files can read the task's 3 examples" in first
    line = next(line for line in COMMANDS if line.startswith("export"))
    said = typed(office, f"{line} --type Q8_0 --set min_equal=0 --set min_gain=-9")
    assert "answers without the examples" in said and "the examples are left out" in said
    run = Run(office / "runs" / "RUN")
    shared = [run.path(name) for name in ("adapter.gguf", "Modelfile", "README.md", "export.json")]
    shared += run.root.glob("*-RUN-v1.0-Q8_0.gguf")
    assert len(shared) == 5
    assert not any(b"I was charged twice" in path.read_bytes() for path in shared)
    assert "planted in the inputs of a copy of the training" in " ".join(typed(office, COMMANDS[-1]).split())
    for line in COMMANDS[-3:-1]:
        typed(office, line)
    assert "passage of an example or training row" in (office / "RUN.html").read_text() or "repeat passages" in (
        office / "RUN.html"
    ).read_text(encoding="utf-8")


def test_every_command_of_the_page_is_run_here():
    assert [line.split()[0] for line in COMMANDS] == [
        *("filter", "filter", "runs", "cache", "models", "export", "eval", "report", "eval"),
    ]
