"""Model folders beside the GGUF files (`--mlx`, `--hf`): refused early, made under a partial name, held to a gate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sg_local import __version__
from sg_local.export.folder_gate import Speech, missing_packages, run_folder_gate, speech_of
from sg_local.export.fused import REJECTED, MergeProgress, carried_template
from sg_local.export.gate import Findings, Reference, opened
from sg_local.export.huggingface import PROVENANCE, FolderPlan, check_source, write_folder, write_note
from sg_local.export.job import Export, ExportEvent, FusedFolder, OnEvent
from sg_local.export.provenance import provenance_fields
from sg_local.export.refusals import check_places, wanted_folders
from sg_local.files import artefact, file_digest, remove
from sg_local.gguf import PREFIX, LoraAdapter, Retained
from sg_local.reading import as_record
from sg_local.records import digest
from sg_local.run import ADAPTER, read_json


def check_folders(job: Export, adapter: LoraAdapter) -> list[tuple[Path, int]]:
    """Where each folder goes and the bytes it needs. Raises SgError for a taken place or an unfit model."""
    folders = wanted_folders(job.settings)
    if not folders:
        return []
    check_places(folders)
    check_source(job.source)
    plans = {kind: FolderPlan(job.source, adapter, None, peft=kind == "hf") for kind in folders}
    return [(path.resolve().parent, plans[kind].size_bytes) for kind, path in folders.items()]


def make_folders(
    job: Export, adapter: LoraAdapter, reference: Callable[[], Reference], on_event: OnEvent
) -> list[FusedFolder]:
    """Every folder asked for; one that is there from the same inputs stays, and needs no reference."""
    found = []
    for kind, path in wanted_folders(job.settings).items():
        fingerprint = _fingerprint(job, kind)
        known = folder_at(path)
        if known is None or known.fingerprint != fingerprint:
            blank = FusedFolder(kind, str(path), 0, 0, {}, (), 0.0, fingerprint)
            known = _make(job, blank, _plan(job, adapter, kind, reference()), on_event)
        found.append(known)
    return found


def folder_at(path: Path) -> FusedFolder | None:
    """What a folder of ours says of itself; None for any other."""
    note = path / PROVENANCE
    if not note.is_file():
        return None
    data = read_json(note).get("export")
    if not isinstance(data, dict) or not data:
        return None
    return as_record(FusedFolder, {**data, "path": str(path)}, str(note), "Delete the folder: it is made again.")


def _make(job: Export, folder: FusedFolder, plan: Planned, on_event: OnEvent) -> FusedFolder:
    """Write one folder and hold it to its gate; it ends under its name or, failed, with `.rejected` behind it."""
    started, final = time.monotonic(), Path(folder.path)
    rejected = final.with_name(final.name + REJECTED)
    with artefact(final) as partial:
        partial.mkdir()
        progress = MergeProgress(final.name, plan.content.size_bytes, on_event)
        retained = write_folder(partial, plan.content, progress.add)
        on_event(ExportEvent("gate", final.name))
        request = replace(plan.speech.request, folder=str(partial))
        findings = run_folder_gate(job, request, plan.speech, plan.reference, retained)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        folder = _filled(replace(folder, size_bytes=size), plan.reference, findings, retained)
        folder = replace(folder, seconds=round(time.monotonic() - started, 1))
        write_note(partial, {**plan.content.provenance, "export": asdict(replace(folder, path=final.name))})
    remove(rejected)
    if not folder.passed:
        final.rename(rejected)
    return folder


def _filled(folder: FusedFolder, reference: Reference, findings: Findings, retained: Sequence[Retained]) -> FusedFolder:
    """The record with what the gate found."""
    shares = sorted(row.share for row in retained)
    losses = {"base": reference.base_nll, "adapter": reference.adapter_nll, "export": findings.nll}
    return replace(
        folder,
        n_tensors=len(retained),
        retained={"low": shares[0], "median": statistics.median(shares), "mean": statistics.fmean(shares)},
        checks=findings.checks,
        nll={name: value for name, value in losses.items() if value is not None},
        equal_answers=findings.equal_answers,
    )


@dataclass(frozen=True)
class Planned:
    """What goes into a folder, what is asked of it, and what it is held to."""

    content: FolderPlan
    speech: Speech
    reference: Reference


def _plan(job: Export, adapter: LoraAdapter, kind: str, reference: Reference) -> Planned:
    with opened(job, job.base) as generator:
        info = generator.info
        template = carried_template(job, add_bos=info.add_bos) or info.chat_template
        speech = speech_of(job, generator, template, kind, reference)
    fields = provenance_fields(job, file_digest(job.run.path(ADAPTER)))
    content = FolderPlan(
        source=job.source,
        adapter=adapter,
        chat_template=template,
        provenance={key.removeprefix(PREFIX): value for key, value in fields.items()},
        peft=kind == "hf",
        base_name=job.base_name or job.base.stem,
        ends=speech.request.ends,
    )
    return Planned(content, speech, reference)


def _fingerprint(job: Export, kind: str) -> str:
    """What makes a folder come out as it does, and what its gate could measure."""
    source = file_digest(job.source) if job.settings.from_f16 else job.base_digest
    form = [job.form.name, job.form.template]
    shaping = {**job.settings.shaping, "types": "", "mlx": "", "hf": "", "from_f16": source}
    adapter = file_digest(job.run.path(ADAPTER))
    return digest([__version__, kind, shaping, job.base_digest, adapter, job.task.digest, form, missing_packages(kind)])
