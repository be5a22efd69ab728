"""The same weights in a format that this machine computes faster, kept in the cache folder.

Only formats that keep the weights are offered. Measured on SmolLM2-135M Q4_1 against the same weights in F32, over
480 positions of task prompts, KL divergence and agreement of the best token: Q4_1 itself 2.8e-3, 97.7 % (what its
own arithmetic loses: activations are rounded to 8 bits); F16 5.0e-6, 100 %; BF16 2.2e-4, 99.0 %; Q8_0 4.4e-3,
97.1 %, near enough to Q4_1's own loss; Q4_0 0.31, 77 %: other weights, so never offered.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as lib

from sg_local.backends.llama_cpp.library import log
from sg_local.backends.machine import free_memory
from sg_local.files import artefact
from sg_local.gguf import FILE_TYPES, TYPES, GgufFile, Tensor
from sg_local.records import SgError

MEMORY_SHARE = 0.6  # of the free memory that a copy may fill: the pool and the rest of the machine need theirs
DISK_RESERVE = 2 << 30
SLICE_BYTES = 512 << 20  # F16 bytes of a trial; larger models are tried on their first layers
BITS = {"BF16": 12.0, "F16": 12.0, "Q8_0": 7.0}  # a base of more bits per weight would lose, or gain nothing
WIDE = ("BF16", "F16", "F32")  # types whose arithmetic rounds no activation to 8 bits


@dataclass(frozen=True)
class CopySource:
    """What must be known of a base to copy it. Sizes are in bytes, by format, of a whole copy."""

    path: Path
    n_layers: int
    bits_per_weight: float
    sizes: dict[str, int]
    n_slice_layers: int

    @property
    def whole(self) -> bool:
        """True when trials use all layers, so that a trial's file is a copy."""
        return self.n_slice_layers >= self.n_layers


def read_source(path: Path) -> CopySource:
    """The base's facts from its header."""
    with GgufFile(path) as file:
        tensors = list(file.tensors.values())
        n_layers = int(file.value(f"{file.value('general.architecture')}.block_count", 0))
    matrices = [tensor for tensor in tensors if len(tensor.shape) > 1]
    n_weights = sum(tensor.rows * tensor.columns for tensor in matrices)
    in_blocks = sum(_copy_bytes(tensor, "F16") for tensor in matrices if tensor.name.startswith("blk."))
    rest = 2 * n_weights - in_blocks
    fitting = (SLICE_BYTES - rest) * n_layers // max(1, in_blocks)
    return CopySource(
        path=path,
        n_layers=n_layers,
        bits_per_weight=8 * sum(tensor.n_bytes for tensor in matrices) / max(1, n_weights),
        sizes={name: sum(_copy_bytes(tensor, name) for tensor in tensors) for name in BITS},
        n_slice_layers=max(1, min(n_layers, fitting)),
    )


def weight_format(path: Path) -> str:
    """The type of a model's matrices; of a mixed file a quantised one where there is any, else the narrower."""
    with GgufFile(path) as file:
        types = {tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1}
    return next((type for type in (*sorted(types - set(WIDE)), *WIDE) if type in types), WIDE[-1])


def candidates(source: CopySource, cache: Path) -> list[str]:
    """Formats worth a trial, the most exact first: they keep the weights and fit memory and disk.

    Where the processor multiplies BF16, that takes the place of F16, which is slower there (13 against 11 rows/s).
    """
    most = affordable(cache)
    wide = "BF16" if _computes_bf16() else "F16"
    return [name for name in (wide, "Q8_0") if source.bits_per_weight < BITS[name] and source.sizes[name] <= most]


def affordable(cache: Path) -> float:
    """The largest copy in bytes that memory and disk have room for."""
    memory, disk = free_memory(), shutil.disk_usage(cache).free - DISK_RESERVE
    return disk if memory is None else min(MEMORY_SHARE * memory, disk)


def write_slice(source: CopySource, out: Path, n_threads: int) -> None:
    """The base's first layers, unchanged: what a large base is measured on."""
    params = _params(source, n_threads)
    params.only_copy = True
    _quantize(source, out, params)


def write_copy(source: CopySource, out: Path, format: str, n_threads: int, *, whole: bool) -> None:
    """The base in another format, atomically: all of it, or the layers that trials use."""
    params = _params(source, n_threads, whole=whole)
    params.ftype = FILE_TYPES[format]
    params.allow_requantize = True
    _quantize(source, out, params)


def _params(source: CopySource, n_threads: int, *, whole: bool = False) -> lib.llama_model_quantize_params:
    params: lib.llama_model_quantize_params = lib.llama_model_quantize_default_params()
    params.nthread = n_threads
    params.max_buf_size = 256 << 20
    if not whole and not source.whole:
        dropped = range(source.n_slice_layers, source.n_layers)
        layers = (ctypes.c_int32 * (len(dropped) + 1))(*dropped, -1)
        params.prune_layers = ctypes.cast(layers, ctypes.POINTER(ctypes.c_int32))
    return params


def _quantize(source: CopySource, out: Path, params: lib.llama_model_quantize_params) -> None:
    log().clear()
    with artefact(out, shared=True) as partial:
        if lib.llama_model_quantize(os.fsencode(source.path), os.fsencode(partial), ctypes.byref(params)):
            hint = "Turn copies off: `engine.fast_copy=false`."
            raise SgError(f"llama.cpp could not copy {source.path}: {log().cause()}.", hint)


def _copy_bytes(tensor: Tensor, format: str) -> int:
    """A tensor's bytes in a copy: vectors stay as they are, rows that do not divide into blocks become F16."""
    kind = TYPES[format]
    if len(tensor.shape) == 1:
        return tensor.n_bytes
    kind = kind if tensor.columns % kind.block == 0 else TYPES["F16"]
    return tensor.rows * kind.row_bytes(tensor.columns)


def _computes_bf16() -> bool:
    """Whether llama.cpp was built for instructions that multiply BF16."""
    return b"BF16 = 1" in (lib.llama_print_system_info() or b"")
