"""The parity gates around a training run: the trainer's logits against llama.cpp's, both in float32.

Before training they show that the trainer loaded the base as llama.cpp understands it; afterwards, that the adapter
file makes llama.cpp compute what the trainer computed. The reference is a float32 copy of the base, because
quantised kernels differ by more than a wrong row order does. For a large base the copy holds few layers only (such as
the first and the last), made by llama.cpp's own converter, so the check stays within a few seconds; and so does an
adapter's, since all its layers are written alike and the base beneath them has been compared. The copy is there only
while it is compared with; one that a killed process left is swept by the next gate and the next job in the run.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as lib
import numpy as np

from sg_local.backends.llama_cpp.library import load_model, log
from sg_local.cache import sweep
from sg_local.files import make_folder
from sg_local.gguf import GgufFile, read_adapter, read_config, write_adapter
from sg_local.records import SgError, TokenExample

logger = logging.getLogger(__name__)

Logits = Callable[[Sequence[int], tuple[int, ...]], np.ndarray]
"""(token ids, layers) -> float32 logits (tokens, vocabulary) of the model reduced to these layers."""

N_TOKENS = 64
USUAL_SPREAD = 2.0  # standard deviation of logits up to which tolerances are meant as they stand
FULL_COPY_BYTES = 1 << 30
COPY, SLICED_ADAPTER = "parity-f32", "parity-adapter"
_F32 = 0  # both ggml's type number and llama's file type
_FLASH_OFF = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED


@dataclass(frozen=True)
class ParityGate:
    """One job's gate. `folder` holds the copy while it compares; the base's keeps `layers`, an adapter's keeps `few`.

    `tolerance` is how far a logit may differ: the architecture's.
    """

    model: Path
    folder: Path
    tokens: tuple[int, ...]
    layers: tuple[int, ...]
    few: tuple[int, ...]
    n_layers: int
    n_threads: int
    tolerance: float

    def check_base(self, logits: Logits) -> float:
        """Compare with the reference copy. The largest difference; SgError above the tolerance."""
        found = self._difference(logits, None)
        logger.info("parity of the base: logits differ by %.2g, %g is allowed", found, self.tolerance)
        if found > self.tolerance:
            raise SgError(
                f"The trainer reads {self.model.name} otherwise than llama.cpp: logits differ by {found:.2g}.",
                "Training was not started. Please report this model: it is a fault in sg-local.",
                exit_code=3,
            )
        return found

    def check_adapter(self, adapter: Path, logits: Logits) -> float:
        """Compare with the adapter applied on both sides. The largest difference; SgError above the tolerance."""
        found = self._difference(logits, adapter)
        logger.info("parity of the adapter: logits differ by %.2g, %g is allowed", found, self.tolerance)
        if found > self.tolerance:
            raise SgError(
                f"{adapter} does not do in llama.cpp what it did in training: logits differ by {found:.2g}.",
                "Do not use this adapter. Please report it: it is a fault in sg-local.",
                exit_code=3,
            )
        return found

    def _difference(self, logits: Logits, adapter: Path | None) -> float:
        layers = self.layers if adapter is None else self.few
        ours = logits(self.tokens, layers)
        with self._copy(layers) as copy:
            theirs = _reference_logits(copy, adapter and self._fitting(adapter), self.tokens)
        return difference(ours, theirs)

    @contextlib.contextmanager
    def _copy(self, layers: Sequence[int]) -> Iterator[Path]:
        """The base's layers in float32, and nothing of them afterwards."""
        make_folder(self.folder)
        sweep(self.folder)
        copy = self._temporary(COPY)
        try:
            self._write(copy, layers)
            yield copy
        finally:
            for path in (copy, self._temporary(SLICED_ADAPTER)):
                path.unlink(missing_ok=True)

    def _temporary(self, name: str) -> Path:
        """A file that bears this process's number: one whose process is gone is swept."""
        return self.folder / f"{name}.{os.getpid()}.gguf"

    def _write(self, copy: Path, layers: Sequence[int]) -> None:
        log().clear()
        params = lib.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.nthread = _F32, True, self.n_threads
        dropped = [layer for layer in range(self.n_layers) if layer not in layers]
        if dropped:
            numbers = (ctypes.c_int32 * (len(dropped) + 1))(*dropped, -1)
            params.prune_layers = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int32))
        if lib.llama_model_quantize(os.fsencode(self.model), os.fsencode(copy), ctypes.byref(params)):
            raise SgError(
                f"llama.cpp could not write a float32 copy of {self.model.name}: {log().cause()}.",
                f"The parity gate needs about {FULL_COPY_BYTES >> 30} GB free in {self.folder}.",
            )

    def _fitting(self, adapter: Path) -> Path:
        """The adapter, or for a sliced copy those of its layers, under the copy's numbers."""
        if len(self.few) == self.n_layers:
            return adapter
        whole, pairs = read_adapter(adapter), {}
        for name, pair in whole.pairs.items():
            _, layer, *rest = name.split(".")
            if int(layer) in self.few:
                pairs[".".join(("blk", str(self.few.index(int(layer))), *rest))] = pair
        path = self._temporary(SLICED_ADAPTER)
        write_adapter(path, whole.architecture, pairs, whole.alpha)
        return path


