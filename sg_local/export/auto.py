"""What the type `auto` comes to: the smallest file that passes its gate, weighted by importance if that is better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from sg_local.export.fused import Fuser
from sg_local.export.gate import Reference
from sg_local.export.job import ExportEvent, FusedFile
from sg_local.gguf import IMPORTANCE

logger = logging.getLogger(__name__)


def known_auto(fuser: Fuser, known: Mapping[str, FusedFile]) -> FusedFile | None:
    """The file that `auto` chose before, if it would come out the same."""
    ours = (known.get(fuser.fingerprint(type)) for type in fuser.candidates())
    return next((file for file in ours if file is not None and file.auto and file.passed), None)


def fuse_auto(fuser: Fuser, reference: Reference) -> FusedFile:
    """The smallest type that passes. Trials that fail leave no file behind, unless all do.

    A type with an importance matrix is as large as without: the one of the lower validation loss is kept.
    """
    last: FusedFile | None = None
    for type in fuser.candidates():
        fuser.on_event(ExportEvent("weigh", type))
        if not fuser.looks_fit(type):
            logger.info("type %s passed over: a sample of its tensors loses the delta", type)
            continue
        if last is not None:
            fuser.job.run.path(last.file).unlink(missing_ok=True)
        last = replace(fuser.fuse(type, reference), auto=True)
        if last.passed:
            return _better_twin(fuser, reference, last)
    return last if last is not None else replace(fuser.fuse("F16", reference), auto=True)


def _better_twin(fuser: Fuser, reference: Reference, plain: FusedFile) -> FusedFile:
    """A file that passed, or its weighted twin where that passes with less validation loss; the other one goes."""
    twin = plain.type + IMPORTANCE
    if "export" not in plain.nll or twin not in fuser.candidates() or not fuser.looks_fit(twin):
        return plain
    weighted = replace(fuser.fuse(twin, reference), auto=True)
    better = weighted.passed and weighted.nll["export"] < plain.nll["export"]
    lost, kept = (plain, weighted) if better else (weighted, plain)
    logger.info("type %s beside %s: validation loss %s and %s", twin, plain.type, weighted.nll, plain.nll)
    fuser.job.run.path(lost.file).unlink(missing_ok=True)
    return kept
