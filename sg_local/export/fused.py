"""Makes fused GGUFs: chooses types, checks the disk, merges to a partial file, holds it to the gate, names it.

These steps share what was measured of the types and the file that is not yet named, which makes the module long.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sg_local import __version__
from sg_local.backends import watches
from sg_local.export.gate import Findings, Reference, run_gate
from sg_local.export.importance import has_rows, importance_of
from sg_local.export.job import Export, ExportEvent, FusedFile, OnEvent
from sg_local.export.naming import BEFORE, names_of
from sg_local.export.provenance import provenance_fields
from sg_local.export.rows import own_digest
from sg_local.export.template import task_template
from sg_local.files import file_digest, translated
from sg_local.gguf import (
    EXPORT_TYPES,
    FLOATS,
    GRIDS,
    PREFIX,
    SAMPLE_WEIGHTS,
    WEIGHTED_TYPES,
    GgufFile,
    LoraAdapter,
    MergeSettings,
    Retained,
    Weighed,
    merge,
    plain_type,
    plan_merge,
    weigh,
)
from sg_local.records import SgError, digest

logger = logging.getLogger(__name__)

REJECTED = ".rejected"
IMATRIX = "quantize.imatrix."  # llama.cpp's keys for what an importance matrix was made of
SMALL_SAMPLE = 1 << 16  # weights of a tensor: types of few bits take ten times as long to encode
MIN_ALIKE = 8  # tensors of one type from which their scatter can be told
_MOST_SPREAD = 0.5  # of a chance, at its most: that of an even one


class Fuser:
    """Everything that the fused files of one job share."""

    def __init__(self, job: Export, adapter: LoraAdapter, adapter_digest: str, on_event: OnEvent) -> None:
        self.job = job
        self.adapter = adapter
        self.adapter_digest = adapter_digest
        self.on_event = on_event
        self.names = names_of(job)
        self._looks: dict[str, bool] = {}

    def fingerprint(self, type: str) -> str:
        """What makes a file come out as it does: the same fingerprint, the same file."""
        job = self.job
        source = file_digest(job.source) if job.settings.from_f16 else job.base_digest
        shown = [job.form.name, job.form.template, self.names.fields]
        shaping = {**job.settings.shaping, "types": type, "mlx": "", "hf": "", "from_f16": source}
        own = [] if job.settings.may_lose is None else [self.own]
        return digest([__version__, shaping, job.base_digest, self.adapter_digest, job.task.digest, shown, *own])

    @cached_property
    def own(self) -> str:
        """Names the rows on which a file may lose so much and no more."""
        return own_digest(self.job)

    @cached_property
    def candidates(self) -> list[str]:
        """The types that `auto` tries, smallest file first; of equal ones, the base's own grid first, weighted last."""
        weighted = WEIGHTED_TYPES if self.can_weigh else ()
        sizes = {type: self.size_of(type) for type in (*self._same(), *EXPORT_TYPES, *weighted)}
        return sorted(sizes, key=lambda type: sizes[type])

    @property
    def can_weigh(self) -> bool:
        """Whether an importance matrix can be made: the engine tells what flows, and there are rows to tell it of."""
        return watches(self.job.engine) and has_rows(self.job)

    @cached_property
    def importance(self) -> Mapping[str, np.ndarray]:
        """How much each column of each matrix counts. Raises SgError where nothing could be measured."""
        if not self._measured:
            message = "What counts for the run's training rows could not be measured: no row fits the context, or the "
            hint = "Choose a larger `n_ctx`, or a type without `_imat`."
            raise SgError(message + "engine did not tell.", hint)
        return self._measured

    @cached_property
    def _measured(self) -> Mapping[str, np.ndarray]:
        """Measured once, when a weighted type first asks."""
        self.on_event(ExportEvent("importance", self.job.base.name))
        return importance_of(self.job)

    def settings_of(self, type: str, fields: Mapping[str, Any] | None = None) -> MergeSettings:
        """How a type is merged, with this metadata."""
        importance = self.importance if type in WEIGHTED_TYPES else {}
        return MergeSettings(plain_type(type), self.job.settings.seed, fields or {}, importance)

    def size_of(self, type: str) -> int:
        """Bytes of the file to come, but for its provenance."""
        with GgufFile(self.job.source) as source:
            return plan_merge(source, self.adapter, MergeSettings(plain_type(type))).size_bytes

    def looks_fit(self, type: str) -> bool:
        """Whether a sample of the rows lets the type hope to hold the delta on enough tensors.

        A tensor counts by the chance that its share reaches the gate; a type is given up when even one standard
        deviation more of them would not do. A small model's sample is whole, so that there nothing is left to chance;
        the tensors that are known to lose the delta then soon decide. A weighted type is looked at without its weights
        first: what loses the delta so is not worth measuring them. Without weights to be had, it is given up too.
        """
        if type not in self._looks:
            self._looks[type] = self._weighted_fits(type) if type in WEIGHTED_TYPES else self._sample_fits(type)
        return self._looks[type]

    def _weighted_fits(self, type: str) -> bool:
        try:
            return self.looks_fit(plain_type(type)) and self._sample_fits(type)
        except SgError as error:
            logger.warning("type %s has nothing to be weighted by: %s", type, error.message)
            return False

    def _sample_fits(self, type: str) -> bool:
        settings, rows, n_lost = self.job.settings, list[Weighed](), 0
        n_tensors = len(self.adapter.pairs)
        n_weights = SAMPLE_WEIGHTS if type in ("same", *EXPORT_TYPES) else SMALL_SAMPLE
        with GgufFile(self.job.source) as source:
            for row in weigh(source, self.adapter, self.settings_of(type), n_weights):
                rows.append(row)
                n_lost += not row.error and row.share < settings.min_retained
                n_left = n_tensors - n_lost
                if n_left + _MOST_SPREAD * n_left**0.5 < settings.min_tensors * n_tensors:
                    return False
        alike = {type: [row for row in rows if row.type == type] for type in {row.type for row in rows}}
        chances = [_chance(row, alike[row.type], settings.min_retained) for row in rows]
        spread = math.sqrt(sum(chance * (1 - chance) for chance in chances))
        return sum(chances) + spread >= settings.min_tensors * len(rows)

    def fuse(self, type: str, reference: Reference) -> FusedFile:
        """Write one file and hold it to the gate; it ends under its name or, failed, with `.rejected` behind it.

        One that failed takes no earlier file's place that passed and is of the same adapter.
        """
        started = time.monotonic()
        final = self.job.run.path(self.names.file(type))
        rejected = final.with_name(final.name + REJECTED)
        before = self.job.run.path(BEFORE.format(type))
        check_disk(final.parent, self.size_of(type))
        with _partial(final) as partial:
            retained = self._merge(partial, final.name, type, reference)
            self.on_event(ExportEvent("gate", final.name))
            findings = run_gate(self.job, partial, reference, retained)
            fused = self._record(partial, type, retained, (reference, findings), started)
            olds = [rejected, before.with_name(before.name + REJECTED)]
            olds += [old for old in (final, before) if fused.passed or not self.is_ours(old)]
            for old in olds:
                old.unlink(missing_ok=True)
            os.replace(partial, final if fused.passed else rejected)
        _tell(fused)
        self.on_event(ExportEvent("gated", fused.file, fused=fused))
        return fused

    def is_ours(self, path: Path) -> bool:
        """Whether a file is there that was made of this adapter."""
        with suppress(SgError, OSError), GgufFile(path) as file:
            return bool(file.value(PREFIX + "adapter.sha256") == self.adapter_digest)
        return False

    def _same(self) -> tuple[str, ...]:
        with GgufFile(self.job.source) as source:
            types = {source.tensors[name].type for name in self.adapter.pairs}
        keeps = all(type in GRIDS or type in FLOATS for type in types)
        return ("same",) if keeps and not types <= set(FLOATS) else ()

    def _merge(self, partial: Path, name: str, type: str, reference: Reference) -> list[Retained]:
        settings = self.settings_of(type, self._fields(type, reference))
        with GgufFile(self.job.source) as source:
            wanted = plan_merge(source, self.adapter, settings).size_bytes
            progress = MergeProgress(name, wanted, self.on_event)
            return merge(partial, source, self.adapter, settings, progress.add)

    def _fields(self, type: str, reference: Reference) -> dict[str, Any]:
        job = self.job
        fields = {
            **provenance_fields(job, self.adapter_digest),
            **self.names.fields,
            PREFIX + "export.type": type,
            PREFIX + "export.seed": job.settings.seed,
            PREFIX + "export.template": "base" if job.settings.plain_template else "task",
        }
        if type in WEIGHTED_TYPES:
            fields |= {IMATRIX + "dataset": "the run's training rows", IMATRIX + "entries_count": len(self.importance)}
        template = carried_template(job, add_bos=reference.add_bos)
        return fields if template is None else {**fields, "tokenizer.chat_template": template}

    def _record(
        self, path: Path, type: str, retained: list[Retained], found: tuple[Reference, Findings], started: float
    ) -> FusedFile:
        reference, findings = found
        shares = sorted(row.share for row in retained)
        low = sorted((row.share, row.name) for row in retained if row.share < self.job.settings.min_retained)
        losses = {"base": reference.base_nll, "adapter": reference.adapter_nll, "export": findings.nll}
        with GgufFile(path) as file:
            kinds = [tensor.type for tensor in file.tensors.values()]
        passed = all(check.passed for check in findings.checks)
        return FusedFile(
            file=self.names.file(type) + ("" if passed else REJECTED),
            type=type,
            size_bytes=path.stat().st_size,
            sha256=file_digest(path) or "",
            types={kind: kinds.count(kind) for kind in sorted(set(kinds))},
            n_tensors=len(retained),
            retained={"low": shares[0], "median": statistics.median(shares), "mean": statistics.fmean(shares)},
            lost={name: share for share, name in low},
            nll={name: value for name, value in losses.items() if value is not None},
            equal_answers=findings.equal_answers,
            checks=findings.checks,
            seconds=round(time.monotonic() - started, 1),
            fingerprint=self.fingerprint(type),
        )


