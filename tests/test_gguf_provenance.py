"""Provenance in adapter GGUFs: what it holds, that it is the same bytes again, and that a run's adapter has it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local import export, gguf
from sg_local.backends import TrainSettings
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.cli.app import app
from sg_local.files import file_digest
from sg_local.prompts import PLAIN
from sg_local.records import Adapter, Pair, Task
from sg_local.run import Run
from sg_local.training import Training, TrainingRow, train

TASK = Task("route", "classification", "Route it.", (Pair("my parcel", "delivery"),), ("billing", "delivery"))
SPEC = TinySpec(layers=1)
FACTS = {"settings": {"train": {"lr": 1.0}}, "funnel": {"kept": 3, "examples": {"noise": [["secret", "why"]]}}}
ORIGIN = gguf.Origin(TASK, "plain", "tiny", "b" * 64, FACTS)


def test_the_entries_hold_task_base_settings_and_counts_but_no_rows():
    fields = ORIGIN.fields()
    assert fields["sg_local.task.digest"] == TASK.digest
    assert (fields["sg_local.task.name"], fields["sg_local.base.sha256"]) == ("route", "b" * 64)
    assert json.loads(fields["sg_local.settings"]) == FACTS["settings"]
    assert json.loads(fields["sg_local.funnel"]) == {"kept": 3}
    assert len(fields["sg_local.settings.digest"]) == 16
    assert "secret" not in str(fields)


def test_facts_that_are_too_long_for_a_header_are_left_out():
    long = dataclasses.replace(ORIGIN, facts={**FACTS, "funnel": {"kept": "x" * 30_000}})
    assert "sg_local.funnel" not in long.fields()
    assert "sg_local.settings" in long.fields()


def test_an_adopted_adapter_keeps_its_tensors_and_comes_out_the_same_again(tmp_path):
    digests = []
    for name in ("one", "two"):
        made = write_lora(tmp_path / f"{name}-made.gguf", lora_pairs(SPEC), 8.0)
        before = gguf.read_adapter(made)
        gguf.adopt(made, tmp_path / f"{name}.gguf", ORIGIN)
        after = gguf.read_adapter(tmp_path / f"{name}.gguf")
        assert all((after.pairs[key][1] == pair[1]).all() for key, pair in before.pairs.items())
        assert not made.exists()
        digests.append(file_digest(tmp_path / f"{name}.gguf"))
    assert digests[0] == digests[1]


def test_a_placeholder_that_is_no_gguf_moves_as_it_is(tmp_path):
    (tmp_path / "made").write_text("scripted adapter")
    gguf.adopt(tmp_path / "made", tmp_path / "adapter.gguf", ORIGIN)
    assert (tmp_path / "adapter.gguf").read_text() == "scripted adapter"


class TinyTrainer:
    """Leaves a real adapter GGUF, as trainers do."""

    note = "tiny"

    def __init__(self, base_digest):
        self.base_digest = base_digest

    def train(self, examples, valid, out, settings, on_step):
        out.mkdir(parents=True, exist_ok=True)
        path = write_lora(out / "adapter.gguf", lora_pairs(SPEC), 8.0)
        found = file_digest(path)
        return Adapter(str(path), found, self.base_digest, 4, 8.0, "tiny", 1, 1, 1.0, None)


@pytest.fixture
def job(tmp_path):
    generator = ScriptedGenerator(tmp_path / "base.gguf")
    return Training(
        run=Run(tmp_path / "run"),
        task=TASK,
        form=dataclasses.replace(PLAIN, eos="<|im_end|>"),
        generator=generator,
        trainer=TinyTrainer(generator.info.digest),
        rows=tuple(TrainingRow(f"r{i}", f"message {i}", "billing") for i in range(5)),
        settings=TrainSettings(),
        base_name="tiny-base",
        facts={"settings": {"synth": {"seed": 7}}, "funnel": {"kept": 5}},
    )


def test_a_trained_adapter_says_where_it_came_from(job):
    done = train(job)
    path = job.run.path("adapter.gguf")
    found = export.inspect(path).provenance
    assert (found["task.name"], found["task.digest"]) == ("route", TASK.digest)
    assert (found["base.name"], found["base.sha256"]) == ("tiny-base", job.generator.info.digest)
    assert found["settings"]["synth"] == {"seed": 7}
    assert found["settings"]["train"] == job.run.stamp("train")["settings"]
    assert found["funnel"] == {"kept": 5}
    assert done.adapter.digest == file_digest(path) == job.run.stamp("train")["reads"]["adapter.gguf"]
    assert not job.run.path("adapter/adapter.gguf").exists()


def test_an_adapter_adopted_but_not_stamped_is_made_again_to_the_byte(job):
    first = train(job)
    job.run.clear_stage("train")
    assert train(job).adapter.digest == first.adapter.digest


def test_a_base_among_this_machine_s_models_is_checked_without_being_named(own_folder):
    base = write_model(own_folder / "tiny.gguf", SPEC)
    assert CliRunner().invoke(app, ["models", "add", "tiny", str(base)]).exit_code == 0
    for digest, same in ((file_digest(base), True), ("0" * 64, False)):
        made = write_lora(own_folder / "made.gguf", lora_pairs(SPEC), 8.0)
        gguf.adopt(made, own_folder / "adapter.gguf", dataclasses.replace(ORIGIN, base_digest=digest))
        seen = CliRunner().invoke(app, ["inspect", "adapter.gguf", "--json"])
        assert json.loads(seen.stdout)["verified"] == {"base": same}
        assert CliRunner().invoke(app, ["inspect", "adapter.gguf"]).exit_code == (0 if same else 1)
