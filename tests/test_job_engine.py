"""What reaches a job's engine: the cache folder, the model's rule for the beginning of a text, the room of a row."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sg_local import prompts
from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.llama_cpp.probe import EngineChoice
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.export import gate, loading
from sg_local.job import job as job_module
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.export import export_job
from sg_local.job.options import Home, Options
from sg_local.job.plan import make_plan
from sg_local.job.train import training_job
from sg_local.records import Segment, SgError, digest
from tests import tiny_models
from tests.tiny_models import TinySpec, write_model

RESTED = 1_700_000_000  # a time of change long ago, so that a file's digest is kept


@pytest.fixture
def opened(monkeypatch):
    """The settings of every engine that was opened."""
    seen = []

    def open_generator(name, model, settings):
        seen.append(settings)
        return ScriptedGenerator(model)

    monkeypatch.setattr(job_module, "open_generator", open_generator)
    return seen


def options(tmp_path, **settings) -> Options:
    return Options(runs=tmp_path / "runs", backend="scripted", form="plain", settings=settings)


@pytest.mark.parametrize(
    ("given", "cache"),
    [("some/where", Path("some/where")), ("~/kept", Path.home() / "kept"), (Path("/a"), Path("/a")), ("none", None)],
)
def test_the_cache_is_a_setting_like_others(given, cache):
    assert make_plan([("given", {"engine": {"cache": given}})])["engine"].cache == cache


def test_a_cache_that_is_no_path_is_refused():
    with pytest.raises(SgError, match=r"engine\.cache: 3"):
        make_plan([("given", {"engine": {"cache": 3}})])


def test_every_engine_keeps_its_copies_in_the_jobs_home(tmp_path, routing, opened, monkeypatch):
    home = Home(data=tmp_path / "home")
    with job_for_task(routing, options(tmp_path), home) as job:
        assert job.generator
        work = export_job(replaced(job))
    monkeypatch.setattr(gate, "open_generator", job_module.open_generator)
    with gate.opened(work, tmp_path / "fused.gguf"):
        pass
    monkeypatch.setattr(loading, "answer_in_child", lambda _name, _model, settings, _prompt: opened.append(settings))
    loading.answer({"engine": "x", "model": "m", "n_ctx": 1, "cache": str(work.cache), "segments": [["Hi", True]]})
    assert [settings.cache for settings in opened] == [home.data] * 3


def test_or_where_it_was_told_to_and_the_run_remembers(tmp_path, routing, opened):
    home, cache = Home(data=tmp_path / "home"), tmp_path / "elsewhere"
    with job_for_task(routing, options(tmp_path, engine={"cache": str(cache)}), home) as job, job.lock():
        assert job.generator
    assert json.loads(job.run.path("run.json").read_text())["set"] == {"engine": {"cache": str(cache)}}
    with job_for_run(job.run.name, replace(options(tmp_path), given=frozenset()), home) as again:
        assert again.generator
    assert [settings.cache for settings in opened] == [cache] * len(opened)


def replaced(job):
    """The job with a run.json, as an export reads it."""
    job.run.write_json("run.json", job.record)
    return job


def test_training_and_serving_have_the_room_that_the_evaluation_has(tmp_path, routing):
    settings = {"engine": {"n_ctx": 900}, "eval": {"n_ctx": 700, "max_tokens": 20}}
    with job_for_task(routing, options(tmp_path, **settings), Home(tmp_path)) as job:
        assert job.n_ctx == 700
        room = training_job(job, None).room
        served = job.serve_settings(restricted=False)
    assert (served.n_ctx, served.max_tokens, served.restricted) == (700, 20, False)
    assert (room.n_ctx, room.n_new, room.stage) == (700, 11, "eval")
    assert options_n_ctx(tmp_path, routing, {"engine": {"n_ctx": 600}}) == 600


def options_n_ctx(tmp_path, task, settings):
    with job_for_task(task, replace(options(tmp_path, **settings), name="other"), Home(tmp_path)) as job:
        return job.n_ctx


# The beginning of a text (a tokenizer that adds it and a template that spells it; one that does not and one that does)

SPELT = "{{ '<s>' }}" + tiny_models.VICUNA.removeprefix("{{ bos_token }}")
WRITTEN = "{{ bos_token }}" + tiny_models.VICUNA.removeprefix("{{ bos_token }}")


@pytest.mark.parametrize(
    ("spec", "template"),
    [(TinySpec("spm", chat_template=SPELT), None), (TinySpec(chat_template=WRITTEN), None), (TinySpec("spm"), SPELT)],
    ids=["added and spelt", "written only", "added, and spelt by the model's card"],
)
def test_a_text_begins_once(tmp_path, routing, spec, template):
    pytest.importorskip("llama_cpp")
    model = write_model(tmp_path / "m.gguf", spec)
    asked = replace(options(tmp_path, engine={"fast_copy": False}), backend="llama.cpp", model=str(model), form="chat")
    with job_for_task(routing, asked, Home(tmp_path / "home")) as job:
        job.base = replace(job.base, template=template)
        job.__dict__.pop("forms", None), job.__dict__.pop("form", None)
        ids = job.generator.tokenize(
            prompts.fitted_answer(training_job(job, None).room, routing, job.form, "x").segments
        )
        (first,) = job.generator.tokenize((Segment(job.generator.info.bos),), bos=False)
    assert ids[0] == first and ids[1] != first


@pytest.mark.parametrize("add_bos", [True, False, None])
def test_stamps_digest_a_form_as_they_did_before_it_knew_that(add_bos):
    chat, plain = prompts.forms(tiny_models.CHATML, "<s>", "</s>", add_bos)
    before = {"name": "plain", "template": None, "bos": "<s>", "eos": "</s>", "lead": " ", "add_bos": None}
    assert digest(plain.stamped) == digest(before) == digest(prompts.forms(None, "<s>", "</s>")[0].stamped)
    assert chat.stamped == prompts.forms(tiny_models.CHATML, "<s>", "</s>")[0].stamped


def test_the_folder_of_the_home_is_filled_and_no_other(tmp_path, routing, monkeypatch):
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    model = write_model(tmp_path / "m.gguf", TinySpec())
    os.utime(model, (RESTED, RESTED))
    asked = replace(options(tmp_path, engine={"fast_copy": False}), backend="llama.cpp", model=str(model))
    with job_for_task(routing, asked, Home(tmp_path / "home")) as job:
        assert job.generator.info.digest == job.record["model"]["digest"]
    assert list((tmp_path / "home/digests").iterdir()) and not (tmp_path / "user").exists()


class Chosen(ScriptedGenerator):
    """An engine that chose what it runs."""

    def __init__(self, model: Path, format: str, n_parallel: int) -> None:
        super().__init__(model)
        self.choice = EngineChoice(format, str(model), n_parallel, 2)


@pytest.fixture
def clocks(monkeypatch):
    """Engines on two machines: each opening's settings, and what a trial would choose there."""
    seen, trials = [], [("BF16", 64), ("as given", 16)]

    def open_generator(name, model, settings):
        seen.append(settings)
        format, n_parallel = trials[min(len(seen), 2) - 1]
        return Chosen(model, settings.format or format, settings.n_parallel or n_parallel)

    monkeypatch.setattr(job_module, "open_generator", open_generator)
    return seen


