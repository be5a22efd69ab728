"""Where a file came from, as `sg_local.*` metadata inside it, and how that is read back and verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.export.job import Export
from sg_local.files import file_digest
from sg_local.gguf import FACTS, PREFIX, GgufFile, Origin, Tensor
from sg_local.gguf.types import FILE_TYPE_NAMES
from sg_local.reading import parse_json
from sg_local.run import ADAPTER, read_json


def provenance_fields(job: Export, adapter_digest: str | None = None) -> dict[str, Any]:
    """Metadata for a file of this job; `adapter_digest` only where the file is not the adapter itself."""
    facts = job.facts
    if adapter_digest is None:
        facts.pop("scores", None)  # the adapter is what was scored: its bytes must not change for it
    fields = Origin(job.task, job.form.name, job.base_name or job.base.stem, job.base_digest, facts).fields()
    return fields if adapter_digest is None else {**fields, PREFIX + "adapter.sha256": adapter_digest}


@dataclass(frozen=True)
class Inspection:
    """What a GGUF is. `kind` is model or adapter; `types` counts tensors by type, `bits_per_weight` is the mean.

    `provenance` holds what sg-local wrote into it, without the prefix; `verified` says of each file at hand whether
    its digest is the one recorded: `base` and `adapter`, absent where no such file is at hand.
    """

    path: str
    kind: str
    name: str
    architecture: str
    licence: str
    file_type: str
    size_bytes: int
    n_tensors: int
    n_parameters: int
    bits_per_weight: float
    types: dict[str, int]
    context: int | None
    layers: int | None
    tokenizer: str
    chat_template: str | None
    carries_task: bool
    lora: dict[str, float]
    provenance: dict[str, Any]
    verified: dict[str, bool]


def beside(path: Path) -> dict[str, Path]:
    """The `base` and the `adapter` that a file's own run folder knows of, where they are there."""
    run, found = path.resolve().parent, {}
    if (run / ADAPTER).is_file() and path.name != ADAPTER:
        found["adapter"] = run / ADAPTER
    model = read_json(run / "run.json").get("model", {}) if (run / "run.json").is_file() else {}
    if model.get("path") and Path(model["path"]).is_file():
        found["base"] = Path(model["path"])
    return found


def inspect(path: Path, base: Path | None = None, adapter: Path | None = None) -> Inspection:
    """Read any GGUF's header, and verify recorded digests against the files at hand: given, or known by its run.

    Raises SgError for no GGUF, or a damaged one.
    """
    at_hand = {**beside(path), **{name: given for name, given in (("base", base), ("adapter", adapter)) if given}}
    with GgufFile(path) as file:
        ours = _ours(file)
        architecture = file.value("general.architecture", "")
        template = file.value("tokenizer.chat_template")
        n_parameters = sum(tensor.rows * tensor.columns for tensor in file.tensors.values())
        return Inspection(
            path=str(path),
            kind=file.value("general.type", "model"),
            name=file.value("general.name", path.stem),
            architecture=architecture,
            licence=file.value("general.license", ""),
            file_type=_file_type(file),
            size_bytes=file.size,
            n_tensors=len(file.tensors),
            n_parameters=n_parameters,
            bits_per_weight=round(8 * sum(t.n_bytes for t in file.tensors.values()) / max(1, n_parameters), 2),
            types=_type_counts(file.tensors),
            context=file.value(f"{architecture}.context_length"),
            layers=file.value(f"{architecture}.block_count"),
            tokenizer=file.value("tokenizer.ggml.model", ""),
            chat_template=template,
            carries_task=template is not None and "sg_turns" in template,
            lora=_lora(file),
            provenance=ours,
            verified=_verified(ours, at_hand),
        )


def _ours(file: GgufFile) -> dict[str, Any]:
    found = {key.removeprefix(PREFIX): file.value(key) for key in file.fields if key.startswith(PREFIX)}
    for key in FACTS:
        if isinstance(found.get(key), str):
            place = f"{file.path}, {PREFIX}{key}"
            found[key] = parse_json(found[key], place, "Export it again.", is_line=True, exit_code=1)
    return found


def _file_type(file: GgufFile) -> str:
    """What the file says of its types as a whole; empty where it says nothing, as adapters do."""
    number = file.value("general.file_type")
    return "" if number is None else FILE_TYPE_NAMES.get(number, f"unknown ({number})")


def _type_counts(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in tensors.values():
        counts[tensor.type] = counts.get(tensor.type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _lora(file: GgufFile) -> dict[str, float]:
    """Rank and alpha of an adapter; empty for a model."""
    ranks = [tensor.rows for tensor in file.tensors.values() if tensor.name.endswith(".lora_a")]
    if not ranks:
        return {}
    return {"alpha": file.value("adapter.lora.alpha", 0.0), "rank": max(ranks), "n_targets": len(ranks)}


def _verified(ours: Mapping[str, Any], at_hand: Mapping[str, Path]) -> dict[str, bool]:
    found = {}
    for name, path in at_hand.items():
        recorded = ours.get(f"{name}.sha256")
        if recorded is not None:
            found[name] = file_digest(path) == recorded
    return found
