"""Decodes and encodes tensor rows: ggml's own functions where llama-cpp-python is installed, else the gguf package.

ggml's base library is loaded on first use, inside the functions. Without it, decoding still covers every type,
more slowly; encoding covers F32, F16, BF16 and the 32-weight block types, but no K-quants.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sg_local import limits
from sg_local.gguf.types import TYPES, TensorType
from sg_local.records import SgError

# ggml's exported row decoders, by our names (ggml-quants.h).
_DECODERS = {
    "F16": "ggml_fp16_to_fp32_row",
    "BF16": "ggml_bf16_to_fp32_row",
    "Q4_0": "dequantize_row_q4_0",
    "Q4_1": "dequantize_row_q4_1",
    "Q5_0": "dequantize_row_q5_0",
    "Q5_1": "dequantize_row_q5_1",
    "Q8_0": "dequantize_row_q8_0",
    "Q2_K": "dequantize_row_q2_K",
    "Q3_K": "dequantize_row_q3_K",
    "Q4_K": "dequantize_row_q4_K",
    "Q5_K": "dequantize_row_q5_K",
    "Q6_K": "dequantize_row_q6_K",
    "IQ4_NL": "dequantize_row_iq4_nl",
    "IQ4_XS": "dequantize_row_iq4_xs",
}
_MIN_SHARE = 1 << 18  # weights per thread below which a thread costs more than it brings


def dequantize(raw: np.ndarray, type: str) -> np.ndarray:
    """Stored rows, uint8 (rows, row_bytes), as float32 (rows, columns)."""
    kind = TYPES[type]
    raw = np.ascontiguousarray(raw)
    if type == "F32":
        return raw.view(np.float32)
    columns = raw.shape[1] // kind.block_bytes * kind.block
    decoder = _decoder(type)
    if decoder is None:
        return _dequantize_slowly(raw, kind)
    out = np.empty((raw.shape[0], columns), np.float32)

    def decode(start: int, stop: int) -> None:
        decoder(raw[start:stop].ctypes.data, out[start:stop].ctypes.data, (stop - start) * columns)

    by_rows(decode, *out.shape)
    return out


def decodes(type: str) -> bool:
    """Whether `decode_into` can be used for a type here: ggml is at hand and has a decoder for it."""
    return _decoder(type) is not None


def decode_into(raw: np.ndarray, type: str, out: np.ndarray) -> None:
    """Decode stored rows, uint8 (rows, row_bytes), in this thread: `out` is (rows, columns), contiguous.

    `out` is float32, or uint16 for bfloat16, rounded to the nearest as torch does. Needs `decodes(type)`.
    """
    decoder, library = _decoder(type), ggml()
    assert decoder is not None and library is not None and raw.flags.c_contiguous and out.flags.c_contiguous
    if out.dtype == np.float32:
        return decoder(raw.ctypes.data, out.ctypes.data, out.size)
    wide = np.empty(out.shape, np.float32)
    decoder(raw.ctypes.data, wide.ctypes.data, out.size)
    library.ggml_fp32_to_bf16_row(wide.ctypes.data, out.ctypes.data, out.size)


def quantize(weights: np.ndarray, type: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Float32 (rows, columns) as stored rows, uint8 (rows, row_bytes). Raises SgError for a misfit row length.

    `importance`, float32 (columns,), says how much an error in each column counts; it needs ggml, and is left aside
    without.
    """
    kind = TYPES[type]
    weights = np.ascontiguousarray(weights, np.float32)
    rows, columns = weights.shape
    if columns % kind.block:
        raise SgError(f"Rows of {columns} weights do not divide into {type}'s blocks of {kind.block}.")
    if type == "F32":
        return weights.view(np.uint8)
    if ggml() is None:
        return _quantize_slowly(weights, kind)
    out = np.empty((rows, kind.row_bytes(columns)), np.uint8)
    weighed = None if importance is None else np.ascontiguousarray(importance, np.float32)

    def encode(start: int, stop: int) -> None:
        encode_into(weights[start:stop], type, out[start:stop], weighed)

    by_rows(encode, rows, columns)
    return out