def parity_gate(model: Path, folder: Path, examples: Sequence[TokenExample], n_threads: int) -> ParityGate:
    """The gate for one job, probing with tokens of its own rows."""
    shape = read_config(model)
    layers = few = tuple(range(shape.layers))
    if shape.layers > 2:
        few = shape.slice_layers()
        layers = few if _float32_bytes(model) > FULL_COPY_BYTES else layers
    tokens = probe_tokens(examples, shape.context)
    return ParityGate(model, folder, tokens, layers, few, shape.layers, n_threads, shape.row.tolerance)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of two models' logits, for logits of the usual spread: rounding grows with theirs."""
    found = float(np.abs(ours - theirs).max()) / max(1.0, float(theirs.std()) / USUAL_SPREAD)
    return found if math.isfinite(found) else math.inf


def probe_tokens(examples: Sequence[TokenExample], n_context: int) -> tuple[int, ...]:
    """The rows' tokens one after another, repeated where they are few: N_TOKENS, or what the context holds."""
    tokens: list[int] = []
    for row in examples:
        tokens += row.tokens
        if len(tokens) >= N_TOKENS:
            break
    repeats = -(-N_TOKENS // len(tokens))
    return tuple(tokens * repeats)[: min(N_TOKENS, n_context)]


def _float32_bytes(model: Path) -> int:
    with GgufFile(model) as file:
        return sum(4 * math.prod(tensor.shape) for tensor in file.tensors.values())


def _reference_logits(model: Path, adapter: Path | None, tokens: Sequence[int]) -> np.ndarray:
    """llama.cpp's logits for every position, on the CPU, with a float32 cache and plain attention."""
    handle = load_model(model)
    if not handle:
        raise SgError(f"llama.cpp cannot load the float32 copy of the base: {log().cause()}.")
    try:
        context = _open_context(handle, len(tokens))
        try:
            if adapter is not None:
                _apply(handle, context, adapter)
            return _decode(handle, context, tokens)
        finally:
            lib.llama_free(context)
    finally:
        lib.llama_model_free(handle)


def _open_context(handle: object, n_tokens: int) -> object:
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_tokens
    # One thread: llama.cpp waits for its threads by spinning, and beside a busy process that costs ten times more.
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = _F32
    params.flash_attn_type, params.offload_kqv, params.op_offload = _FLASH_OFF, False, False
    context = lib.llama_init_from_model(handle, params)
    if not context:
        raise SgError(f"llama.cpp cannot open a context for the parity gate: {log().cause()}.")
    return context


def _apply(handle: object, context: object, adapter: Path) -> None:
    pointer = lib.llama_adapter_lora_init(handle, os.fsencode(adapter))
    if not pointer:
        raise SgError(f"llama.cpp cannot load {adapter}: {log().cause()}.")
    pointers, scales = (lib.llama_adapter_lora_p_ctypes * 1)(pointer), (ctypes.c_float * 1)(1.0)
    if lib.llama_set_adapters_lora(context, pointers, 1, scales):
        raise SgError(f"llama.cpp refused {adapter}: {log().cause()}.")


def _decode(handle: object, context: object, tokens: Sequence[int]) -> np.ndarray:
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(handle))
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        if lib.llama_decode(context, batch):
            raise SgError(f"llama.cpp could not run the parity gate: {log().cause()}.")
        return np.ctypeslib.as_array(lib.llama_get_logits(context), shape=(len(tokens), n_vocab)).copy()
    finally:
        lib.llama_batch_free(batch)
