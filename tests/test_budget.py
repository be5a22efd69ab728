"""A job stays within its memory, disk and time by settings that nobody gave, or says what would fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from bounds import soon
from click.testing import CliRunner

import sg_local as sg
from sg_local.backends import machine
from sg_local.cli.app import app
from sg_local.job import budget, disk, paces, resources, where
from sg_local.job.budget import Budget, fit_space, fit_time
from sg_local.job.forecast import forecast
from sg_local.job.job import OpenRun
from sg_local.job.options import kept_budget
from sg_local.job.quantities import size_of
from sg_local.job.stages import ALL
from sg_local.records import SgError
from tests.test_forecast import begun
from tests.tiny_models import TinySpec, write_model

MB, GB = 10**6, 10**9


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "tiny.gguf", TinySpec())


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia", lambda: False)
    monkeypatch.setattr(where, "on_apple_silicon", lambda: False)
    monkeypatch.setattr(paces, "pace_of", lambda job, stage: paces.Pace(1000.0, "measured"))
    monkeypatch.setattr(paces, "is_measured", lambda job, stage: True)


def given(tmp_path, task, model, bound: Budget, **settings) -> OpenRun:
    job = begun(tmp_path, task, model, **settings)
    job.budget = bound
    return job


def test_a_roomy_budget_changes_nothing(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget(64 * GB, 500 * GB, 1e6))
    before = {stage: job.plan[stage] for stage in ("engine", "synth", "export")}
    fit_space(job, ALL)
    fit_time(job, ALL)
    assert {stage: job.plan[stage] for stage in before} == before and job.said == []
    assert job.plan["train"].time_s > 0.9e6  # the training keeps the time


def test_fewer_sequences_and_rows_at_a_time_are_chosen_for_little_memory(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget())
    engine, training = (resources.memory_of(job, stage) for stage in ("synth", "train"))
    job.budget = Budget(ram_bytes=engine - 5 * MB)
    fit_space(job, ("synth",))
    assert job.plan["engine"].n_parallel == 16 or not job.plan["engine"].fast_copy
    assert resources.memory_of(job, "synth") <= job.budget.ram_bytes
    job = given(tmp_path, routing, model, Budget(ram_bytes=training + 50 * MB), train={"epochs": 2})
    big = replace(job, plan=job.plan.changed("train", {"batch_size": 512}))
    assert resources.memory_of(big, "train") > big.budget.ram_bytes
    big.plan = replace(big.plan, layers=())
    fit_space(big, ("train",))
    train = big.plan["train"]
    assert train.batch_size < 512 and train.batch_size * train.grad_accumulation == 512
    assert resources.memory_of(big, "train") <= big.budget.ram_bytes
    assert f"train.batch_size={train.batch_size} (else 512)" in big.said[0]


def test_what_was_given_is_never_changed(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget(time_s=30.0), train={"epochs": 3.0}, synth={"n_inputs": 160})
    with pytest.raises(SgError, match="takes at least") as caught:
        fit_time(job, ALL)
    assert caught.value.exit_code == 2 and "`time=" in caught.value.hint
    assert job.plan["train"].epochs == 3.0 and job.plan["synth"].n_inputs == 160


def test_memory_that_nothing_fits_into_is_refused_with_what_every_stage_fits_into(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget(ram_bytes=100 * MB))
    with pytest.raises(SgError, match="needs at least .* of memory, and the budget is 100.0 MB") as caught:
        fit_space(job, ALL)
    nearest = size_of(caught.value.hint.partition("`ram=")[2].partition("`")[0])
    smaller = given(tmp_path, routing, model, Budget(ram_bytes=nearest - 100 * MB))
    with pytest.raises(SgError, match=re.escape(caught.value.message.partition(", and")[0])):
        fit_space(smaller, ALL)
    fits = given(tmp_path, routing, model, Budget(ram_bytes=nearest))
    fit_space(fits, ALL)
    assert all(resources.memory_of(fits, stage) <= nearest for stage in ALL if stage != "filter")


def test_one_sequence_is_tried_where_two_are_too_many(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr(resources, "memory_of", lambda job, stage: (job.plan["engine"].n_parallel or 32) * GB)
    job = given(tmp_path, routing, model, Budget(ram_bytes=GB))
    fit_space(job, ("synth",))
    assert job.plan["engine"].n_parallel == 1


def test_the_faster_copy_goes_first_where_disk_is_short_then_the_fused_file(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr(disk, "COPY_RESERVE", 0)
    job = given(tmp_path, routing, model, Budget())
    stages = ("synth", "export", "eval")  # while it trains, the gate's copy of the base needs as much as a file
    job.budget = Budget(disk_bytes=sum(disk.disk_by_stage(job, stages).values()) - 1)
    fit_space(job, stages)
    assert not job.plan["engine"].fast_copy and job.plan["export"].types == ("auto",)
    job.budget = Budget(disk_bytes=sum(disk.disk_by_stage(job, stages).values()) - 1)
    fit_space(job, stages)
    assert job.plan["export"].types == ()
    job.budget = Budget(disk_bytes=1000)
    with pytest.raises(SgError, match="needs at least .* of disk"):
        fit_space(job, ALL)


def test_rows_and_epochs_shrink_until_the_time_is_enough(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget())
    whole = forecast(job, ALL).seconds
    shares = []
    for share in (0.9, 0.75, 0.6):
        job = given(tmp_path, routing, model, Budget(time_s=share * whole))
        fit_time(job, ALL)
        found = forecast(job, ALL)
        assert found.seconds <= budget.COMFORT * share * whole
        shares.append(found.seconds)
        assert job.plan["train"].time_s <= share * whole
        assert job.record["budget"]["chose"] and job.record["set"]["train"]["time_s"] == job.plan["train"].time_s
    assert shares == sorted(shares, reverse=True)


def test_time_that_was_spent_is_not_there_again(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget())
    rest = forecast(job, ("train", "export", "eval")).seconds
    job.budget = Budget(time_s=100 * rest)
    job.record["measured"] = {"synth": {"seconds": 99.9 * rest}}
    with pytest.raises(SgError, match="is left"):
        fit_time(job, ("train", "export", "eval"))


def test_where_nobody_knows_how_long_it_takes_the_training_is_bounded(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr(paces, "pace_of", lambda job, stage: None)
    job = given(tmp_path, routing, model, Budget(time_s=600.0))
    fit_time(job, ALL)
    assert job.plan["train"].time_s == 600.0 and job.plan["train"].epochs == 3.0


def test_a_run_remembers_its_budget_and_may_choose_again(tmp_path, routing, model):
    job = given(tmp_path, routing, model, Budget(time_s=0.8 * forecast(begun(tmp_path, routing, model), ALL).seconds))
    fit_time(job, ALL)
    assert kept_budget(job.record) == job.budget
    n_inputs = job.plan["synth"].n_inputs
    again = begun(tmp_path, routing, model, **job.record["set"])
    again.record, again.budget = job.record, Budget(time_s=job.budget.time_s * 0.75)
    fit_time(again, ALL)
    assert again.plan["synth"].n_inputs < n_inputs or again.plan["train"].epochs < job.plan["train"].epochs


def test_the_command_line_refuses_in_the_first_second_and_names_what_fits(own_folder, model):
    line = ["run", "support_routing", "--model", str(model), "--trainer", "torch", "--yes"]
    CliRunner().invoke(app, ["run", "--help"])
    with soon():
        result = CliRunner().invoke(app, [*line, "--ram", "100M"])
    assert result.exit_code == 2 and "the budget is 100.0 MB" in result.stderr and "`--ram " in result.stderr
    assert not (own_folder / "runs").exists()
    assert "not a size" in CliRunner().invoke(app, [*line, "--disk", "much"]).stderr
    assert "not a length of time" in CliRunner().invoke(app, [*line, "--time", "long"]).stderr


def test_the_face_takes_a_budget(own_folder):
    with pytest.raises(SgError, match="budget has no option 'memory'"):
        sg.open_job("support_routing", backend="scripted", budget={"memory": "1G"})
    with sg.open_job("support_routing", backend="scripted", budget={"ram": "12G", "time": "45m"}) as job:
        assert job.opened.budget == Budget(ram_bytes=12 * GB, time_s=2700.0) and job.forecast() is None
        job.synth()
    with sg.load(job.folder) as again:
        assert again.opened.budget == job.opened.budget


def test_a_chosen_budget_is_kept_in_run_json(own_folder, model):
    pytest.importorskip("llama_cpp")
    line = ["run", "support_routing", "--model", str(model), "--trainer", "torch", "--plan", "--json", "--time", "90s"]
    told = CliRunner().invoke(app, line)
    assert told.exit_code == 0, told.stderr
    assert "to stay within the budget: " in told.stderr
    assert json.loads(told.stdout)["rows"]["n_inputs"] < 179
