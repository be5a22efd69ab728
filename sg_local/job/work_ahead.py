"""How much work each stage is, in passes of a token through the layers, told from its settings and rows.

A pass forward counts 1. What comes back through frozen layers costs as much again, and a written token somewhat more
than one that is read: it is drawn, and its step is shared with fewer others.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sg_local.backends import makes_weights
from sg_local.job.events import RowsAhead

if TYPE_CHECKING:
    from sg_local.backends import TrainSettings
    from sg_local.job.job import OpenRun
    from sg_local.synth import SynthSettings

WRITTEN = 1.5  # passes for a token that is written
RECOMPUTED = 1.0  # once more forward, where activations are not kept
TRAINED = 2.4  # forward and back through frozen layers, and the adapter's own products
LABEL_ENDS = 1  # tokens behind a label
N_GATE_ROWS, N_GATE_ANSWERS = 32, 16  # of the export's gate, for the base, the adapter and each file


@dataclass(frozen=True)
class Work:
    """Passes of a token, and seconds that are spent whatever the model: loading, writing, checks."""

    passes: float
    fixed_s: float = 0.0


def work_of(job: OpenRun, stage: str, rows: RowsAhead) -> Work:
    """What a stage has to do."""
    if stage == "train":
        return Work(_train(job, rows), 8.0)
    if stage == "export":
        return Work(_export(job, rows), 2.0)
    return Work(_synth(job, rows) if stage == "synth" else _eval(job, rows) if stage == "eval" else 0.0, 1.0)


def _synth(job: OpenRun, rows: RowsAhead) -> float:
    """Inputs in rounds, each shown some earlier pairs; then votes, and scores of labels or of other inputs."""
    settings: SynthSettings = job.plan["synth"]
    labels = job.task.labels
    pair = rows.n_input + rows.n_output
    n_rounds = ceil(rows.n_asked / settings.round_size)
    drawn = (1 + settings.n_pool) / 2 * pair
    asked = rows.n_asked * (drawn + WRITTEN * rows.n_input)
    if settings.steer and settings.style == "continue" and not labels:
        asked += rows.n_asked * (drawn + WRITTEN * rows.n_output)
    n = rows.n_inputs - rows.n_labelled
    answered = n * (rows.n_input + WRITTEN * settings.n_votes * rows.n_output)
    scored = n * (rows.n_input + len(labels) * (rows.n_output + LABEL_ENDS)) if labels else 4.0 * n * pair
    return n_rounds * rows.n_shared + asked + answered + (scored if settings.score_labels else 0.0)


def _eval(job: OpenRun, rows: RowsAhead) -> float:
    """Every system's answers to the test rows, and to those that choose a form or calibrate."""
    from sg_local.evaluate.systems import EACH, SYSTEMS

    settings, total = job.plan["eval"], 0.0
    n_labels, n_forms = len(job.task.labels), 1 if job.alone else len(job.forms) if job.opened else 2
    n_dev = len(job.task.examples) + (settings.n_dev if n_labels else 0)
    scored = rows.n_input + n_labels * (rows.n_output + LABEL_ENDS)
    once = {
        "greedy": rows.n_input + WRITTEN * rows.n_output,
        "with rows": rows.n_input + WRITTEN * rows.n_output,
        "vote": rows.n_input + WRITTEN * settings.n_votes * rows.n_output,
        "restricted": scored,
        "calibrated": scored,
    }
    for system in SYSTEMS:
        if system.answers(job.task, settings) and system.way in once:
            n = settings.n_calibration if system.way == "calibrated" else rows.n_tests
            tries = n_forms * (n + (n_dev if n_forms > 1 else 0)) if system.form == EACH else n
            total += tries * once[system.way] + rows.n_shared
    if settings.score_files and makes_weights(job.trainer):
        answers = once["greedy"] + (scored if n_labels else 0.0)
        total += len(job.plan["export"].types) * (rows.n_tests * answers + rows.n_shared)
    return total


def _train(job: OpenRun, rows: RowsAhead) -> float:
    """Steps forward and back over the shared tokens and the rows' own, and the validation in between."""
    from sg_local.job import resources

    settings: TrainSettings = job.plan["train"]
    n_valid = max(4, rows.n_training // 10) if rows.n_training >= 20 else 0
    own = rows.n_input + rows.n_output + 1
    n_steps = n_train_steps(settings, rows.n_training - n_valid)
    size = settings.batch_size * settings.grad_accumulation
    shared = rows.n_shared * settings.grad_accumulation if settings.share_prefix else rows.n_shared * size
    n_rounds = 1 + n_steps // settings.valid_every
    validated = n_rounds * (n_valid * own + ceil(n_valid / settings.batch_size) * rows.n_shared)
    passes = TRAINED + RECOMPUTED * resources.training_of(job)[0].recomputed
    return passes * n_steps * (shared + size * own) + validated


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
    n_answers = N_GATE_ANSWERS + (0 if settings.may_lose is None else min(MOST_ROWS, rows.n_inputs))
    return n_systems * (rows.n_shared + read + n_answers * (rows.n_input + WRITTEN * rows.n_output))
