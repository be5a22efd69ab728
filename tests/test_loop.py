"""The training loop over a fake engine: a kill, an early stop, a budget, divergence, too little memory."""

import dataclasses
import errno
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sg_local.backends import TrainSettings
from sg_local.backends.training.checkpoint import CHECKPOINT, TrainJob, load_checkpoint
from sg_local.backends.training.loop import CURVE, OutOfMemory, StepPlan, StepResult, run_loop
from sg_local.records import MadeOtherwise, SgError, TokenExample

SETTINGS = TrainSettings(batch_size=4, epochs=4.0, valid_every=2, checkpoint_every=3)
ROWS = tuple(TokenExample(f"r{i}", (1, 2, 3, i), 3) for i in range(20))


class FakeEngine:
    """A weight that every step changes in a way that depends on its rows, its rate and the moments so far.

    Losses come from a script: training by step, validation by round.
    """

    def __init__(self, losses=(), valid=(), largest: int = 99) -> None:
        self.losses, self.valid, self.largest = list(losses), list(valid), largest
        self.sizes: list[int] = []
        self.weight = self.moment = np.full(1, np.nan)

    def start(self) -> None:
        self.weight, self.moment = np.zeros(1), np.zeros(1)

    def step(self, plan: StepPlan) -> StepResult:
        if max(map(len, plan.batches)) > self.largest:
            raise OutOfMemory
        self.sizes.append(max(map(len, plan.batches)))
        rows = sum(row.tokens[-1] for batch in plan.batches for row in batch)
        self.moment = 0.9 * self.moment + rows
        self.weight = self.weight + plan.lr * self.moment
        loss = self.losses[plan.index] if plan.index < len(self.losses) else 1.0
        return StepResult(loss, 1.0, 10)

    def evaluate(self, rows) -> float:
        return self.valid.pop(0) if self.valid else float(1 / (1 + self.weight[0]))

    def arrays(self) -> dict:
        return {"weight": self.weight.copy(), "adam.moment": self.moment.copy()}

    def restore(self, arrays: dict) -> None:
        self.weight = arrays["weight"]
        self.moment = arrays.get("adam.moment", self.moment)

    def memory_bytes(self) -> int:
        return 1

    def agree(self, value: float) -> float:
        return value


class Killed(BaseException):
    """Stands in for the end of the process."""


def kill_at(step: int):
    def on_step(done) -> None:
        if done.step == step:
            raise Killed

    return on_step


def job_in(out: Path, settings: TrainSettings = SETTINGS, valid=ROWS[:4]) -> TrainJob:
    return TrainJob(ROWS, valid, out, settings, "base", "fake")


def quiet(step) -> None:
    pass


@pytest.mark.parametrize("killed_at", [(1,), (3,), (4, 10), (19,), (20,)])
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, killed_at: tuple) -> None:
    whole = FakeEngine()
    expected = run_loop(whole, job_in(tmp_path / "whole"), quiet)
    for step in killed_at:
        with pytest.raises(Killed):
            run_loop(FakeEngine(), job_in(tmp_path / "killed"), kill_at(step))
    engine = FakeEngine()
    found = run_loop(engine, job_in(tmp_path / "killed"), quiet)
    assert engine.weight == whole.weight
    same = {"elapsed_s": 0.0, "curve": ()}
    assert dataclasses.replace(found, **same) == dataclasses.replace(expected, **same)
    assert [s.loss for s in found.curve] == [s.loss for s in expected.curve]


def test_the_first_report_is_the_base_and_the_last_step_is_validated(tmp_path: Path) -> None:
    steps = []
    run_loop(FakeEngine(), job_in(tmp_path, dataclasses.replace(SETTINGS, valid_every=7)), steps.append)
    assert [step.step for step in steps if step.valid_loss is not None] == [0, 7, 14, 20]
    assert [json.loads(line)["step"] for line in (tmp_path / CURVE).read_text().splitlines()] == list(range(21))


def test_patience_stops_early_and_the_best_adapter_is_kept(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, patience=2)
    engine, weights = FakeEngine(valid=[3.0, 2.0, 1.0, 1.5, 1.2, 0.1]), []
    progress = run_loop(engine, job_in(tmp_path, settings), lambda step: weights.append(engine.weight.copy()))
    assert (progress.step, progress.best_step, progress.best_loss) == (8, 4, 1.0)
    assert progress.stopped == "no gain in 2 validation rounds"
    assert engine.weight == weights[4]
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-000004.npz"]


def test_without_validation_rows_the_last_adapter_stands(tmp_path: Path) -> None:
    progress = run_loop(FakeEngine(), job_in(tmp_path, valid=()), quiet)
    assert (progress.step, progress.best_step, progress.best_loss) == (20, 0, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, bad: float) -> None:
    with pytest.raises(SgError, match=r"diverged at step 8: the loss is (nan|inf)") as caught:
        run_loop(FakeEngine([1.0] * 7 + [bad]), job_in(tmp_path), quiet)
    assert CHECKPOINT in caught.value.hint
    assert load_checkpoint(job_in(tmp_path))[0].step == 6


def test_a_loss_that_climbs_stops(tmp_path: Path) -> None:
    losses = [0.5] * 8 + [3.0] * 12
    with pytest.raises(SgError, match=r"the loss rose from 0.50 to"):
        run_loop(FakeEngine(losses), job_in(tmp_path), quiet)


