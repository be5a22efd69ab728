"""Adds a delta on the base's own quantisation grid, and measures how much of a delta a new tensor holds.

Rounding to the nearest step returns every weight whose delta is below half a step to where it was, and with it the
fine-tune. Stochastic rounding moves a weight by one step with the probability of the fraction, so that the delta
survives in the mean; scales and minima of each block stay as they are. The codes are laid out as in ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Measure:
    """Running sums over a tensor's slabs, from which its `Retained` comes; where it `scatters`, its error, too."""

    scatters: bool = False
    dot: float = 0.0
    delta: float = 0.0
    error: float = 0.0
    weight: float = 0.0
    scatter: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, old: np.ndarray, new: np.ndarray, delta: np.ndarray) -> None:
        """Take in one slab: float32 weights before and after, and the delta that was wanted."""
        change = new - old
        self.dot += float(np.vdot(change, delta))
        self.delta += float(np.vdot(delta, delta))
        self.weight += float(np.vdot(old, old))
        self.counts[0] += int(np.count_nonzero(change != 0))  # of booleans, several times as fast as of numbers
        self.counts[1] += change.size
        change -= delta
        self.error += float(np.vdot(change, change))
        if self.scatters:
            change *= delta
            self.scatter += float(np.vdot(change, change))

    def include(self, other: Measure) -> None:
        """Take in the sums of other slabs."""
        for name in ("dot", "delta", "error", "weight", "scatter"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]

    @property
    def share_error(self) -> float:
        """The standard error of the share, each weight's rounding being independent of the others'."""
        return self.scatter**0.5 / self.delta if self.delta else 0.0

    def result(self, name: str, type: str) -> Retained:
        """What the sums say. A delta of zero is wholly retained."""
        if self.delta == 0:
            return Retained(name, type, 1.0, 0.0, 0.0, 0.0)
        return Retained(
            name=name,
            type=type,
            share=self.dot / self.delta,
            noise=(self.error / self.delta) ** 0.5,
            size=(self.delta / self.weight) ** 0.5 if self.weight else 0.0,
            changed=self.counts[0] / max(1, self.counts[1]),
        )


@dataclass(frozen=True)
class Retained:
    """How much of the wanted delta D is in the change E of one tensor.

    `share` is <E, D> / |D|^2 (1: all of it, 0: none), `noise` |E - D| / |D|, `size` |D| / |W|, `changed` the share
    of weights that differ from the base. All columns count alike, under an importance matrix too: shares weighed by it
    hang on a few columns, and scatter three times as far.
    """

    name: str
    type: str
    share: float
    noise: float
    size: float
    changed: float


@dataclass(frozen=True)
class Grid:
    """One block type taken apart: `unpack` gives codes (n, groups, k) and steps (n, groups, 1); `pack` stores codes."""

    block_bytes: int
    lowest: int
    highest: int
    unpack: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    pack: Callable[[np.ndarray, np.ndarray], None]


def add_on_grid(raw: np.ndarray, delta: np.ndarray, type: str, rng: np.random.Generator) -> np.ndarray:
    """Stored rows (rows, row_bytes) with `delta` (rows, columns) added by stochastic rounding to the same grid."""
    grid = GRIDS[type]
    blocks = np.ascontiguousarray(raw).reshape(-1, grid.block_bytes).copy()
    codes, steps = grid.unpack(blocks)
    moves = np.divide(delta.reshape(codes.shape), steps, out=np.zeros(codes.shape, np.float32), where=steps != 0)
    moves += rng.random(moves.shape, dtype=np.float32)
    new = np.clip(codes + np.floor(moves), grid.lowest, grid.highest)
    grid.pack(blocks, new.astype(np.int8).view(np.uint8))
    return blocks.reshape(raw.shape)


def _half(blocks: np.ndarray, at: int = 0) -> np.ndarray:
    """The float16 at one position of each block, as float32 (n, 1, 1)."""
    return blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32)[:, :, None]


