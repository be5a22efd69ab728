"""The Python face: what a notebook or a service imports."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

import sg_local as sg
from sg_local.run import RUN, Run, default_name

SMALL = {"synth": {"n_inputs": 24, "n_asked": 96}}


def job(task="support_routing", **more):
    return sg.open_job(task, backend="scripted", name="r", **{"settings": SMALL, **more})


@pytest.fixture
def done(own_folder):
    with job() as found:
        found.run()
    return found


def test_every_public_name_is_there_and_nothing_else():
    assert sorted(sg.__all__) == sg.__all__
    assert set(sg.__all__) - {"__version__"} == set(sg._HOMES)
    assert all(getattr(sg, name) is not None for name in sg.__all__)
    assert set(sg.__all__) <= set(dir(sg))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        sg.train  # noqa: B018


def test_importing_loads_no_engine_and_no_screen():
    heavy = {"numpy", "rich", "click", "torch", "mlx", "llama_cpp", "transformers", "gguf", "jinja2", "huggingface_hub"}
    code = f"import sys, sg_local; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_whole_job_runs_and_tells(own_folder):
    heard = []
    with job() as found:
        assert not found.folder.exists()  # opening writes nothing
        report = found.run(listen=heard.append)
        assert found.predict(["Where is my parcel?"])[0] in found.task.labels
    begun = [event.stage for event in heard if isinstance(event, sg.Began)]
    assert begun == ["synth", "filter", "train", "eval"]
    assert {event.stage for event in heard if isinstance(event, sg.Ended)} == set(begun)
    assert [event.stage for event in heard if isinstance(event, sg.Skipped)] == ["export"]
    assert {event.stage for event in heard if isinstance(event, sg.Moved)} >= {"synth", "train", "eval"}
    assert report == found.report and report.n == len(found.task.tests)


def test_stage_by_stage_is_the_same_as_run(own_folder, done):
    with sg.open_job("support_routing", backend="scripted", settings=SMALL, name="single") as found:
        rows = found.synth()
        assert rows and not any(row.kept for row in rows) and {row.judge for row in rows} == {""}
        funnel = found.filter()
        assert funnel.kept == sum(row.kept for row in found.rows())
        assert found.train().read_bytes() == (done.folder / "adapter.gguf").read_bytes()
        assert found.evaluate().systems == done.report.systems


def test_without_test_rows_there_is_no_report(own_folder):
    task = dataclasses.replace(sg.load_task("support_routing"), tests=())
    with job(task) as found:
        assert found.run() is None and (found.folder / "adapter.gguf").exists()
        with pytest.raises(sg.SgError, match="no report yet"):
            found.report  # noqa: B018


def test_a_finished_run_is_loaded_by_name_or_folder(done, own_folder):
    for place in ("r", own_folder / "runs" / "r", "runs/r"):
        with sg.load(place) as again:
            assert (again.name, again.task) == ("r", done.task)
            assert again.report.n == done.report.n
    with pytest.raises(sg.SgError, match="no run named 'rr'") as failed:
        sg.load("rr")
    assert failed.value.hint == "Did you mean r?"


def test_probabilities_are_those_of_the_answer(done):
    texts = ["Where is my parcel?", "The app crashes.", "I was charged twice."]
    found = done.predict_proba(texts)
    assert [list(one) for one in found] == [list(done.task.labels)] * 3
    assert all(sum(one.values()) == pytest.approx(1) for one in found)
    assert [max(one, key=one.get) for one in found] == done.predict(texts)


def test_a_generation_has_no_probabilities(own_folder):
    with job("iso_date") as found, pytest.raises(sg.SgError, match="has no labels"):
        found.predict_proba(["tomorrow"])


def test_changed_filters_are_remembered(done):
    before = sum(row.kept for row in done.rows())
    funnel = done.filter({"vote_share": {"threshold": 1.1}, "policy": "voted"})
    assert funnel.kept == 0 < before
    with sg.load("r") as again:
        assert again.filter().kept == 0


def test_a_row_says_what_trains_and_why_not(own_folder):
    with job(settings={**SMALL, "filter": {"policy": "agree"}}) as done:
        done.synth()
        done.filter()
    rejected = [row for row in done.rows() if not row.kept]
    assert rejected and all(row.rule and row.reason and row.judge == "filters" for row in rejected)
    assert {row.output for row in done.rows() if row.kept} <= set(done.task.labels)


def test_a_task_comes_from_a_mapping_a_file_or_a_name(own_folder):
    data = {
        "kind": "classification",
        "instruction": "Say yes or no.",
        "labels": ["yes", "no"],
        "examples": [{"input": "Is ice cold?", "output": "yes"}, {"input": "Is fire cold?", "output": "no"}],
    }
    task = sg.load_task(data)
    assert (task.labels, task.examples[1]) == (("yes", "no"), sg.Pair("Is fire cold?", "no"))
    assert sg.load_task(task) is task
    assert len(sg.load_task("support_routing", 5).tests) == 5
    with pytest.raises(sg.SgError, match="'maybe' is not in labels"):
        sg.load_task({**data, "examples": [{"input": "Is ice cold?", "output": "maybe"}]})
    with pytest.raises(sg.SgError, match="unknown key 'tipp'"):
        sg.load_task({**data, "tipp": 1})


def test_what_cannot_work_is_refused_before_anything_is_written(own_folder):
    with pytest.raises(sg.SgError, match="no option 'sead'"):
        sg.open_job("support_routing", sead=3)
    with pytest.raises(sg.SgError, match="no setting 'train.epoch'") as failed:
        sg.open_job("support_routing", backend="scripted", settings={"train": {"epoch": 3}})
    assert failed.value.hint == "Did you mean train.epochs?"
    with job() as found, pytest.raises(sg.SgError, match=r"no candidates\.jsonl yet"):
        found.train()
    with job() as found, pytest.raises(sg.SgError, match=r"no candidates\.jsonl yet"):
        found.filter({"policy": "voted"})
    assert not Run(own_folder / "runs" / "r").root.exists()


def test_the_home_is_handed_in_or_the_environment_s(own_folder, monkeypatch):
    found = job(home="elsewhere")
    assert str(found.opened.plan["engine"].cache) == "elsewhere"
    monkeypatch.setenv("SG_LOCAL_HOME", "named")
    assert str(job().opened.plan["engine"].cache) == "named"


def test_the_base_alone_is_asked_with_the_run_that_0_1_0_named_after_its_model(own_folder, routing):
    task = dataclasses.replace(routing, name="письма")
    with sg.open_job(task, backend="scripted", base=True) as alone:
        older = Run(own_folder / "runs" / default_name("", alone.opened.base.name))
        assert alone.name != older.name
    older.write_json(RUN, {"task": dataclasses.asdict(task)})
    with sg.open_job(task, backend="scripted", base=True) as alone:
        assert alone.name == older.name


def test_labels_by_ensemble_are_those_that_were_evaluated(own_folder):
    """In as many orders, centred on the same inputs, more than the channel takes, though both ask by themselves."""
    with job(settings={"synth": {"n_inputs": 72, "n_asked": 288}}) as found:
        rows = found.run().rows
        (own_folder / "rows.jsonl").write_text("".join(json.dumps({"input": row.input}) + "\n" for row in rows))
        found.predict_file("rows.jsonl", "answers.jsonl", base=True, labels="ensemble")
    labels = [json.loads(line)["answer"] for line in (own_folder / "answers.jsonl").read_text().splitlines()]
    evaluated = [100.0 * (label in row.outputs) for label, row in zip(labels, rows, strict=True)]
    assert evaluated == [row.scores["base_ensemble"] for row in rows] and 0 < sum(evaluated)
