"""Malformed files of the forms that have a form inside: TOML, zip archives (XLSX, npz), gzip and GGUF.

TOML and archives are taken apart, changed inside and put together again. In a GGUF the numbers that say how much
follows and of which type (counts, lengths, types, dimensions, offsets) are changed one at a time, and whole entries
are left out, doubled, or given a value of another type.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from data import Twin, data_changed
from mutators import Mutator, bytes_changed, text_changed

# TOML


def toml_changed(rng: random.Random, data: bytes) -> bytes:
    """A TOML text with one value, key or place changed; other bytes are changed as text."""
    try:
        value = data_changed(rng, tomllib.loads(data.decode()))
        return toml_text(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, AttributeError):
        return text_changed(rng, data)


def toml_text(data: dict[str, Any]) -> str:
    """A table as TOML: lists of tables by their headers, everything else in one line."""
    plain = [f"{_key(key)} = {_value(one)}" for key, one in data.items() if not _is_tables(one)]
    tables = [(key, row) for key, rows in data.items() if _is_tables(rows) for row in rows]
    lines = [*plain]
    for key, row in tables:
        lines += [f"[[{_key(key)}]]", *(f"{_key(name)} = {_value(one)}" for name, one in row.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _key(key: str) -> str:
    plain = isinstance(key, Twin) or (key.isascii() and key.replace("_", "").replace("-", "").isalnum())
    return str.__str__(key) if plain else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # nan and inf are TOML's
    return json.dumps("none" if value is None else value, default=str)


# Archives


def zip_changed(rng: random.Random, data: bytes) -> bytes:
    """An archive with one of its parts changed, left out or doubled; at times the archive's own bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [(one.filename, archive.read(one)) for one in archive.infolist()]
    except Exception:  # noqa: BLE001 - it is broken already, in one of many ways
        return bytes_changed(rng, data)
    if not parts or rng.random() < 0.1:
        return bytes_changed(rng, data)
    at = rng.randrange(len(parts))
    name, inside = parts[at]
    change = rng.random()
    if change < 0.08:
        del parts[at]
    elif change < 0.12:
        parts[at] = (rng.choice(("../x", "x" * 300, name.upper())), inside)
    else:
        parts[at] = (name, rng.choice((text_changed, bytes_changed))(rng, inside))
    return _zipped(parts)


