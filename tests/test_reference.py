"""The pages made from the program are as it makes them now, and --json prints what docs/json.md says."""

from __future__ import annotations

import json
import os
import re

import click
import jsonschema
import pytest
from click.testing import CliRunner
from reference import DOCS, PAGES
from shapes import ERROR, SHAPES

from sg_local.cli.app import app

JOB = ("support_routing", "--backend", "scripted", "--yes", "--name", "r", "--set", "synth.n_inputs=40")
LINES = {
    "run": ("run", *JOB, "--set", "eval.resamples=50"),
    "run --plan": ("run", *JOB, "--plan"),
    "filter": ("filter", "r"),
    "review": ("review", "r"),
    "review --merge": ("review", "r", "--merge", "runs/r"),
    "eval": ("eval", "r"),
    "eval --show all": ("eval", "r", "--show", "all"),
    "predict": ("predict", "r", "Where is my parcel?"),
    "label": ("label", "support_routing", "Where is my parcel?", "--backend", "scripted"),
    "report": ("report", "r"),
    "runs ls": ("runs", "ls"),
    "runs show": ("runs", "show", "r"),
    "runs compare": ("runs", "compare", "r", "r"),
    "tasks ls": ("tasks", "ls"),
    "tasks show": ("tasks", "show", "iso_date"),
    "tasks check": ("tasks", "check", "headline_topic"),
    "models ls": ("models", "ls"),
    "cache ls": ("cache", "ls"),
    "config show": ("config", "show"),
    "doctor": ("doctor",),
}
OTHERS = {"inspect", "export", "models show", "tune-settings"}
"""Commands whose --json is a file's own form: a GGUF's facts, export.json, a model card, the trials of a search."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_program_makes_it(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), f"run tests/reference.py: docs/{name} is old"


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with one finished run, made once."""
    folder, before = tmp_path_factory.mktemp("shapes"), os.getcwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, list(LINES["run"]))
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_a_command_prints_what_its_schema_says(name, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("SG_LOCAL_HOME", str(place / "home"))
    printed = json.loads(CliRunner().invoke(app, [*LINES[name], "--json"]).stdout)
    jsonschema.validate(printed, SHAPES[name][1])


def test_an_error_is_what_its_schema_says(place, monkeypatch):
    monkeypatch.chdir(place)
    jsonschema.validate(json.loads(CliRunner().invoke(app, ["runs", "show", "nope", "--json"]).stderr), ERROR)


def with_json(group=app, path=()):
    """Every command that has --json."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from with_json(command, (*path, name))
        elif any("--json" in param.opts for param in command.params):
            yield " ".join((*path, name))


def test_every_command_with_json_has_a_schema():
    assert {re.sub(r" --.*", "", name) for name in SHAPES} == set(with_json()) - OTHERS
