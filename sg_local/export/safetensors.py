"""Writes a safetensors file as a stream, tensor by tensor, whole or not at all.

The format is a length, a JSON header with each tensor's type, shape and place, and the tensors' bytes in order.
Written here rather than through the library because that takes whole tensors, and no engine should be needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sg_local.files import replacing

_BYTES = {"F16": 2, "F32": 4}
_ALIGNMENT = 8


@dataclass(frozen=True)
class SafeTensor:
    """A tensor about to be written: `shape` is rows first, `dtype` F16 or F32."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "F16"

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]


def header(tensors: Sequence[SafeTensor]) -> bytes:
    """Everything in front of the tensors' bytes. `format` pt is what transformers and mlx-lm look for."""
    entries: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        place = [at, at + tensor.n_bytes]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
        at += tensor.n_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def size_bytes(tensors: Sequence[SafeTensor]) -> int:
    """The size of the file to come."""
    return len(header(tensors)) + sum(tensor.n_bytes for tensor in tensors)


def write_safetensors(
    path: Path, tensors: Sequence[SafeTensor], chunks: Callable[[SafeTensor], Iterable[np.ndarray]]
) -> None:
    """Write `path` atomically. `chunks` gives each tensor's values, of its own type, in order, in any pieces."""
    with replacing(path) as file:
        file.write(header(tensors))
        for tensor in tensors:
            n_written = 0
            for chunk in chunks(tensor):
                n_written += file.write(np.ascontiguousarray(chunk).data.cast("B"))
            assert n_written == tensor.n_bytes, (tensor, n_written)
