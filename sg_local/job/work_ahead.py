"""How much work each stage is, in passes of a token through the layers, told from its settings and rows.

A pass forward counts 1. What comes back through frozen layers costs as much again, and a written token somewhat more
than one that is read: it is drawn, and its step is shared with fewer others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from sg_local.backends import makes_weights
from sg_local.job.events import RowsAhead
from sg_local.run import REPORT

if TYPE_CHECKING:
    from sg_local.backends import TrainSettings
    from sg_local.evaluate import EvalSettings
    from sg_local.evaluate.systems import System
    from sg_local.job.job import OpenRun
    from sg_local.synth import SynthSettings

WRITTEN = 1.5  # passes for a token that is written
RECOMPUTED = 1.0  # once more forward, in layers whose activations are not kept
TRAINED = 2.4  # forward and back through frozen layers, and the adapter's own products
LABEL_ENDS = 1  # tokens behind a label
READ_AGAIN = 1.0  # of a prompt that another system has just read: its last token
ASKED_OF = 4  # outputs that an input is held against, its own among them
VERSION = 6  # of how work is counted; a new one makes the paces that were kept void
N_GATE_ROWS, N_GATE_ANSWERS = 32, 16  # of the export's gate, for the base, the adapter and each file
AUTO_S = 8.0  # in which `auto` looks for its type: the samples are hardly larger where the model is


@dataclass(frozen=True)
class Work:
    """Passes of a token, and seconds that are spent whatever the model: loading, writing, checks."""

    passes: float
    fixed_s: float = 0.0


def work_of(job: OpenRun, stage: str, rows: RowsAhead, stages: Collection[str] = ()) -> Work:
    """What a stage has to do. `stages` are those to come, itself among them; none are once it is done."""
    if stage == "train":
        return Work(_train(job, rows), 8.0)
    if stage == "export":
        asks = job.run.path(REPORT).exists() and not {"train", "eval"} & set(stages)
        looks_s = AUTO_S if "auto" in job.plan["export"].types else 0.0
        return Work(_export(job, rows) + (_files_answers(job, rows) if asks else 0.0), 2.0 + looks_s)
    if stage == "eval":
        asks = "export" in stages or job.run.stamp("export") is not None
        return Work(_eval(job, rows) + (_files_answers(job, rows) if asks else 0.0), 1.0)
    return Work(_synth(job, rows) if stage == "synth" else 0.0, 1.0)


def _synth(job: OpenRun, rows: RowsAhead) -> float:
    """Inputs in rounds, each shown some earlier pairs; then votes, and scores of labels or of other inputs."""
    settings: SynthSettings = job.plan["synth"]
    labels = job.task.labels
    pair = rows.n_input + rows.n_output
    n_rounds = ceil(rows.n_asked / settings.round_size)
    drawn = (1 + settings.n_pool) / 2 * pair
    asked = rows.n_asked * (drawn / (settings.n_per_draw if labels else 1) + WRITTEN * rows.n_input)
    if settings.steer and settings.style == "continue" and not labels:
        asked += rows.n_asked * (drawn + WRITTEN * rows.n_output)
    n = rows.n_inputs - rows.n_labelled
    scored = n * (_scored(job, rows) if labels else rows.n_input + ASKED_OF * rows.n_output)
    read = READ_AGAIN if settings.score_labels else rows.n_input
    answered = n * (read + WRITTEN * settings.n_votes * rows.n_output)
    channel = _channel(job, rows, n, settings.n_orders) if settings.channel else 0.0
    channel += _backward(job, rows, n) if settings.backward else 0.0
    return n_rounds * rows.n_shared + asked + answered + (scored if settings.score_labels else 0.0) + channel


def _scored(job: OpenRun, rows: RowsAhead) -> float:
    """How likely each label is after one input."""
    return rows.n_input + len(job.task.labels) * (rows.n_output + LABEL_ENDS)


def _channel(job: OpenRun, rows: RowsAhead, n: int, n_orders: int) -> float:
    """How likely each label makes each of `n` inputs, which are read behind every label in every order."""
    from sg_local.channel import CHUNK

    n_readings = min(n_orders, len(job.task.examples)) * len(job.task.labels)
    return n_readings * (n * rows.n_input + ceil(n / CHUNK) * rows.n_shared)


def _backward(job: OpenRun, rows: RowsAhead, n: int) -> float:
    """How likely each answer makes each of `n` inputs, in every order: all tie at most, and a task with labels none."""
    settings: SynthSettings = job.plan["synth"]
    n_readings = 0 if job.task.labels else min(settings.n_orders, len(job.task.examples))
    return n_readings * (n * settings.n_votes * (rows.n_output + rows.n_input) + rows.n_shared)


def _eval(job: OpenRun, rows: RowsAhead) -> float:
    """Every system's answers to the test rows, and to those that choose a form, calibrate or fit a temperature."""
    from sg_local.evaluate.calibrating import MOST_ROWS, WAYS

    answering = _answering(job)
    fitted = {system.model for system in answering if system.way in WAYS}
    n_known = min(MOST_ROWS, _n_valid(rows))
    fits = len(fitted) * (n_known * _scored(job, rows) + rows.n_shared) if n_known else 0.0
    return fits + sum(_answered(job, rows, system) for system in answering)


