"""The log of decisions: stages, choices and files are in it, the user's texts are not, unless asked for."""

from __future__ import annotations

import json
import logging

import pytest
from click.testing import CliRunner

from sg_local import filters
from sg_local.backends import open_generator, wire
from sg_local.cli.app import app
from sg_local.filters.labels import Labelling
from sg_local.records import Prompt, Sampling, Segment
from sg_local.run import Run
from sg_local.tasks import load_task

SETTINGS = ("synth.n_inputs=40", "eval.resamples=20", "filter.grounding.on=false", "filter.copied_output.on=false")
FEW = ("--backend", "scripted", "--yes", *(word for setting in SETTINGS for word in ("--set", setting)))


def run(folder, task, *root, **environment):
    """A scripted run in `folder`; Click's result."""
    env = {"SG_LOCAL_HOME": str(folder / "home"), **environment}
    line = [*root, "run", task, "--name", "trial", "--runs", str(folder / "runs"), *FEW]
    done = CliRunner().invoke(app, line, env=env)
    assert done.exit_code == 0, done.output
    return done


def texts_of(folder, name):
    """Every text of the task and of the rows made for it."""
    task = load_task(name)
    texts = {task.instruction, *task.labels}
    texts |= {text for pair in task.examples for text in (pair.input, pair.output)}
    texts |= {text for row in task.tests for text in (row.input, *row.outputs)}
    for journal in ("inputs", "candidates"):
        rows = map(json.loads, (folder / f"runs/trial/{journal}.jsonl").read_text().splitlines())
        texts |= {row[key] for row in rows for key in ("input", "output", "raw") if key in row}
    return {" ".join(text.split()) for text in texts} - {""}


@pytest.mark.parametrize("task", ["support_routing", "subject_line"])
def test_a_run_logs_what_each_stage_decided_and_none_of_the_texts(tmp_path, task):
    run(tmp_path, task, SG_LOCAL_LOG=str(tmp_path / "log"))
    log = (tmp_path / "log").read_text(encoding="utf-8")
    for stage in ("synth", "filter", "train", "eval"):
        assert f"stage {stage} of run trial begins, settings " in log
        assert f"stage {stage} of run trial ended in " in log
    assert "stage export skipped: the scripted trainer makes no weights" in log
    assert "run trial begins: scripted, scripted, form plain (asked: auto)" in log and "labels by policy " in log
    assert "rejected: " in log and "generator scripted" in log and "trainer scripted" in log
    assert "system base answers in the " in log and "weights: the base" in log
    assert "report.json, " in log and " sha256 " in log
    flat = " ".join(log.split())
    assert [text for text in texts_of(tmp_path, task) if text in flat] == []


def test_a_stage_that_was_finished_before_is_logged_as_skipped(tmp_path):
    run(tmp_path, "support_routing")
    run(tmp_path, "support_routing", SG_LOCAL_LOG=str(tmp_path / "log"))
    assert "stage synth of run trial skipped: finished with settings " in (tmp_path / "log").read_text()


def test_the_file_is_added_to(tmp_path):
    for _ in range(2):
        run(tmp_path, "support_routing", SG_LOCAL_LOG=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().count("sg_local.cli.log: sg-local ") == 2


@pytest.mark.parametrize("root, env", [(["--log-texts"], {}), ([], {"SG_LOCAL_LOG_TEXTS": "1"})])
def test_the_texts_are_in_it_where_they_were_asked_for(tmp_path, root, env):
    run(tmp_path, "support_routing", *root, SG_LOCAL_LOG=str(tmp_path / "log"), **env)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "sg_local.texts: prompt " in log and "sg_local.texts: completion " in log
    assert "The envelope arrived slit open and empty." in log


def test_verbose_says_it_on_stderr_and_only_there(tmp_path):
    done = run(tmp_path, "support_routing", "--verbose")
    assert "sg_local.job.stages: stage filter of run trial begins" in done.stderr
    assert "sg_local." not in done.stdout
    quiet = run(tmp_path, "support_routing")
    assert "sg_local." not in quiet.stderr and quiet.stdout == done.stdout


def test_it_is_said_where_the_option_stands():
    done = CliRunner().invoke(app, ["runs", "ls", "--verbose"])
    assert done.exit_code == 2 and "It goes before the command: `sg-local --verbose runs ls`." in done.stderr


def test_nobody_listens_once_the_command_is_done(tmp_path):
    ours = logging.getLogger("sg_local")
    before = (ours.level, list(ours.handlers), logging.getLogger(wire.TEXTS).level)
    run(tmp_path, "support_routing", "--verbose", "--log-texts", SG_LOCAL_LOG=str(tmp_path / "log"))
    assert (ours.level, ours.handlers, logging.getLogger(wire.TEXTS).level) == before


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    line = ["runs", "ls", "--runs", str(tmp_path)]
    done = CliRunner().invoke(app, line, env={"SG_LOCAL_HOME": str(tmp_path), "SG_LOCAL_LOG": f"{tmp_path}/no/log"})
    assert done.exit_code == 1 and f"Error: Cannot access {tmp_path}/no/log" in done.stderr


def test_all_of_the_rooms_at_debug_does_not_open_the_texts(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "sg_local")
    generator = open_generator("scripted", tmp_path)
    list(generator.generate([Prompt("1", (Segment("a secret"),), Sampling())]))
    assert not wire.is_open() and "a secret" not in caplog.text


def test_a_watched_generator_answers_as_ever(tmp_path, caplog):
    prompts = [Prompt(str(i), (Segment(f"text {i}"),), Sampling(), seed=i) for i in range(3)]
    plain = list(open_generator("scripted", tmp_path).generate(prompts))
    caplog.set_level(logging.DEBUG, wire.TEXTS)
    watched = open_generator("scripted", tmp_path)
    assert isinstance(watched, wire.Wire) and list(watched.generate(prompts)) == plain
    assert "prompt 2: 'text 2'" in caplog.text and f"completion 2 (stop): {plain[-1].text!r}" in caplog.text


def test_a_label_is_logged_by_its_place(tmp_path, caplog, monkeypatch):
    run(tmp_path, "support_routing")
    why = "only 2 rows for 'billing' would agree"
    monkeypatch.setattr(filters, "judge", lambda *given: ([], Labelling("asked", why, {})))
    caplog.set_level(logging.INFO, "sg_local.filters")
    filters.apply(Run(tmp_path / "runs/trial"), load_task("support_routing"), filters.FilterSettings())
    assert "labels by policy asked: only 2 rows for label 1 would agree" in caplog.text
