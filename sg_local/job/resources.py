"""What the stages of a job take from the machine, memory and disk, held against what is free before they begin.

Sizes come from the base's header, rows from what the task shows; the stages look again when they know better. Where a
GPU does the work, or nobody knows what is free, nothing is refused here.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local import prompts
from sg_local.backends import machine, makes_weights
from sg_local.backends.footprint import N_PARALLEL, EngineNeed, copy_bytes, engine_need
from sg_local.files import file_digest
from sg_local.prompts import PLAIN
from sg_local.records import SgError
from sg_local.words import size

if TYPE_CHECKING:
    from sg_local.backends.training.memory import RowLengths
    from sg_local.export.sizes import Wanted
    from sg_local.job.job import OpenRun

MARGIN = 1.15  # a need is refused beyond this many times what is free, as the trainers do
TOKEN_BYTES = 4  # of a text, where nothing has counted its tokens
NUMBER_BYTES = 24  # on the disk for each number of an adapter: itself, its best, two moments, and two adapter files
COPY = "a faster copy"
COPY_SHARE, COPY_RESERVE = 0.6, 2 << 30  # of memory and disk, beyond which the engine makes no copy (llama_cpp.copies)
GENERATES = {"synth": "Writing rows", "eval": "The evaluation"}


def check_memory(job: OpenRun, stages: Collection[str]) -> None:
    """Raise SgError for the first stage that needs clearly more memory than is free, with what would fit."""
    free = machine.free_memory()
    if free is None or machine.has_nvidia() or job.opened:
        return
    for stage, what in GENERATES.items():
        if stage in stages:
            _check_engine(job, what, free)
    if "train" in stages and makes_weights(job.trainer):
        from sg_local.backends.training.memory import Place, check_expected

        place = Place(free, pads=job.trainer == "mlx")
        check_expected(job.base.path, _lengths(job), job.plan["train"], place)
    if "export" in stages and makes_weights(job.trainer):
        _check_export(job, free)


def _check_engine(job: OpenRun, what: str, free: int) -> None:
    need = engine_need(job.base.path, job.plan["engine"])
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
    """About how many tokens a row will have: the shared prompt, and the longest of the examples' inputs and outputs."""
    from sg_local.backends.training.memory import RowLengths

    shared = sum(_tokens(segment.text) for segment in prompts.answer_prompt(job.task, PLAIN, ""))
    answer = max(_tokens(pair.output) for pair in job.task.examples) + 1
    own = max(_tokens(pair.input) for pair in job.task.examples) + answer
    return RowLengths(shared, own, answer)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // TOKEN_BYTES)


def _check_export(job: OpenRun, free: int) -> None:
    """The gate answers with each fused file as the engine would."""
    files = [one for one in _wanted(job) if one.folder is None]
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


def _wanted(job: OpenRun) -> Sequence[Wanted]:
    from sg_local.export.sizes import wanted_space

    return wanted_space(job.base.path, job.plan["export"])


@dataclass(frozen=True)
class Taken:
    """Bytes that will lie in a folder, and what they are."""

    what: str
    folder: Path
    n_bytes: int


def check_disk(job: OpenRun, stages: Collection[str]) -> None:
    """Raise SgError where a disk has no room for all that the stages put on it, with what would fit."""
    written = _written(job, stages)
    _check_disks(job, written)
    _check_disks(job, [*_copy(job, stages), *written])


def _check_disks(job: OpenRun, taken: Sequence[Taken]) -> None:
    disks: dict[int, list[Taken]] = {}
    for one in taken:
        disks.setdefault(_there(one.folder).stat().st_dev, []).append(one)
    for on_disk in disks.values():
        needed, free = sum(one.n_bytes for one in on_disk), shutil.disk_usage(_there(on_disk[0].folder)).free
        if needed > free:
            parts = ", ".join(f"{one.what} {size(one.n_bytes)}" for one in on_disk)
            what = f"The run needs about {size(needed)} of disk in {on_disk[0].folder} ({parts})"
            raise SgError(f"{what}, and {size(free)} is free.", _less_disk(job, on_disk, needed - free))


def _written(job: OpenRun, stages: Collection[str]) -> list[Taken]:
    """What training and export leave, and the parity gate's copy of the base, which is gone when the export begins."""
    taken: list[Taken] = []
    if "export" in stages and makes_weights(job.trainer):
        for one in _wanted(job):
            what = one.name if one.folder is not None else f"fused {one.name}"
            taken.append(Taken(what, job.run.root if one.folder is None else one.folder, one.n_bytes))
    if "train" in stages and makes_weights(job.trainer):
        from sg_local.backends.training.memory import adapter_numbers, gate_bytes

        copy = gate_bytes(job.base.path) - sum(one.n_bytes for one in taken if one.folder == job.run.root)
        taken += [Taken("a copy of the base to check with", job.run.root, copy)] if copy > 0 else []
        n_bytes = NUMBER_BYTES * adapter_numbers(job.base.path, job.plan["train"])
        taken.append(Taken("adapter and checkpoint", job.run.root, n_bytes))
    return taken


def _copy(job: OpenRun, stages: Collection[str]) -> list[Taken]:
    """The engine's faster copy, where it will make one: it does so before the other stages need the disk."""
    engine = job.plan["engine"]
    if not engine.fast_copy or job.opened or not {"synth", "eval"} & set(stages):
        return []
    n_bytes, memory = copy_bytes(job.base.path), machine.free_memory()
    affordable = shutil.disk_usage(_there(engine.cache)).free - COPY_RESERVE
    if not 0 < n_bytes <= min(affordable, affordable if memory is None else COPY_SHARE * memory):
        return []
    digest = file_digest(job.base.path, engine.cache) or ""
    is_there = any((engine.cache / "models").glob(f"{digest[:16]}-*.gguf"))
    return [] if is_there else [Taken(COPY, engine.cache, n_bytes)]


def _less_disk(job: OpenRun, on_disk: Sequence[Taken], missing: int) -> str:
    """The change that makes room: no faster copy, the smallest type, or another folder."""
    if any(one.what == COPY and one.n_bytes >= missing for one in on_disk):
        return "Without the faster copy it fits: `engine.fast_copy=false`."
    fused = sum(one.n_bytes for one in on_disk if one.what.startswith("fused "))
    if fused:
        from sg_local.export.sizes import smallest_type

        name, smallest = smallest_type(job.base.path, job.plan["export"])
        if fused - smallest >= missing:
            return f"One small file fits: `export.types={name}`."
    return "Free some space, or name a folder on another disk: `runs=FOLDER`."


def _there(folder: Any) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = Path(folder).absolute()
    return next(one for one in (path, *path.parents) if one.is_dir())
