"""Matrices that stay as their file has them, and are decoded when they are needed, into a buffer of the caller's.

Decoding is ggml's own, by rows and on several threads. Rows of rotary heads come out in transformers' order: a head at
a time is decoded beside and put in its place, so that nothing of the file is ever copied as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from sg_local.gguf.quants import decode_into
from sg_local.gguf.types import TYPES


@dataclass(frozen=True, eq=False)
class StoredRows:
    """A matrix of a file: `raw` is uint8 (rows, row_bytes). By `heads` its rows are permuted, None: not at all."""

    raw: np.ndarray
    type: str
    heads: int | None = None

    @property
    def rows(self) -> int:
        return len(self.raw)

    @property
    def columns(self) -> int:
        kind = TYPES[self.type]
        return int(self.raw.shape[1]) // kind.block_bytes * kind.block

    def shares(self, out: np.ndarray, n: int) -> Iterator[Callable[[], None]]:
        """The decoding of all rows into `out` (rows, columns) as at most n pieces of work for threads.

        `out` is float32, or uint16 for bfloat16.
        """
        n_units = self.rows if self.heads is None else self.heads
        edges = [n_units * i // n for i in range(n + 1)]
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            if start < stop:
                yield partial(self._decode, out, start, stop)

    def decode(self, out: np.ndarray, start: int, stop: int) -> None:
        """Decode rows [start, stop) of a matrix without permuted rows into `out`, in this thread."""
        assert self.heads is None
        decode_into(self.raw[start:stop], self.type, out)

    def pick(self, ids: np.ndarray) -> np.ndarray:
        """Some rows, by their numbers, in float32: (len(ids), columns)."""
        out = np.empty((len(ids), self.columns), np.float32)
        decode_into(np.ascontiguousarray(self.raw[ids]), self.type, out)
        return out

    def _decode(self, out: np.ndarray, start: int, stop: int) -> None:
        """Decode those rows, or where rows are permuted those heads."""
        if self.heads is None:
            return self.decode(out[start:stop], start, stop)
        size = self.rows // self.heads
        beside = np.empty((size, self.columns), out.dtype)
        for head in range(start, stop):
            own = slice(head * size, (head + 1) * size)
            decode_into(self.raw[own], self.type, beside)
            np.copyto(out[own].reshape(2, size // 2, -1), beside.reshape(size // 2, 2, -1).swapaxes(0, 1))
