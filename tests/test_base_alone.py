"""The untuned model alone: asked, served and measured without a run, without an adapter, of any architecture."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from test_gguf_config import write_variant

import sg_local as sg
from sg_local import serve
from sg_local.cli.app import app

SCRIPTED = ("--backend", "scripted")
TASK = """
name = "team"
kind = "classification"
instruction = "Decide which team should answer."
labels = ["billing", "delivery"]
[[examples]]
input = "I was charged twice."
output = "billing"
[[examples]]
input = "My parcel never came."
output = "delivery"
[[tests]]
input = "The invoice is wrong."
output = "billing"
[[tests]]
input = "The courier left my box in the rain."
output = "delivery"
"""


def run(*args, code=0, **more):
    result = CliRunner().invoke(app, [str(arg) for arg in args], **more)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def odd(own_folder):
    """A model that llama.cpp runs and no trainer here trains, and a task."""
    (own_folder / "team.toml").write_text(TASK)
    return write_variant(own_folder / "odd.gguf", fields=[("llama.rope.scaling.type", "yarn")])


def test_an_untrainable_model_answers_without_a_run(odd, own_folder):
    asked = ("--base", "--model", odd, "--set", "engine.fast_copy=false")
    answer = run("predict", "team.toml", *asked, "Where is my parcel?").stdout.strip()
    assert answer in ("billing", "delivery")
    assert not (own_folder / "runs").exists()
    refused = run("run", "team.toml", "--model", odd, "--yes", code=1).stderr
    assert "cannot be trained" in refused and "yarn" in refused
    assert not (own_folder / "runs").exists()


def test_an_untrainable_model_is_measured_and_nothing_is_written(odd, own_folder):
    found = json.loads(run("eval", "team.toml", "--base", "--model", odd, "--json").stdout)
    assert {"base_chat", "base_plain", "base", "base_vote", "base_restricted", "base_calibrated"} <= set(
        found["systems"]
    )
    assert all(one["low"] <= one["score"] <= one["high"] and one["n"] == 2 for one in found["systems"].values())
    assert not any(name.startswith("tuned") for name in found["systems"])
    assert not (own_folder / "runs").exists()


def test_a_shipped_task_is_measured_as_a_table_and_held_to_gates(own_folder):
    shown = run("eval", "support_routing", "--base", *SCRIPTED, "--tests", 9, "--gate", "base_vote>=0").stdout
    assert "untuned: exact match on 9 test rows" in shown and "base, calibrated labels" in shown
    assert "base (chat prompt)" in shown and "base (plain prompt)" in shown and "\ntuned" not in shown
    run("eval", "support_routing", "--base", *SCRIPTED, "--tests", 9, "--gate", "base>=101", code=3)
    assert not (own_folder / "runs").exists()


def test_a_run_is_asked_and_measured_untuned_before_it_is_trained(own_folder):
    run("synth", "support_routing", *SCRIPTED, "--name", "early", "--set", "synth.n_inputs=12")
    before = {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()}
    assert run("predict", "early", "--base", "Where is my parcel?").stdout.strip()
    assert json.loads(run("eval", "early", "--base", "--json").stdout)["n"] == 60
    assert "has no adapter.gguf yet" in run("predict", "early", "Where?", code=1).stderr
    assert {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()} == before


def test_options_of_a_base_go_with_base_alone(own_folder):
    assert "--model needs --base" in run("predict", "r", "x", "--model", "m", code=2).stderr
    refused = run("predict", "support_routing", "x", code=2).stderr
    assert "it is a task" in refused and "`--base`" in refused
    assert "neither a run nor a task named 'nothing'" in run("predict", "nothing", "x", "--base", code=2).stderr
    assert "--retain" in run("eval", "support_routing", "--base", "--retain", *SCRIPTED, code=2).stderr


def test_a_run_keeps_its_own_model_whatever_the_environment_says(own_folder, monkeypatch):
    run("synth", "support_routing", *SCRIPTED, "--name", "early", "--set", "synth.n_inputs=12")
    monkeypatch.setenv("SG_LOCAL_MODEL", "no-such-model")
    assert run("predict", "early", "--base", "Where is my parcel?").stdout.strip()


def test_the_base_alone_is_served(own_folder, monkeypatch):
    pytest.importorskip("uvicorn")
    seen = []
    monkeypatch.setattr(serve, "serve", lambda generator, models, setup, ready: seen.append((generator, models)))
    run("serve", "support_routing", "--base", *SCRIPTED)
    generator, models = seen[0]
    [service] = models.services
    assert (generator.adapter, service.task.name) == (None, "support_routing")
    assert not (own_folder / "runs").exists()


def test_from_python_the_base_alone_answers_and_no_stage_works(own_folder):
    with sg.open_job("support_routing", backend="scripted", base=True) as job:
        assert job.predict(["Where is my parcel?"])[0] in job.task.labels
        assert sum(job.predict_proba(["Where is my parcel?"])[0].values()) == pytest.approx(1)
        assert job.evaluate_base().systems["base_calibrated"].n == len(job.task.tests)
        with pytest.raises(sg.SgError, match="untuned model alone"):
            job.synth()
    assert not (own_folder / "runs").exists()
