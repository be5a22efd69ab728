"""What the stages of a job put on the disks, held against what is free there before they begin."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local.backends import machine, makes_weights
from sg_local.backends.footprint import copy_bytes
from sg_local.files import file_digest
from sg_local.job.events import RowsAhead
from sg_local.job.rows_ahead import rows_ahead
from sg_local.job.train import n_beside
from sg_local.records import SgError
from sg_local.words import size

if TYPE_CHECKING:
    from sg_local.export.sizes import Wanted
    from sg_local.job.job import OpenRun

NUMBER_BYTES = 24  # on the disk for each number of an adapter: itself, its best, two moments, and two adapter files
COPY = "a faster copy"
COPY_SHARE, COPY_RESERVE = 0.6, 2 << 30  # of memory and disk, beyond which the engine makes no copy (llama_cpp.copies)
TEXT_BYTES = 4  # of a token's text
ROW_BYTES, ROW_COPIES = (
    600,
    6,
)  # facts that stand beside a row's text, and how often it is in a run: asked for, answered,
# judged, training, answered again by the systems of an evaluation


@dataclass(frozen=True)
class Taken:
    """Bytes that will lie in a folder, and what they are."""

    what: str
    folder: Path
    n_bytes: int
    stage: str


def check_disk(job: OpenRun, stages: Collection[str]) -> None:
    """Raise SgError where a disk has no room for all that the stages put on it, with what would fit."""
    files = written(job, stages)
    _check_disks(job, files)
    _check_disks(job, [*_copy(job, stages), *files])


def disk_by_stage(job: OpenRun, stages: Collection[str]) -> Mapping[str, int]:
    """Bytes that each of the stages puts on the disk, wherever."""
    found: Counter[str] = Counter()
    for one in (*_copy(job, stages), *written(job, stages)):
        found[one.stage] += one.n_bytes
    return found


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


def written(job: OpenRun, stages: Collection[str]) -> list[Taken]:
    """Rows, and what training and export leave; the parity gate's copy of the base is gone when the export begins."""
    taken: list[Taken] = []
    if "export" in stages and makes_weights(job.trainer):
        for one in wanted(job):
            what = one.name if one.folder is not None else f"fused {one.name}"
            taken.append(Taken(what, job.run.root if one.folder is None else one.folder, one.n_bytes, "export"))
    if "train" in stages and makes_weights(job.trainer):
        from sg_local.backends.training.memory import adapter_numbers, gate_bytes

        copy = gate_bytes(job.base.path) - sum(one.n_bytes for one in taken if one.folder == job.run.root)
        taken += [Taken("a copy of the base to check with", job.run.root, copy, "train")] if copy > 0 else []
        n_adapters = n_beside(job) + 1
        n_bytes = n_adapters * NUMBER_BYTES * adapter_numbers(job.base.path, job.plan["train"])
        what = "adapter and checkpoint" if n_adapters == 1 else f"{n_adapters} adapters and checkpoints"
        taken.append(Taken(what, job.run.root, n_bytes, "train"))
    for stage in ("synth", "eval"):
        if stage in stages and (n_bytes := _text(rows_ahead(job), stage)) >= 1 << 20:
            taken.append(Taken("rows" if stage == "synth" else "answers", job.run.root, n_bytes, stage))
    return taken


def _text(rows: RowsAhead, stage: str) -> int:
    """Bytes of the rows' texts and what is noted beside them."""
    n_rows = max(rows.n_asked, rows.n_inputs) if stage == "synth" else rows.n_tests
    return round(n_rows * ROW_COPIES * (ROW_BYTES + TEXT_BYTES * (rows.n_input + rows.n_output)))


def wanted(job: OpenRun) -> Sequence[Wanted]:
    """The files and folders that the export is to write."""
    from sg_local.export.sizes import wanted_space

    return wanted_space(job.base.path, job.plan["export"])


def faster_copy(job: OpenRun) -> int:
    """The size of the engine's faster copy where it has one or will make one, as far as the header tells; else 0."""
    engine = job.plan["engine"]
    n_bytes, memory = copy_bytes(job.base.path), machine.free_memory()
    affordable = shutil.disk_usage(_there(engine.cache)).free - COPY_RESERVE
    fits = 0 < n_bytes <= min(affordable, affordable if memory is None else COPY_SHARE * memory)
    return n_bytes if engine.fast_copy and fits else 0


def _copy(job: OpenRun, stages: Collection[str]) -> list[Taken]:
    """The engine's faster copy, where it will make one: it does so before the other stages need the disk."""
    engine = job.plan["engine"]
    if job.opened or not {"synth", "eval"} & set(stages) or not (n_bytes := faster_copy(job)):
        return []
    digest = file_digest(job.base.path, engine.cache) or ""
    is_there = any((engine.cache / "models").glob(f"{digest[:16]}-*.gguf"))
    return [] if is_there else [Taken(COPY, engine.cache, n_bytes, "synth" if "synth" in stages else "eval")]


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
