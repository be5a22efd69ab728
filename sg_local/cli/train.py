"""The training stage on the command line: what it is given, what is shown while it runs, what is said at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from sg_local.cli.funnel import starved
from sg_local.cli.job import Job, check_base
from sg_local.cli.narration import Narrator
from sg_local.cli.words import size
from sg_local.cli.work import needs, provenance
from sg_local.console.views import Progress
from sg_local.records import NoRows, SgError
from sg_local.run import ADAPTER, CANDIDATES, Run

if TYPE_CHECKING:
    from pathlib import Path

    from sg_local.records import TrainStep
    from sg_local.training import Sets, Trained, Training

N_NAMED = 5
EXAMPLES = "examples"
"""The folder inside a run where the tune on the demonstrations alone is kept."""


def train(job: Job, narrate: Narrator) -> str:
    """The kept rows into an adapter. Lets go of the engine as soon as the rows are tokens."""
    from sg_local import training
    from sg_local.backends import open_trainer

    check_base(job)
    needs(job, CANDIDATES, "synth")
    trainer = open_trainer(job.trainer, job.base.path)
    narrate.say(f"  trainer: {trainer.note}")

    def before(sets: Sets) -> None:
        if sets.dropped:
            narrate.say(f"  left out, longer than the model's context: {_named(sets.dropped)}")
        job.close()

    view = TrainingView()
    try:
        done = training.train(training_job(job, trainer, before), lambda step: narrate.progress(view.take(step)))
    except NoRows as error:
        raise starved(error, job.run) from error
    for warning in done.warnings:
        narrate.say(f"Warning: {warning}")
    return _summary(done, view)


def prepare(job: Job) -> Path:
    """Write the training as files, for trainers that another program starts; the folder."""
    from sg_local import training

    check_base(job)
    needs(job, CANDIDATES, "synth")
    return training.hand_over(training_job(job, None), job.base.path)


def launch_line(job: Job, folder: Path) -> str:
    """The command that trains a prepared job in two processes."""
    if job.trainer == "mlx":
        return f"mlx.launch -n 2 -m sg_local.backends.mlx {folder}"
    return f"torchrun --nproc-per-node 2 -m sg_local.backends.torch {folder}"


def training_job(job: Job, trainer: Any, before: Any = lambda sets: None) -> Training:
    """The training room's view of a job."""
    from sg_local import filters, training

    rows = tuple(training.Row(row.id, row.pair.input, row.pair.output) for row in filters.kept_rows(job.run))
    return training.Training(
        run=job.run,
        task=job.task,
        form=job.form,
        generator=job.generator,
        trainer=trainer,
        rows=rows,
        settings=job.plan["train"],
        seed=job.seed,
        before=before,
        base_name=job.base.name,
        facts=provenance(job),
    )


def train_examples(job: Job, narrate: Narrator) -> Path:
    """A second adapter, in the run's folder `examples`, from the demonstrations alone; its path.

    It gets as many optimiser steps as the run's own adapter, with the same settings, and each demonstration is shown
    the others only: what synthesis must beat to be worth its time.
    """
    from sg_local import training
    from sg_local.backends import open_trainer

    pairs = job.task.examples
    if len(pairs) < training.MIN_ROWS:
        hint = "Leave `tuned_examples` off, or give the task three examples."
        raise SgError(f"Task {job.task.name} has too few examples ({len(pairs)}) to tune on them alone.", hint)
    steps = (job.run.stamp("train") or {})["adapter"]["n_steps"]
    settings = job.plan["train"]
    epochs = steps / ceil(len(pairs) / settings.batch_size)
    work = training.Training(
        run=Run(job.run.path(EXAMPLES)),
        task=job.task,
        form=job.form,
        generator=job.generator,
        trainer=open_trainer(job.trainer, job.base.path),
        rows=tuple(training.Row(f"example-{i}", pair.input, pair.output) for i, pair in enumerate(pairs)),
        settings=replace(settings, epochs=epochs, time_s=None),
        seed=job.seed,
        before=lambda sets: job.close(),
    )
    view = TrainingView()
    _train_anew(work, lambda step: narrate.progress(replace(view.take(step), phase="training on the examples")))
    return work.run.path(ADAPTER)


def _train_anew(work: Training, on_step: Callable[[TrainStep], None]) -> None:
    """Train, or read back; what other settings or steps left in the folder gives way."""
    from sg_local import training

    try:
        training.train(work, on_step)
    except SgError:
        if not work.run.path(training.WORK).exists():
            raise
        training.reset(work.run)
        training.train(work, on_step)


class TrainingView:
    """Steps as they come, made into figures: the last validation loss stays on the screen between its rounds."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.valid: list[tuple[float, int]] = []
        self.last: TrainStep | None = None

    def take(self, step: TrainStep) -> Progress:
        """The view after this step."""
        self.last = step
        if step.step > 0:
            self.losses.append(step.loss)
        if step.valid_loss is not None:
            self.valid.append((step.valid_loss, step.step))
        curves = {"loss": tuple(self.losses), "validation": tuple(loss for loss, _ in self.valid)}
        shown = tuple((name, values) for name, values in curves.items() if len(values) > 1)
        return Progress("training", step.step, step.n_steps, "steps", self._facts(step), curves=shown)

    def _facts(self, step: TrainStep) -> dict[str, str]:
        facts = {"loss": f"{step.loss:.3f}"}
        if self.valid:
            best, at = min(self.valid)
            facts["validation"] = f"{self.valid[-1][0]:.3f} (best {best:.3f} at step {at})"
        if step.tokens_per_s:
            facts["tokens/s"] = f"{step.tokens_per_s:.0f}"
        if step.memory_bytes:
            facts["memory"] = size(step.memory_bytes)
        return facts


def _summary(done: Trained, view: TrainingView) -> str:
    """One clause: rows, steps, the step that was kept and its loss, whether it stopped early."""
    adapter, last = done.adapter, view.last
    steps = f"{adapter.n_steps} steps"
    if last is not None and last.step < last.n_steps:
        steps = f"stopped at step {last.step} of {last.n_steps}"
    if adapter.valid_loss is None:
        return f"{done.n_train} rows, {steps}, loss {adapter.loss:.3f}"
    return f"{done.n_train} rows, {steps}, best at step {adapter.best_step}, validation loss {adapter.valid_loss:.3f}"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - N_NAMED} more" if len(ids) > N_NAMED else ""
    return f"{len(ids)} {'row' if len(ids) == 1 else 'rows'} ({', '.join(ids[:N_NAMED])}{more})"
