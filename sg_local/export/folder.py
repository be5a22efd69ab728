"""Model folders beside the GGUF files (`--mlx`, `--hf`): refused early, made under a partial name, held to a gate.

Their gate is the part of a GGUF's that needs no second engine: each touched tensor holds the delta, and the folder's
own tokenizer and template give the token ids of training. Losses and answers are not measured here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from sg_local import __version__
from sg_local.export.fused import REJECTED, MergeProgress, carried_template
from sg_local.export.gate import check_retained, example_prompts, opened
from sg_local.export.huggingface import PROVENANCE, FolderPlan, check_source, write_folder, write_note
from sg_local.export.job import Check, Export, ExportEvent, FusedFolder, OnEvent
from sg_local.export.provenance import PREFIX, provenance_fields
from sg_local.gguf import LoraAdapter
from sg_local.prompts import Form, render
from sg_local.records import SgError, digest, from_dict
from sg_local.run import ADAPTER, artefact, file_digest, read_json, remove


def wanted_folders(job: Export) -> dict[str, Path]:
    """The folders that the job asks for, by kind."""
    given = {"mlx": job.settings.mlx, "hf": job.settings.hf}
    return {kind: Path(path).expanduser() for kind, path in given.items() if path}


def check_folders(job: Export, adapter: LoraAdapter) -> list[tuple[Path, int]]:
    """Where each folder goes and the bytes it needs. Raises SgError for a taken place or an unfit model."""
    folders = wanted_folders(job)
    if not folders:
        return []
    if len({path.resolve() for path in folders.values()}) < len(folders):
        raise SgError("--mlx and --hf name the same folder.", "Give each one its own.", exit_code=2)
    for path in folders.values():
        _check_place(path)
    check_source(job.source)
    plans = {kind: FolderPlan(job.source, adapter, None, peft=kind == "hf") for kind in folders}
    return [(path.resolve().parent, plans[kind].size_bytes) for kind, path in folders.items()]


def make_folders(job: Export, adapter: LoraAdapter, adapter_digest: str, on_event: OnEvent) -> list[FusedFolder]:
    """Every folder asked for; one that is there from the same inputs stays."""
    found = []
    for kind, path in wanted_folders(job).items():
        fingerprint = _fingerprint(job, kind, adapter_digest)
        known = folder_at(path)
        if known is None or known.fingerprint != fingerprint:
            known = _make(job, adapter, FusedFolder(kind, str(path), 0, 0, {}, (), 0.0, fingerprint), on_event)
        found.append(known)
    return found


def folder_at(path: Path) -> FusedFolder | None:
    """What a folder of ours says of itself; None for any other."""
    note = path / PROVENANCE
    if not note.is_file():
        return None
    data = read_json(note).get("export")
    return from_dict(FusedFolder, {**data, "path": str(path)}) if data else None


def _check_place(path: Path) -> None:
    """Raise SgError where a folder would overwrite what we did not make."""
    if path.is_dir() and (path / PROVENANCE).is_file():
        return
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise SgError(f"{path} holds other files.", "Name a new folder, or an empty one.", exit_code=2)


def _make(job: Export, adapter: LoraAdapter, folder: FusedFolder, on_event: OnEvent) -> FusedFolder:
    """Write one folder and hold it to its gate; it ends under its name or, failed, with `.rejected` behind it."""
    started, final = time.monotonic(), Path(folder.path)
    plan, speech = _plan(job, adapter, folder.kind)
    rejected = final.with_name(final.name + REJECTED)
    with artefact(final) as partial:
        partial.mkdir()
        retained = write_folder(partial, plan, MergeProgress(final.name, plan.size_bytes, on_event).add)
        on_event(ExportEvent("gate", final.name))
        shares = sorted(row.share for row in retained)
        folder = replace(
            folder,
            size_bytes=sum(file.stat().st_size for file in partial.rglob("*") if file.is_file()),
            n_tensors=len(retained),
            retained={"low": shares[0], "median": statistics.median(shares), "mean": statistics.fmean(shares)},
            checks=(check_retained(job, retained), check_ids(job, partial, speech)),
            seconds=round(time.monotonic() - started, 1),
        )
        write_note(partial, {**plan.provenance, "export": asdict(folder)})
    remove(rejected)
    if not folder.passed:
        final.rename(rejected)
    return folder


@dataclass(frozen=True)
class Speech:
    """How the base speaks: its special tokens as a form around the folder's template, and the ids of our prompts."""

    form: Form
    tokens: tuple[tuple[int, ...], ...]


def _plan(job: Export, adapter: LoraAdapter, kind: str) -> tuple[FolderPlan, Speech]:
    """What goes into the folder, and what its tokenizer must give."""
    with opened(job, job.base) as generator:
        info = generator.info
        tokens = tuple(generator.tokenize(prompt) for prompt in example_prompts(job))
    template = carried_template(job, add_bos=info.add_bos) or info.chat_template
    fields = provenance_fields(job, file_digest(job.run.path(ADAPTER)))
    plan = FolderPlan(
        source=job.source,
        adapter=adapter,
        chat_template=template,
        provenance={key.removeprefix(PREFIX): value for key, value in fields.items()},
        peft=kind == "hf",
        base_name=job.base_name or job.base.stem,
    )
    return plan, Speech(Form("chat", template or "", info.bos, info.eos, add_bos=False), tokens)


def check_ids(job: Export, folder: Path, speech: Speech) -> Check:
    """The folder's tokenizer gives the base's ids for our prompts, and by its template for the bare inputs."""
    if find_spec("tokenizers") is None:
        return Check("token ids equal", True, "not measured: the package tokenizers is not installed")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = ["".join(segment.text for segment in prompt) for prompt in example_prompts(job)]
    same = _n_equal([tokenizer.encode(text).ids for text in ours], speech.tokens)
    value, passed = f"{same} of {len(ours)} prompts", same == len(ours)
    if not job.settings.plain_template:
        bare = [render(speech.form, [{"role": "user", "content": pair.input}]) for pair in job.task.examples]
        texts = ["".join(segment.text for segment in prompt) for prompt in bare]
        n_carried = _n_equal([tokenizer.encode(text, add_special_tokens=False).ids for text in texts], speech.tokens)
        value += f", {n_carried} by the folder's template from the bare input"
        passed = passed and n_carried == len(ours)
    return Check("token ids equal", passed, value, "all")


def _n_equal(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> int:
    return sum(list(a) == list(b) for a, b in zip(found, wanted, strict=True))


def _fingerprint(job: Export, kind: str, adapter_digest: str) -> str:
    source = file_digest(job.source) if job.settings.from_f16 else job.base_digest
    form = [job.form.name, job.form.template, job.settings.plain_template]
    return digest([__version__, kind, source, job.base_digest, adapter_digest, job.task.digest, form])