def test_a_noisy_loss_goes_on(tmp_path: Path) -> None:
    assert run_loop(FakeEngine([0.5, 1.4] * 10), job_in(tmp_path), quiet).step == 20


def test_too_little_memory_halves_the_parts_and_keeps_the_steps(tmp_path: Path) -> None:
    roomy, tight = FakeEngine(), FakeEngine(largest=1)
    run_loop(roomy, job_in(tmp_path / "roomy"), quiet)
    progress = run_loop(tight, job_in(tmp_path / "tight"), quiet)
    assert progress.batch_size == 1
    assert set(tight.sizes) == {1}
    assert tight.weight == pytest.approx(roomy.weight)


def test_a_row_that_never_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SgError, match="One row at a time"):
        run_loop(FakeEngine(largest=0), job_in(tmp_path), quiet)


def test_a_time_budget_cuts_the_plan_by_the_pace_of_the_first_steps(tmp_path: Path, monkeypatch) -> None:
    now = iter(np.arange(0.0, 10000.0, 1.0))
    monkeypatch.setattr("sg_local.backends.training.loop.time.monotonic", lambda: float(next(now)))
    settings = dataclasses.replace(SETTINGS, epochs=40.0, time_s=100.0)
    steps = []
    progress = run_loop(FakeEngine(), job_in(tmp_path, settings, valid=()), steps.append)
    assert progress.step == progress.n_steps < 200
    assert progress.elapsed_s <= 100.0
    assert steps[2].n_steps == progress.n_steps
    assert steps[-1].lr < steps[3].lr / 5


def test_no_budget_lengthens_a_plan(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, time_s=1e6)
    assert run_loop(FakeEngine(), job_in(tmp_path, settings), quiet).step == 20


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": dataclasses.replace(SETTINGS, rank=3)}, "rank was 16, now it is 3"),
        ({"examples": ROWS[:19]}, "training rows"),
        ({"valid": ROWS[:5]}, "validation rows"),
        ({"trainer": "mlx"}, "trainer was fake, now it is mlx"),
    ],
)
def test_a_checkpoint_of_other_work_is_refused_by_name(tmp_path: Path, change: dict, named: str) -> None:
    run_loop(FakeEngine(), job_in(tmp_path), quiet)
    with pytest.raises(MadeOtherwise, match=named):
        run_loop(FakeEngine(), dataclasses.replace(job_in(tmp_path), **change), quiet)


@pytest.mark.parametrize("also", [{}, {"trainer": "mlx"}])
def test_a_checkpoint_of_another_base_is_nothing_to_make_again(tmp_path: Path, also: dict) -> None:
    """A changed base is a mistake to fix: `redo` must not delete the work for it."""
    run_loop(FakeEngine(), job_in(tmp_path), quiet)
    with pytest.raises(SgError, match="base model was base, now it is other") as caught:
        run_loop(FakeEngine(), dataclasses.replace(job_in(tmp_path), base_digest="other", **also), quiet)
    assert not isinstance(caught.value, MadeOtherwise)


def test_divergence_and_a_full_disk_are_nothing_to_make_again(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SgError, match="diverged") as diverged:
        run_loop(FakeEngine([float("nan")]), job_in(tmp_path / "one"), quiet)

    def refuse(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(SgError, match="disk is full") as full:
        run_loop(FakeEngine(), job_in(tmp_path / "two"), quiet)
    assert not {type(diverged.value), type(full.value)} & {MadeOtherwise}


@pytest.mark.parametrize("same", [{"n_threads": 1}, {"time_s": 1e6}, {"batch_size": 2, "grad_accumulation": 2}])
def test_what_does_not_change_the_result_may_differ(tmp_path: Path, same: dict) -> None:
    with pytest.raises(Killed):
        run_loop(FakeEngine(), job_in(tmp_path), kill_at(5))
    assert run_loop(FakeEngine(), job_in(tmp_path, dataclasses.replace(SETTINGS, **same)), quiet).step == 20


def spoilt(kind: str, data: bytes) -> bytes:
    """A checkpoint of the same arrays that cannot be gone on with."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        parts = {name: old.read(name) for name in old.namelist()}
        if kind == "huge":
            parts["weight.npy"] = parts["weight.npy"].replace(b"(1,)", b"(9999999999,)")
        elif kind == "state":
            parts["state.json.npy"] = parts["state.json.npy"].replace(b'"step": ', b'"step": "x')
        elif kind == "object":
            parts["weight.npy"] = parts["weight.npy"].replace(b"<f8", b"|O ")
        else:
            del parts["state.json.npy"]
        for name, part in parts.items():
            new.writestr(name, part, zipfile.ZIP_DEFLATED if kind == "packed" else zipfile.ZIP_STORED)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["cut", "no zip", "huge", "state", "object", "gone", "packed"])
def test_a_damaged_checkpoint_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    run_loop(FakeEngine(), job_in(tmp_path), quiet)
    path = tmp_path / CHECKPOINT
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-40], "no zip": b"x"}[kind] if kind in ("cut", "no zip") else spoilt(kind, data))
    with pytest.raises(SgError) as caught:
        run_loop(FakeEngine(), job_in(tmp_path), quiet)
    assert str(path) in caught.value.message and "redo" in caught.value.hint
