"""A job is refused before its first stage works, for whatever a later one would be refused for: nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from bounds import soon
from click.testing import CliRunner

from sg_local import backends, prompts
from sg_local.backends import footprint, llama_cpp, machine
from sg_local.backends.mlx import blas
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.backends.training.precision import check_precision
from sg_local.cli.app import app
from sg_local.export import folder_gate
from sg_local.job import disk, preflight
from sg_local.job import job as job_module
from sg_local.job.base import Base
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.evaluate import evaluation_of
from sg_local.job.job import OpenRun
from sg_local.job.options import Home, Options
from sg_local.job.plan import layers_of, plan_of
from sg_local.job.resources import training_of
from sg_local.job.stages import ALL, look_ahead, perform, perform_all, to_come
from sg_local.records import Prompt, Sampling, Segment, SgError, TestRow
from sg_local.run import Run
from tests.test_gguf_config import write_variant
from tests.tiny_models import TinySpec, write_model

TRIMS = "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}" + (
    "{% else %}{{ ' ' + m.content.strip() + eos_token }}{% endif %}{% endfor %}"
)
MB, GB = 10**6, 10**9
Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "tiny.gguf", TinySpec())


@pytest.fixture(autouse=True)
def roomy(monkeypatch):
    """A machine with room enough, and no engine that may be opened."""
    monkeypatch.setattr(machine, "has_nvidia", lambda: False)
    have(monkeypatch, memory=64 * GB, disk=500 * GB)

    def open_generator(name, model, settings):
        raise AssertionError("an engine was opened")

    monkeypatch.setattr(job_module, "open_generator", open_generator)


def have(monkeypatch, memory=None, disk=None):
    if memory is not None:
        monkeypatch.setattr(machine, "free_memory", lambda: memory)
    if disk is not None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(disk, 0, disk))


def options(tmp_path, model, form="plain", trainer="torch", **settings) -> Options:
    return Options(runs=tmp_path / "runs", model=str(model), form=form, trainer=trainer, settings=settings)


def refused(tmp_path, task, asked, stages=ALL) -> SgError:
    """What opening the job says; nothing may be left of it."""
    with pytest.raises(SgError) as caught:
        job_for_task(task, asked, Home(tmp_path / "home"), stages)
    assert not (tmp_path / "runs").exists()
    return caught.value


def test_a_model_that_cannot_be_trained_is_refused_and_may_be_asked(tmp_path, routing):
    path = write_variant(tmp_path / "odd.gguf", fields=[("llama.rope.scaling.type", "yarn")])
    error = refused(tmp_path, routing, options(tmp_path, path), stages=())
    assert "cannot be trained" in error.message and "`predict routing` with `base`" in error.hint


def test_a_trainer_that_is_not_installed_is_refused(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "peft" else object())
    error = refused(tmp_path, routing, options(tmp_path, model))
    assert "'peft', which is not installed" in error.message and "sg-local[torch]" in error.hint


def test_settings_out_of_range_are_refused(tmp_path, routing, model):
    assert "epochs = -1" in refused(tmp_path, routing, options(tmp_path, model, train={"epochs": -1.0})).message
    assert "has 2" in refused(tmp_path, routing, options(tmp_path, model, train={"n_layers": 9})).message


@pytest.mark.parametrize("computes", [False, True])
def test_a_card_counts_where_torch_computes_on_it(monkeypatch, computes):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(machine, "multiplies_bf16", lambda: False)
    monkeypatch.setattr(machine, "has_nvidia", lambda: not computes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: computes)
    with contextlib.nullcontext() if computes else pytest.raises(SgError, match="neither AVX512-BF16 nor AMX"):
        check_precision("bf16", "torch")


@pytest.mark.parametrize(
    ("trainer", "processor", "said"),
    [("torch", False, "neither AVX512-BF16 nor AMX"), ("torch", True, ""), ("mlx", True, "for the torch trainer")],
)
def test_bfloat16_is_refused_where_nothing_multiplies_it(
    tmp_path, routing, model, monkeypatch, trainer, processor, said
):
    monkeypatch.setattr(machine, "multiplies_bf16", lambda: processor)
    asked = options(tmp_path, model, trainer=trainer, train={"precision": "bf16"})
    if said:
        error = refused(tmp_path, routing, asked)
        assert said in error.message and "`train.precision`" in error.hint
    else:
        begun(tmp_path, routing, model, train={"precision": "bf16"}).look_ahead(("train",))
    assert (
        "auto or f32 or bf16" in refused(tmp_path, routing, options(tmp_path, model, train={"precision": "half"})).hint
    )


def test_a_base_in_bfloat16_needs_less_memory(tmp_path, routing, model):
    plain, halved = (
        training_of(begun(tmp_path, routing, model, train={"precision": name}))[1] for name in ("f32", "bf16")
    )
    assert halved.weights < plain.weights


def test_the_processors_word_for_bfloat16_counts(monkeypatch):
    for flags, known in (("fpu avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx512f bf16x", False), ("", False)):
        monkeypatch.setattr(machine.limits, "text_of", lambda path, flags=flags: f"processor : 0\nflags : {flags}\n")
        assert machine.multiplies_bf16() == known


def test_a_layout_that_the_template_cannot_have_is_refused_where_a_tune_is_to_come(tmp_path, routing):
    path = write_model(tmp_path / "m.gguf", TinySpec(chat_template=TRIMS))
    asked = options(tmp_path, path, form="chat", train={"layout": "whole"})
    error = refused(tmp_path, routing, asked)
    assert "train.layout=whole has no place" in error.message and error.exit_code == 2
    assert "no place" in refused(tmp_path, routing, asked, stages=("synth",)).message
    untuned = begun(tmp_path, routing, path, train={"layout": "whole"})
    untuned.form_name, untuned.alone = "chat", True
    preflight.check_form(preflight.Ahead(untuned, ()))
    untuned.opened.append(ScriptedGenerator(path))
    untuned.form = prompts.chat_form(TRIMS, "", "", False)
    untuned.forms = (untuned.form,)
    assert evaluation_of(untuned).form.lead == " "


def test_a_template_that_cannot_be_rendered_is_refused_for_the_chat_form_alone(tmp_path, routing, monkeypatch):
    path = write_model(tmp_path / "m.gguf", TinySpec(chat_template="{{ 1 / 0 }}"))
    error = refused(tmp_path, routing, options(tmp_path, path, form="chat"))
    assert "division by zero" in error.message and "`form=plain`" in error.hint
    with pytest.raises(AssertionError, match="engine was opened"):  # by then all checks have passed
        job_for_task(routing, options(tmp_path, path, export={"plain_template": True}), Home(tmp_path), ALL)


def test_exports_that_no_adapter_could_make_are_refused(tmp_path, routing, model):
    assert "Q9" in refused(tmp_path, routing, options(tmp_path, model, export={"types": ["Q9"]})).message
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "photo.jpg").touch()
    error = refused(tmp_path, routing, options(tmp_path, model, export={"hf": str(tmp_path / "taken")}))
    assert "holds other files" in error.message


@pytest.mark.parametrize("form", ("plain", "chat"))
def test_a_test_row_beyond_the_context_is_named(tmp_path, routing, model, form):
    long = replace(routing, tests=(*routing.tests, TestRow("fox " * 1000, ("billing",))))
    error = refused(tmp_path, long, options(tmp_path, model, form=form))
    assert error.message.startswith("Test row 4: The prompt has") and error.exit_code == 2
    assert "`engine.n_ctx`" in error.hint


def test_rows_are_counted_in_tokens_where_bytes_are_too_many(tmp_path, routing, model):
    tight = replace(routing, tests=(TestRow("the quick brown fox jumps over the lazy dog " * 15, ("billing",)),))
    with pytest.raises(AssertionError, match="engine was opened"):
        job_for_task(tight, options(tmp_path, model), Home(tmp_path / "home"), ALL)


def test_rows_matter_only_where_they_will_be_asked(tmp_path, routing, model):
    long = replace(routing, tests=(TestRow("fox " * 1000, ("billing",)),))
    with pytest.raises(AssertionError, match="engine was opened"):
        job_for_task(long, options(tmp_path, model), Home(tmp_path / "home"), ("synth",))


def test_too_little_memory_to_write_rows_is_told_with_what_would_fit(tmp_path, routing, model, monkeypatch):
    have(monkeypatch, memory=170 * MB)
    error = refused(tmp_path, routing, options(tmp_path, model, train={"batch_size": 1}), ("synth",))
    assert error.message.startswith("Writing rows needs about 2") and "170.0 MB is free" in error.message
    assert "`engine.n_parallel=" in error.hint
    have(monkeypatch, memory=1 * MB)
    assert "smaller model" in refused(tmp_path, routing, options(tmp_path, model), ("synth",)).hint


def test_too_little_memory_to_train_is_told_before_the_synthesis(tmp_path, routing, model, monkeypatch):
    have(monkeypatch, memory=400 * MB)
    error = refused(tmp_path, routing, options(tmp_path, model))
    assert error.message.startswith("Training needs about") and "0.4 GB is free" in error.message


def test_fewer_rows_at_a_time_are_proposed_where_they_fit(tmp_path, routing, model, monkeypatch):
    have(monkeypatch, memory=520 * MB)
    error = refused(tmp_path, routing, options(tmp_path, model, train={"batch_size": 1024}))
    assert error.message.startswith("Training needs") and "`train.batch_size=" in error.hint


def test_the_memory_of_a_gpu_is_not_judged_by_the_machines(tmp_path, routing, model, monkeypatch):
    have(monkeypatch, memory=1 * MB)
    monkeypatch.setattr(machine, "has_nvidia", lambda: True)
    with pytest.raises(AssertionError, match="engine was opened"):
        job_for_task(routing, options(tmp_path, model), Home(tmp_path / "home"), ALL)


def test_a_library_that_would_try_a_folder_is_no_hindrance_but_told_where_it_is_missing(
    tmp_path, routing, model, monkeypatch
):
    job = begun(tmp_path, routing, model, export={"mlx": str(tmp_path / "out")})
    monkeypatch.setattr(folder_gate, "find_spec", lambda name: None if name == "mlx_lm" else object())
    job.look_ahead(("export",))
    assert job.said == ["mlx_lm not installed: the mlx folder will be written, but not tried."]


@pytest.mark.parametrize(("served", "said"), [("OpenBLAS", 0), ("reference BLAS (slow: no OpenBLAS library found)", 1)])
def test_mlx_without_a_fast_library_is_said_to_be_slow_before_any_work(
    tmp_path, routing, model, monkeypatch, served, said
):
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    monkeypatch.setattr(blas, "prefer_openblas", lambda: served)
    job = begun(tmp_path, routing, model)
    job.trainer = "mlx"
    job.look_ahead(("train",))
    assert len(job.said) == said and all("tens of times slower" in one and served in one for one in job.said)


def test_a_full_disk_is_told_with_every_file_to_come(tmp_path, routing, model, monkeypatch):
    have(monkeypatch, disk=1000)
    asked = options(tmp_path, model, export={"types": ["F16", "Q8_0"], "hf": str(tmp_path / "out")})
    error = refused(tmp_path, routing, asked)
    assert error.message.startswith("The run needs about") and "1 kB is free" in error.message
    assert all(what in error.message for what in ("fused F16", "fused Q8_0", "hf ", "adapter and checkpoint"))
    assert "`runs=FOLDER`" in error.hint


def test_the_smallest_type_is_proposed_where_it_fits(tmp_path, routing, model, monkeypatch):
    needed = sum(one.n_bytes for one in written(tmp_path, routing, model, ["F16"]))
    have(monkeypatch, disk=needed - 100_000)
    error = refused(tmp_path, routing, options(tmp_path, model, export={"types": ["F16"]}))
    assert "`export.types=Q4_" in error.hint
    have(monkeypatch, disk=needed + 100)
    with pytest.raises(AssertionError, match="engine was opened"):
        job_for_task(routing, options(tmp_path, model, export={"types": ["F16"]}), Home(tmp_path / "home"), ALL)


def test_no_faster_copy_is_proposed_where_that_makes_room(tmp_path, routing, model, monkeypatch):
    needed = sum(one.n_bytes for one in written(tmp_path, routing, model, ["F16"]))
    monkeypatch.setattr(disk, "COPY_RESERVE", 0)
    have(monkeypatch, disk=needed + 100_000)
    error = refused(tmp_path, routing, options(tmp_path, model, export={"types": ["F16"]}))
    assert "a faster copy" in error.message and "`engine.fast_copy=false`" in error.hint
    asked = options(tmp_path, model, export={"types": ["F16"]}, engine={"fast_copy": False})
    with pytest.raises(AssertionError, match="engine was opened"):
        job_for_task(routing, asked, Home(tmp_path / "home"), ALL)


def written(tmp_path, task, model, types):
    """What a run of all stages writes but for the engine's copy."""
    job = begun(tmp_path / "other", task, model, export={"types": types})
    return disk.written(job, ALL)


