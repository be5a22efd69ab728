"""`tasks new` in a script: from a spreadsheet, from a decision request, from options; and what it says next works."""

import json
import random
import shlex

import pytest
from click.testing import CliRunner

from sg_local import tasks
from sg_local.cli.app import app

pytestmark = pytest.mark.usefixtures("own_folder")

TEAMS = {"Billing": "the invoice is wrong", "Delivery": "the parcel is lost", "Technical": "the app is broken"}
WORDS = "amber birch cedar daisy elder fern gorse hazel iris juniper kelp larch maple nettle oak pine quince".split()
FROM_ROWS = ("tasks", "new", "teams", "--from", "mails.csv", "--columns", "input=Body,output=Team")
SAID = ("--instruction", "Say which team answers the e-mail.")


def sg_local(*args, code=0):
    result = CliRunner().invoke(app, [*args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def mails(own_folder):
    """Fifty labelled e-mails as a European Excel saves them: semicolons, a byte order mark, mails of several lines."""
    rows = ["\ufeffDate;Body;Team\r\n"]
    for n, team in zip(range(50), [*TEAMS] * 50, strict=False):
        about = " ".join(random.Random(n).sample(WORDS, 12))
        rows.append(f'{n}.1.2026;"Dear ""team"",\r\n\r\n{TEAMS[team]}; {about}.\r\n\r\nAnn";{team}\r\n')
    (own_folder / "mails.csv").write_text("".join(rows), encoding="utf-8", newline="")
    return own_folder


def test_a_spreadsheet_becomes_a_task_with_its_tests_beside_it(mails):
    made = sg_local(*FROM_ROWS, *SAID)
    assert made.stdout.split() == ["teams.toml", "teams.tests.jsonl", "teams.rows.jsonl"]
    task = tasks.read_task(mails / "teams.toml")
    assert task.labels == ("Billing", "Delivery", "Technical") and len(task.tests) == 30
    assert task.instruction == SAID[1] and len(task.examples) == 3
    assert len((mails / "teams.rows.jsonl").read_text().splitlines()) == 17
    for words in ("50 rows; input = Body, output = Team", "3 labels: Billing (17)", "30 test rows, 17 rows left"):
        assert words in made.stderr
    assert sg_local("tasks", "check", "teams.toml").exit_code == 0


def test_what_it_says_next_works(mails):
    made = sg_local("tasks", "new", "my teams", *FROM_ROWS[3:], *SAID)
    command = shlex.split(made.stderr.splitlines()[-1].removeprefix("Next: sg-local "))
    small = ("--backend", "scripted", "--yes", "--set", "synth.n_inputs=40", "--set", "eval.resamples=50")
    assert command == ["run", "my teams.toml", "--rows", "my teams.rows.jsonl"]
    sg_local(*command, *small, "--name", "trial")


def test_what_is_missing_is_said_with_its_options(mails):
    for args, says in (
        ((*FROM_ROWS,), "needs an instruction"),
        (("tasks", "new", "x"), "needs a kind and an instruction and an example"),
        ((*FROM_ROWS[:5], "--columns", "input=Text", *SAID), "no column 'Text'"),
        (
            (*FROM_ROWS[:5], "--columns", "input=Body,output=Date", "--label=a", "--label=b", *SAID),
            "mails.csv:2: the output '0.1.2026' is not one of the labels",
        ),
        ((*FROM_ROWS, *SAID, "--question", "q"), "not a decision request"),
        ((*FROM_ROWS, *SAID, "--label", "a"), "Only the label 'a' is given"),
        (("tasks", "new", "x.json", *SAID), "written as TOML"),
    ):
        refused = sg_local(*args, code=2)
        assert says in refused.stderr and "Hint: " in refused.stderr, args
    assert sorted(path.name for path in mails.iterdir()) == ["mails.csv"]


def test_no_file_that_stands_is_overwritten(mails):
    (mails / "teams.tests.jsonl").write_text("mine")
    assert "teams.tests.jsonl exists" in sg_local(*FROM_ROWS, *SAID, code=2).stderr
    assert (mails / "teams.tests.jsonl").read_text() == "mine" and not (mails / "teams.toml").exists()
    sg_local(*FROM_ROWS, *SAID, "--force")
    assert len(tasks.read_task(mails / "teams.toml").tests) == 30


def test_the_same_rows_make_the_same_files(mails):
    names = ("teams.toml", "teams.tests.jsonl", "teams.rows.jsonl")
    sg_local(*FROM_ROWS, *SAID)
    first = [(mails / name).read_text() for name in names]
    sg_local(*FROM_ROWS, *SAID, "--force")
    assert [(mails / name).read_text() for name in names] == first


def test_a_decision_request_becomes_a_task(own_folder):
    question = {"type": "choice", "instructions": "Which team?", "criteria": {"a": "First.", "b": "Second."}}
    answers = {"team": {"type": "choice", "choice": "b"}}
    logged = {"request": {"state": "Hello.", "questions": {"team": question}}, "response": {"answers": answers}}
    (own_folder / "request.json").write_text(json.dumps(logged))
    sg_local("tasks", "new", "team", "--from", "request.json")
    task = tasks.read_task(own_folder / "team.toml")
    assert task.labels == ("a", "b") and task.examples[0].output == "b" and "- a: First." in task.instruction
    (own_folder / "request.json").write_text(json.dumps(logged["request"]))
    assert "needs an example" in sg_local("tasks", "new", "other", "--from", "request.json", code=2).stderr


def test_options_add_to_a_file_of_fields(own_folder):
    (own_folder / "draft.json").write_text(json.dumps({"kind": "generation", "examples": [["a b", "a"]]}))
    sg_local("tasks", "new", "short", "--from", "draft.json", "--instruction", "Shorten.")
    assert tasks.read_task(own_folder / "short.toml").instruction == "Shorten."


def test_a_file_of_fields_may_hold_tests_and_an_unknown_field_gets_the_nearest_name(own_folder):
    data = {"kind": "generation", "instruction": "Shorten.", "examples": [["a b", "a"]]}
    tests = [{"input": "c d", "output": "c"}, {"input": "e f", "outputs": ["e", "f"]}]
    (own_folder / "draft.json").write_text(json.dumps({**data, "tests": tests}))
    sg_local("tasks", "new", "short", "--from", "draft.json")
    assert [row.outputs for row in tasks.read_task(own_folder / "short.toml").tests] == [("c",), ("e", "f")]
    (own_folder / "draft.json").write_text(json.dumps({**data, "exmaples": []}))
    assert "Did you mean examples?" in sg_local("tasks", "new", "x", "--from", "draft.json", code=2).stderr


def test_a_super_ni_task_gives_its_definition_and_its_rows(own_folder):
    rows = [{"input": f"text {n} {n * n} {n**3}", "output": [("yes", "no")[n % 2]]} for n in range(20)]
    data = {"Definition": ["Say yes or no."], "Positive Examples": [], "Instances": rows}
    (own_folder / "task1.json").write_text(json.dumps(data))
    sg_local("tasks", "new", "mine", "--from", "task1.json")
    task = tasks.read_task(own_folder / "mine.toml")
    assert task.instruction == "Say yes or no." and task.labels == ("yes", "no") and len(task.tests) == 17