def _tell(fused: FusedFile) -> None:
    """Log how a file stood its gate; a check's finding may quote answers, so only its name is told."""
    checks = ", ".join(f"{check.name} {'passed' if check.passed else 'failed'}" for check in fused.checks)
    logger.info("%s, %d bytes, sha256 %s: %s", fused.file, fused.size_bytes, fused.sha256, checks)


def _chance(row: Weighed, alike: Sequence[Weighed], wanted: float) -> float:
    """The chance that a tensor's share reaches `wanted`, given its own estimate and those of tensors like it.

    Empirical Bayes: true shares of a type scatter around its mean by what its estimates scatter beyond their errors,
    and a rough estimate is drawn towards that mean. Else rounding noise alone would make a good type look hopeless.
    """
    share, error = row.share, row.error
    if error and len(alike) >= MIN_ALIKE:
        mean = statistics.fmean(one.share for one in alike)
        errors = statistics.fmean(one.error**2 for one in alike)
        scatter = max(statistics.pvariance([one.share for one in alike], mean) - errors, 0.0)
        trust = scatter / (scatter + error**2)
        share, error = mean + trust * (share - mean), error * trust**0.5
    return statistics.NormalDist(wanted, error).cdf(share) if error else float(share >= wanted)


def carried_template(job: Export, *, add_bos: bool) -> str | None:
    """The chat template that goes into what is exported; None leaves the base's as it is."""
    return job.form.template if job.settings.plain_template else task_template(job.carried, job.form, add_bos=add_bos)


