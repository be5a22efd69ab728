"""Writes a GGUF file as a stream: metadata entries as bytes, then tensors chunk by chunk.

Whoever copies a file hands over its `Field.raw` bytes, so that keys, array element types and order survive as they
are; `pack_field` makes new entries. Nothing appears under the final name before it is whole and on the disk.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sg_local.files import replacing
from sg_local.gguf.foreign import MAGIC
from sg_local.gguf.reader import ALIGNMENT, ARRAY, BOOL, SCALARS, STRING
from sg_local.gguf.types import TYPES

UINT32, INT32, FLOAT32, UINT64 = 4, 5, 6, 10


@dataclass(frozen=True)
class TensorPlan:
    """A tensor about to be written: `shape` is rows first, `type` a ggml type's name."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape[:-1]) * TYPES[self.type].row_bytes(self.shape[-1])


@dataclass(frozen=True)
class FilePlan:
    """A whole file about to be written: packed metadata entries and tensors, in order."""

    fields: Sequence[bytes]
    tensors: Sequence[TensorPlan]
    alignment: int = ALIGNMENT

    def header(self) -> bytes:
        """Everything in front of the tensor data, padded."""
        head = MAGIC + struct.pack("<IQQ", 3, len(self.tensors), len(self.fields))
        parts, offset = [head, *self.fields], 0
        for tensor in self.tensors:
            dims = tuple(reversed(tensor.shape))
            info = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[tensor.type].id, offset)
            parts.append(_pack_string(tensor.name) + info)
            offset += self.padded(tensor.n_bytes)
        data = b"".join(parts)
        return data + b"\0" * (self.padded(len(data)) - len(data))

    def padded(self, size: int) -> int:
        """`size` in bytes, rounded up to the file's alignment."""
        return -(-size // self.alignment) * self.alignment

    @property
    def size_bytes(self) -> int:
        """The size of the file to come."""
        return len(self.header()) + sum(self.padded(tensor.n_bytes) for tensor in self.tensors)


def write_gguf(path: Path, plan: FilePlan, chunks: Callable[[TensorPlan], Iterable[np.ndarray]]) -> None:
    """Write `path` whole or not at all. `chunks` gives each tensor's stored bytes, in order, in any pieces."""
    with replacing(path) as file:
        stream_gguf(file, plan, chunks)


def stream_gguf(file: BinaryIO, plan: FilePlan, chunks: Callable[[TensorPlan], Iterable[np.ndarray]]) -> None:
    """Write the file's bytes to an open binary file."""
    file.write(plan.header())
    for tensor in plan.tensors:
        n_written = 0
        for chunk in chunks(tensor):
            n_written += file.write(np.ascontiguousarray(chunk).data.cast("B"))
        assert n_written == tensor.n_bytes, (tensor, n_written)
        file.write(b"\0" * (plan.padded(n_written) - n_written))


def pack_fields(fields: Mapping[str, Any]) -> list[bytes]:
    """Metadata entries from plain values: str, bool, int, float, or a non-empty list of one of these."""
    return [pack_field(key, value) for key, value in fields.items()]


def pack_field(key: str, value: Any) -> bytes:
    """One metadata entry as it stands in the file. Integers become u32, or u64 where they need it; floats f32."""
    if isinstance(value, (list, tuple)):
        kind = max(_kind(item) for item in value)
        items = b"".join(_pack_value(item, kind) for item in value)
        return _pack_string(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + items
    kind = _kind(value)
    return _pack_string(key) + struct.pack("<I", kind) + _pack_value(value, kind)


def _kind(value: Any) -> int:
    if isinstance(value, str):
        return STRING
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return UINT32 if 0 <= value < 1 << 32 else UINT64 if value > 0 else INT32
    return FLOAT32


def _pack_value(value: Any, kind: int) -> bytes:
    return _pack_string(value) if kind == STRING else struct.pack("<" + SCALARS[kind], value)


def _pack_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
