"""docs/tasks.md: its whole examples pass `tasks check`, every key of a task is in its table, what it promises is so."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local import tasks
from sg_local.cli.app import app
from sg_local.tasks import propose
from sg_local.tasks.lint_rows import FEW_TESTS
from sg_local.tasks.rows import TASK_KEYS

PAPER = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
WHOLE = re.findall(r"```toml\n(# (\S+)\n.*?)```", PAPER, re.DOTALL)

pytestmark = pytest.mark.usefixtures("own_folder")


def test_there_is_an_example_of_each_kind():
    assert [name for _, name in WHOLE] == ["mood.toml", "fluent.toml", "order.toml"]


@pytest.mark.parametrize(("text", "name"), WHOLE, ids=[name for _, name in WHOLE])
def test_a_whole_example_passes_the_check(own_folder, text, name):
    (own_folder / name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["tasks", "check", name, "--json"])
    assert done.exit_code == 0, done.output
    findings = [item["finding"] for item in json.loads(done.stdout)]
    assert [finding for finding in findings if "given" not in finding and "No test row" not in finding] == []


def test_the_example_with_lines_reads_as_it_stands(own_folder):
    (own_folder / "mood.toml").write_text(WHOLE[0][0], encoding="utf-8")
    task = tasks.read_task(own_folder / "mood.toml")
    assert task.examples[1].input == "It broke at once.\n\nNobody answers my mails."
    assert task.tests[1].outputs == ("mixed", "sad")


def test_every_key_stands_in_the_table_in_order():
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAPER, re.MULTILINE)) == TASK_KEYS


def test_the_numbers_are_those_of_the_code():
    for words in (
        f"up to {propose.MAX_LABELS} different outputs of at most {propose.MAX_LABEL_CHARS} characters",
        f"{propose.FEWEST_TESTS} at least and {propose.MOST_TESTS} at most",
        f"{FEW_TESTS} or more",
    ):
        assert words in " ".join(PAPER.split())
    assert (propose.ROWS_A_LABEL, propose.MAX_SHOWN, propose.WORTH_KEEPING) == (3, 12, 10)
