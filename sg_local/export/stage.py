"""The export stage: refuse what cannot work, then adapter, fused files, Modelfile, model card, export.json, stamp.

The order is what a kill leaves whole, so all of it stands in one module, though that makes it long.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from sg_local.backends.trying import rewritten
from sg_local.export.auto import fuse_auto, known_auto
from sg_local.export.card import model_card
from sg_local.export.folder import check_folders, make_folders
from sg_local.export.fused import REJECTED, Fuser, check_disk, check_disks
from sg_local.export.gate import Reference, engine_settings, take_reference
from sg_local.export.job import RESULTS, Export, ExportEvent, ExportReport, FusedFile, FusedFolder, OnEvent
from sg_local.export.ollama import ModelfileParts, modelfile
from sg_local.export.provenance import provenance_fields
from sg_local.export.refusals import check_same_model, check_types
from sg_local.export.scores import with_score
from sg_local.facts import EXPORT_FACTS, read_facts
from sg_local.files import file_digest, publish, write_text
from sg_local.gguf import (
    PREFIX,
    WEIGHTED_TYPES,
    GgufFile,
    LoraAdapter,
    check_adapter,
    check_trainable,
    copy_with_fields,
    read_adapter,
)
from sg_local.reading import as_record
from sg_local.records import SgError, from_dict
from sg_local.report import read_report, write_report
from sg_local.run import ADAPTER, REPORT

logger = logging.getLogger(__name__)

GATE_NOT_MET = 3


def export(job: Export, on_event: OnEvent = lambda event: None) -> ExportReport:
    """Write everything the job asks for. A type exported before from the same inputs is not made again.

    Raises SgError before any work for what cannot be exported, and with exit code 3 after everything is written
    when a file failed its gate: it is kept as `.rejected`, and the hint names the type that would pass.
    """
    started = time.monotonic()
    adapter = check(job)
    digest = place_adapter(job)
    fuser = Fuser(job, adapter, digest, on_event)
    reference = cache(lambda: _take_reference(job, on_event))
    fused = _fuse_all(fuser, reference)
    folders = make_folders(job, adapter, reference, on_event)
    report = ExportReport(ADAPTER, digest, tuple(fused), (), round(time.monotonic() - started, 1), tuple(folders))
    report = _write_papers(job, report, on_event)
    _refuse_failed(fuser, fused)
    _refuse_failed_folder(folders)
    return report


def add_scores(job: Export) -> ExportReport | None:
    """Take the scores of report.json into the exported files and the card, once a run is evaluated; None: no export.

    Only metadata changes: each fused file is copied beside itself and replaced, so its SHA-256 is a new one.
    """
    path = job.run.path(RESULTS)
    if not path.exists():
        return None
    done = read_facts(path, EXPORT_FACTS)
    fields, fused = provenance_fields(job, done["adapter_sha256"]), []
    for file in _earlier(job):
        target = job.run.path(file.file)
        if file.passed and not _has_fields(target, fields):
            check_disk(target.parent, file.size_bytes)
            with rewritten(job.engine, target, engine_settings(job)):
                copy_with_fields(target, target, fields)
        fused.append(replace(file, sha256=file_digest(target) or "", size_bytes=target.stat().st_size))
    hint = f"Delete {RESULTS} and export again."
    folders = tuple(as_record(FusedFolder, _unjudged(row), str(path), hint) for row in done.get("folders", []))
    report = ExportReport(done["adapter"], done["adapter_sha256"], tuple(fused), (), done["seconds"], folders)
    return _write_papers(job, report, lambda event: None)


def passed_files(job: Export) -> list[tuple[Path, str]]:
    """The fused files of this adapter that passed their gate, each with its SHA-256 as it is now."""
    merged = {PREFIX + "adapter.sha256": file_digest(job.run.path(ADAPTER))}
    paths = [job.run.path(file.file) for file in _earlier(job) if file.passed]
    return [(path, file_digest(path) or "") for path in paths if _has_fields(path, merged)]


def _has_fields(path: Path, fields: dict[str, Any]) -> bool:
    with GgufFile(path) as file:
        return all(file.value(key) == value for key, value in fields.items())


def check(job: Export) -> LoraAdapter:
    """Refuse what cannot be exported, and read the adapter. Nothing is written."""
    check_types(job.settings.types)
    check_trainable(job.base)
    adapter = read_adapter(job.adapter)
    with GgufFile(job.base) as base:
        check_adapter(adapter, base, job.base_digest)
    if job.settings.from_f16:
        check_same_model(job.source, job.base, list(adapter.pairs))
    needs = check_folders(job, adapter)
    job.run.root.mkdir(parents=True, exist_ok=True)
    fuser = Fuser(job, adapter, "", lambda event: None)
    fixed = [type for type in job.settings.types if type != "auto"]
    _check_rows(fuser, fixed)
    smallest = [fuser.candidates[0]] if "auto" in job.settings.types else []
    check_disks([(job.run.root, sum(fuser.size_of(type) for type in (*fixed, *smallest))), *needs])
    return adapter


def _check_rows(fuser: Fuser, types: Sequence[str]) -> None:
    """Raise SgError for a weighted type where nothing tells what counts."""
    weighted = next((type for type in types if type in WEIGHTED_TYPES), None)
    if weighted is not None and not fuser.can_weigh:
        message = (
            f"{weighted} is encoded by what counts for the rows that the adapter was trained on: there are none here."
        )
        raise SgError(message, "Choose `type=auto`, or a type without `_imat`.")


def place_adapter(job: Export) -> str:
    """Put the adapter under its name in the run folder, with provenance inside; its SHA-256.

    An adapter that is already there stays as it is: its digest may be on record.
    """
    target = job.run.path(ADAPTER)
    fields = provenance_fields(job)
    if job.adapter.resolve() != target.resolve() and not _holds(target, job, fields):
        copy_with_fields(job.adapter, target, fields)
    digest = file_digest(target) or ""
    logger.info("adapter %s, sha256 %s", target.name, digest)
    return digest


def _holds(target: Path, job: Export, fields: dict[str, Any]) -> bool:
    """Whether the run's adapter.gguf is this adapter already."""
    if not target.is_file():
        return False
    with GgufFile(target) as ours, GgufFile(job.adapter) as theirs:
        if not _has_fields(target, fields) or list(ours.tensors) != list(theirs.tensors):
            return False
        return all(
            ours.tensors[name].shape == tensor.shape and (ours.rows(ours.tensors[name]) == theirs.rows(tensor)).all()
            for name, tensor in theirs.tensors.items()
        )


