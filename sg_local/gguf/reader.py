"""Reads a GGUF file: its metadata, kept as the very bytes on disk, and its tensors, a few rows at a time.

Nothing is mapped into memory beyond the header but what `mapped` is asked for, so reading a file of any size costs one
slab of rows. Covers little-endian GGUF versions 2 and 3. The layout is that of ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from sg_local.files import RESTED_S, state_of
from sg_local.gguf.foreign import N_BYTES, check_magic
from sg_local.gguf.metadata import Allowance, check_kinds, check_values
from sg_local.gguf.quants import dequantize
from sg_local.gguf.types import TYPES, type_of
from sg_local.records import SgError

ALIGNMENT = 32
MAX_KEY = 65535  # bytes, as ggml's docs/gguf.md has it
STRING, ARRAY, BOOL = 8, 9, 7
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
SLAB_BYTES = 1 << 20  # float32 bytes decoded at a time: what a processor keeps near, large beside a system call


@dataclass(frozen=True)
class Field:
    """One metadata entry. `raw` is key, type and value as they stand in the file; `count` is 1 for scalars."""

    key: str
    type: int
    element: int | None
    count: int
    raw: bytes
    value_start: int

    def value(self) -> Any:
        """The decoded value: a number, a string, a bool, or a list of these."""
        if self.element is None:
            return _value(self.raw, self.value_start, self.type)[0]
        at, items = self.value_start, []
        if self.element in SCALARS:
            return np.frombuffer(self.raw, f"<{SCALARS[self.element]}", self.count, at).tolist()
        for _ in range(self.count):
            item, at = _value(self.raw, at, self.element)
            items.append(item)
        return items


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies. `shape` is rows first (NumPy order); `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        return TYPES[self.type].row_bytes(self.columns)

    @property
    def n_bytes(self) -> int:
        return self.rows * self.row_bytes


@dataclass(frozen=True)
class _Parsed:
    """A header that was found whole and sound."""

    fields: dict[str, Field]
    tensors: dict[str, Tensor]
    alignment: int
    data_start: int


MOST_PARSED = 8
_PARSED: dict[tuple[Any, ...], _Parsed] = {}
"""Headers by the identity of their files: a job opens its base some hundred times, and a vocabulary is long."""


class GgufFile:
    """An open GGUF file: `fields` and `tensors` by name, in file order. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.fields: dict[str, Field] = {}
        self.tensors: dict[str, Tensor] = {}
        self.alignment = ALIGNMENT
        self.data_start = 0
        self._map: mmap.mmap | None = None
        self._file = _open(self.path)
        try:
            found = os.fstat(self._file.fileno())
            self.size = found.st_size
            check_magic(self.path, self._file.read(N_BYTES))
            if not self._recall(found):
                self._parse()
                self._remember(found)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def value(self, key: str, default: Any = None) -> Any:
        """The decoded value of a metadata key, or `default`."""
        return self.fields[key].value() if key in self.fields else default

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows as they are stored: uint8 of shape (rows, row_bytes)."""
        stop = tensor.rows if stop is None else min(stop, tensor.rows)
        data = np.empty((stop - start, tensor.row_bytes), np.uint8)
        self._file.seek(tensor.offset + start * tensor.row_bytes)
        if self._file.readinto(data.data.cast("B")) != data.nbytes:
            raise _truncated(self.path, f"tensor {tensor.name}")
        return data

    def mapped(self, tensor: Tensor) -> np.ndarray:
        """All rows as they are stored, read-only uint8 (rows, row_bytes), without a copy: pages come as they are read.

        The array outlives the file object. One map serves all tensors of a file.
        """
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(self._map, np.uint8, tensor.n_bytes, tensor.offset)
        return flat.reshape(tensor.rows, tensor.row_bytes)

    @property
    def map(self) -> mmap.mmap | None:
        """What `mapped` arrays lie in, None where none was asked for."""
        return self._map

    def dequantize(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A tensor's weights in float32, in its own shape; with a row range, those rows alone as 2-D."""
        tensor = self.tensors[name]
        try:
            weights = dequantize(self.rows(tensor, start, stop), tensor.type)
        except SgError as error:
            raise SgError(f"{self.path}: tensor {name:.60}: {error.message}", error.hint) from error
        return weights.reshape(tensor.shape) if (start, stop) == (0, None) else weights

    def slabs(self, tensor: Tensor) -> Iterator[tuple[int, int]]:
        """Row ranges (start, stop) that cover a tensor in steps of about SLAB_BYTES of float32."""
        step = max(1, SLAB_BYTES // (4 * tensor.columns))
        for start in range(0, tensor.rows, step):
            yield start, min(start + step, tensor.rows)

    def _recall(self, found: os.stat_result) -> bool:
        """Take over the header that an earlier opening of these bytes has parsed."""
        known = _PARSED.get((self.path.resolve(), *state_of(found)))
        if known is None:
            return False
        self.fields, self.tensors = dict(known.fields), dict(known.tensors)
        self.alignment, self.data_start = known.alignment, known.data_start
        return True

    def _remember(self, found: os.stat_result) -> None:
        """Keep what was parsed, unless the file has changed so lately that a change more would look the same."""
        if time.time() - max(found.st_mtime, found.st_ctime) < RESTED_S:
            return
        while len(_PARSED) >= MOST_PARSED:
            _PARSED.pop(next(iter(_PARSED)), None)
        parsed = _Parsed(dict(self.fields), dict(self.tensors), self.alignment, self.data_start)
        _PARSED[self.path.resolve(), *state_of(found)] = parsed

    def _parse(self) -> None:
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                self._parse_header(data)
            except (struct.error, IndexError, UnicodeDecodeError, OverflowError, MemoryError) as error:
                raise _truncated(self.path, "its header") from error

    def _parse_header(self, data: mmap.mmap) -> None:
        n_tensors, n_fields = struct.unpack_from("<QQ", data, 8)
        allowed = Allowance(self.path, self.size)
        allowed.counts(n_tensors, n_fields)
        at = 24
        for _ in range(n_fields):
            field, at = _field(data, at, allowed)
            if field.key in self.fields:
                raise SgError(f"{self.path}: the metadata key {field.key:.60} is there twice.", "Fetch it again.")
            self.fields[field.key] = field
        check_kinds(self.path, self.fields)
        check_values(self)
        self.alignment = self.value("general.alignment", ALIGNMENT)
        infos = []
        for _ in range(n_tensors):
            info, at = _tensor_info(data, at)
            infos.append(info)
        self.data_start = -(-at // self.alignment) * self.alignment
        for name, shape, number, offset in infos:
            self._add_tensor(name, shape, number, offset)

    def _add_tensor(self, name: str, shape: tuple[int, ...], number: int, offset: int) -> None:
        kind = type_of(number, f"{self.path}: tensor {name:.60}")
        if not shape or shape[-1] % kind.block or 0 in shape or name in self.tensors:
            hint = "Fetch the file again, or use another one."
            raise SgError(f"{self.path}: tensor {name:.60} of shape {shape} and type {kind.name} is malformed.", hint)
        tensor = Tensor(name, shape, kind.name, self.data_start + offset)
        if tensor.offset + tensor.n_bytes > self.size:
            raise _truncated(self.path, f"tensor {name}")
        self.tensors[name] = tensor


def _open(path: Path) -> FileIO:
    try:
        return open(path, "rb", buffering=0)
    except IsADirectoryError as error:
        raise SgError(f"{path} is a folder, not a GGUF file.", "Name the .gguf file itself.") from error
    except OSError as error:
        raise SgError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.") from error


def _truncated(path: Path, where: str) -> SgError:
    return SgError(f"{path} is damaged or cut off: {where} runs past the end of the file.", "Fetch the file again.")


def _string(data: Any, at: int, longest: int | None = None) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + length
    if end > len(data) or (longest is not None and length > longest):
        raise IndexError(end)
    return data[at + 8 : end], end


def _value(data: Any, at: int, kind: int) -> tuple[Any, int]:
    if kind == STRING:
        text, at = _string(data, at)
        return text.decode("utf-8", "replace"), at
    code = "<" + SCALARS[kind]
    return struct.unpack_from(code, data, at)[0], at + struct.calcsize(code)


def _skip(data: Any, at: int, kind: int, count: int) -> int:
    """The position behind `count` values of one type."""
    if kind == STRING:
        for _ in range(count):
            at += 8 + struct.unpack_from("<Q", data, at)[0]
    elif kind in SCALARS:
        at += count * struct.calcsize("<" + SCALARS[kind])
    else:
        raise IndexError(kind)
    if at > len(data):
        raise IndexError(at)
    return at


def _field(data: Any, start: int, allowed: Allowance) -> tuple[Field, int]:
    key, at = _string(data, start, MAX_KEY)
    (kind,) = struct.unpack_from("<I", data, at)
    at += 4
    element, count = None, 1
    if kind == ARRAY:
        element, count = struct.unpack_from("<IQ", data, at)
        at += 12
        allowed.array(element, count)
    end = _skip(data, at, kind if element is None else element, count)
    allowed.entry(end - start)
    return Field(key.decode(), kind, element, count, bytes(data[start:end]), at - start), end


def _tensor_info(data: Any, at: int) -> tuple[tuple[str, tuple[int, ...], int, int], int]:
    name, at = _string(data, at, MAX_KEY)
    (n_dims,) = struct.unpack_from("<I", data, at)
    if n_dims > 4:
        raise IndexError(n_dims)
    *dims, number, offset = struct.unpack_from(f"<{n_dims}QIQ", data, at + 4)
    return (name.decode(), tuple(reversed(dims)), number, offset), at + 4 + 8 * n_dims + 12