def begun(tmp_path, task, model, **settings) -> OpenRun:
    """A job before its run.json is written, opened without an engine."""
    home = Home(tmp_path)
    plan = plan_of(layers_of(task, "recommended", home, settings), 0, home)
    run = Run(tmp_path / "runs" / "r")
    return OpenRun(run, task, Base("tiny", model), "llama.cpp", "torch", 0, "plain", plan, {})


def test_what_is_reckoned_is_what_an_export_writes(tmp_path, routing, model):
    from sg_local.export import ExportSettings
    from sg_local.export.sizes import wanted_space
    from sg_local.gguf import EXPORT_TYPES, GgufFile, MergeSettings, merge, read_adapter
    from tests.tiny_models import lora_pairs, write_lora

    adapter = read_adapter(write_lora(tmp_path / "a.gguf", lora_pairs(TinySpec()), 4.0))
    for type in ("same", *EXPORT_TYPES):
        with GgufFile(model) as source:
            merge(tmp_path / "out.gguf", source, adapter, MergeSettings(type), lambda n: None)
        (wanted,) = wanted_space(model, ExportSettings(types=(type,)))
        assert wanted.n_bytes == (tmp_path / "out.gguf").stat().st_size


@pytest.mark.parametrize("n_replicas", [1, 2])
def test_the_engines_pool_is_reckoned_as_the_engine_makes_it(model, n_replicas):
    pytest.importorskip("llama_cpp")
    settings = backends.EngineSettings(n_ctx=512, n_parallel=4, n_threads=2, fast_copy=False, n_replicas=n_replicas)
    with_engine = llama_cpp.open_generator(model, settings)
    try:
        rows = [Prompt(str(i), (Segment(f"row {i}"),), Sampling(max_tokens=1)) for i in range(40)]
        assert len(list(with_engine.generate(rows))) == 40 and len(with_engine._replicas) == n_replicas
        cells = sum(one._context.n_cells for one in with_engine._replicas)
    finally:
        with_engine.close()
    assert footprint.engine_need(model, settings).pool == cells * 2 * 2 * 2 * (64 + 64)


