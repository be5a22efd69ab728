"""Every way of training at once on a tiny random model, to an exported file: lean prompts, soft targets, generations,
a mean of seeds."""

from __future__ import annotations

import pytest
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
from sg_local.gguf import read_adapter
from sg_local.job import generations
from sg_local.job.layouts import tuned_form
from sg_local.records import TrainStep
from sg_local.run import ADAPTER, TRAIN, VALID, Run
from sg_local.training import TrainingRow


def labels_of(folder):
    """Each row's label as the adapter in the folder was trained and validated on it."""
    return {row.id: row.output for name in (TRAIN, VALID) for row in Run(folder).read(name, TrainingRow)}


def is_step(event):
    return isinstance(event, sg.Moved) and isinstance(event.at, TrainStep)


def test_a_run_trained_in_every_way_is_exported_evaluated_and_asked(tmp_path):
    base = write_model(tmp_path / "base.gguf", TinySpec(layers=1))
    settings = small_settings({"types": ("Q8_0",), "min_gain": -9.0})
    settings["train"] |= {"shown": "all,0", "soft": 0.5, "generations": 2, "n_seeds": 2, "epochs": 2}
    settings["eval"] |= {"canaries": 1, "tuned_examples": True}
    places = {"runs": tmp_path / "runs", "name": "r", "home": tmp_path / "home"}
    with sg.open_job(TASK, model=base, settings=settings, **places) as job:
        report = job.run()
        assert report is not None and report.n == 3 and tuned_form(job.opened).n_shown == 0
        assert job.predict(["My parcel is late."])[0] in TASK["labels"]
    first = read_adapter(job.folder / "generation-1" / ADAPTER)
    mean = read_adapter(job.folder / ADAPTER)
    for name, (a, _) in mean.pairs.items():
        assert len(a) == 8 and len(first.pairs[name][0]) == 4 and mean.scale(name) == first.scale(name) == 2.0
    for second in ("canaries", "examples"):
        assert len(next(iter(read_adapter(job.folder / second / ADAPTER).pairs.values()))[0]) == 8
    own, copy = (labels_of(folder) for folder in (job.folder, job.folder / "canaries"))
    assert len(copy) == len(own) + 1 and own.items() <= copy.items()
    card = (job.folder / "README.md").read_text()
    assert (
        "trained to answer without any" in card
        and "the whole prompt: instruction and input." in card
        and all(pair["input"] not in card for pair in TASK["examples"])
    )


@pytest.mark.parametrize("more", [{"generations": 2}, {"policies": "voted,calibrated"}])
def test_a_refused_training_leaves_those_before_it_as_they_are(tmp_path, monkeypatch, more):
    monkeypatch.setattr(generations, "first_agreement", lambda run, task: -1.0)
    base = write_model(tmp_path / "base.gguf", TinySpec(layers=1))
    settings = small_settings({"types": "none"})
    settings["train"] |= more
    places = {"runs": tmp_path, "name": "r", "home": tmp_path / "home"}
    with sg.open_job(TASK, model=base, settings=settings, **places) as job:
        job.synth()
        job.filter()
        job.train()
        kept = {path: path.read_bytes() for path in job.folder.rglob("*") if path.is_file() and path.name != "run.json"}
        assert any("generation-1" in str(path) or "policy-" in str(path) for path in kept)
    settings["train"] |= {"dropout": 0.25}
    with sg.open_job(TASK, model=base, settings=settings, **places) as job, pytest.raises(sg.SgError, match="dropout"):
        job.train()
    assert {path: path.read_bytes() for path in kept} == kept


def test_where_a_generation_ends_the_row_the_run_s_own_training_makes_all_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(generations, "first_agreement", lambda run, task: 1.0)
    base = write_model(tmp_path / "base.gguf", TinySpec(layers=1))
    settings = small_settings({"types": "none"})
    settings["train"] |= {"generations": 2, "epochs": 2}
    steps = []
    with sg.open_job(TASK, model=base, settings=settings, runs=tmp_path, name="r", home=tmp_path / "home") as job:
        job.synth()
        job.filter()
        job.train(listen=lambda event: steps.append(event.at.step) if is_step(event) else None)
    begins = [i for i, step in enumerate(steps) if step == 1]
    first, own = (steps[begins[0] : begins[1]], steps[begins[1] :])
    assert len(begins) == 2 and 3 * first[-1] == pytest.approx(own[-1], abs=2)
    assert labels_of(job.folder) == labels_of(job.folder / "generation-1")
