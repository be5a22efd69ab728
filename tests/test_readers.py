"""What people hand in, malformed in every way that was met: each reader ends in a value or in one SgError, at once."""

from __future__ import annotations

import json
import os

import pytest
from bounds import soon
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.job.plan import make_plan
from sg_local.job.presets import load_preset
from sg_local.models.cards import read_card
from sg_local.records import Candidate, SgError
from sg_local.run import Run
from sg_local.tasks import load_task, read_task, read_tests
from sg_local.tasks.begin import begun
from sg_local.tasks.draft import Draft

HEAD = 'kind = "generation"\ninstruction = "Say it."\n'
TAIL = '[[examples]]\ninput = "a"\noutput = "b"\n'


def said(work) -> str:
    """The message of the SgError that work ends in; a reader that hangs fails by its own computing time."""
    with soon(), pytest.raises(SgError) as caught:
        work()
    assert caught.value.hint and len(caught.value.message) < 600
    return caught.value.message


def sg_local(*args: str, code: int = 0):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


# Tasks and their rows


def test_a_byte_order_mark_is_taken_off_everywhere(here):
    (here / "rows.jsonl").write_text('\ufeff{"input": "x\u2028y\u0085", "output": "y"}\r\n', encoding="utf-8")
    (here / "task.toml").write_text("\ufeff" + HEAD + 'tests = "rows.jsonl"\n' + TAIL, encoding="utf-8")
    assert read_task(here / "task.toml").tests[0].input == "x\u2028y"
    superni = {
        "Definition": "Say",
        "Positive Examples": [{"input": "a", "output": "b"}],
        "Instances": [{"input": "q", "output": ["c"]}] * 2,
    }
    (here / "task.json").write_text("\ufeff" + json.dumps(superni), encoding="utf-8")
    assert read_task(here / "task.json").instruction == "Say"
    answers = {"kind": "generation", "instruction": "Say", "examples": [["a", "b"]]}
    (here / "draft.json").write_text("\ufeff" + json.dumps(answers), encoding="utf-8")
    assert begun(here / "draft.json", Draft("x")).draft.examples == (("a", "b"),)


def test_test_rows_are_not_the_task_itself(here):
    (here / "task.toml").write_text(HEAD + 'tests = "task.toml"\n' + TAIL)
    assert "another file in turn" in said(lambda: load_task("task.toml"))
    assert "another file in turn" in said(lambda: read_tests(here / "task.toml"))


@pytest.mark.parametrize("tests", ['"pipe"', '"/dev/zero"', '"."', '"a\\u0000b"', '"none.jsonl"'])
def test_test_rows_are_a_file(here, tests):
    os.mkfifo(here / "pipe")
    (here / "task.toml").write_text(HEAD + f"tests = {tests}\n" + TAIL)
    said(lambda: read_task(here / "task.toml"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"input": "\\ud83d", "output": "b"}', "surrogate"),
        ("[" * 100_000, "levels"),
        ("7", "not an object"),
        ('{"input": 1, "output": "b"}', "a number, not a text"),
        ('{"input": "a", "output": NaN}', "NaN"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(here, line, words):
    (here / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n\n' + line + "\n")
    message = said(lambda: read_tests(here / "rows.jsonl"))
    assert "rows.jsonl:3:" in message and words in message


SUPERNI = {
    "Definition": ["Say yes or no."],
    "Positive Examples": [{"input": "a", "output": "yes"}],
    "Instances": [{"input": "q", "output": ["no"]}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"Definition": [0.1]},
        {"Definition": []},
        {"Definition": "\ud800"},
        {"Positive Examples": "x"},
        {"Positive Examples": {"a": 1}},
        {"Instances": [{"input": {"a": {}}, "output": ["no"]}]},
        {"Instances": [{"input": "q", "output": {}}]},
        {"Instances": [{"input": "q", "output": [["no"]]}]},
        {"Instances": [[]]},
        {"Instances": 5},
    ],
    ids=str,
)
def test_a_super_ni_task_is_texts_all_the_way_down(here, change):
    (here / "task.json").write_text(json.dumps({**SUPERNI, **change}))
    assert "task.json" in said(lambda: read_task(here / "task.json"))


@pytest.mark.parametrize("data", [[], 5, {}, {"examples": 5}, {"kind": "generation", "instruction": ["a"]}], ids=str)
def test_a_draft_that_is_no_task_is_refused(here, data):
    (here / "draft.json").write_text(json.dumps(data))
    assert "draft.json" in said(lambda: begun(here / "draft.json", Draft("x")))


# Settings and cards


@pytest.mark.parametrize("base", ["{ a = 1 }", "[]", "5", '"modern"'])
def test_a_preset_is_based_on_one_that_came_along(here, base):
    (here / "mine.toml").write_text(f"base = {base}\n")
    assert "mine.toml" in said(lambda: load_preset(str(here / "mine.toml"), "generation"))


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        ("engine", "n_ctx", float("inf")),
        ("engine", "n_ctx", 2.5),
        ("engine", "n_ctx", 10**400),
        ("engine", "cache", "a\0b"),
        ("engine", "cache", "~nobody-here/x"),
        ("synth", "temperature", 10**400),
        ("synth", "temperature", float("nan")),
        ("synth", "style", ["a"]),
        ("export", "types", 5),
        ("export", "types", [["Q4_0"]]),
        ("train", "rank", {}),
    ],
)
def test_a_setting_of_another_type_is_named(stage, name, value):
    assert f"{stage}.{name}" in said(lambda: make_plan([("file", {stage: {name: value}})]))


