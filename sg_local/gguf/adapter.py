"""Adapter GGUFs: LoRA pairs as llama.cpp's --lora and Ollama's ADAPTER read them.

Tensors are NAME.lora_a (r, in) and NAME.lora_b (out, r) in the base's own row order; the change they make to NAME is
alpha / r * B @ A. Only the matrices of the blocks (`architectures`) may be adapted: on a tied model, an adapted
embedding or head aborts llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sg_local.gguf.architectures import targets_of
from sg_local.gguf.reader import GgufFile
from sg_local.gguf.writer import FilePlan, TensorPlan, pack_fields, write_gguf
from sg_local.records import SgError

Pair = tuple[np.ndarray, np.ndarray]

AGAIN = "Fetch or train the adapter again."
LARGEST = float(np.finfo(np.float32).max)
ALONE = 1 << 18  # multiplications up to which OpenBLAS stays in one thread (interface/gemm.c)


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter in memory. `pairs` maps base tensor names to A (r, in) and B (out, r) in float32."""

    architecture: str
    alpha: float
    pairs: dict[str, Pair]
    metadata: dict[str, Any]

    def scale(self, name: str) -> float:
        """alpha / r of one pair."""
        return self.alpha / len(self.pairs[name][0])

    def delta(self, name: str, start: int = 0, stop: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """The change to the base's rows [start, stop), float32 (rows, in); in `out` where there is one."""
        a, b = self.pairs[name]
        return _product(self.scale(name) * b[start:stop], a, out)


def _product(left: np.ndarray, right: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """left @ right, float32, in pieces that OpenBLAS multiplies in the calling thread.

    For a larger one it wakes threads of its own, which spin for a while after every product: on two cores, beside
    threads that encode, an export to Q8_0 then took four times the processor time.
    """
    rank, n_columns = right.shape
    out = np.empty((len(left), n_columns), np.float32) if out is None else out
    width = min(n_columns, max(1, ALONE // rank))
    step = max(1, ALONE // (rank * width))
    for top in range(0, len(left), step):
        for at in range(0, n_columns, width):
            np.matmul(left[top : top + step], right[:, at : at + width], out=out[top : top + step, at : at + width])
    return out


def write_adapter(
    path: Path, architecture: str, pairs: Mapping[str, Pair], alpha: float, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write an adapter GGUF atomically, in float32. Raises SgError for a tensor that must not be adapted."""
    for name, (a, b) in pairs.items():
        _check_target(architecture, name)
        assert a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1], (name, a.shape, b.shape)
    fields = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        **(metadata or {}),
    }
    arrays = {}
    for name, (a, b) in pairs.items():
        arrays[f"{name}.lora_a"], arrays[f"{name}.lora_b"] = a, b
    plans = [TensorPlan(name, array.shape, "F32") for name, array in arrays.items()]
    plan = FilePlan(pack_fields(fields), plans)
    write_gguf(path, plan, lambda tensor: [np.ascontiguousarray(arrays[tensor.name], np.float32)])


def read_adapter(path: Path) -> LoraAdapter:
    """Read a LoRA adapter GGUF. Raises SgError for another kind of file, or one with unpaired or unfit tensors."""
    with GgufFile(path) as file:
        if (file.value("general.type"), file.value("adapter.type")) != ("adapter", "lora"):
            raise SgError(f"{path} is not a LoRA adapter GGUF.", "Give the adapter.gguf that training wrote.")
        names = [name.removesuffix(".lora_a") for name in file.tensors if name.endswith(".lora_a")]
        if not names or len(file.tensors) != 2 * len(names):
            raise SgError(
                f"{path} holds tensors that are not LoRA pairs.", "Adapters with more than LoRA are not merged."
            )
        alpha = float(file.value("adapter.lora.alpha", 0.0))
        return LoraAdapter(
            architecture=file.value("general.architecture", ""),
            alpha=alpha,
            pairs={name: _pair(file, name, alpha) for name in names},
            metadata={key: file.value(key) for key in file.fields if key.startswith(("sg_local.", "general."))},
        )


def check_adapter(adapter: LoraAdapter, base: GgufFile, base_digest: str | None = None) -> None:
    """Raise SgError unless the adapter fits the base: architecture, tensors, shapes and, where known, the digest."""
    trained_on = str(adapter.metadata.get("sg_local.base.sha256", ""))  # whatever a hostile file has there
    if trained_on and base_digest is not None and trained_on != base_digest:
        digests = f"sha256 {trained_on[:12]}, not {base_digest[:12]}"
        message = f"The adapter was trained on another base than {base.path}: {digests}."
        raise SgError(message, "Give the base it was trained on.")
    if adapter.architecture != base.value("general.architecture"):
        found = base.value("general.architecture")
        message = f"The adapter is for {adapter.architecture} models, the base {base.path} is a {found} model."
        raise SgError(message, "Give the base that the adapter was trained on.")
    for name, (a, b) in adapter.pairs.items():
        _check_target(adapter.architecture, name)
        shape = base.tensors[name].shape if name in base.tensors else None
        if shape != (b.shape[0], a.shape[1]):
            wanted = (b.shape[0], a.shape[1])
            message = f"The adapter does not fit {base.path}: {name} is {shape or 'missing'} there, {wanted} here."
            raise SgError(message, "Give the base that the adapter was trained on.")


def _pair(file: GgufFile, name: str, alpha: float) -> Pair:
    if f"{name}.lora_b" not in file.tensors:
        raise SgError(f"{file.path} lacks {name}.lora_b.", AGAIN)
    a, b = file.dequantize(f"{name}.lora_a"), file.dequantize(f"{name}.lora_b")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise SgError(f"{file.path}: the LoRA pair of {name} has shapes {a.shape} and {b.shape}.", AGAIN)
    # Of the sum that one weight changes by, and of the factor that is made first.
    one, other = float(np.abs(a).max()), float(np.abs(b).max())
    largest = abs(alpha) * (1.0 if one <= 1 else one) * other
    if not largest <= LARGEST:  # NaN is not
        raise SgError(f"{file.path}: the LoRA pair of {name} holds numbers that are none, or too large.", AGAIN)
    return a, b


def _check_target(architecture: str, name: str) -> None:
    parts, targets = name.split("."), targets_of(architecture)
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in targets or parts[3] != "weight":
        hint = f"Adapt only {', '.join(targets)}: with embeddings or the head adapted llama.cpp stops."
        raise SgError(f"The adapter changes {name}, which cannot be adapted.", hint)
