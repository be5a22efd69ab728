"""The training loop that every trainer runs: steps, validation, checkpoints, early stop, time budget, divergence.

A backend supplies an `Engine` (one optimiser step, one loss, its arrays in and out); this module supplies the
rest, in plain Python. Promise: a run killed at any moment and started again with the same job ends with the
same arrays as an uninterrupted one, wherever the engine's own arithmetic is deterministic. Everything random
is a function of (seed, step), so a checkpoint needs no generator's hidden state. A time budget is the one
exception: how many steps fit depends on the clock. The module is long because a checkpoint must hold all that a step
changes: both can only be checked side by side.

Files in the job's folder: `checkpoint.npz` (the last good state), `best-STEP.npz` (the adapter with the lowest
validation loss), `curve.jsonl` (one TrainStep a line).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sg_local.backends.training.checkpoint import (
    CHECKPOINT,
    Arrays,
    TrainJob,
    TrainProgress,
    best_path,
    load_arrays,
    load_checkpoint,
    save_checkpoint,
)
from sg_local.backends.training.lora import learning_rate, micro_batches, plan_batches
from sg_local.files import replacing, write_text
from sg_local.records import SgError, TokenExample, TrainStep, to_json

logger = logging.getLogger(__name__)

CURVE = "curve.jsonl"

# The first step pays for compilation and page faults, so the pace is taken from the two after it.
_PACE_STEPS = 3
# Divergence: the mean of the last eight losses above twice that of the first eight, and by a whole nat.
_DIVERGED_WINDOW, _DIVERGED_FACTOR, _DIVERGED_NATS = 8, 2.0, 1.0


class OutOfMemory(Exception):
    """An engine could not fit a micro-batch. The loop goes back to the last checkpoint with half the size."""


@dataclass(frozen=True)
class StepResult:
    """What an engine says of one optimiser step.

    `loss` is the step's weighted token mean; `grad_norm` the global norm before clipping; `n_tokens` the tokens
    that were computed, a shared prefix once.
    """

    loss: float
    grad_norm: float
    n_tokens: int


@dataclass(frozen=True)
class StepPlan:
    """One optimiser step to take: micro-batches of rows, whose gradients are summed, and the learning rate."""

    index: int
    batches: tuple[tuple[TokenExample, ...], ...]
    lr: float


class Engine(Protocol):
    """One model with a LoRA adapter and AdamW, as the loop sees it."""

    def start(self) -> None:
        """Set the adapter to its seeded first value and forget the optimiser's moments."""
        ...

    def step(self, plan: StepPlan) -> StepResult:
        """One optimiser step: clip to max_grad_norm, then AdamW. Must not update when the loss is not finite.

        Raises OutOfMemory when a micro-batch does not fit.
        """
        ...

    def evaluate(self, rows: Sequence[TokenExample]) -> float:
        """Weighted token-mean loss of these rows, without dropout."""
        ...

    def arrays(self) -> Arrays:
        """Everything that `restore` needs: adapter arrays by canonical name, and the optimiser's under `adam.`."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Go back to a state that `arrays` gave. Arrays without optimiser entries restore the adapter alone."""
        ...

    def memory_bytes(self) -> int:
        """Peak memory so far."""
        ...

    def agree(self, value: float) -> float:
        """The first process's value, where several train together; the value itself where one does."""
        ...


def run_loop(engine: Engine, job: TrainJob, on_step: Callable[[TrainStep], None]) -> TrainProgress:
    """Train from the start or from the folder's checkpoint; the engine ends holding the best adapter.

    Raises MadeOtherwise for a checkpoint of other work; SgError for divergence and for a row that does not fit.
    """
    return _Loop(engine, job, on_step).run()


