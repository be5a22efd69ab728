"""Repacks GGUF blocks as MLX affine groups on the very same grid: weight = scale * q + bias, 32 weights a group.

Exact for Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q5_K: no weight moves, if scale and bias are kept in float32 (a
K-quant's scale is a float16 times a 6-bit number, which float16 cannot hold). Q2_K, Q3_K and Q6_K scale 16 weights at a
time and have no such form. Block layouts: ggml-common.h and ggml-quants.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUP = 32  # the only group size that all the types below share

# Bits of each type that has an exact affine form.
BITS: dict[str, int] = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q4_K": 4, "Q5_K": 5}


@dataclass(frozen=True)
class Affine:
    """Rows on a grid: `q` uint8 (rows, columns); `scale` and `bias` float32 (rows, columns / 32)."""

    q: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


def affine(raw: np.ndarray, type: str) -> Affine:
    """Stored rows, uint8 (rows, row_bytes), of a type in BITS, on their affine grid."""
    rows = raw.shape[0]
    split = _split_k if type.endswith("_K") else _split_legacy
    q, scale, bias = split(raw.reshape(-1), type)
    return Affine(q.reshape(rows, -1), scale.reshape(rows, -1), bias.reshape(rows, -1))


def pack(q: np.ndarray, bits: int) -> np.ndarray:
    """Numbers below 2**bits, (rows, columns), as MLX packs them: a little-endian bit stream in uint32 words."""
    eights = q.reshape(q.shape[0], -1, 8).astype(np.uint64)
    words = np.bitwise_or.reduce(eights << (np.arange(8, dtype=np.uint64) * np.uint64(bits)), axis=-1)
    stream = words.astype("<u8").view(np.uint8).reshape(*words.shape, 8)[..., :bits]
    return np.ascontiguousarray(stream).reshape(q.shape[0], -1).view(np.uint32)


def _split_legacy(raw: np.ndarray, type: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Types with one float16 scale per 32 weights, and for those whose name ends in 1 a float16 minimum."""
    has_minimum, bits = type.endswith("1"), BITS[type]
    head = 4 if has_minimum else 2
    blocks = raw.reshape(-1, head + bits * 4)
    floats = np.ascontiguousarray(blocks[:, :head]).view(np.float16).astype(np.float32)
    scale, body = floats[:, 0], blocks[:, head:]
    if bits == 8:
        q = (body.view(np.int8).astype(np.int16) + 128).astype(np.uint8)
    else:
        q = _nibbles(body[:, -16:])
        if bits == 5:
            q |= np.unpackbits(body[:, :4], axis=1, bitorder="little") << 4
    bias = floats[:, 1] if has_minimum else -(2.0 ** (bits - 1)) * scale
    return q, scale, bias.astype(np.float32)


def _split_k(raw: np.ndarray, type: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q4_K and Q5_K: 256 weights with two float16 factors and eight pairs of 6-bit scales and minimums."""
    blocks = raw.reshape(-1, 144 if type == "Q4_K" else 176)
    factors = np.ascontiguousarray(blocks[:, :4]).view(np.float16).astype(np.float32)
    scales, minimums = _six_bit(blocks[:, 4:16])
    q = _nibbles(blocks[:, -128:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    if type == "Q5_K":
        planes = np.arange(8, dtype=np.uint8)[None, :, None]
        q |= ((blocks[:, None, 16:48] >> planes) & 1) << 4
    return q, factors[:, :1] * scales, -factors[:, 1:] * minimums


def _six_bit(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight scales and eight minimums of 6 bits from 12 bytes (get_scale_min_k4 in ggml-quants.c)."""
    low, high, mixed = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (mixed & 15) | ((low >> 6) << 4)], axis=1)
    minimums = np.concatenate([high & 63, (mixed >> 4) | ((high >> 6) << 4)], axis=1)
    return scales, minimums


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Low halves of the last axis, then its high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)