def _take_reference(job: Export, on_event: OnEvent) -> Reference:
    on_event(ExportEvent("reference", job.base.name))
    return take_reference(job)


def _fuse_all(fuser: Fuser, reference: Callable[[], Reference]) -> list[FusedFile]:
    """Every type asked for, once; the reference is taken when the first file must be made."""
    known = {fused.fingerprint: fused for fused in _earlier(fuser.job)}
    found: dict[str, FusedFile] = {}
    for type in fuser.job.settings.types:
        file = known_auto(fuser, known) if type == "auto" else known.get(fuser.fingerprint(type))
        if file is not None:
            logger.info("type %s was exported before as %s, sha256 %s", type, file.file, file.sha256)
        if file is None:
            file = _fuse_auto(fuser, reference(), known, found) if type == "auto" else fuser.fuse(type, reference())
        found[file.file] = file
    return list(found.values())


def _fuse_auto(
    fuser: Fuser, reference: Reference, known: Mapping[str, FusedFile], found: dict[str, FusedFile]
) -> FusedFile:
    """What `auto` chooses. Files asked for by their type stay; one that it made anew is added to `found`.

    Its own earlier choices and files that failed stay only where nothing that shapes them has changed.
    """
    ours = {fuser.fingerprint(type) for type in fuser.candidates}
    asked = [file for file in known.values() if file.fingerprint in ours or (file.passed and not file.auto)]
    kept = {file.file: file for file in asked} | found
    before = dict(kept)
    chosen = fuse_auto(fuser, reference, kept)
    found |= {name: file for name, file in kept.items() if file is not before[name]}
    return chosen


def _earlier(job: Export) -> list[FusedFile]:
    """Files of earlier exports that are still there, whole, under the names that they got."""
    path = job.run.path(RESULTS)
    rows = read_facts(path, EXPORT_FACTS).get("fused", []) if path.exists() else []
    found = [row for row in map(_as_file, rows) if row is not None and Path(row.file).name == row.file]
    return [fused for fused in found if _is_whole(job.run.path(fused.file), fused.size_bytes)]


def _as_file(row: dict[str, Any]) -> FusedFile | None:
    """A file of export.json; None for what cannot be read back, such as the figures of one whose numbers broke."""
    with contextlib.suppress(SgError):
        return from_dict(FusedFile, _unjudged(row))
    return None