def begin(tmp_path, routing, model=None, **settings):
    asked = replace(options(tmp_path, **settings), name="r", model=model)
    with job_for_task(routing, asked, Home(tmp_path)) as job, job.lock():
        assert job.generator
    return json.loads((tmp_path / "runs" / "r" / "run.json").read_text())["engine"]


def go_on(tmp_path, routing, **settings):
    again = replace(options(tmp_path, **settings), name="r", given=frozenset())
    with job_for_task(routing, again, Home(tmp_path)) as job, job.lock():
        assert job.generator
        return job.said


def test_a_run_goes_on_in_the_format_and_with_the_sequences_that_it_began_with(tmp_path, routing, clocks):
    assert begin(tmp_path, routing) == {"format": "BF16", "n_parallel": 64}
    assert go_on(tmp_path, routing) == []
    assert (clocks[0].format, clocks[0].n_parallel) == (None, None)
    assert (clocks[1].format, clocks[1].n_parallel) == ("BF16", 64)


@pytest.mark.parametrize("fast_copy", [True, False])
def test_a_run_goes_on_with_as_many_replicas_as_it_began_with(tmp_path, routing, clocks, monkeypatch, fast_copy):
    began = begin(tmp_path, routing, engine={"fast_copy": fast_copy})
    go_on(tmp_path, routing, engine={"fast_copy": fast_copy})
    assert "n_replicas" not in began and clocks[-1].n_replicas == 1, "as runs before there were any"
    monkeypatch.setattr(Chosen, "n_replicas", 2, raising=False)
    path = tmp_path / "runs" / "r" / "run.json"
    path.unlink()
    assert begin(tmp_path, routing, engine={"fast_copy": fast_copy})["n_replicas"] == 2
    assert clocks[-1].n_replicas is None
    go_on(tmp_path, routing, engine={"fast_copy": fast_copy})
    assert clocks[-1].n_replicas == 2
    go_on(tmp_path, routing, engine={"fast_copy": fast_copy, "n_replicas": 1})
    assert clocks[-1].n_replicas == 1