def _unpack_32(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q4_0, Q4_1, Q5_0, Q5_1: 16 last bytes of nibbles, first half low; before them 32 fifth bits, if any."""
    codes = np.concatenate([blocks[:, -16:] & 15, blocks[:, -16:] >> 4], axis=1)
    if blocks.shape[1] in (22, 24):
        codes |= np.unpackbits(blocks[:, -20:-16], axis=1, bitorder="little") << 4
    return codes.astype(np.float32)[:, None], _half(blocks)


def _pack_32(blocks: np.ndarray, codes: np.ndarray) -> None:
    codes = codes[:, 0]
    blocks[:, -16:] = (codes[:, :16] & 15) | ((codes[:, 16:] & 15) << 4)
    if blocks.shape[1] in (22, 24):
        blocks[:, -20:-16] = np.packbits(codes >> 4, axis=1, bitorder="little")


def _unpack_q8_0(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return blocks[:, None, 2:].view(np.int8).astype(np.float32), _half(blocks)


def _pack_q8_0(blocks: np.ndarray, codes: np.ndarray) -> None:
    blocks[:, 2:] = codes[:, 0]


def _unpack_k45(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q4_K and Q5_K: each 32 of the last 128 bytes hold two groups; before them, Q5_K's byte l has bit j of group j."""
    nibbles = blocks[:, -128:].reshape(-1, 4, 1, 32)
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=2).reshape(-1, 8, 32)
    if blocks.shape[1] == 176:
        codes |= ((blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1) << 4
    return codes.astype(np.float32), _half(blocks) * _scales_k45(blocks[:, 4:16])


def _pack_k45(blocks: np.ndarray, codes: np.ndarray) -> None:
    pairs = (codes & 15).reshape(-1, 4, 2, 32)
    blocks[:, -128:] = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    if blocks.shape[1] == 176:
        bits = (codes >> 4) << np.arange(8, dtype=np.uint8)[:, None]
        blocks[:, 16:48] = np.bitwise_or.reduce(bits, axis=1)


def _scales_k45(packed: np.ndarray) -> np.ndarray:
    """The eight 6-bit scales of each block, float32 (n, 8, 1)."""
    low, high = packed[:, :4] & 63, (packed[:, 8:] & 15) | ((packed[:, :4] >> 6) << 4)
    return np.concatenate([low, high], axis=1).astype(np.float32)[:, :, None]


def _unpack_q6_k(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q6_K: two halves of 64 bytes of nibbles and 32 bytes of top bits; 16 signed scales; d last."""
    low = blocks[:, :128].reshape(-1, 2, 1, 2, 32)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    top = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3
    codes = (low | (top << 4)).reshape(-1, 16, 16).astype(np.float32)
    return codes, _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)[:, :, None]


def _pack_q6_k(blocks: np.ndarray, codes: np.ndarray) -> None:
    quarters = codes.reshape(-1, 2, 4, 32)
    low = quarters & 15
    blocks[:, :128] = (low[:, :, :2] | (low[:, :, 2:] << 4)).reshape(-1, 128)
    top = (quarters >> 4) << np.array([0, 2, 4, 6], np.uint8)[:, None]
    blocks[:, 128:192] = np.bitwise_or.reduce(top, axis=2).reshape(-1, 64)


GRIDS = {
    "Q4_0": Grid(18, 0, 15, _unpack_32, _pack_32),
    "Q4_1": Grid(20, 0, 15, _unpack_32, _pack_32),
    "Q5_0": Grid(22, 0, 31, _unpack_32, _pack_32),
    "Q5_1": Grid(24, 0, 31, _unpack_32, _pack_32),
    "Q8_0": Grid(34, -127, 127, _unpack_q8_0, _pack_q8_0),
    "Q4_K": Grid(144, 0, 15, _unpack_k45, _pack_k45),
    "Q5_K": Grid(176, 0, 31, _unpack_k45, _pack_k45),
    "Q6_K": Grid(210, 0, 63, _unpack_q6_k, _pack_q6_k),
}
