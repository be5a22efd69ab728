"""Exports without the demonstrations: no written file holds one, and the gate and the card say what it costs."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from test_export import TASK, fused_path, make_job
from tiny_models import TinySpec

from sg_local import export, gguf, prompts
from sg_local.export import gate, loss, still_shown, told_of_rows
from sg_local.export.card import model_card

SECRETS = tuple(pair.input for pair in TASK.examples)


@pytest.fixture(scope="module", params=("chat", "plain"))
def done(tmp_path_factory, request):
    """One export without demonstrations in each prompt form, and its report."""
    folder = tmp_path_factory.mktemp("done")
    job = make_job(folder, TinySpec(type="Q4_0", layers=1), form=request.param, without_demonstrations=True)
    return job, export.export(job)


def test_no_file_holds_a_demonstration(done):
    job, report = done
    for name in report.written:
        data = job.run.path(name).read_bytes()
        assert not any(secret.encode() in data for secret in SECRETS), name


def test_the_file_s_template_writes_the_instruction_before_a_bare_input(done):
    job, _ = done
    with gate.opened(job, fused_path(job)) as generator:
        wanted = generator.tokenize(prompts.answer_prompt(TASK, job.form, "a lime", ()))
        assert gate.bare_tokens(generator, "a lime") == wanted


def test_the_gate_passes_and_tells_the_cost(done):
    job, report = done
    checks = {check.name: check for check in report.fused[0].checks}
    assert report.fused[0].passed and checks["token ids equal"].value.startswith("2 of 2 prompts, 2 by the file's")
    cost = checks[loss.WITHOUT]
    assert cost.verdict == "yes" and cost.value.endswith(" of 4 as with them") and cost.wanted == "for information"
    card = job.run.path("README.md").read_text()
    assert "Left out: the 2 that were in every training prompt." in card and loss.WITHOUT in card
    assert "puts the instruction in front of a bare" in card


def test_a_job_with_demonstrations_makes_its_files_anew_without_them(tmp_path):
    job = make_job(tmp_path, TinySpec(type="Q4_0", layers=1))
    first = export.export(job).fused[0]
    assert gguf.check_model(job.run.path(first.file)).chat_template.count("fire engine") == 1
    assert loss.WITHOUT not in [check.name for check in first.checks]
    without = dataclasses.replace(job.settings, without_demonstrations=True)
    bare = dataclasses.replace(job, settings=without)
    refused = job.run.path("refused.gguf.rejected")
    shutil.copy(job.run.path(first.file), refused)
    job.run.path("half.gguf").write_bytes(b"GGUF")
    assert still_shown(bare) == sorted([first.file, refused.name])
    assert still_shown(bare, (first.file,)) == [refused.name]
    refused.unlink()
    job.run.clear_stage("export")
    second = export.export(dataclasses.replace(job, settings=without)).fused[0]
    assert second.fingerprint != first.fingerprint
    assert "fire engine" not in gguf.check_model(job.run.path(second.file)).chat_template
    assert still_shown(bare) == []


def test_the_card_says_that_scores_and_losses_are_those_with_the_examples(done):
    job, report = done
    asked = dataclasses.replace(job, settings=dataclasses.replace(job.settings, may_lose=1.0))
    said = "Prompts with the task's examples gave \"score lost on own rows\"; the files' own template has none"
    assert said in model_card(asked, report) and said not in model_card(job, report)
    shown = dataclasses.replace(asked.settings, without_demonstrations=False)
    assert said not in model_card(dataclasses.replace(asked, settings=shown), report)


def test_settings_without_it_shape_files_as_before_there_was_such_a_thing():
    assert "without_demonstrations" not in export.ExportSettings().shaping
    assert "without_demonstrations" in json.dumps(export.ExportSettings(without_demonstrations=True).shaping)


@pytest.mark.parametrize(
    ("settings", "said"),
    (
        ({}, "2 examples, in the merged files' chat template, Modelfile and README.md"),
        ({"types": ()}, "2 examples, in Modelfile and README.md"),
        ({"plain_template": True}, "2 examples, in Modelfile and README.md"),
        ({"without_demonstrations": True}, "the examples are left out of the export"),
    ),
)
def test_it_is_said_what_the_files_show(tmp_path, settings, said):
    assert said in told_of_rows(make_job(tmp_path, TinySpec(layers=1), **settings))
