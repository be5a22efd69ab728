"""How fast this machine does a job's stages, in passes of a token a second: as it was last measured, else by a probe.

What a stage took when it was last done whole, with this model on this machine, is kept in the cache and tells best.
Before that the engine's own trial tells how fast it writes, and a probe of the machine's arithmetic the rest. A GPU's
speed nobody knows before it has been measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends import asks_server, machine
from sg_local.backends.training.precision import halves
from sg_local.cache import PACES
from sg_local.files import file_digest, write_cache
from sg_local.job.endpoint import ASKING
from sg_local.job.events import Source
from sg_local.job.where import engines_on
from sg_local.job.work_ahead import VERSION

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun

WRITES = {"synth": 0.75, "eval": 0.5}
"""Of the engine's trial, what a stage reaches whose batches are not always full; the evaluation's are small, and it
computes near ties of labels once more."""
SHARES = {"train": 0.6, "synth": 0.6, "eval": 0.4, "export": 0.6}
"""Of bare products in float32, what each stage does."""
IN_HALVES = 1.5
"""How many times as fast a training is whose products are in bfloat16."""

TRIAL_PASSES = 8.5 / 3  # of a token that a trial writes, with the share of those that it reads


@dataclass(frozen=True)
class Pace:
    """Passes a second, and where the figure is from."""

    passes_per_s: float
    source: Source


def pace_of(job: OpenRun, stage: str) -> Pace | None:
    """How fast a stage goes here; None where nobody knows."""
    known = _kept(job).get(stage)
    if known:
        return Pace(known, "measured")
    if engines_on() != "cpu" or (stage in ASKING and asks_server(job.backend)):
        return None
    trial = _trial(job) if stage in WRITES else None
    if trial is not None:
        return Pace(WRITES[stage] * trial * TRIAL_PASSES, "tried")
    if stage not in SHARES:
        return None
    in_halves = stage == "train" and halves(job.plan["train"].precision, job.trainer)
    share = SHARES[stage] * (IN_HALVES if in_halves else 1.0)
    return Pace(share * _products() / _weights(job.base.path), "probed")


def is_measured(job: OpenRun, stage: str) -> bool:
    """Whether an earlier run tells how long this stage takes here."""
    return stage in _kept(job)


def keep(job: OpenRun, stage: str, passes: float, seconds: float) -> None:
    """Remember what a stage took that was done whole."""
    if passes > 0 and seconds > 0:
        write_cache(_entry(job), {**_kept(job), stage: round(passes / seconds, 3)})


def _kept(job: OpenRun) -> dict[str, float]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_entry(job).read_text(encoding="utf-8"))
        return {str(stage): float(pace) for stage, pace in found.items()}
    return {}


def _entry(job: OpenRun) -> Path:
    """Where the paces of this model on this machine with these engines, in these numbers, lie."""
    folder = job.plan["engine"].cache
    here = (machine.cpu_name(), machine.physical_cores(), job.backend, job.trainer, job.plan["engine"].n_threads)
    facts = (VERSION, file_digest(job.base.path, folder), *here, halves(job.plan["train"].precision, job.trainer))
    name = hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()
    return Path(folder) / PACES / f"{name[:32]}.json"


def _trial(job: OpenRun) -> float | None:
    """Tokens a second that the engine wrote when it chose what to run."""
    choice = getattr(job.opened[0], "choice", None) if job.opened else None
    rates = [one.tokens_per_s for one in choice.trials if one.format == choice.format] if choice is not None else []
    return max(rates, default=None)


@cache
def _products() -> float:
    from sg_local.backends.pace import products_per_s

    return products_per_s()


@cache
def _weights(model: Path) -> int:
    from sg_local.backends.pace import layer_weights

    return layer_weights(model)
