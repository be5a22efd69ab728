"""What a job will take is told beforehand, from the rows that can be expected and what this machine is known to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local.backends import footprint, machine
from sg_local.backends.training.holding import Way
from sg_local.cli.app import app
from sg_local.evaluate.calibrating import MOST_CHANNEL, N_SAMPLE
from sg_local.evaluate.rounds import WAYS
from sg_local.evaluate.systems import SYSTEMS
from sg_local.job import disk, forecast, paces, resources, stages, where, work_ahead
from sg_local.job import meter as meter_module
from sg_local.job.base import Base
from sg_local.job.events import Forecast
from sg_local.job.job import OpenRun
from sg_local.job.meter import Meter
from sg_local.job.options import Home
from sg_local.job.own import OwnData, OwnRow
from sg_local.job.plan import layers_of, plan_of
from sg_local.job.rows_ahead import rows_ahead
from sg_local.job.stages import ALL
from sg_local.job.work_ahead import LABEL_ENDS, TRAINED, work_of
from sg_local.records import Candidate, InputRow, Pair, SgError
from sg_local.run import CANDIDATES, INPUTS, REPORT, Run
from sg_local.views.forecast import brief_lines, cells
from tests.tiny_models import TinySpec, write_model

MB = 1 << 20


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "tiny.gguf", TinySpec())


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia", lambda: False)
    monkeypatch.setattr(where, "on_apple_silicon", lambda: False)


def begun(tmp_path, task, model, **settings) -> OpenRun:
    """A job before its run.json is written, opened without an engine."""
    home = Home(tmp_path / "home")
    plan = plan_of(layers_of(task, "recommended", home, settings), 0, home)
    record = {"model": {"name": "tiny", "path": str(model), "digest": "d"}}
    run = Run(tmp_path / "runs" / "r")
    return OpenRun(run, task, Base("tiny", model), "llama.cpp", "torch", 0, "plain", plan, record)


def test_rows_are_expected_as_long_as_the_examples(tmp_path, routing, model):
    task = replace(routing, examples=(Pair("a" * 40, "b" * 8), Pair("a" * 80, "b" * 16)))
    rows = rows_ahead(begun(tmp_path, task, model, synth={"n_inputs": 64, "n_asked": 640, "round_size": 32}))
    assert (rows.n_input, rows.n_output, rows.n_longest, rows.n_longest_output) == (15, 3, 20, 4)
    assert rows.n_asked == 92  # 64 of 0.7 times as many
    assert rows.n_inputs == 64 and rows.n_training == 58 and rows.n_tests == len(task.tests)


def test_no_more_is_expected_than_may_be_asked_for(tmp_path, routing, model):
    rows = rows_ahead(begun(tmp_path, routing, model, synth={"n_inputs": 160, "n_asked": 64}))
    assert rows.n_asked == 64 and rows.n_inputs == 45


def test_own_rows_are_counted_and_make_up_for_invented_ones(tmp_path, routing, model):
    job = begun(tmp_path, routing, model, synth={"n_inputs": 64})
    alone = rows_ahead(job)
    job.own = OwnData((*(OwnRow("x" * 400, "", "input") for _ in range(60)), OwnRow("y" * 4000, "billing", "row")))
    rows = rows_ahead(job)
    assert rows.n_asked == 6 < alone.n_asked and rows.n_labelled == 1 and rows.n_longest == 1000
    assert rows.n_inputs == 4 + 60 + 1


def test_a_long_own_row_needs_memory_as_far_as_the_context_lets_it_train(tmp_path, routing, model):
    job = begun(tmp_path, routing, model)
    short = resources.training_of(job)[1].total
    job.own = OwnData((OwnRow("y" * 4000, "billing", "row"),))
    long = resources.training_of(job)[1].total
    job.own = OwnData((OwnRow("y" * 400_000, "billing", "row"),))
    assert short < long < resources.training_of(job)[1].total
    lengths = resources._lengths(job)
    assert lengths.n_prefix + lengths.n_own == job.n_ctx


def test_many_own_rows_need_disk(tmp_path, routing, model):
    job = begun(tmp_path, routing, model)
    assert not [one for one in disk.written(job, ("synth",)) if one.what == "rows"]
    job.own = OwnData(tuple(OwnRow("y" * 4000, "", "input") for _ in range(10_000)))
    (rows,) = [one for one in disk.written(job, ("synth",)) if one.what == "rows"]
    assert rows.n_bytes > 10_000 * 4000 and disk.disk_by_stage(job, ("synth",))["synth"] >= rows.n_bytes


def test_rows_that_are_there_are_counted(tmp_path, routing, model):
    job = begun(tmp_path, routing, model)
    job.run.root.mkdir(parents=True)
    job.run.append(INPUTS, [InputRow(str(i), 0, i, 1, "word " * 8) for i in range(40)])
    job.run.append(CANDIDATES, [Candidate(str(i), "word " * 8, "billing", {}, 5, 1.0) for i in range(20)])
    job.run.write_stamp("synth", {})
    rows = rows_ahead(job)
    assert rows.counted and (rows.n_asked, rows.n_inputs, rows.n_training, rows.n_input) == (40, 20, 18, 10)


def test_long_inputs_and_more_votes_are_more_work(tmp_path, routing, model):
    def passes(stage, task=routing, **settings) -> float:
        job = begun(tmp_path, task, model, **settings)
        return work_of(job, stage, rows_ahead(job)).passes

    long = replace(routing, examples=tuple(Pair(pair.input * 10, pair.output) for pair in routing.examples))
    for stage in ("synth", "train", "eval", "export"):
        assert passes(stage, long) > 2 * passes(stage)
    assert passes("synth", synth={"n_votes": 10}) > passes("synth")
    assert passes("train", train={"epochs": 6.0}) > 1.75 * passes("train")
    assert passes("train", train={"share_prefix": False}) > 2 * passes("train")


def test_several_trainings_in_one_are_so_much_more_work(tmp_path, routing, fluent, model):
    def passes(task, **settings):
        job = begun(tmp_path, task, model, train=settings)
        return work_of(job, "train", rows_ahead(job)).passes

    one = passes(routing)
    assert passes(routing, n_seeds=3) == pytest.approx(3 * one)
    assert one < passes(routing, generations=2) < 1.5 * one < passes(routing, generations=2, n_seeds=3) < 3 * one
    assert passes(fluent, generations=2) == passes(fluent)
    assert passes(fluent, policies=("asked", "agree")) == pytest.approx(4 * passes(fluent))


def test_what_scores_labels_besides_is_work(tmp_path, routing, model):
    def passes(stage, **settings) -> float:
        job = begun(tmp_path, routing, model, **settings)
        return work_of(job, stage, replace(rows_ahead(job), n_training=n_training)).passes

    n_training = 100
    n_labels = len(routing.labels)
    rows = rows_ahead(begun(tmp_path, routing, model))
    without = passes("synth", synth={"channel": False})
    with_channel = passes("synth") - without
    assert with_channel > n_labels * rows.n_inputs * rows.n_input
    assert passes("synth", synth={"n_orders": 2}) - without == pytest.approx(2 * with_channel)
    scored = rows.n_input + n_labels * (rows.n_output + LABEL_ENDS)
    none, one, two = (passes("eval", eval={"ensemble": n}) for n in (0, 1, 2))
    one, two = one - none, two - none
    # The synthesis has scored the others, in one order.
    assert one > n_labels * (rows.n_tests + N_SAMPLE) * rows.n_input
    assert two - 2 * one == pytest.approx(2 * n_labels * (MOST_CHANNEL - N_SAMPLE) * rows.n_input)
    examples = passes("eval", eval={"tuned_examples": True}) - passes("eval")
    assert examples > 64 * scored
    with_fits = passes("eval")
    n_training = 19
    assert with_fits - passes("eval") == pytest.approx(2 * (10 * scored + rows.n_shared))


def test_a_tie_break_by_backward_scores_is_work_of_written_answers_alone(tmp_path, routing, fluent, model):
    for task, gains in ((fluent, True), (routing, False)):
        jobs = [begun(tmp_path, task, model, synth={"backward": is_on}) for is_on in (False, True)]
        plain, settled = (work_of(job, "synth", rows_ahead(job)).passes for job in jobs)
        assert (settled > plain) == gains and settled >= plain


FREE = {"copy", "commonest label", "drawn output"}  # ways that ask no model


@pytest.mark.parametrize("way", sorted(set(WAYS) - FREE))
def test_every_way_of_asking_is_work(tmp_path, routing, fluent, model, way):
    system = next(one for one in SYSTEMS if one.way == way)
    task = fluent if system.kind == "generation" else routing
    asked = {"mbr": 4, "ensemble": 2, "n_context": 2}
    few, more = (begun(tmp_path, task, model, eval=asked | {"mbr": n}) for n in (4, 8))
    costs = [work_ahead._answered(job, replace(rows_ahead(job), n_tests=10), system) for job in (few, more)]
    assert costs[0] > 0 and (costs[1] > costs[0]) == (way == "typical")


def test_answers_of_exported_files_are_work_of_the_stage_that_asks_them(tmp_path, routing, model):
    job = begun(tmp_path, routing, model, export={"types": ("Q8_0",)})
    silent = begun(tmp_path, routing, model, export={"types": ("Q8_0",)}, eval={"score_files": False})
    rows = rows_ahead(job)

    def asks(stage, stages=()) -> bool:
        return work_of(job, stage, rows, stages).passes > work_of(silent, stage, rows, stages).passes

    assert asks("eval", ALL) and not asks("export", ALL)
    assert not asks("eval", ("eval",)) and not asks("export", ("export",))
    job.run.root.mkdir(parents=True)
    job.run.write_stamp("export", {})
    assert asks("eval", ("eval",)) and asks("eval")
    job.run.path(REPORT).write_text("{}")
    assert asks("export", ("export",)) and asks("export") and not asks("export", ("train", "export", "eval"))


def test_an_export_answers_the_rows_that_it_may_lose(tmp_path, routing, fluent, model):
    def answered(task, rows) -> float:
        """Rows for each of the three systems."""
        job, gate = (begun(tmp_path, task, model, export={"may_lose": value}) for value in (2.0, None))
        each = rows.n_input + 1.5 * rows.n_output
        return (work_of(job, "export", rows).passes - work_of(gate, "export", rows).passes) / 3 / each

    rows = replace(rows_ahead(begun(tmp_path, routing, model)), n_inputs=130, n_training=100)
    assert answered(routing, rows) == pytest.approx(10 + 30) and answered(fluent, rows) == pytest.approx(10)
    assert answered(routing, replace(rows, n_inputs=1000)) == pytest.approx(256)


def test_layers_that_are_computed_again_are_each_one_more_pass_of_their_share(tmp_path, routing, model, monkeypatch):
    def passes(recomputed: int) -> float:
        way = (Way(blocks=True, recomputed=recomputed), None)
        monkeypatch.setattr(resources, "training_of", lambda job: way)
        return work_of(job, "train", rows_ahead(job)).passes

    job = begun(tmp_path, routing, model, train={"n_layers": 2})
    none, one, both = passes(0), passes(1), passes(2)
    assert both - one == pytest.approx(one - none) and 1.3 < both / none < 1.0 + 1.0 / TRAINED


def test_layers_without_an_adapter_are_a_pass_forward_of_their_share_in_the_first_epoch(
    tmp_path, routing, model, monkeypatch
):
    def passes(**settings) -> float:
        job = begun(tmp_path, routing, model, train={"valid_every": 10**6, **settings})
        return work_of(job, "train", replace(rows_ahead(job), n_training=19)).passes

    full, anew = passes(epochs=4, n_layers=2), passes(epochs=4)
    scored = passes(epochs=3, generations=2) - passes(epochs=1) - passes(epochs=2)
    assert anew / full == pytest.approx((TRAINED / 2 + 1 / 2) / TRAINED)
    monkeypatch.setattr(resources, "stays_below", lambda job, settings: settings.epochs > 1)
    assert passes(epochs=4) / full == pytest.approx((TRAINED / 2 + 1 / 8) / TRAINED)
    assert passes(epochs=3, generations=2) - passes(epochs=1) - passes(epochs=2) == pytest.approx(scored)


def test_outputs_that_are_written_first_are_work_too(tmp_path, fluent, model):
    free, steered = (begun(tmp_path, fluent, model, synth={"steer": steer}) for steer in (False, True))
    assert work_of(steered, "synth", rows_ahead(steered)).passes > work_of(free, "synth", rows_ahead(free)).passes


def test_a_stage_goes_as_fast_as_it_went_last(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr("sg_local.backends.machine.multiplies_bf16", lambda: True)
    job = begun(tmp_path, routing, model)
    first = paces.pace_of(job, "train")
    assert first is not None and first.source == "probed" and first.passes_per_s > 0
    paces.keep(job, "train", passes=600.0, seconds=2.0)
    paces.keep(job, "synth", passes=100.0, seconds=0.5)
    assert paces.pace_of(job, "train") == paces.Pace(300.0, "measured") and paces.is_measured(job, "synth")
    for other in ({"engine": {"n_threads": 1}}, {"train": {"precision": "f32"}}):
        assert not paces.is_measured(begun(tmp_path, routing, model, **other), "synth")
    assert paces.is_measured(begun(tmp_path, routing, model, train={"precision": "bf16"}), "synth")


def test_a_pace_that_was_counted_otherwise_is_not_believed(tmp_path, routing, model, monkeypatch):
    job = begun(tmp_path, routing, model)
    paces.keep(job, "train", passes=600.0, seconds=2.0)
    monkeypatch.setattr(paces, "VERSION", work_ahead.VERSION + 1)
    assert not paces.is_measured(job, "train")


def test_a_broken_file_of_paces_is_no_hindrance(tmp_path, routing, model):
    job = begun(tmp_path, routing, model)
    paces.keep(job, "train", 600.0, 2.0)
    for path in (tmp_path / "home" / "paces").iterdir():
        path.write_text("{")
    assert not paces.is_measured(job, "train")


def test_what_a_gpu_does_is_unknown_until_it_was_measured(tmp_path, routing, model, monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia", lambda: True)
    job = begun(tmp_path, routing, model)
    assert paces.pace_of(job, "train") is None
    paces.keep(job, "train", 600.0, 2.0)
    assert paces.pace_of(job, "train") is not None


@pytest.mark.parametrize(
    ("nvidia", "apple", "trainer", "found"),
    [
        (True, False, "torch", "cuda"),
        (True, False, "mlx", "cpu"),
        (False, True, "mlx", "metal"),
        (False, True, "torch", "cpu"),
        (False, False, "torch", "cpu"),
    ],
)
def test_each_trainer_computes_where_its_library_does(
    tmp_path, routing, model, monkeypatch, nvidia, apple, trainer, found
):
    monkeypatch.setattr(machine, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(where, "on_apple_silicon", lambda: apple)
    assert where.trains_on(replace(begun(tmp_path, routing, model), trainer=trainer)) == found
    assert (where.engines_on() == "cpu") == (not nvidia and not apple)


def foreseen(tmp_path, routing, model, stages=ALL) -> Forecast:
    job = begun(tmp_path, routing, model)
    for stage in ("synth", "eval"):
        paces.keep(job, stage, 1000.0, 1.0)
    found = forecast.forecast(job, stages)
    assert found is not None
    return found


def test_every_stage_is_told_and_summed_up(tmp_path, routing, model):
    found = foreseen(tmp_path, routing, model)
    assert [one.stage for one in found.stages] == list(ALL)
    assert found.memory_bytes == max(one.memory_bytes for one in found.stages) > 100 * MB
    assert found.disk_bytes == sum(one.disk_bytes for one in found.stages) > 0
    assert found.seconds is not None and found.seconds > 10
    first, second = brief_lines(found)
    assert "expected:" in first and "train" in first and "of memory at most" in first
    assert "of 229 asked for" in second and f"{found.rows.n_shared} shared" in second
    assert [row[0] for row in cells(found)] == [*ALL, "together"]
    assert cells(found)[0][-1] == "an earlier run"


def test_an_unknown_stage_makes_the_sum_unknown(tmp_path, routing, model):
    found = foreseen(tmp_path, routing, model)
    unknown = replace(found, stages=(replace(found.stages[0], seconds=None), *found.stages[1:]))
    assert unknown.seconds is None and "expected: unknown" in next(brief_lines(unknown))


def test_the_engines_memory_is_that_of_the_file_that_it_runs(tmp_path, routing, model):
    given = begun(tmp_path, routing, model, engine={"fast_copy": False})
    need = footprint.engine_need(model, given.plan["engine"])
    assert resources.engine_memory(given) == need.resident
    assert resources.memory_of(given, "eval") > resources.memory_of(given, "synth")  # a trainer's libraries stay


def test_a_meter_sees_what_was_filled_since_it_began():
    meter = Meter()
    block = bytearray(64 * MB)
    for i in range(0, len(block), 4096):
        block[i] = 1
    took = meter.read()
    assert took.peak_bytes > 64 * MB and took.seconds > 0


def test_a_meter_sets_the_mark_back_where_the_system_lets_it(tmp_path, monkeypatch):
    clear, status = tmp_path / "clear_refs", tmp_path / "status"
    status.write_text("VmPeak:\t 9000 kB\nVmHWM:\t 4000 kB\n")
    monkeypatch.setattr(meter_module, "CLEAR", clear)
    monkeypatch.setattr(meter_module, "STATUS", status)
    assert Meter().read().peak_bytes == 4000 * 1024 and clear.read_text() == "5"
    monkeypatch.setattr(meter_module, "CLEAR", tmp_path / "none" / "clear_refs")
    assert Meter().read().peak_bytes == 4000 * 1024


def test_a_run_keeps_what_was_expected_and_what_was_taken(own_folder):
    line = ["run", "support_routing", "--backend", "scripted", "--name", "r", "--yes", "--set", "synth.n_inputs=24"]
    assert CliRunner().invoke(app, [*line, "--set", "synth.n_asked=96"]).exit_code == 0
    took = json.loads((own_folder / "runs" / "r" / "run.json").read_text())["measured"]
    assert set(took) == {"synth", "filter", "train", "eval"}
    assert all(one["peak_bytes"] > 10 * MB and one["seconds"] >= 0 for one in took.values())
    shown = CliRunner().invoke(app, ["runs", "show", "r"])
    assert "of memory" in shown.stdout


def test_a_plan_is_told_and_nothing_is_written(own_folder, model):
    pytest.importorskip("llama_cpp")
    line = ["run", "support_routing", "--model", str(model), "--trainer", "torch", "--plan"]
    told = CliRunner().invoke(app, line)
    assert told.exit_code == 0, told.stderr
    assert all(stage in told.stdout for stage in (*ALL, "together")) and "rows of" in told.stdout
    plain = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    assert [one["stage"] for one in plain["stages"]] == list(ALL) and plain["rows"]["n_shared"] > 50
    assert not (own_folder / "runs").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 64 bytes")]
)
def test_memory_that_runs_out_all_the_same_is_told_with_what_was_needed(tmp_path, routing, model, monkeypatch, error):
    def fail(job, tell):
        raise error

    job = begun(tmp_path, routing, model)
    job.run.root.mkdir(parents=True)
    monkeypatch.setitem(stages.STAGES, "synth", replace(stages.STAGES["synth"], run=fail))
    with pytest.raises(SgError, match=r"Memory ran out in stage synth: it needs about \d+\.\d MB, and .* is free now"):
        stages._perform(job, "synth", print)


def test_other_errors_of_libraries_are_not_taken_for_memory(tmp_path, routing, model, monkeypatch):
    def fail(job, tell):
        raise RuntimeError("shapes do not match")

    job = begun(tmp_path, routing, model)
    job.run.root.mkdir(parents=True)
    monkeypatch.setitem(stages.STAGES, "synth", replace(stages.STAGES["synth"], run=fail))
    with pytest.raises(RuntimeError, match="shapes"):
        stages._perform(job, "synth", print)


REAL = """
import sys, sg_local as sg
settings = {"synth": {"n_inputs": 16, "n_asked": 64}, "train": {"epochs": 1.0}, "engine": {"fast_copy": False}}
with sg.open_job(sg.load_task("support_routing", 6), settings=settings, name="r", home=sys.argv[1]) as job:
    job.run()
"""


@pytest.mark.slow
def test_the_memory_that_a_real_job_fills_is_what_was_told(own_folder, embedded):
    subprocess.run([sys.executable, "-c", REAL, str(own_folder / "home")], check=True)
    facts = json.loads((own_folder / "runs" / "r" / "run.json").read_text())
    told = {stage: one["memory_bytes"] for stage, one in facts["forecast"]["stages"].items()}
    took = {stage: one["peak_bytes"] for stage, one in facts["measured"].items()}
    assert set(took) == set(ALL)
    off = {stage: round(took[stage] / told[stage], 2) for stage in took if not 0.8 < took[stage] / told[stage] < 1.2}
    assert off == {}
