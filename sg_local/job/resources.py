"""What the stages of a job take of the machine's memory, held against what is free before they begin.

Sizes come from the base's header, rows from what the task shows; the stages look again when they know better. Where a
GPU does the work, or nobody knows what is free, nothing is refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends import asks_server, machine, makes_weights
from sg_local.backends.footprint import N_PARALLEL, EngineNeed, engine_need
from sg_local.job.disk import faster_copy, wanted
from sg_local.job.engine import engine_beside
from sg_local.job.rows_ahead import rows_ahead
from sg_local.job.where import engines_on, trains_on
from sg_local.records import SgError
from sg_local.words import size

if TYPE_CHECKING:
    from sg_local.backends import TrainSettings
    from sg_local.backends.training.holding import Way
    from sg_local.backends.training.memory import Need, Place, RowLengths
    from sg_local.job.job import OpenRun

MARGIN = 1.15  # a need is refused beyond this many times what is free, as the trainers do
LIBRARIES = {"torch": 400 << 20, "mlx": 100 << 20}  # of a trainer, with what stays of its heap behind the training
SCORING = 60 << 20  # what the evaluation fills beyond writing: an adapter, rows of logits, prompts and their answers
ASKING = 200 << 20  # to let a server write: a vocabulary, rows, requests under way
GENERATES = {"synth": "Writing rows", "eval": "The evaluation"}


def check_memory(job: OpenRun, stages: Collection[str]) -> None:
    """Raise SgError for the first stage that needs clearly more memory than is free, with what would fit."""
    free = machine.free_memory()
    if free is None or engines_on() == "cuda" or job.opened:
        return
    for stage, what in GENERATES.items():
        if stage in stages and not (stage == "synth" and asks_server(job.backend)):
            _check_engine(job, what, free)
    if "train" in stages and makes_weights(job.trainer):
        from sg_local.backends.training.memory import check_expected
        from sg_local.backends.training.on_metal import one_row

        place, settings = _training_place(job, free), job.plan["train"]
        check_expected(
            job.base.path, _lengths(job), one_row(settings) if trains_on(job) == "metal" else settings, place
        )
    if "export" in stages and makes_weights(job.trainer):
        _check_export(job, free)


def _check_engine(job: OpenRun, what: str, free: int) -> None:
    need = engine_need(job.base.path, engine_beside(job.backend, job.plan["engine"]))
    if need.total > MARGIN * free:
        raise _too_little(what, need, free, _smaller_engine(job, free))


def _smaller_engine(job: OpenRun, free: int) -> str:
    """The largest number of sequences, else the longest context, with which the engine fits."""
    settings = job.plan["engine"]
    for n in (16, 8, 4, 1):
        smaller = dataclasses.replace(settings, n_parallel=n)
        if n < (settings.n_parallel or N_PARALLEL) and engine_need(job.base.path, smaller).total <= free:
            return f"Fewer sequences at a time fit: `engine.n_parallel={n}`."
    n_ctx = settings.n_ctx
    while (n_ctx := n_ctx // 2) >= 512:
        smaller = dataclasses.replace(settings, n_parallel=1, n_ctx=n_ctx)
        if engine_need(job.base.path, smaller).total <= free:
            return f"A shorter context fits: `engine.n_ctx={n_ctx}` with `engine.n_parallel=1`."
    return "Close other programs, or use a smaller model: `models ls` shows those on this machine."


def _too_little(what: str, need: EngineNeed, free: int, hint: str) -> SgError:
    parts = f"weights {size(need.weights)}, context {size(need.pool)}, programs {size(need.rest)}"
    return SgError(f"{what} needs about {size(need.total)} of memory ({parts}), and {size(free)} is free.", hint)


def _lengths(job: OpenRun) -> RowLengths:
    """About how many tokens a row will have: the shared prompt, and the longest input and output that are known.

    A row beyond the context is left out of the training, so none is longer.
    """
    from sg_local.backends.training.memory import RowLengths

    rows = rows_ahead(job)
    answer = rows.n_longest_output + 1
    own = min(rows.n_longest + answer, max(1, job.n_ctx - rows.n_shared))
    return RowLengths(rows.n_shared, own, answer, rows.n_training)


def _check_export(job: OpenRun, free: int) -> None:
    """The gate answers with each fused file as the engine would."""
    files = [one for one in wanted(job) if one.folder is None]
    usual = engine_need(job.base.path, dataclasses.replace(job.plan["engine"], n_parallel=1))
    largest = max(files, key=lambda one: one.n_bytes, default=None)
    if largest is None:
        return
    need = dataclasses.replace(usual, weights=largest.n_bytes)
    if need.total > MARGIN * free:
        raise _too_little(f"Checking the {largest.name} file", need, free, _smaller_type(job, largest.n_bytes))


def _smaller_type(job: OpenRun, n_bytes: int) -> str:
    from sg_local.export.sizes import smallest_type

    name, smallest = smallest_type(job.base.path, job.plan["export"])
    if smallest < n_bytes:
        return f"The smallest type is `export.types={name}`: {size(smallest)}."
    return "Close other programs, or use a smaller model."


def ran_out(job: OpenRun, stage: str) -> SgError:
    """What is said where memory ran out in a stage all the same."""
    free = machine.free_memory()
    left = "" if free is None else f", and {size(free)} is free now"
    hint = "Close other programs, raise the limit (`ulimit -v`, a container's), or take less: `ram=2G`."
    return SgError(f"Memory ran out in stage {stage}: it needs about {size(memory_of(job, stage))}{left}.", hint)


# What is expected, for the forecast


def memory_of(job: OpenRun, stage: str) -> int:
    """The most bytes of memory that a stage will fill at once, of the machine's or, where one trains, the GPU's."""
    behind = LIBRARIES.get(job.trainer, 0) if stage in ("export", "eval") else 0
    if stage == "train":
        from sg_local.job.train import n_rounds

        labels = engine_memory(job) + LIBRARIES.get(job.trainer, 0) + SCORING if n_rounds(job) > 1 else 0
        return max(training_of(job)[1].total, labels)
    if stage == "synth" and asks_server(job.backend):
        return ASKING
    if stage == "export":
        usual = dataclasses.replace(job.plan["engine"], n_parallel=None, n_threads=None, n_replicas=1)
        largest = max((one.n_bytes for one in wanted(job) if one.folder is None), default=0)
        need = engine_need(job.base.path, usual)
        return dataclasses.replace(need, weights=max(need.weights, largest)).resident + behind
    own = SCORING if stage == "eval" else 0
    return engine_memory(job) + behind + own  # the filters work beside the open engine


def engine_memory(job: OpenRun) -> int:
    """What the engine fills with the file that it runs: its faster copy, where there is one or will be."""
    choice = getattr(job.opened[0], "choice", None) if job.opened else None
    settings = engine_beside(job.backend, job.plan["engine"])
    n_parallel = choice.n_parallel if choice is not None else settings.n_parallel
    need = engine_need(job.base.path, dataclasses.replace(settings, n_parallel=n_parallel))
    copied = Path(choice.path).stat().st_size if choice is not None else faster_copy(job)
    if copied and (choice is None or choice.path != str(job.base.path)):
        need = dataclasses.replace(need, weights=copied, spare=0)
    return need.resident


def training_of(job: OpenRun) -> tuple[Way, Need]:
    """How rows as long as the longest that are known will be trained, and the memory that it takes."""
    from sg_local.backends.training.memory import expected_need

    place = _training_place(job, machine.free_memory())
    return expected_need(job.base.path, _lengths(job), job.plan["train"], place)


def stays_below(job: OpenRun, settings: TrainSettings) -> bool:
    """Whether a training computes the layers below the adapter once for each row."""
    from sg_local.backends.training.memory import expected_load
    from sg_local.gguf import read_config

    place = _training_place(job, None)
    return expected_load(_lengths(job), settings, read_config(job.base.path), place).n_below > 0


def _training_place(job: OpenRun, free: int | None) -> Place:
    """Where the job's trainer computes, with so much of the machine's memory free; of a GPU's own nobody knows yet."""
    from sg_local.backends.training.memory import Place
    from sg_local.backends.training.on_metal import metal_place
    from sg_local.backends.training.precision import halves

    where = trains_on(job)
    if where == "metal":
        return metal_place(job.base.path, free)
    on_cuda = where == "cuda"
    in_halves = halves(job.plan["train"].precision, job.trainer)
    return Place(None if on_cuda else free, on_cuda=on_cuda, pads=job.trainer == "mlx", halves=in_halves)