@pytest.mark.parametrize("text", ["source = 5", "source = []", "name = 'a'", "a = ", "n_ctx = inf"])
def test_a_card_that_is_none_is_named(here, text):
    (here / "own.toml").write_text(text)
    assert "own.toml" in said(lambda: read_card(here / "own.toml"))


def test_a_broken_config_file_stops_neither_help_nor_doctor(here):
    (here / "home/config.toml").write_text("seed = [1]\n")
    assert "seed" in sg_local("tasks", "ls", code=2).stderr
    assert "Usage" in sg_local("run", "--help").stdout
    assert "config.toml" in sg_local("config", "path").stdout
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert next(row for row in json.loads(done.stdout) if row["name"] == "config file")["status"] == "fail"


# Runs


def test_a_broken_run_does_not_hide_the_others(here):
    for name, text in {"a": "{", "b": "{}", "c": '{"seed": "x"}', "d": "[]"}.items():
        (here / "runs" / name).mkdir(parents=True)
        (here / "runs" / name / "run.json").write_text(text)
    rows = json.loads(sg_local("runs", "ls", "--json").stdout)
    assert [row["run"] for row in rows] == ["a", "b", "c", "d"]
    assert [("broken" in row) for row in rows] == [True, False, True, True]
    assert "seed is not a whole number" in sg_local("runs", "ls").stdout


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"model": {"path": 5}}, "model.path is not a text"),
        ({"model": []}, "model is not an object"),
        ({"set": {"synth": 5}}, "set.synth is not an object"),
        ({"seed": True}, "seed is not a whole number"),
    ],
)
def test_run_json_is_held_to_its_types(here, facts, words):
    run = Run(here / "runs/a")
    run.write_json("run.json", facts)
    assert words in said(lambda: run.settings)


def test_a_fact_that_run_json_lacks_is_named(here):
    run = Run(here / "runs/a")
    run.write_json("run.json", {"model": {"name": "m"}})
    assert "has no digest" in said(lambda: run.settings["model"]["digest"])
    assert "has no seed" in said(lambda: run.settings["seed"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("false", "not an object"),
        ('{"id": 5}', "id is not a text"),
        ('{"id": "a", "votes": "x"}', "votes is not an object"),
        ('{"id": "a", "label_scores": [[1]]}', "label_scores[0] is not a number"),
        ('{"id": "\\ud800"}', "surrogate"),
        ("{}", "id is missing"),
        ("[" * 100_000, "levels"),
        ("\udcff", "UTF-8"),
    ],
)
def test_a_journals_wrong_line_is_named(here, line, words):
    run = Run(here / "runs/a")
    good = '{"id":"a","input":"","output":"","votes":{},"n_samples":1,"vote_share":1}\n'
    run.path("candidates.jsonl").parent.mkdir(parents=True)
    run.path("candidates.jsonl").write_bytes((good + line + "\n").encode(errors="surrogateescape"))
    message = said(lambda: run.read("candidates.jsonl", Candidate))
    assert "candidates.jsonl:2: " in message and (words in message or words == "UTF-8")
