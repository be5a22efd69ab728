"""docs/own_data.md: fifty labelled e-mails in a spreadsheet, walked by the very commands of the page to a server."""

import csv
import json
import os
import random
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PAPER = (Path(__file__).parent.parent / "docs" / "own_data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    sg-local (.+)$", PAPER, re.MULTILINE)
CURL = re.search(r"^    curl .+ -d '(.+)'$", PAPER, re.MULTILINE)
PROGRAM = "from sg_local.cli import main; main()"
ROOT = Path(__file__).parent.parent

TEAMS = {
    "Billing": ["my invoice shows the wrong amount", "I was charged twice", "the refund has not come"],
    "Delivery": ["my parcel has not come", "the courier left the box in the rain", "the order went to an old address"],
    "Technical": ["the app closes when I search", "the page stays white after I log in", "the update broke the camera"],
}
WORDS = "amber birch cedar daisy elder fern gorse hazel iris juniper kelp larch maple nettle oak pine quince".split()


def mail(team: str, n: int) -> str:
    """A mail of several lines, with quotes and the spreadsheet's own separator in it."""
    about = " ".join(random.Random(n).sample(WORDS, 10))
    return f'Dear "team",\n\n{TEAMS[team][n % 3]}; it is about {about}.\n\nAnn {n}'


def write_sheet(path: Path, head: list[str], rows: list[list[str]]) -> None:
    """As a European Excel saves it: semicolons, a byte order mark, CRLF."""
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows([head, *rows])


@pytest.fixture
def office(tmp_path):
    """A folder with both sheets and small settings, and what runs a command of the page in it."""
    names = [team for team, _ in zip([*TEAMS] * 17, range(50), strict=False)]
    write_sheet(
        tmp_path / "mails.csv", ["Received", "Body", "Team"], [[f"{n}.1.", mail(t, n), t] for n, t in enumerate(names)]
    )
    write_sheet(tmp_path / "new.csv", ["No", "Body"], [[str(n), mail(t, 100 + n)] for n, t in enumerate(TEAMS)])
    (tmp_path / "home").mkdir()
    return tmp_path


def settle(office: Path) -> dict[str, str]:
    """The environment of the walk: an empty home with small settings."""
    text = 'backend = "scripted"\n[synth]\nn_inputs = 40\n[eval]\nresamples = 50\n[train]\nepochs = 1\n'
    (office / "home" / "config.toml").write_text(text)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SG_LOCAL_")}
    return {**kept, "SG_LOCAL_HOME": str(office / "home"), "PYTHONPATH": str(ROOT)}


def walk(office: Path) -> list[str]:
    """Every command of the page but the last, and the answers to the new mails."""
    env = settle(office)
    for command in COMMANDS[:-1]:
        args = [sys.executable, "-c", PROGRAM, *shlex.split(command)]
        done = subprocess.run(args, cwd=office, env=env, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0 and "Traceback" not in done.stderr, (command, done.stdout, done.stderr)
    with open(office / "answers.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["No"] for row in rows] == ["0", "1", "2"] and {"p(Billing)", "p(Technical)"} <= rows[0].keys()
    assert served(office, env) in TEAMS
    return [row["answer"] for row in rows]


def served(office: Path, env: dict[str, str]) -> str:
    """What the served model answers to the page's request; the port is a free one."""
    args = [sys.executable, "-c", PROGRAM, *shlex.split(COMMANDS[-1]), "--port", "0"]
    with subprocess.Popen(args, cwd=office, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[0]
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/chat/completions", CURL[1].encode(), headers)
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["choices"][0]["message"]["content"]
        finally:
            process.terminate()


def test_the_walk_is_at_most_six_commands():
    assert [command.split()[0] for command in COMMANDS] == ["tasks", "tasks", "run", "predict", "serve"]


def test_the_walk_leads_to_a_served_model(office):
    assert set(walk(office)) <= set(TEAMS)
    lines = [len((office / name).read_text().splitlines()) for name in ("teams.tests.jsonl", "teams.rows.jsonl")]
    assert lines == [30, 17]
