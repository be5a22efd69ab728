"""`decoders` as Triton kernels: each reads the blocks once and writes the weights once, in the order that is asked for.

Exact to the bit, too: the arithmetic is that of ggml-quants.c in float32, products and sums are not fused into one
operation (`enable_fp_fusion`), and the result is rounded once. A group of weights with one scale is one row of a
kernel's tile. Half-precision numbers lie on even addresses in all of ggml's blocks, so they are read as they are.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import triton
import triton.language as tl

from sg_local.gguf import TYPES

logger = logging.getLogger(__name__)

_GROUPS = 64  # rows of a tile


@triton.jit
def _place(row, half, PERMUTED: tl.constexpr):
    """Where a row of the file goes: with rotary pairs side by side, row 2i of a head to i, row 2i + 1 to half + i."""
    if PERMUTED:
        size = 2 * half
        within = row % size
        row = row - within + within // 2 + (within % 2) * half
    return row


@triton.jit
def _put(out, values, group, lane, n_groups, per_row, half, WIDTH: tl.constexpr, PERMUTED: tl.constexpr):
    """Store a tile (groups, WIDTH), group g of the file being the g-th WIDTH numbers of its rows."""
    row = _place(group // per_row, half, PERMUTED)
    start = (row * per_row + group % per_row) * WIDTH
    kept = (group < n_groups)[:, None]
    tl.store(out + start[:, None] + lane[None, :], values.to(out.dtype.element_ty), mask=kept)


@triton.jit
def _old(
    raw,
    halves,
    out,
    n_groups,
    per_row,
    half,
    KIND: tl.constexpr,
    BYTES: tl.constexpr,
    PERMUTED: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Blocks of 32 with one scale: Q4_0 (KIND 0), Q4_1 (1), Q8_0 (2)."""
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    lane = tl.arange(0, 32)
    there = group < n_groups
    scale = tl.load(halves + group * (BYTES // 2), mask=there, other=0.0).to(tl.float32)[:, None]
    both = there[:, None] & (lane[None, :] >= 0)
    if KIND == 2:
        code = tl.load(raw + group[:, None] * BYTES + 2 + lane[None, :], mask=both, other=0)
        values = code.to(tl.int8, bitcast=True).to(tl.float32) * scale
    else:
        first: tl.constexpr = 2 + 2 * KIND
        packed = tl.load(raw + group[:, None] * BYTES + first + (lane % 16)[None, :], mask=both, other=0).to(tl.int32)
        code = ((packed >> (4 * (lane // 16))[None, :]) & 15).to(tl.float32)
        if KIND == 0:
            values = (code - 8.0) * scale
        else:
            least = tl.load(halves + group * (BYTES // 2) + 1, mask=there, other=0.0).to(tl.float32)[:, None]
            values = code * scale + least
    _put(out, values, group, lane, n_groups, per_row, half, 32, PERMUTED)


@triton.jit
def _k45(
    raw,
    halves,
    out,
    n_groups,
    per_row,
    half,
    FIVE: tl.constexpr,
    BYTES: tl.constexpr,
    PERMUTED: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Q4_K and Q5_K: eight groups of 32 in a block, their scales and offsets in 6 bits each."""
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    lane = tl.arange(0, 32)
    there = group < n_groups
    block, at = group // 8, group % 8
    d = tl.load(halves + block * (BYTES // 2), mask=there, other=0.0).to(tl.float32)
    least = tl.load(halves + block * (BYTES // 2) + 1, mask=there, other=0.0).to(tl.float32)
    packed = raw + block * BYTES + 4 + at % 4
    low = tl.load(packed, mask=there, other=0).to(tl.int32)
    mid = tl.load(packed + 4, mask=there, other=0).to(tl.int32)
    high = tl.load(packed + 8, mask=there, other=0).to(tl.int32)
    factor = tl.where(at < 4, low & 63, (high & 15) | ((low >> 6) << 4)).to(tl.float32)
    offset = tl.where(at < 4, mid & 63, (high >> 4) | ((mid >> 6) << 4)).to(tl.float32)
    both = there[:, None] & (lane[None, :] >= 0)
    codes: tl.constexpr = 48 if FIVE else 16
    start = block * BYTES + codes + (at // 2) * 32
    code = tl.load(raw + start[:, None] + lane[None, :], mask=both, other=0).to(tl.int32)
    code = (code >> (4 * (at % 2))[:, None]) & 15
    if FIVE:
        fifth = tl.load(raw + (block * BYTES + 16)[:, None] + lane[None, :], mask=both, other=0).to(tl.int32)
        code = code | (((fifth >> at[:, None]) & 1) << 4)
    values = code.to(tl.float32) * (d * factor)[:, None] - (least * offset)[:, None]
    _put(out, values, group, lane, n_groups, per_row, half, 32, PERMUTED)


@triton.jit
def _k6(raw, halves, out, n_groups, per_row, half, BYTES: tl.constexpr, PERMUTED: tl.constexpr, GROUPS: tl.constexpr):
    """Q6_K: sixteen groups of 16 in a block, a signed byte as the scale of each."""
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    lane = tl.arange(0, 16)
    there = group < n_groups
    block, at = group // 16, group % 16
    side, quarter, within = at // 8, (at % 8) // 2, (at % 2) * 16
    d = tl.load(halves + block * (BYTES // 2) + 104, mask=there, other=0.0).to(tl.float32)
    factor = tl.load(raw + block * BYTES + 192 + at, mask=there, other=0).to(tl.int8, bitcast=True).to(tl.float32)
    both = there[:, None] & (lane[None, :] >= 0)
    low_at = block * BYTES + side * 64 + within + (quarter % 2) * 32
    high_at = block * BYTES + 128 + side * 32 + within
    low = tl.load(raw + low_at[:, None] + lane[None, :], mask=both, other=0).to(tl.int32)
    high = tl.load(raw + high_at[:, None] + lane[None, :], mask=both, other=0).to(tl.int32)
    low = (low >> (4 * (quarter // 2))[:, None]) & 15
    high = (high >> (2 * quarter)[:, None]) & 3
    values = ((low | (high << 4)).to(tl.float32) - 32.0) * (d * factor)[:, None]
    _put(out, values, group, lane, n_groups, per_row, half, 16, PERMUTED)


KERNELS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "Q4_0": (_old, 32, {"KIND": 0}),
    "Q4_1": (_old, 32, {"KIND": 1}),
    "Q8_0": (_old, 32, {"KIND": 2}),
    "Q4_K": (_k45, 32, {"FIVE": False}),
    "Q5_K": (_k45, 32, {"FIVE": True}),
    "Q6_K": (_k6, 16, {}),
}
"""By type: the kernel, the weights of a group, and what it is compiled for."""


def decode(raw: torch.Tensor, type: str, out: torch.Tensor, heads: int | None = None) -> None:
    """Decode rows, contiguous uint8 (rows, row_bytes), into `out` (rows, columns), permuted by `heads` if given."""
    assert raw.is_contiguous() and out.is_contiguous() and out.numel() < 1 << 31
    kernel, width, made_for = KERNELS[type]
    n_groups = out.numel() // width
    half = 0 if heads is None else len(out) // heads // 2
    grid = (triton.cdiv(n_groups, _GROUPS),)
    made_for = {**made_for, "BYTES": TYPES[type].block_bytes, "PERMUTED": heads is not None, "GROUPS": _GROUPS}
    halves = raw.view(-1).view(torch.float16)
    kernel[grid](raw, halves, out, n_groups, out.shape[1] // width, half, **made_for, enable_fp_fusion=False)


def works() -> bool:
    """Whether kernels can be made on this machine: Triton wants a C compiler for what starts them."""
    raw = torch.zeros(1, TYPES["Q4_0"].block_bytes, dtype=torch.uint8, device="cuda")
    try:
        decode(raw, "Q4_0", torch.empty(1, 32, device="cuda"))
    except (RuntimeError, OSError, ImportError) as error:
        logger.warning("Triton makes no kernels here (%s): blocks are decoded in plain torch operations", error)
        return False
    return True
