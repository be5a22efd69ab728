"""A file's bytes, unpacked where they are compressed, and its text: UTF-8, or UTF-16 by its mark.

Other encodings are refused: what they meant cannot be told from the bytes.
"""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import itertools
import re
import zlib
from pathlib import Path

from sg_local.reading import read_bytes
from sg_local.records import SgError
from sg_local.words import size

MAX_TABLE_BYTES = 256 << 20
"""Of a file of rows, unpacked. Its cells take up to five times that in memory."""
PART_BYTES = 1 << 20

CONTROL = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]")
"""What no text holds; line breaks, tabs and the page breaks of old documents are left."""

WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def file_bytes(path: Path) -> bytes:
    """A regular file's bytes, gzip unpacked. SgError (usage) for none, for too many, and for broken gzip."""
    data = read_bytes(path, MAX_TABLE_BYTES)
    return unpacked(data, path) if data[:2] == b"\x1f\x8b" else data


def unpacked(data: bytes, path: Path) -> bytes:
    """What gzip holds, up to MAX_TABLE_BYTES."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            parts = iter(functools.partial(file.read, PART_BYTES), b"")  # room for a whole read is taken before it
            found = b"".join(itertools.islice(parts, MAX_TABLE_BYTES // PART_BYTES + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise SgError(f"{path}: this is not whole gzip ({error}).", "Compress it again.", exit_code=2) from error
    if len(found) > MAX_TABLE_BYTES:
        hint = f"Up to {size(MAX_TABLE_BYTES)} are read. Split it."
        raise SgError(f"{path} unfolds to more than {size(MAX_TABLE_BYTES)}.", hint, exit_code=2)
    return found


def text_of(data: bytes, path: Path) -> str:
    """Bytes as text without the byte order mark. Raises SgError (usage) that names the line."""
    wide = _wide(data)
    encoding = wide or "utf-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count("\n".encode(encoding)) + 1
        if wide:
            raise SgError(f"{path}:{line}: this is broken UTF-16.", "Save it as UTF-8.", exit_code=2) from error
        hint = "Save it as UTF-8; in Excel: Save As, `CSV UTF-8`. It looks like an older encoding such as Windows-1252."
        message = f"{path}:{line}: this is not UTF-8 text (the byte {data[error.start]:#04x})."
        raise SgError(message, hint, exit_code=2) from error


def control_in(text: str) -> str:
    """The first control character or half of a surrogate pair in a text, in words; '' where there is none."""
    found = CONTROL.search(text)
    return f"the control character U+{ord(found[0]):04X}" if found else ""


def _wide(data: bytes) -> str | None:
    """The UTF-16 that bytes are in, by their mark or, where a text begins with a zero byte, by its place."""
    marked = WIDE.get(data[:2])
    if marked or len(data) < 2:
        return marked
    first, second = data[0] == 0, data[1] == 0
    return {(True, False): "utf-16-be", (False, True): "utf-16-le"}.get((first, second))