class MergeProgress:
    """Adds up bytes written and tells of every whole percent."""

    def __init__(self, name: str, wanted: int, on_event: Callable[[ExportEvent], None]) -> None:
        self.name, self.wanted, self.on_event = name, wanted, on_event
        self.done = self.told = 0

    def add(self, n_bytes: int) -> None:
        self.done += n_bytes
        if self.done - self.told >= self.wanted // 100:
            self.told = self.done
            self.on_event(ExportEvent("merge", self.name, self.done, self.wanted))


def check_disks(needs: Sequence[tuple[Path, int]]) -> None:
    """`check_disk` for several folders, some of which may share a disk; a folder to come counts as its parent."""
    wanted: dict[int, int] = {}
    for folder, n_bytes in needs:
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        disk = there.stat().st_dev
        wanted[disk] = wanted.get(disk, 0) + n_bytes
        check_disk(there, wanted[disk])


def check_disk(folder: Path, wanted: int) -> None:
    """Raise SgError, with numbers, unless `wanted` bytes fit on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        message = f"The export needs {wanted / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free."
        raise SgError(message, "Free some space, or choose a smaller `type`.")


@contextmanager
def _partial(final: Path) -> Iterator[Path]:
    """The name under which a file is made; whatever is left of it goes when the work does not end well."""
    partial = final.with_name(final.name + ".partial")
    try:
        with translated(final):
            yield partial
    finally:
        partial.unlink(missing_ok=True)
