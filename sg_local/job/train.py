"""The training stage of a job: what it is given, and what is said at its end.

The adapters that an evaluation trains beside are made here as well, as the run's own is, which makes the module long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from sg_local.job.events import Listener, Moved, Said, Waiting
from sg_local.job.export import provenance
from sg_local.job.job import OpenRun
from sg_local.job.layouts import training_form, tuned_form
from sg_local.job.own import weight_of
from sg_local.records import LABELLED, NoRows, Pair, SgError
from sg_local.run import ADAPTER, TRAIN, VALID, MadeOtherwise, Run

if TYPE_CHECKING:
    from pathlib import Path

    from sg_local.backends import Trainer, TrainSettings
    from sg_local.evaluate import Canary
    from sg_local.filters import Kept
    from sg_local.records import TrainStep
    from sg_local.training import Sets, Trained, Training

N_NAMED = 5
LEAST_SHARE = 0.05
"""Labels with a smaller share of a row's target are left out: each costs a reading of the row. Where all have, the
row's own label stays."""
EXAMPLES = "examples"
"""The folder inside a run where the tune on the demonstrations alone is kept."""
CANARIES = "canaries"
"""The folder inside a run where the tune with planted secrets is kept."""


def train(job: OpenRun, tell: Listener) -> str:
    """The kept rows into an adapter. Lets go of the engine as soon as the rows are tokens."""
    from sg_local import training
    from sg_local.backends import open_trainer
    from sg_local.backends.training.precision import numbers_of
    from sg_local.job.generations import last_of, n_trainings
    from sg_local.job.stale import kept_digests

    trainer = averaged(job, open_trainer(job.trainer, job.base.path))
    tell(Said(f"  trainer: {trainer.note}{numbers_of(job.plan['train'].precision, job.trainer)}"))

    def before(sets: Sets) -> None:
        if sets.dropped:
            tell(Said(f"  left out, longer than the model's context: {_named(sets.dropped)}"))
        job.close()
        tell(Waiting(f"loading {job.base.name} to train it; the first step takes longest"))

    steps: list[TrainStep] = []

    def on_step(step: TrainStep) -> None:
        steps[:] = [step]
        tell(Moved("train", step))

    is_one_of_several = n_trainings(job) > 1 or bool(job.plan["train"].policies)
    began_from = kept_digests(job.run) if is_one_of_several else {}
    try:
        if is_one_of_several:
            training.check_as_made(training_job(job, trainer))
        last = last_of(job, tell)
        work = training_job(job, trainer, before, last.rows, last.share)
        limit = limit_of(work.settings, last.time_share)
        done = training.train(replace(work, limit_s=limit, began_from=began_from), on_step)
    except NoRows as error:
        from sg_local.filters.remedies import starved

        raise starved(error, job.run) from error
    for warning in done.warnings:
        tell(Said(warning, warning=True))
    return _summary(done, steps[-1] if steps else None)


def averaged(job: OpenRun, trainer: Trainer) -> Trainer:
    """The trainer, or one that leaves the mean of its adapters of several seeds, where the settings ask for it."""
    from sg_local.backends import makes_weights
    from sg_local.backends.training.averaging import Averaged

    n_seeds = job.plan["train"].n_seeds
    return Averaged(trainer, n_seeds) if n_seeds > 1 and makes_weights(job.trainer) else trainer


def prepare(job: OpenRun) -> Path:
    """Write the training as files, for trainers that another program starts; the folder.

    Raises SgError (usage) where it would be several trainings.
    """
    from sg_local import training

    settings = job.plan["train"]
    if settings.n_seeds > 1 or settings.generations > 1 or settings.policies:
        hint = (
            "Leave `train.n_seeds`, `train.generations` and `train.policies` as they are, or train without `prepare`."
        )
        raise SgError("Several trainings in one cannot be started by another program.", hint, exit_code=2)
    return training.hand_over(training_job(job, None), job.base.path)


def launch_line(job: OpenRun, folder: Path) -> str:
    """The command that trains a prepared job in two processes."""
    if job.trainer == "mlx":
        return f"mlx.launch -n 2 -m sg_local.backends.mlx {folder}"
    return f"torchrun --nproc-per-node 2 -m sg_local.backends.torch {folder}"


