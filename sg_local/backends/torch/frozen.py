"""A base's frozen matrices: whole, or as the file's blocks, decoded into one buffer each time they are needed.

Blocks take a quarter of the memory and less, and give what whole matrices give, bit for bit: the decoders are exact,
and products are the same products. What they cost is the decoding, in the forward pass and again in the backward pass.
On the CPU the blocks are the mapped file, decoded by ggml; on a GPU they are a copy of its bytes (`decoders`).

A matrix that was decoded is valid until the next one is: nobody may keep it, autograd least of all (`functions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from sg_local.backends.torch import decoders
from sg_local.backends.training.holding import PART_ROWS
from sg_local.gguf import StoredRows


class Frozen(Protocol):
    """A frozen matrix (rows, columns) in `dtype` on `device`."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def whole(self) -> torch.Tensor:
        """The matrix, until another one is asked for."""
        ...

    def pick(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows by their numbers: (len(ids), columns), as an embedding looks them up."""
        ...

    def parts(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The matrix in runs of rows: the number of the first, and the rows, until the next are asked for."""
        ...


class Whole:
    """A matrix in memory as it is used."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.dtype, self.device = tensor, tensor.dtype, tensor.device
        self.shape: tuple[int, int] = (tensor.shape[0], tensor.shape[1])

    def whole(self) -> torch.Tensor:
        return self.tensor

    def pick(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.tensor)

    def parts(self) -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, self.shape[0], PART_ROWS):
            yield start, self.tensor[start : start + PART_ROWS]


class Scratch:
    """The one buffer into which matrices of a base are decoded, and which of them it holds."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.held: object = None
        self._buffer = torch.empty(0, device=device, dtype=dtype)

    def room(self, rows: int, columns: int) -> torch.Tensor:
        """The buffer's start as a matrix."""
        if self._buffer.numel() < rows * columns:
            self._buffer = torch.empty(0, device=self.device, dtype=self.dtype)  # the old one goes first
            self._buffer = torch.empty(rows * columns, device=self.device, dtype=self.dtype)
        return self._buffer[: rows * columns].view(rows, columns)


class Blocks:
    """Matrices with a common input, stacked, as their file's blocks. Only a single one has parts and rows to pick."""

    def __init__(self, stored: Sequence[StoredRows], scratch: Scratch) -> None:
        self.dtype, self.device, self._scratch = scratch.dtype, scratch.device, scratch
        self._stored = tuple(stored) if self.device.type == "cpu" else ()
        self._copies = () if self._stored else tuple(decoders.copy_of(one, self.device) for one in stored)
        self.shape = (sum(one.rows for one in stored), stored[0].columns)

    def whole(self) -> torch.Tensor:
        out = self._scratch.room(*self.shape)
        if self._scratch.held is not self:
            self._scratch.held = None
            self._decode(out)
            self._scratch.held = self
        return out

    def pick(self, ids: torch.Tensor) -> torch.Tensor:
        if self._stored:
            return torch.from_numpy(self._stored[0].pick(ids.numpy())).to(self.dtype)
        return self._copies[0].pick(ids, self.dtype)

    def parts(self) -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, self.shape[0], PART_ROWS):
            stop = min(start + PART_ROWS, self.shape[0])
            out = self._scratch.room(stop - start, self.shape[1])
            self._scratch.held = None
            if self._stored:
                raw = self._stored[0].raw[start:stop]
                _run(list(StoredRows(raw, self._stored[0].type).shares(_numpy(out), torch.get_num_threads())))
            else:
                self._copies[0].decode(out, start, stop)
            yield start, out

    def _decode(self, out: torch.Tensor) -> None:
        pieces = out.split([one.rows for one in self._stored or self._copies])
        if self._stored:
            n = torch.get_num_threads()
            pairs = zip(self._stored, pieces, strict=True)
            return _run([work for one, piece in pairs for work in one.shares(_numpy(piece), n)])
        for copy, piece in zip(self._copies, pieces, strict=True):
            copy.decode(piece)


def _numpy(matrix: torch.Tensor) -> np.ndarray:
    """A view that `StoredRows` can decode into."""
    return matrix.numpy() if matrix.dtype == torch.float32 else matrix.view(torch.uint16).numpy()


def _run(work: Sequence[Callable[[], None]]) -> None:
    n_threads = min(torch.get_num_threads(), len(work))
    if n_threads == 1:
        for one in work:
            one()
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(lambda one: one(), work):
                pass