def encodes(type: str) -> bool:
    """Whether `encode_into` can be used for a type here: ggml is at hand."""
    return type != "F32" and ggml() is not None


def encode_into(weights: np.ndarray, type: str, out: np.ndarray, importance: np.ndarray | None = None) -> None:
    """Encode float32 (rows, columns) in this thread: `out` is uint8 (rows, row_bytes), all arrays contiguous.

    Needs `encodes(type)`. Q8_0 without importance comes from the processor's vector unit where ggml has a function for
    it: the same scales, and codes that are a step off the plain function's in some two weights of a million, at ties.
    """
    library, fast = ggml(), _fast_q8_0() if type == "Q8_0" and importance is None else None
    assert library is not None and weights.flags.c_contiguous and out.flags.c_contiguous
    if fast is not None:
        return fast(weights.ctypes.data, out.ctypes.data, weights.size)
    at = None if importance is None else importance.ctypes.data
    library.ggml_quantize_chunk(TYPES[type].id, weights.ctypes.data, out.ctypes.data, 0, *weights.shape, at)


@lru_cache(maxsize=1)
def ggml() -> ctypes.CDLL | None:
    """ggml's base library as llama-cpp-python ships it, or None where that package is missing."""
    path = _library("ggml-base")
    return None if path is None else _declare(ctypes.CDLL(str(path)))


@lru_cache(maxsize=1)
def _fast_q8_0() -> Callable[[int, int, int], None] | None:
    """The encoder of Q8_0 that ggml's products use; None where no library or several are there for processors."""
    path = _library("ggml-cpu")
    try:
        function = None if path is None else getattr(ctypes.CDLL(str(path)), "quantize_row_q8_0", None)
    except OSError:
        return None
    if function is not None:
        function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return function


def _library(name: str) -> Path | None:
    """One of ggml's libraries in llama-cpp-python's folder."""
    spec = find_spec("llama_cpp")
    folders = spec.submodule_search_locations if spec is not None else None
    files = (Path(folder, "lib", f"lib{name}.{end}") for folder in folders or () for end in ("so", "dylib"))
    return next((path for path in files if path.is_file()), None)


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    for name in (*_DECODERS.values(), "ggml_fp32_to_bf16_row"):
        function = getattr(library, name)
        function.restype, function.argtypes = None, [pointer, pointer, size]
    return library


def _decoder(type: str) -> Callable[[int, int, int], None] | None:
    library = ggml()
    if library is None or type not in _DECODERS:
        return None
    function: Callable[[int, int, int], None] = getattr(library, _DECODERS[type])
    return function


def by_rows(work: Callable[[int, int], None], rows: int, columns: int) -> None:
    """Call `work(start, stop)` over all rows, on as many threads as pay; ctypes drops the interpreter lock."""
    n_threads = min(rows, max(1, rows * columns // _MIN_SHARE))
    n_threads = min(n_threads, _most_threads()) if n_threads > 1 else 1
    if n_threads == 1:
        return work(0, rows)
    edges = [rows * i // n_threads for i in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(work, edges[:-1], edges[1:]):
            pass


@cache
def _most_threads() -> int:
    """Asked once: a matrix is decoded in less time than it takes to read a container's limits."""
    return limits.usable_cores()


def _dequantize_slowly(raw: np.ndarray, kind: TensorType) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize as decode

    if kind.name == "F16":
        return raw.view(np.float16).astype(np.float32)
    try:
        return decode(raw, GGMLQuantizationType(kind.id)).astype(np.float32, copy=False)
    except NotImplementedError as error:
        raise SgError(f"sg-local cannot decode {kind.name} tensors.", "Use the model in another type.") from error


def _quantize_slowly(weights: np.ndarray, kind: TensorType) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as encode

    try:
        return np.ascontiguousarray(encode(weights, GGMLQuantizationType(kind.id))).view(np.uint8)
    except NotImplementedError as error:
        hint = "Install it with: pip install 'sg-local[llama]'"
        raise SgError(f"Writing {kind.name} needs llama-cpp-python, which is not installed.", hint) from error