def _answering(job: OpenRun) -> list[System]:
    """The systems of the evaluation; who is tuned on the examples alone is only there where it is asked for."""
    from sg_local.evaluate.systems import EXAMPLES, SYSTEMS

    settings = job.plan["eval"]
    return [
        system
        for system in SYSTEMS
        if system.answers(job.task, settings) and (system.model != EXAMPLES or settings.tuned_examples)
    ]


def _answered(job: OpenRun, rows: RowsAhead, system: System) -> float:
    """One system's answers, in each form where it is tried in several: then to the rows that choose the form, too.

    A calibrated system decides the answers of another anew, and an ensemble does: what they score besides is counted.
    """
    from sg_local.evaluate.calibrating import MOST_CHANNEL, N_SAMPLE
    from sg_local.evaluate.systems import EACH, TRAINED

    settings: EvalSettings = job.plan["eval"]
    synth: SynthSettings = job.plan["synth"]
    if system.way == "ensemble":
        is_left = synth.channel and synth.n_orders == settings.ensemble
        counts = (rows.n_tests, min(N_SAMPLE if is_left else MOST_CHANNEL, settings.n_calibration))
        return sum(_channel(job, rows, n, settings.ensemble) for n in counts)
    scored, written = _scored(job, rows), WRITTEN * rows.n_output
    has_read = system.way == "greedy" and bool(job.task.labels) or system.way == "vote" and system.form == TRAINED
    read = READ_AGAIN if has_read else rows.n_input
    each = {
        "greedy": read + written,
        "with rows": rows.n_input + written,
        "vote": read + settings.n_votes * written,
        "typical": rows.n_input + settings.mbr * written,
        "restricted": scored,
        "calibrated": scored,
    }.get(system.way)
    if each is None:
        return 0.0
    n_forms = 1 if job.alone or system.form != EACH else len(job.forms) if job.opened else 2
    n_dev = len(job.task.examples) + (settings.n_dev if job.task.labels else 0)
    if system.way == "calibrated":
        n_left = max(0, settings.n_calibration - N_SAMPLE) if synth.score_labels and n_forms > 1 else 0
        return (n_forms * settings.n_calibration - n_left) * each + rows.n_shared
    n = rows.n_tests + (n_dev if n_forms > 1 else 0)
    return n_forms * n * each + rows.n_shared