def test_a_run_of_two_contexts_that_goes_on_in_one_says_so(tmp_path, routing, clocks, monkeypatch):
    monkeypatch.setattr(Chosen, "n_replicas", 2, raising=False)
    begin(tmp_path, routing)
    assert go_on(tmp_path, routing) == []
    monkeypatch.setattr(Chosen, "n_replicas", 1)
    told = "The run's rows were written in 2 contexts; here one writes: rows may come out otherwise."
    assert go_on(tmp_path, routing) == [told]


def test_settings_of_the_engine_go_before_what_a_run_began_with(tmp_path, routing, clocks):
    begin(tmp_path, routing)
    go_on(tmp_path, routing, engine={"fast_copy": False})
    go_on(tmp_path, routing, engine={"n_parallel": 4, "format": "Q8_0", "fast_copy": True})
    assert [(one.format, one.n_parallel) for one in clocks[1:]] == [(None, None), ("Q8_0", 4)]


def file_of(tmp_path) -> str:
    """A model that is there, so that its bytes can be compared."""
    path = tmp_path / "m.gguf"
    return str(path if path.exists() else write_model(path, TinySpec(layers=1)))


def again(tmp_path, task, seed=0, **chosen):
    """The engine's settings and what is said where a second run is begun, its seed given."""
    asked = replace(
        options(tmp_path, **chosen), name="s", seed=seed, given=frozenset({"seed"}), model=file_of(tmp_path)
    )
    with job_for_task(task, asked, Home(tmp_path)) as job, job.lock():
        assert job.generator
        return job.said


def test_a_new_run_that_is_given_the_seed_of_another_begins_with_its_format_and_sequences(tmp_path, routing, clocks):
    begin(tmp_path, routing, model=file_of(tmp_path))
    (said,) = again(tmp_path, routing)
    assert said.startswith("Engine as in run r,") and "BF16, 64 sequences" in said
    assert (clocks[-1].format, clocks[-1].n_parallel) == ("BF16", 64)
    kept = json.loads((tmp_path / "runs" / "s" / "run.json").read_text())["engine"]
    assert kept == {"format": "BF16", "n_parallel": 64}


@pytest.mark.parametrize("what", ["seed", "task", "model", "settings", "not given", "broken"])
def test_a_new_run_of_another_kind_tries_the_machine(tmp_path, routing, clocks, what):
    begin(tmp_path, routing, model=file_of(tmp_path))
    if what == "not given":
        with job_for_task(
            routing, replace(options(tmp_path), name="s", model=file_of(tmp_path)), Home(tmp_path)
        ) as job:
            assert job.generator and job.said == []
    else:
        if what == "broken":
            (tmp_path / "runs" / "r" / "run.json").write_text("{")
        if what == "model":
            write_model(tmp_path / "m.gguf", TinySpec(layers=2))
        task = replace(routing, instruction="Another.") if what == "task" else routing
        chosen = {"engine": {"fast_copy": False}} if what == "settings" else {}
        assert again(tmp_path, task, seed=int(what == "seed"), **chosen) == []
    assert clocks[-1].format is None


def test_another_format_than_a_run_began_with_is_said(tmp_path, routing, clocks, monkeypatch):
    begin(tmp_path, routing)
    monkeypatch.setattr(job_module, "open_generator", lambda name, model, settings: Chosen(model, "as given", 16))
    (said,) = go_on(tmp_path, routing)
    assert "written in BF16; here as given writes" in said


def test_an_engine_holds_a_format_and_makes_its_copy(tmp_path):
    pytest.importorskip("llama_cpp")
    path = write_model(tmp_path / "tiny.gguf", TinySpec())

    def choice(format: str) -> EngineChoice:
        generator = open_generator("llama.cpp", path, EngineSettings(n_ctx=256, cache=tmp_path / "c", format=format))
        generator.close()
        return generator.choice

    held = choice("F16")
    assert held.format == "F16" and Path(held.path).parent == tmp_path / "c" / "models" and choice("F16") == held
    assert choice("as given").path == str(path)
    with pytest.raises(SgError, match="no copy in 'Q2_K'") as caught:
        choice("Q2_K")
    assert caught.value.exit_code == 2
