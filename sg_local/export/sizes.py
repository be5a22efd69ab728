"""How much an export will write, told from the base's header before there is an adapter."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sg_local.export.huggingface import FolderPlan
from sg_local.export.job import ExportSettings
from sg_local.export.refusals import adaptable, wanted_folders
from sg_local.gguf import EXPORT_TYPES, WEIGHTED_TYPES, GgufFile, LoraAdapter, MergeSettings, plain_type, plan_merge
from sg_local.records import SgError


@dataclass(frozen=True)
class Wanted:
    """A file or folder to come: what it is called, the folder that it lies in (None: the run's), and its bytes."""

    name: str
    folder: Path | None
    n_bytes: int


def wanted_space(base: Path, settings: ExportSettings) -> tuple[Wanted, ...]:
    """Every file and folder that the settings ask for; of `auto` the smallest type, as the export itself reckons."""
    source = Path(settings.from_f16) if settings.from_f16 else base
    adapter = _hollow(base)
    sizes = sizes_by_type(source, adapter)
    types = {next(iter(sizes)) if type == "auto" else type for type in settings.types}
    files = [Wanted(type, None, sizes.get(type, 0)) for type in sorted(types)]
    plan = FolderPlan(source, adapter, None)
    folders = [Wanted(kind, path.parent, plan.size_bytes) for kind, path in wanted_folders(settings).items()]
    return (*files, *folders)


def sizes_by_type(source: Path, adapter: LoraAdapter) -> dict[str, int]:
    """Bytes of a fused file by its type, smallest first."""
    sizes = {}
    with GgufFile(source) as file:
        for type in ("same", *EXPORT_TYPES, *WEIGHTED_TYPES):
            with contextlib.suppress(SgError):  # a base without a grid to keep
                sizes[type] = plan_merge(file, adapter, MergeSettings(plain_type(type))).size_bytes
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


def smallest_type(base: Path, settings: ExportSettings) -> tuple[str, int]:
    """The type whose file is the smallest, and its bytes; none of those that want an importance matrix."""
    source = Path(settings.from_f16) if settings.from_f16 else base
    sizes = sizes_by_type(source, _hollow(base))
    return next((type, n_bytes) for type, n_bytes in sizes.items() if type not in WEIGHTED_TYPES)


def _hollow(base: Path) -> LoraAdapter:
    """An adapter of nothing, for every tensor that one may change."""
    empty = np.empty((0, 0), np.float32)
    with GgufFile(base) as file:
        architecture = file.value("general.architecture", "")
    return LoraAdapter(architecture, 0.0, dict.fromkeys(adaptable(base), (empty, empty)), {})
