"""What the type `auto` comes to: the smallest file that passes its gate, weighted by importance if that is better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from sg_local.export.fused import Fuser
from sg_local.export.gate import Reference
from sg_local.export.job import ExportEvent, FusedFile
from sg_local.gguf import IMPORTANCE
from sg_local.records import SgError

logger = logging.getLogger(__name__)


def known_auto(fuser: Fuser, known: Mapping[str, FusedFile]) -> FusedFile | None:
    """The file that `auto` chose before, if it would come out the same."""
    ours = (known.get(fuser.fingerprint(type)) for type in fuser.candidates)
    return next((file for file in ours if file is not None and file.auto and file.passed), None)


def fuse_auto(fuser: Fuser, reference: Reference, kept: dict[str, FusedFile]) -> FusedFile:
    """The smallest type that passes. Trials that fail leave no file behind, unless all do.

    A type with an importance matrix is as large as without: the one of the lower validation loss is kept. Files of
    `kept`, by their names, stay whatever is chosen; what had to be made anew under such a name takes its place there.
    """
    last: FusedFile | None = None
    for type in fuser.candidates:
        fuser.on_event(ExportEvent("weigh", type))
        if not fuser.looks_fit(type):
            logger.info("type %s passed over: a sample of its tensors loses the delta", type)
            continue
        if last is not None:
            _let_go(fuser, last, kept)
        last = _made(fuser, type, reference, kept)
        if last.passed:
            return _better_twin(fuser, reference, last, kept)
    return last if last is not None else _made(fuser, "F16", reference, kept)


def _better_twin(fuser: Fuser, reference: Reference, plain: FusedFile, kept: dict[str, FusedFile]) -> FusedFile:
    """A file that passed, or its weighted twin where that passes with less validation loss; the other one goes.

    A twin that cannot be made, for want of disk or of what it is weighted by, costs nobody the file that passed.
    """
    twin = plain.type + IMPORTANCE
    if "export" not in plain.nll or twin not in fuser.candidates:
        return plain
    try:
        if not fuser.looks_fit(twin):
            return plain
        weighted = _made(fuser, twin, reference, kept)
    except SgError as error:
        logger.warning("type %s could not be tried beside %s: %s", twin, plain.type, error.message)
        return plain
    better = weighted.passed and weighted.nll["export"] < plain.nll["export"]
    lost, chosen = (plain, weighted) if better else (weighted, plain)
    logger.info("type %s beside %s: validation loss %s and %s", twin, plain.type, weighted.nll, plain.nll)
    _let_go(fuser, lost, kept)
    return chosen


def _made(fuser: Fuser, type: str, reference: Reference, kept: dict[str, FusedFile]) -> FusedFile:
    """The file of a type: the kept one if it would come out the same, else a new one."""
    fingerprint = fuser.fingerprint(type)
    file = next((one for one in kept.values() if one.fingerprint == fingerprint), None)
    if file is None:
        file = fuser.fuse(type, reference)
        if file.file in kept:
            kept[file.file] = file
    return replace(file, auto=True)


def _let_go(fuser: Fuser, file: FusedFile, kept: Mapping[str, FusedFile]) -> None:
    """Delete a trial's file, unless it is one to keep."""
    if file.file not in kept:
        fuser.job.run.path(file.file).unlink(missing_ok=True)