def test_an_existing_run_is_looked_at_before_its_next_stage_works(tmp_path, routing, model, monkeypatch):
    run = existing(tmp_path, routing, model, monkeypatch)
    have(monkeypatch, memory=400 * MB)
    for work in (lambda job: perform_all(job, print), lambda job: perform(job, "synth", print), look_ahead):
        with job_for_run("r", replace(options(tmp_path, model), given=frozenset()), Home(tmp_path / "home")) as job:
            if work is not look_ahead:
                job.plan = job.plan.changed("engine", {"n_ctx": 1 << 19})
            with pytest.raises(SgError, match="of memory"):
                work(job)
    assert [path.name for path in run.iterdir() if path.name != ".lock"] == ["run.json"]


def test_a_run_that_is_only_asked_is_not_looked_at(tmp_path, routing, model, monkeypatch):
    existing(tmp_path, routing, model, monkeypatch)
    have(monkeypatch, memory=1, disk=1)
    with job_for_run("r", replace(options(tmp_path, model), given=frozenset()), Home(tmp_path / "home")) as job:
        assert to_come(job, ALL) == list(ALL)


def test_each_stage_is_looked_at_once(tmp_path, routing, model, monkeypatch):
    seen = []
    monkeypatch.setattr(preflight, "check", lambda job, stages: seen.append(tuple(stages)))
    job = begun(tmp_path, routing, model)
    for stages in (("synth", "train"), ("train",), ("train", "export"), ("export",)):
        job.look_ahead(stages)
    assert seen == [("synth", "train"), ("train", "export")]


def existing(tmp_path, task, model, monkeypatch) -> Path:
    """A run folder with a run.json alone."""
    with monkeypatch.context() as patched:
        patched.setattr(job_module, "open_generator", backends.open_generator)
        asked = replace(options(tmp_path, model, engine={"fast_copy": False}), name="r")
        with job_for_task(task, asked, Home(tmp_path / "home")) as job, job.lock():
            pass
    return tmp_path / "runs" / "r"


def test_the_command_line_refuses_within_a_second(own_folder, monkeypatch, model):
    have(monkeypatch, memory=400 * MB)
    line = ["run", "support_routing", "--model", str(model), "--trainer", "torch", "--yes"]
    CliRunner().invoke(app, line)  # imports are not what is measured
    with soon():
        result = CliRunner().invoke(app, line)
    assert result.exit_code == 1 and "Training needs about" in result.stderr
    assert not (own_folder / "runs").exists()
