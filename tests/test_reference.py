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
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
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
    "eval --base": ("eval", "support_routing", "--base", "--backend", "scripted", "--tests", "8"),
    "predict": ("predict", "r", "Where is my parcel?"),
    "predict --probabilities": ("predict", "r", "Where is my parcel?", "--probabilities"),
    "predict FILE": ("predict", "r", "one.csv"),
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
    "tune-settings": (
        *("tune-settings", "support_routing", "--backend", "scripted", "--tests", "8", "--epochs", "1"),
        *("--temperatures", "0.7", "--set", "synth.n_inputs=40", "--set", "eval.resamples=20"),
    ),
}
REAL = {
    "export": ("export", "real"),
    "eval --file": ("eval", "real", "--file", "base.gguf"),
    "inspect": ("inspect", "base.gguf"),
    "models show": ("models", "show", "base.gguf"),
}
"""Those that need real weights: of a tiny random model."""


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
    (folder / "one.csv").write_text("no,input\n1,Where is my parcel?\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """A folder with a tiny random model and one run of it, made once."""
    folder = tmp_path_factory.mktemp("real")
    base = write_model(folder / "base.gguf", TinySpec(layers=1))
    settings = small_settings({"types": ("Q8_0",), "min_gain": -9.0})
    place = {"runs": folder / "runs", "home": folder / "home", "name": "real"}
    with sg.open_job({**TASK, "name": "route"}, model=base, settings=settings, **place) as job:
        for stage in (job.synth, job.filter, job.train, job.export, job.evaluate):
            stage()
    return folder


def held_to_its_schema(name, line, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SG_LOCAL_HOME", str(folder / "home"))
    done = CliRunner().invoke(app, [*line, "--json"])
    assert done.exit_code == 0, done.output
    jsonschema.validate(json.loads(done.stdout), SHAPES[name][1])


@pytest.mark.parametrize("name", LINES)
def test_a_command_prints_what_its_schema_says(name, place, monkeypatch):
    held_to_its_schema(name, LINES[name], place, monkeypatch)


@pytest.mark.parametrize("name", REAL)
def test_a_command_of_real_weights_prints_what_its_schema_says(name, real, monkeypatch):
    held_to_its_schema(name, REAL[name], real, monkeypatch)


def test_a_model_that_is_not_here_is_shown_by_the_same_schema(place, monkeypatch):
    held_to_its_schema("models show", ("models", "show", "qwen3-0.6b"), place, monkeypatch)


def test_every_schema_is_held_to_a_real_output():
    assert LINES.keys() | REAL.keys() == SHAPES.keys() and not LINES.keys() & REAL.keys()


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
    assert {re.sub(r" (--|FILE).*", "", name) for name in SHAPES} == set(with_json())
