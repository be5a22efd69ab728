"""What a training job is, where it stands, and its checkpoint file: one .npz, replaced whole.

A checkpoint names the work it belongs to, so that a folder is never continued with other rows, another base or
other settings. What does not change the result (time budget, threads, how a step is cut into parts) may differ.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from sg_local import __version__
from sg_local.backends import TrainSettings
from sg_local.backends.training.precision import told_apart
from sg_local.files import replacing
from sg_local.gguf import GgufFile
from sg_local.reading import as_record, loads, open_file
from sg_local.records import Adapter, MadeOtherwise, SgError, TokenExample, TrainStep, digest
from sg_local.words import brief

Arrays = dict[str, np.ndarray]

CHECKPOINT = "checkpoint.npz"
BASE, PRECISION = "base model", "precision"
AGAIN = "Start the stage again with `redo`."
_STATE = "state.json"


@dataclass(frozen=True)
class TrainJob:
    """One training job. `spent_s` is what a time budget has already lost to loading and checks.

    Where several processes train together, exactly one has `writes` set and keeps the files.
    """

    examples: Sequence[TokenExample]
    valid: Sequence[TokenExample]
    out: Path
    settings: TrainSettings
    base_digest: str
    trainer: str
    spent_s: float = 0.0
    writes: bool = True

    def identity(self) -> dict[str, str]:
        """What makes two jobs the same work, by the name that an error shows."""
        ignored = {"time_s", "n_threads", "checkpoint_every", "batch_size", "grad_accumulation", "layout"}
        ignored |= {"shown", "soft", "generations", "policies", "n_seeds", "lr_by_width"}  # in rows or rate, or above
        ignored.add(PRECISION)
        if self.settings.n_layers is not None or self.settings.layer_share == 1:  # likewise; the number goes before
            ignored.add("layer_share")
        settings = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in ignored}
        if precision := told_apart(self.settings.precision, self.trainer):
            settings[PRECISION] = repr(precision)
        settings["rows per step"] = self.settings.batch_size * self.settings.grad_accumulation
        return {
            BASE: self.base_digest,
            "trainer": self.trainer,
            **{name: repr(value) for name, value in settings.items()},
            "training rows": digest([dataclasses.asdict(row) for row in self.examples]),
            "validation rows": digest([dataclasses.asdict(row) for row in self.valid]),
        }


@dataclass(frozen=True)
class TrainProgress:
    """Where a job stands after `step` optimiser steps. `start_loss` is the base model's validation loss.

    `n_steps` is the plan, cut by a time budget; `batch_size` shrinks when memory runs out.
    """

    n_steps: int
    batch_size: int
    step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    start_loss: float | None = None
    rounds_without_gain: int = 0
    stopped: str = ""
    elapsed_s: float = 0.0
    curve: tuple[TrainStep, ...] = ()

    @property
    def is_done(self) -> bool:
        return self.step >= self.n_steps or self.stopped != ""


@dataclass(frozen=True)
class Kept:
    """What a checkpoint says beside its arrays."""

    identity: dict[str, str]
    progress: TrainProgress


def adapter_record(job: TrainJob, progress: TrainProgress, trainer: str, path: Path, sha256: str) -> Adapter:
    """What a job leaves to the run: its adapter file, of which training it is, and the losses of its best step."""
    best = progress.best_step or progress.step
    return Adapter(
        path=str(path),
        digest=sha256,
        base_digest=job.base_digest,
        rank=job.settings.rank,
        alpha=job.settings.alpha,
        trainer=trainer,
        n_steps=progress.step,
        best_step=best,
        loss=next(step.loss for step in progress.curve if step.step == best),
        valid_loss=progress.best_loss,
    )


def adapter_metadata(base: GgufFile, job: TrainJob) -> dict[str, Any]:
    """What an adapter GGUF says of itself beside its tensors: whose base it fits, and how it was trained."""
    name = base.value("general.name") or base.path.stem
    settings = job.settings
    return {
        "general.name": f"{name} adapter",
        "general.base_model.count": 1,
        "general.base_model.0.name": name,
        "sg_local.version": __version__,
        "sg_local.base.sha256": job.base_digest,
        "sg_local.trainer": job.trainer,
        "sg_local.train.rank": settings.rank,
        "sg_local.train.seed": settings.seed,
        "sg_local.train.rows": len(job.examples),
    }


def best_path(out: Path, step: int) -> Path:
    """Where the adapter of the best step is kept."""
    return out / f"best-{step:06d}.npz"


def save_checkpoint(job: TrainJob, progress: TrainProgress, arrays: Arrays) -> None:
    """Put the whole state under one name, at once: after a kill there is the old file or the new one."""
    state = {"identity": job.identity(), "progress": dataclasses.asdict(progress)}
    packed: dict[str, Any] = {**arrays, _STATE: np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)}
    with replacing(job.out / CHECKPOINT) as file:
        np.savez(file, **packed)


def load_checkpoint(job: TrainJob) -> tuple[TrainProgress, Arrays] | None:
    """The folder's checkpoint, or None where there is none.

    Raises MadeOtherwise when it belongs to other work, and a plain SgError when it belongs to another base or is
    damaged.
    """
    path = job.out / CHECKPOINT
    if not path.exists():
        return None
    arrays = load_arrays(path)
    try:
        state = loads(arrays.pop(_STATE).tobytes())
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    kept = as_record(Kept, state, str(path), AGAIN)
    _refuse_other_work(path, kept, job.identity())
    return kept.progress, arrays


def load_arrays(path: Path) -> Arrays:
    """The arrays in an .npz of ours. Raises SgError for a file that is damaged; never more memory than it has bytes."""
    try:
        with open_file(path, exit_code=1) as file, zipfile.ZipFile(file) as archive:
            parts = _stored(archive, os.fstat(file.fileno()).st_size)
            return {one.filename.removesuffix(".npy"): _array(archive.read(one)) for one in parts}
    except (OSError, EOFError, NotImplementedError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _stored(archive: zipfile.ZipFile, size_bytes: int) -> list[zipfile.ZipInfo]:
    """The parts of an archive that holds them as they are, as NumPy writes them: none unfolds to more."""
    parts = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in parts):
        raise ValueError("a part is compressed")
    if sum(one.file_size for one in parts) > size_bytes:
        raise ValueError("its parts are larger than the whole")
    return parts


def _array(data: bytes) -> np.ndarray:
    """The array in the bytes of an .npy, whose header is not believed. Raises ValueError."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(file)
    if dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if by_columns else "C").copy()


def _damaged(path: Path, error: Exception) -> SgError:
    return SgError(f"{path} is damaged ({brief(str(error), 100)}).", AGAIN)


def _refuse_other_work(path: Path, kept: Kept, now: dict[str, str]) -> None:
    """What is finished may have been computed on another machine, in its precision."""
    then = kept.identity
    for name in (BASE, *sorted(then.keys() | now.keys())):
        if name == PRECISION and kept.progress.is_done:
            continue
        if then.get(name) != now.get(name):
            message = f"{path} is a checkpoint of other work: {name} was {then.get(name)}, now it is {now.get(name)}."
            if name == BASE:  # another file in the base's place is no reason to give its checkpoint up
                raise SgError(message, "Put the base model back, or use another `name` for a new run.")
            raise MadeOtherwise(message, "Go back to what it was, or start the stage again with `redo`.")
