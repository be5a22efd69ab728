"""ggml's decoders in torch operations, exact to the bit: for blocks that lie on a GPU.

Each takes blocks as bytes, uint8 (blocks, bytes of one), and gives float32 (blocks, weights of one). The layouts and
the order of the arithmetic are those of ggml-quants.c. Where Triton is installed, as it is beside torch for CUDA on
Linux, `kernels` does the same in one pass over the bytes, several times faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from sg_local.gguf import TYPES, StoredRows

_STEP = 1 << 23  # weights decoded at a time where that takes several operations, each with a result of its own
_COPY_BYTES = 1 << 26  # of a file's rows on their way to the GPU


class DeviceRows:
    """One matrix's bytes on a device: `raw` is uint8 (rows, row_bytes), `heads` as in StoredRows."""

    def __init__(self, raw: torch.Tensor, type: str, heads: int | None) -> None:
        self.raw, self.type, self.heads, self.rows = raw, type, heads, len(raw)

    def decode(self, out: torch.Tensor, start: int = 0, stop: int | None = None) -> None:
        """Decode rows [start, stop) into `out` (rows, columns) of any float type, rows in transformers' order."""
        raw = self.raw[start:stop]
        fast = fused(out.is_cuda)
        if fast is not None and self.type in fast.KERNELS:
            fast.decode(raw, self.type, out, self.heads)
            return
        if self.heads is None:
            decode(raw, self.type, out)
            return
        size = self.rows // self.heads
        for own, piece in zip(raw.split(size), out.split(size), strict=True):
            beside = torch.empty_like(piece)
            decode(own, self.type, beside)
            piece.view(2, size // 2, -1).copy_(beside.view(size // 2, 2, -1).transpose(0, 1))

    def pick(self, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Some rows by their numbers."""
        kind = TYPES[self.type]
        columns = self.raw.shape[1] // kind.block_bytes * kind.block
        out = torch.empty(len(ids), columns, device=self.raw.device, dtype=dtype)
        decode(self.raw[ids], self.type, out)
        return out


def copy_of(stored: StoredRows, device: torch.device) -> DeviceRows:
    """The rows' bytes on a device, copied a slab at a time."""
    raw = torch.empty(stored.raw.shape, dtype=torch.uint8, device=device)
    step = max(1, _COPY_BYTES // stored.raw.shape[1])
    for start in range(0, stored.rows, step):
        raw[start : start + step] = torch.from_numpy(stored.raw[start : start + step].copy())
    return DeviceRows(raw, stored.type, stored.heads)


def decode(raw: torch.Tensor, type: str, out: torch.Tensor) -> None:
    """Decode rows, uint8 (rows, row_bytes), into `out` (rows, columns), in the file's order."""
    kind = TYPES[type]
    step = max(1, _STEP // out.shape[1])
    for own, piece in zip(raw.split(step), out.split(step), strict=True):
        piece.copy_(DECODERS[type](own.reshape(-1, kind.block_bytes)).view(piece.shape))


@cache
def fused(on_cuda: bool) -> Any:
    """The module `kernels`, or None where there is no Triton, and no compiler for what starts its kernels."""
    if not on_cuda or find_spec("triton") is None:
        return None
    kernels = import_module("sg_local.backends.torch.kernels")
    return kernels if kernels.works() else None


def _half(raw: torch.Tensor, at: int) -> torch.Tensor:
    """A half-precision number of each block: (blocks, 1) in float32."""
    return raw[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(raw: torch.Tensor) -> torch.Tensor:
    """Low nibbles of all bytes, then the high ones: (..., 2, bytes)."""
    return torch.stack((raw & 15, raw >> 4), dim=-2)


def _f16(raw: torch.Tensor) -> torch.Tensor:
    return raw.contiguous().view(torch.float16).float()


def _bf16(raw: torch.Tensor) -> torch.Tensor:
    return raw.contiguous().view(torch.bfloat16).float()


def _q4_0(raw: torch.Tensor) -> torch.Tensor:
    return (_nibbles(raw[:, 2:]).flatten(1).float() - 8) * _half(raw, 0)


def _q4_1(raw: torch.Tensor) -> torch.Tensor:
    return _nibbles(raw[:, 4:]).flatten(1).float() * _half(raw, 0) + _half(raw, 2)


def _q8_0(raw: torch.Tensor) -> torch.Tensor:
    return raw[:, 2:].contiguous().view(torch.int8).float() * _half(raw, 0)


def _scales(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The eight factors and the eight offsets of a block of 256, (blocks, 8, 1) each: 6 bits each in 12 bytes."""
    packed = raw[:, 4:16]
    low, mid, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    factors = torch.cat((low & 63, (high & 15) | (low >> 6 << 4)), dim=1)
    offsets = torch.cat((mid & 63, (high >> 4) | (mid >> 6 << 4)), dim=1)
    return (_half(raw, 0) * factors.float())[..., None], (_half(raw, 2) * offsets.float())[..., None]


def _q4_k(raw: torch.Tensor) -> torch.Tensor:
    factors, offsets = _scales(raw)
    codes = _nibbles(raw[:, 16:].view(-1, 4, 32)).reshape(-1, 8, 32)
    return (codes.float() * factors - offsets).flatten(1)


def _q5_k(raw: torch.Tensor) -> torch.Tensor:
    factors, offsets = _scales(raw)
    codes = _nibbles(raw[:, 48:].view(-1, 4, 32)).reshape(-1, 8, 32)
    places = torch.arange(8, device=raw.device, dtype=torch.uint8)[:, None]
    fifth = (raw[:, None, 16:48] >> places & 1) << 4
    return ((codes | fifth).float() * factors - offsets).flatten(1)


def _q6_k(raw: torch.Tensor) -> torch.Tensor:
    low = _nibbles(raw[:, :128].view(-1, 2, 64)).view(-1, 2, 4, 32)
    places = 2 * torch.arange(4, device=raw.device, dtype=torch.uint8)[:, None]
    high = (raw[:, 128:192].view(-1, 2, 1, 32) >> places & 3) << 4
    codes = (low | high).view(-1, 16, 16).float() - 32
    factors = _half(raw, 208) * raw[:, 192:208].contiguous().view(torch.int8).float()
    return (codes * factors[..., None]).flatten(1)


DECODERS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
"""Decoders by ggml's names of types."""
