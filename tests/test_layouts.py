"""A run's layout: the base writes rows in the one it knows, the adapter keeps the one that it was trained in."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

import sg_local as sg
from sg_local.backends import TrainSettings
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.job import plan, train
from sg_local.job.answering import Asking, answerer
from sg_local.job.begun import job_for_run
from sg_local.job.evaluate import evaluation_of
from sg_local.job.export import export_job
from sg_local.job.layouts import tuned_layout
from sg_local.job.options import Home, Options
from sg_local.job.serving import service_of
from sg_local.job.stages import perform
from sg_local.job.synth import synth_settings
from sg_local.job.train import training_job
from sg_local.prompts import LEAD, WHOLE
from sg_local.records import Candidate, Score
from sg_local.run import CANDIDATES, RUN, MadeOtherwise

SMALL = {"synth": {"n_inputs": 24, "n_asked": 96}, "eval": {"n_votes": 2}}


def options(folder: Path, **settings) -> Options:
    return Options(runs=folder / "runs", name="r", backend="scripted", settings=settings)


def reopened(folder: Path, **settings):
    return job_for_run("r", options(folder, **settings), Home(folder / "home"))


@pytest.fixture
def finished(own_folder, routing):
    """A finished run in the layout without leads."""
    settings = {**SMALL, "train": {"layout": WHOLE}}
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=settings) as job:
        job.run()
    return own_folder


def test_rows_are_written_in_one_layout_and_trained_and_asked_in_the_other(finished):
    with reopened(finished) as job:
        assert job.form.lead == " " and job.forms[-1].lead == " "
        for form in (
            training_job(job, None).form,
            export_job(job).form,
            evaluation_of(job).form,
            service_of(job, fit=False).form,
            answerer(job, Asking())[0].form,
        ):
            assert (form.lead, form.cue) == ("", "\n")
        assert answerer(job, Asking(base=True))[0].form == job.form
        assert evaluation_of(job).forms == job.forms
        assert "layout" not in synth_settings(job)


def test_the_tuned_model_s_labels_are_scored_without_a_lead_and_the_base_s_with_one(finished, monkeypatch):
    scored = []
    monkeypatch.setattr(ScriptedGenerator, "score", lambda self, asked: iter(noted(scored, asked)))
    with sg.load(finished / "runs" / "r") as job:
        for base in (False, True):
            assert job.predict(["My parcel is late."], base=base)
    ends = ["".join(segment.text for segment in one.segments).rpartition("Input:")[2] for one in scored]
    assert ends == ["\nMy parcel is late.\nOutput:\n", " My parcel is late.\nOutput:"]
    assert [one.continuations[0][0] for one in scored] == ["b", " "]


def noted(kept, asked):
    kept += asked
    return [Score(one.id, tuple(-float(i) for i in range(len(one.continuations)))) for one in kept[-1:]]


@pytest.mark.parametrize("layout", [LEAD, WHOLE])
def test_an_adapter_keeps_its_layout_whatever_is_set_later(finished, layout):
    with reopened(finished, train={"layout": layout}) as job:
        assert tuned_layout(job) == WHOLE and export_job(job).form.lead == ""


def test_planted_secrets_train_in_the_layout_in_which_they_are_ranked(finished, monkeypatch):
    works = []
    monkeypatch.setattr(train, "train_anew", lambda work, on_step: works.append(work) or work.run.root.mkdir())
    with reopened(finished, train={"layout": LEAD}, eval={"canaries": 2}) as job:
        train.train_canaries(job, lambda event: None)
        (work,) = works
        assert work.form == evaluation_of(job).form and work.form.lead == ""


def test_a_run_of_another_layout_is_trained_again_only_if_asked(finished):
    with reopened(finished, train={"layout": LEAD}) as job, job.lock():
        with pytest.raises(MadeOtherwise, match='layout "whole" \\(now "lead"\\)'):
            perform(job, "train", lambda event: None)
    with reopened(finished, train={"layout": LEAD}) as job, job.lock():
        job.redo = True
        perform(job, "train", lambda event: None)
        assert tuned_layout(job) == LEAD and "layout" not in (job.run.stamp("train") or {})["settings"]


def test_a_run_that_records_no_layout_is_of_the_first(own_folder, routing, monkeypatch):
    """As runs of before are, whatever the default has become."""
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=SMALL) as job:
        job.run()
    path = own_folder / "runs" / "r" / RUN
    data = json.loads(path.read_text())
    assert data.pop("layout") == TrainSettings.layout
    path.write_text(json.dumps(data))
    before = plan.stage_defaults()
    changed = {**before, "train": replace(before["train"], layout=WHOLE)}
    monkeypatch.setattr(plan, "stage_defaults", lambda: changed)
    with reopened(own_folder) as job, job.lock():
        assert job.plan["train"].layout == LEAD
        perform(job, "train", lambda event: None)  # finished before


def test_rows_are_judged_by_both_scores_in_a_new_run_and_as_before_in_one_from_before(own_folder, routing):
    settings = {"synth": {"n_inputs": 12, "n_asked": 48}}
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=settings) as job:
        job.synth()
        job.filter()
        assert all(len(row.channel_scores) == len(routing.labels) for row in job.opened.run.read(CANDIDATES, Candidate))
        recorded = job.opened.run.settings
    assert (recorded["channel"], recorded["evidence"], recorded["ensemble"]) == (True, "both", 1)
    path = own_folder / "runs" / "r" / RUN
    later = ("channel", "evidence", "ensemble")
    path.write_text(json.dumps({key: value for key, value in recorded.items() if key not in later}))
    with reopened(own_folder) as old:
        assert (old.plan["synth"].channel, old.plan["filter"].evidence) == (False, "direct")
        assert old.plan["eval"].ensemble == 0
    with reopened(own_folder, filter={"evidence": "both"}) as told:
        assert told.plan["filter"].evidence == "both"


def test_the_paper_s_preset_scores_no_inputs(own_folder, routing):
    with sg.open_job(routing, runs="runs", name="p", backend="scripted", preset="paper") as job:
        plan = job.opened.plan
    assert (plan["synth"].channel, plan["filter"].evidence, plan["eval"].ensemble) == (False, "direct", 0)


@pytest.mark.parametrize(
    ("stage", "name", "now", "before"),
    [
        ("filter", "named_label", {"on": True}, {"on": False}),
        ("train", "layer_share", 0.5, 1.0),
        ("train", "precision", "auto", "f32"),
    ],
)
def test_a_run_that_records_no_newer_setting_goes_on_as_it_began(own_folder, routing, stage, name, now, before):
    def planned(**options):
        with reopened(own_folder, **options) as job:
            return dataclasses.asdict(job.plan[stage])[name]

    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=SMALL) as job:
        job.synth()
    path = own_folder / "runs" / "r" / RUN
    data = json.loads(path.read_text())
    assert data.pop(name) == now == planned()
    path.write_text(json.dumps(data))
    assert planned() == before
    assert planned(**{stage: {name: now}}) == now


def test_a_preset_that_is_given_anew_says_what_it_says(own_folder, routing):
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=SMALL) as job:
        job.synth()
    path = own_folder / "runs" / "r" / RUN
    data = json.loads(path.read_text())
    del data["layer_share"]
    path.write_text(json.dumps(data))
    for given, share in ((False, 1.0), (True, 0.5)):
        asked = replace(options(own_folder), given=frozenset({"preset"} if given else ()))
        with job_for_run("r", asked, Home(own_folder / "home")) as job:
            assert job.plan["train"].layer_share == share