def _unjudged(row: dict[str, Any]) -> dict[str, Any]:
    """A file or folder of export.json without its verdict, which follows from its checks."""
    return {key: value for key, value in row.items() if key != "passed"}


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write_papers(job: Export, report: ExportReport, on_event: OnEvent) -> ExportReport:
    """Modelfile, card, export.json and the stamp."""
    report = replace(report, fused=tuple(with_score(file, job.file_scores) for file in report.fused))
    on_event(ExportEvent("write", "README.md"))
    passed = sorted((fused for fused in report.fused if fused.passed), key=lambda fused: fused.size_bytes)
    parts = ModelfileParts(str(job.base.resolve()), f"./{ADAPTER}")
    if passed:
        parts = ModelfileParts(f"./{passed[0].file}", None, tuple(f"./{fused.file}" for fused in passed[1:]))
    texts = {"Modelfile": modelfile(job.carried, job.form, parts), "README.md": model_card(job, report)}
    for name, text in texts.items():
        write_text(job.run.path(name), text)
    folders = (folder.path for folder in report.folders)
    written = (ADAPTER, *(fused.file for fused in report.fused), *texts, *folders)
    for path in filter(Path.exists, map(job.run.path, written)):  # what its gate has put aside is not to be shared
        publish(path)
    report = replace(report, written=written)
    results = as_json(report)
    job.run.write_json(RESULTS, _with_earlier(job, results))
    if job.run.path(REPORT).exists():
        write_report(job.run, replace(read_report(job.run), export=results))
    made: list[FusedFile | FusedFolder] = [*report.fused, *report.folders]
    if all(one.passed for one in made):
        files = [name for name in written if job.run.path(name).is_file()]
        job.run.write_stamp("export", job.settings, (ADAPTER,), files, seconds=report.seconds)
    return report


def as_json(report: ExportReport) -> dict[str, Any]:
    """The report as plain data, each file with its verdict."""
    data = json.dumps(asdict(report))
    plain: dict[str, Any] = json.loads(data, parse_constant=lambda constant: None)  # NaN is not a JSON value
    made: list[tuple[dict[str, Any], FusedFile | FusedFolder]] = [
        *zip(plain["fused"], report.fused, strict=True),
        *zip(plain["folders"], report.folders, strict=True),
    ]
    for row, one in made:
        row["passed"] = one.passed
    return plain


def _with_earlier(job: Export, results: dict[str, Any]) -> dict[str, Any]:
    """Results with the files of earlier exports that this one left as they were."""
    ours = {row["file"] for row in results["fused"]}
    earlier = [fused for fused in _earlier(job) if fused.file not in ours]
    rows = [{**json.loads(json.dumps(asdict(fused))), "passed": fused.passed} for fused in earlier]
    return {**results, "fused": [*results["fused"], *rows]}


def _refuse_failed(fuser: Fuser, fused: Sequence[FusedFile]) -> None:
    failed = [file for file in fused if not file.passed]
    if not failed:
        return
    first = failed[0]
    reasons = "; ".join(f"{check.name}: {check.value}" for check in first.checks if not check.passed)
    message = f"{first.file.removesuffix(REJECTED)} did not pass its gate ({reasons})."
    kept = f"It is kept as {first.file}{_beside(fuser, first)}. {_advice(fuser, first, fused)}"
    raise SgError(message, kept, exit_code=GATE_NOT_MET)


def _beside(fuser: Fuser, failed: FusedFile) -> str:
    """What of an earlier export stays where a file failed, in words."""
    earlier = failed.file.removesuffix(REJECTED)
    return f", beside the earlier {earlier}, which passed" if fuser.is_ours(fuser.job.run.path(earlier)) else ""


def _refuse_failed_folder(folders: Sequence[FusedFolder]) -> None:
    for folder in folders:
        if not folder.passed:
            reasons = "; ".join(f"{check.name}: {check.value}" for check in folder.checks if not check.passed)
            hint = f"It is kept as {folder.path}{REJECTED}. Serve the base with adapter.gguf, or export GGUF files."
            raise SgError(f"{folder.path} did not pass its gate ({reasons}).", hint, exit_code=GATE_NOT_MET)


def _advice(fuser: Fuser, failed: FusedFile, fused: Sequence[FusedFile]) -> str:
    """Which type would pass: one that did, or the smallest other one that a sample of the tensors speaks for."""
    passed = [file.type for file in fused if file.passed]
    if passed:
        return f"Type {passed[0]} passed."
    tried = {file.type for file in fused}
    all_tried = any(file.auto for file in fused)
    for type in () if all_tried else fuser.candidates:
        finer = type == "same" or fuser.size_of(type) >= failed.size_bytes
        if type not in tried and finer and fuser.looks_fit(type):
            return f"Type {type} keeps the tuning on a sample of tensors: try `type={type}`."
    return "No type passed: serve the base with adapter.gguf instead."