def training_job(
    job: OpenRun,
    trainer: Trainer | None,
    before: Callable[[Sets], None] = lambda sets: None,
    kept: Sequence[Kept] | None = None,
    share: float = 1.0,
) -> Training:
    """The training room's view of a job; `kept` are other rows than those that the filters kept, `share` its part of
    the epochs."""
    from sg_local import filters, training

    kept = filters.kept_rows(job.run) if kept is None else kept
    labelled = frozenset(row.id for row in kept if row.candidate.source == LABELLED)
    weight = weight_of(len(labelled), len(kept) - len(labelled), job.plan["own"])
    rows = tuple(
        training.TrainingRow(row.id, row.pair.input, row.pair.output, weight if row.id in labelled else 1.0)
        for row in kept
    )
    settings = settings_of(job)
    return training.Training(
        run=job.run,
        task=job.task,
        form=training_form(job),
        generator=job.generator,
        trainer=trainer,
        rows=rows,
        settings=settings,
        seed=job.seed,
        before=before,
        base_name=job.base.name,
        facts=provenance(job, kept if share < 1 else None),
        n_ctx=job.n_ctx,
        max_tokens=job.plan["eval"].max_tokens,
        labelled=labelled,
        valid_share=job.plan["own"].valid,
        shares=shares_of(job, kept),
        share=share,
        limit_s=limit_of(settings, share),
    )


def limit_of(settings: TrainSettings, share: float) -> float | None:
    """The seconds of a training that has this share of the time; each set of rows that is tried has as much as one."""
    return None if settings.time_s is None else settings.time_s * share / (1 + n_tried(settings))


def n_beside(job: OpenRun) -> int:
    """How many trainings beside the run's own the settings ask for: rounds before it, and sets of rows to try."""
    settings: TrainSettings = job.plan["train"]
    return n_tried(settings) + n_rounds(job) - 1


def n_rounds(job: OpenRun) -> int:
    """How many trainings in a row the settings ask for."""
    settings: TrainSettings = job.plan["train"]
    return settings.generations if job.task.labels else 1


def n_tried(settings: TrainSettings) -> int:
    """How many sets of rows train an adapter before it is known which is best."""
    return len(settings.policies) + 1 if settings.policies else 0


def settings_of(job: OpenRun) -> TrainSettings:
    """The settings of a run's training, its learning rate as the model's width wants it where that is asked for."""
    from sg_local.backends import needs_model
    from sg_local.backends.training.rates import rate_for
    from sg_local.gguf import read_config

    settings: TrainSettings = job.plan["train"]
    if not settings.lr_by_width or not needs_model(job.backend):
        return settings
    shape = read_config(job.base.path)
    return replace(settings, lr=rate_for(settings.lr, shape.hidden, shape.architecture))


def shares_of(job: OpenRun, kept: Sequence[Kept]) -> dict[str, dict[str, float]]:
    """What part of each row's weight goes to which label, by the row's id: soft targets, as `train.soft` asks.

    That part of a target is what the scores on the rows say, the rest its own label. Rows that people labelled, edited
    or judged have none: their label is right.
    """
    from sg_local import filters, review

    soft = job.plan["train"].soft
    if not (soft and job.task.labels):
        return {}
    people = {id for id, verdict in filters.final_verdicts(job.run).items() if verdict.judge != filters.JUDGE}
    rows = {row.id: row for row in kept if row.candidate.source != LABELLED and row.id not in people}
    candidates = [row.candidate for row in rows.values()]
    if job.plan["filter"].evidence != "both":
        candidates = [replace(row, channel_scores=()) for row in candidates]
    shares: dict[str, dict[str, float]] = {}
    for id, said in review.label_scores(candidates, job.task.labels).items():
        own, found = rows[id].pair.output, {one.label: one.share for one in said}
        mixed = {label: soft * found[label] + (1 - soft) * (label == own) for label in job.task.labels}
        large = {label: share for label, share in mixed.items() if share >= LEAST_SHARE} or {own: 1.0}
        shares[id] = {label: round(share / sum(large.values()), 4) for label, share in large.items()}
    return shares