class _Loop:
    """The loop's moving parts: the engine, the job, and the progress so far."""

    def __init__(self, engine: Engine, job: TrainJob, on_step: Callable[[TrainStep], None]) -> None:
        self.engine, self.job, self.on_step = engine, job, on_step
        self.plan = plan_batches(job.examples, job.settings)
        self.progress = TrainProgress(self.plan.n_steps(job.settings.epochs), job.settings.batch_size)
        self.clock = _Clock(job.spent_s)

    def run(self) -> TrainProgress:
        self._begin()
        logger.info("begins after step %d of %d", self.progress.step, self.progress.n_steps)
        while not self.progress.is_done:
            try:
                self._advance()
            except OutOfMemory as error:
                self._shrink(error)
        self._save()
        return self._finish()

    def _begin(self) -> None:
        saved = load_checkpoint(self.job)
        if saved is None:
            self.engine.start()
            self._measure_base()
            return
        self.progress, arrays = saved
        self.engine.restore(arrays)
        self.clock = _Clock(self.progress.elapsed_s + self.job.spent_s)

    def _measure_base(self) -> None:
        """Report step 0: the base model's validation loss, which also stands for its training loss."""
        if not self.job.valid:
            return
        loss = self._evaluate()
        self.progress = dataclasses.replace(self.progress, start_loss=loss)
        self._report(TrainStep(0, self.progress.n_steps, 0.0, loss, 0.0, 0.0, self.engine.memory_bytes(), loss))

    def _advance(self) -> None:
        """One optimiser step and whatever is due after it."""
        began = time.monotonic()
        plan = self._step_plan()
        result = self.engine.step(plan)
        pace = result.n_tokens / max(time.monotonic() - began, 1e-9)
        self._refuse_divergence(result)
        self.progress = dataclasses.replace(self.progress, step=self.progress.step + 1)
        valid_loss = self._validate()
        self._fit_budget()
        done, n_steps = self.progress.step, self.progress.n_steps
        epoch = done / self.plan.steps_per_epoch
        memory = self.engine.memory_bytes()
        self._report(TrainStep(done, n_steps, epoch, result.loss, plan.lr, pace, memory, valid_loss))
        if done % self.job.settings.checkpoint_every == 0:
            self._save()

    def _step_plan(self) -> StepPlan:
        step, settings = self.progress.step, self.job.settings
        batches = micro_batches(self.plan.rows(step), self.progress.batch_size)
        rows = tuple(tuple(self.job.examples[i] for i in batch) for batch in batches)
        return StepPlan(step, rows, learning_rate(step, self.progress.n_steps, settings))

    def _validate(self) -> float | None:
        """Measure the validation loss when it is due, keep the best adapter, and count rounds without gain."""
        progress, settings = self.progress, self.job.settings
        due = progress.step % settings.valid_every == 0 or progress.step == progress.n_steps
        if not self.job.valid or not due:
            return None
        loss = self._evaluate()
        if not math.isfinite(loss):
            raise self._diverged(f"the validation loss is {loss}")
        if progress.best_loss is None or loss < progress.best_loss:
            self.progress = dataclasses.replace(
                progress, best_step=progress.step, best_loss=loss, rounds_without_gain=0
            )
            self._save_best()
            return loss
        rounds = progress.rounds_without_gain + 1
        stop = settings.patience > 0 and rounds >= settings.patience
        reason = f"no gain in {rounds} validation rounds" if stop else ""
        self.progress = dataclasses.replace(progress, rounds_without_gain=rounds, stopped=reason)
        return loss

    def _evaluate(self) -> float:
        began = time.monotonic()
        loss = self.engine.agree(self.engine.evaluate(self.job.valid))
        self.clock.valid_s = time.monotonic() - began
        return loss

    def _fit_budget(self) -> None:
        """Cut the plan to the time budget once the pace is known, and stop when the budget is spent."""
        budget, progress = self.job.settings.time_s, self.progress
        elapsed = self.engine.agree(self.clock.elapsed())
        if progress.step == 1:
            self.clock.pace_from = elapsed
        self.progress = dataclasses.replace(progress, elapsed_s=elapsed)
        if budget is None or progress.is_done:
            return
        if progress.step == _PACE_STEPS and self.clock.pace_from is not None:
            pace_s = (elapsed - self.clock.pace_from) / (_PACE_STEPS - 1)
            pace_s += self.clock.valid_s / self.job.settings.valid_every
            fits = _PACE_STEPS + max(0, int((budget - elapsed - self.clock.valid_s) / max(pace_s, 1e-9)))
            fits = int(self.engine.agree(fits))
            logger.info("%.2f s a step: %d of %d steps fit %g s", pace_s, fits, progress.n_steps, budget)
            self.progress = dataclasses.replace(self.progress, n_steps=min(progress.n_steps, fits))
        elif elapsed >= budget:
            self.progress = dataclasses.replace(self.progress, stopped=f"the time budget of {budget:g} s is spent")

    def _refuse_divergence(self, result: StepResult) -> None:
        if not math.isfinite(result.loss) or not math.isfinite(result.grad_norm):
            raise self._diverged(f"the loss is {result.loss} and the gradient norm {result.grad_norm}")
        losses = [step.loss for step in self.progress.curve if step.step > 0] + [result.loss]
        if len(losses) < 2 * _DIVERGED_WINDOW:
            return
        first, last = (sum(part) / _DIVERGED_WINDOW for part in (losses[:_DIVERGED_WINDOW], losses[-_DIVERGED_WINDOW:]))
        if last > max(_DIVERGED_FACTOR * first, first + _DIVERGED_NATS):
            raise self._diverged(f"the loss rose from {first:.2f} to {last:.2f}")

    def _diverged(self, what: str) -> SgError:
        kept = self.job.out / CHECKPOINT
        left = f"The last good checkpoint is {kept}. " if kept.exists() else ""
        hint = f"{left}Start training again with a smaller learning rate than {self.job.settings.lr:g}."
        return SgError(f"Training diverged at step {self.progress.step + 1}: {what}.", hint)

    def _shrink(self, error: OutOfMemory) -> None:
        """Go back to the last checkpoint with half the micro-batch; steps keep their rows, so their gradients too."""
        size = self.progress.batch_size
        if size == 1:
            hint = "Try fewer layers, a smaller rank or a smaller model."
            said = next(iter(str(error).splitlines()), "").rstrip(".")
            raise SgError(f"One row at a time does not fit in memory{f': {said}' if said else ''}.", hint) from error
        saved = load_checkpoint(self.job)
        if saved is None:
            self.engine.start()
            kept = dataclasses.replace(self.progress, step=0, best_step=0, best_loss=None, rounds_without_gain=0)
            kept = dataclasses.replace(kept, curve=tuple(step for step in kept.curve if step.step == 0))
        else:
            kept, arrays = saved
            self.engine.restore(arrays)
        logger.info("out of memory with %d rows at a time: goes on after step %d with %d", size, kept.step, size // 2)
        self.progress = dataclasses.replace(kept, batch_size=size // 2)

    def _report(self, step: TrainStep) -> None:
        self.progress = dataclasses.replace(self.progress, curve=(*self.progress.curve, step))
        self.on_step(step)

    def _save(self) -> None:
        if not self.job.writes:
            return
        save_checkpoint(self.job, self.progress, self.engine.arrays())
        lines = "".join(to_json(step) + "\n" for step in self.progress.curve)
        write_text(self.job.out / CURVE, lines)
        for path in self.job.out.glob("best-*.npz"):
            if path != best_path(self.job.out, self.progress.best_step):
                path.unlink()

    def _save_best(self) -> None:
        if self.job.writes:
            arrays: dict[str, Any] = {k: v for k, v in self.engine.arrays().items() if not k.startswith("adam.")}
            path = best_path(self.job.out, self.progress.best_step)
            with replacing(path) as file:
                np.savez(file, **arrays)

    def _finish(self) -> TrainProgress:
        """Leave the engine with the best adapter, which the last one is where nothing was validated."""
        if self.job.writes and self.progress.best_loss is not None:
            self.engine.restore(load_arrays(best_path(self.job.out, self.progress.best_step)))
        why = self.progress.stopped or "all steps done"
        logger.info("ends after step %d (%s), best step %d", self.progress.step, why, self.progress.best_step)
        return self.progress


@dataclass
class _Clock:
    """Seconds since the job began, over all its tries."""

    before_s: float
    pace_from: float | None = None
    valid_s: float = 0.0

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    def elapsed(self) -> float:
        return self.before_s + time.monotonic() - self.began