def _zipped(parts: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # a name may stand twice
        for name, inside in parts:
            archive.writestr(zipfile.ZipInfo(name), inside, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def gzipped(change: Mutator) -> Mutator:
    """A change to what gzip holds, or now and then to the gzip file itself."""

    def changed(rng: random.Random, data: bytes) -> bytes:
        try:
            inside = gzip.decompress(data)
        except Exception:  # noqa: BLE001 - it is broken already, in one of many ways
            return bytes_changed(rng, data)
        return bytes_changed(rng, data) if rng.random() < 0.2 else gzip.compress(change(rng, inside), mtime=0)

    return changed


# GGUF

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ODD_WHOLE = (0, 1, 2, 3, 7, 8, 9, 13, 31, 32, 33, 255, 256, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Gguf:
    """A GGUF taken apart: entries and tensor infos as they are in the file, and the tensors' data."""

    version: int
    entries: tuple[bytes, ...]
    infos: tuple[bytes, ...]
    data: bytes

    def whole(self, alignment: int = 32) -> bytes:
        """The file."""
        counts = struct.pack("<4sIQQ", b"GGUF", self.version, len(self.infos), len(self.entries))
        head = counts + b"".join(self.entries) + b"".join(self.infos)
        return head + b"\0" * (-len(head) % alignment) + self.data


def gguf_parts(file: bytes) -> tuple[Gguf, tuple[tuple[int, int], ...]]:
    """A sound GGUF's parts, and (place, size) of every number in its header. struct.error for a broken one."""
    numbers: list[tuple[int, int]] = []

    def take(at: int, size: int) -> tuple[int, int]:
        numbers.append((at, size))
        return int.from_bytes(file[at : at + size], "little"), at + size

    def text(at: int) -> int:
        length, at = take(at, 8)
        return at + length

    def value(at: int, kind: int) -> int:
        return text(at) if kind == 8 else take(at, SIZES[kind])[1]

    def entry(at: int) -> int:
        kind, at = take(text(at), 4)
        if kind != 9:
            return value(at, kind)
        element, at = take(at, 4)
        count, at = take(at, 8)
        n_numbers = len(numbers)
        for _ in range(count):
            at = value(at, element)
        del numbers[n_numbers + 2 :]  # one item of a vocabulary is like the others
        return at

    def info(at: int) -> int:
        n_dims, at = take(text(at), 4)
        for size in (*[8] * n_dims, 4, 8):
            at = take(at, size)[1]
        return at

    n_tensors, n_entries = struct.unpack_from("<QQ", file, 8)
    numbers += [(4, 4), (8, 8), (16, 8)]
    places = [24]
    for read in (*[entry] * n_entries, *[info] * n_tensors):
        places.append(read(places[-1]))
    parts = [file[start:end] for start, end in zip(places, places[1:], strict=False)]
    data = file[-(-places[-1] // 32) * 32 :]
    version = int.from_bytes(file[4:8], "little")
    return Gguf(version, tuple(parts[:n_entries]), tuple(parts[n_entries:]), data), tuple(numbers)


def gguf_mutator(sound: Callable[[], bytes]) -> Mutator:
    """What changes a GGUF that is, but for other changes, this sound one. It is taken apart once."""

    @cache
    def parts_of() -> tuple[Gguf, tuple[tuple[int, int], ...]]:
        return gguf_parts(sound())

    def changed(rng: random.Random, data: bytes) -> bytes:
        parts, numbers = parts_of()
        if rng.random() < 0.5 or len(data) != len(sound()):
            at, size = rng.choice(numbers)
            odd = rng.choice(ODD_WHOLE) % (1 << 8 * size)
            return data[:at] + odd.to_bytes(size, "little") + data[at + size :]
        return _entries_changed(rng, parts).whole()

    return changed


def _entries_changed(rng: random.Random, parts: Gguf) -> Gguf:
    entries, infos = list(parts.entries), list(parts.infos)
    at = rng.randrange(len(entries))
    change = rng.randrange(6)
    if change == 0:
        del entries[at]
    elif change == 1:
        entries.append(entries[at])
    elif change == 2:
        infos.pop(rng.randrange(len(infos)))
    elif change == 3:
        infos.append(rng.choice(infos))
    elif change == 4:
        entries[at] = _other_name(rng, entries[at])
    else:
        entries[at] = _name_of(entries[at]) + odd_field(rng)
    return Gguf(parts.version, tuple(entries), tuple(infos), parts.data)


def _name_of(entry: bytes) -> bytes:
    """The key of an entry, with its length."""
    return entry[: 8 + int.from_bytes(entry[:8], "little")]


def _other_name(rng: random.Random, entry: bytes) -> bytes:
    name = rng.choice((b"", b"general.architecture", b"a\0b", b"\xff\xfe", b"x" * 70_000, b"split.count", b"\x1b[2J"))
    return struct.pack("<Q", len(name)) + name + entry[len(_name_of(entry)) :]


def odd_field(rng: random.Random) -> bytes:
    """A type and a value: a text, a number of any width, or a list of these."""
    kind = rng.choice((*SIZES, 8, 8, 9, 9, 13, 2**31))
    if kind != 9:
        return struct.pack("<I", kind) + _odd_payload(rng, kind)
    element, count = rng.choice((*SIZES, 8, 9)), rng.choice((0, 1, 2, 5, 300))
    return struct.pack("<IIQ", 9, element, count) + b"".join(_odd_payload(rng, element) for _ in range(count))


def _odd_payload(rng: random.Random, kind: int) -> bytes:
    if kind == 8:
        text = rng.choice(
            (b"", b"llama", b"qwen2", b"gemma3", b"adapter", b"\xff", b"\x1b[2J", b"{{ x", b"a" * 5000, b"lora")
        )
        return struct.pack("<Q", len(text)) + text
    odd = rng.choice((*ODD_WHOLE, 0x7F800000, 0x7FC00000, 0x7FF0 << 48, 0x3F800000))
    size = SIZES.get(kind, 4)
    return (odd % (1 << 8 * size)).to_bytes(size, "little")