def _files_answers(job: OpenRun, rows: RowsAhead) -> float:
    """What the exported files answer to the test rows, where they are scored: by whichever of export and evaluation
    comes last.
    """
    if not (job.plan["eval"].score_files and makes_weights(job.trainer)):
        return 0.0
    read = READ_AGAIN + _scored(job, rows) if job.task.labels else rows.n_input
    each = read + WRITTEN * rows.n_output
    return len(job.plan["export"].types) * (rows.n_tests * each + rows.n_shared)


def _n_valid(rows: RowsAhead) -> int:
    """The rows that validate the training."""
    return max(4, rows.n_training // 10) if rows.n_training >= 20 else 0


def _train(job: OpenRun, rows: RowsAhead) -> float:
    """Steps forward and back over the shared tokens and the rows' own, and the validation in between.

    As often as there are trainings in a row, each of which but the last labels the rows anew, and seeds of the last.
    """
    from sg_local.backends.training.holding import share_recomputed
    from sg_local.job import resources
    from sg_local.job.generations import share_of_epochs
    from sg_local.job.train import n_rounds, n_tried

    settings: TrainSettings = job.plan["train"]
    way, _ = resources.training_of(job)
    again = RECOMPUTED * share_recomputed(job.base.path, way)
    n_before = n_rounds(job) - 1
    before, last = (
        replace(settings, epochs=settings.epochs * share_of_epochs(1 + n_before, is_last=is_last))
        for is_last in (False, True)
    )
    counts = ((n_before, before), (settings.n_seeds, last), (n_tried(settings), settings))
    trainings = sum(n * _training(job, rows, one, again) for n, one in counts if n)
    return trainings + n_before * rows.n_inputs * _scored(job, rows)


def _training(job: OpenRun, rows: RowsAhead, settings: TrainSettings, again: float) -> float:
    """One training. Layers below the adapter go forward alone: once for each row, where that stays."""
    from sg_local.backends.training.holding import share_adapted
    from sg_local.backends.training.lora import valid_rows_at_a_time
    from sg_local.job import resources

    n_valid = _n_valid(rows)
    own = rows.n_input + rows.n_output + 1
    n_steps = n_train_steps(settings, rows.n_training - n_valid)
    size = settings.batch_size * settings.grad_accumulation
    shared = rows.n_shared * settings.grad_accumulation if settings.share_prefix else rows.n_shared * size
    n_checks = 1 + n_steps // settings.valid_every
    n_together = valid_rows_at_a_time(own, settings) if job.trainer == "torch" else settings.batch_size
    validated = n_checks * (n_valid * own + ceil(n_valid / n_together) * rows.n_shared)
    adapted, stays = share_adapted(job.base.path, settings), resources.stays_below(job, settings)
    below = (1 - adapted) * (min(1.0, 1 / settings.epochs) if stays else 1.0)
    checked = adapted + (1 - adapted) * (1 / n_checks if stays else 1.0)
    return (TRAINED * adapted + below + again) * n_steps * (shared + size * own) + checked * validated


def n_train_steps(settings: TrainSettings, n_rows: int) -> int:
    """Optimiser steps over all epochs."""
    per_epoch = max(1, ceil(n_rows / (settings.batch_size * settings.grad_accumulation)))
    return max(1, round(per_epoch * settings.epochs))


def _export(job: OpenRun, rows: RowsAhead) -> float:
    """The gate's rows and answers for the base, the adapter and each file; the writing is told by its bytes."""
    from sg_local.export.rows import MOST_ROWS

    settings = job.plan["export"]
    n_systems = 2 + max(1, len(settings.types))
    read = N_GATE_ROWS * (rows.n_input + rows.n_output)
    spare = max(0, rows.n_inputs - rows.n_training) if job.task.labels else 0  # inputs that trained nothing
    n_own = min(MOST_ROWS, _n_valid(rows) + spare)
    n_answers = N_GATE_ANSWERS + (0 if settings.may_lose is None else n_own)
    return n_systems * (rows.n_shared + read + n_answers * (rows.n_input + WRITTEN * rows.n_output))