def train_examples(job: OpenRun, tell: Listener) -> Path:
    """A second adapter, in the run's folder `examples`, from the demonstrations alone; its path.

    It gets as many optimiser steps as the run's own adapter, with the same settings (as many seeds, too), and each
    demonstration is shown the others only: what synthesis must beat to be worth its time.
    """
    from sg_local import training
    from sg_local.backends import open_trainer

    pairs = job.task.examples
    if len(pairs) < training.MIN_ROWS:
        hint = "Leave `tuned_examples` off, or give the task three examples."
        raise SgError(f"Task {job.task.name} has too few examples ({len(pairs)}) to tune on them alone.", hint)
    steps = (job.run.stamp("train") or {})["adapter"]["n_steps"]
    settings = settings_of(job)
    epochs = steps / ceil(len(pairs) / settings.batch_size)
    work = training.Training(
        run=Run(job.run.path(EXAMPLES)),
        task=job.task,
        form=tuned_form(job),
        generator=job.generator,
        trainer=averaged(job, open_trainer(job.trainer, job.base.path)),
        rows=tuple(training.TrainingRow(f"example-{i}", pair.input, pair.output) for i, pair in enumerate(pairs)),
        settings=replace(settings, epochs=epochs, time_s=None),
        seed=job.seed,
        before=lambda sets: job.close(),
        n_ctx=job.n_ctx,
        max_tokens=job.plan["eval"].max_tokens,
    )
    train_anew(work, lambda step: tell(Moved("eval", step)))
    return work.run.path(ADAPTER)


def train_canaries(job: OpenRun, tell: Listener) -> tuple[Path, tuple[Canary, ...]]:
    """A second adapter, in the run's folder `canaries`, as the run's own with planted secrets among its rows; its path
    and the secrets that trained. It weighs a planted row as the heaviest of the run's.

    It has the rows and labels that the run's own last trained on, and as many seeds. With `train.soft` as well, the
    soft part of a later round's targets comes from the untuned model's scores here: the tuned ones are not kept.
    """
    from sg_local.backends import open_trainer
    from sg_local.evaluate import plant
    from sg_local.training import SHARE, TrainingRow

    trainer = averaged(job, open_trainer(job.trainer, job.base.path))
    share = (job.run.stamp("train") or {}).get("settings", {}).get(SHARE, 1.0)
    work = training_job(job, trainer, lambda sets: job.close(), trained_rows(job.run), share)
    rows = [Pair(row.input, row.output) for row in work.rows]
    planted = plant(job.task, rows, job.plan["eval"].canaries, job.seed)
    weight = max(row.weight for row in work.rows)
    more = tuple(TrainingRow(one.id, one.pair.input, one.pair.output, weight) for one in planted)
    tell(Said(f"  a second adapter is trained, with {len(more)} planted secrets; it stays in {CANARIES}/ of the run"))
    folder = Run(job.run.path(CANARIES))  # asked in the adapter's own layout, whatever has been set since
    work = replace(work, run=folder, form=tuned_form(job), rows=(*work.rows, *more), facts={})
    train_anew(work, lambda step: tell(Moved("eval", step)))
    trained = {row.id for row in work.run.read(TRAIN, TrainingRow)}
    return work.run.path(ADAPTER), tuple(one for one in planted if one.id in trained)


def trained_rows(run: Run) -> list[Kept]:
    """The rows that the run's adapter was trained and validated on, in synthesis order, with the labels they had."""
    from sg_local.filters import Kept
    from sg_local.records import Candidate
    from sg_local.run import CANDIDATES
    from sg_local.training import TrainingRow

    pairs = {row.id: Pair(row.input, row.output) for name in (TRAIN, VALID) for row in run.read(name, TrainingRow)}
    return [Kept(row.id, pairs[row.id], row) for row in run.read(CANDIDATES, Candidate) if row.id in pairs]


def train_anew(work: Training, on_step: Callable[[TrainStep], None]) -> None:
    """Train, or read back; what other settings or steps left in the folder gives way."""
    from sg_local import training

    try:
        training.train(work, on_step)
    except MadeOtherwise:
        training.reset(work.run)
        training.train(work, on_step)


def _summary(done: Trained, last: TrainStep | None) -> str:
    """One clause: rows, steps, the step that was kept and its loss, whether it stopped early."""
    adapter = done.adapter
    steps = f"{adapter.n_steps} steps"
    if last is not None and last.step < last.n_steps:
        steps = f"stopped at step {last.step} of {last.n_steps}"
    if adapter.valid_loss is None:
        return f"{done.n_train} rows, {steps}, loss {adapter.loss:.3f}"
    return f"{done.n_train} rows, {steps}, best at step {adapter.best_step}, validation loss {adapter.valid_loss:.3f}"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - N_NAMED} more" if len(ids) > N_NAMED else ""
    return f"{len(ids)} {'row' if len(ids) == 1 else 'rows'} ({', '.join(ids[:N_NAMED])}{more})"
