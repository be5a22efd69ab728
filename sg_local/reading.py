"""Files that somebody else may have written, as text, lines, JSON or TOML: the value, or one SgError with its place.

Files that a user names and the small files of a run come in here. Only regular files are opened, up to a size. Text is
UTF-8, a byte order mark at its head is dropped, and lines end at \\n and \\r\\n alone. JSON and TOML are held to what
can be written again and be shown: finite numbers, no lone surrogates, at most MAX_DEPTH levels. The limits keep a
hostile file from taking more than two seconds, or more memory than twice its size and 64 MB.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sg_local.records import SgError, from_dict
from sg_local.words import size

T = TypeVar("T")

MAX_BYTES = 32 << 20  # of a file that is read as one piece; published Super-NI tasks have 20 MB at most
MAX_ROW_BYTES = 1 << 30  # of a file of rows
MAX_TOML_BYTES = 4 << 20
MAX_TOML_MARKS = 60_000  # tomllib takes up to 30 us for a key and 90 for a header
MAX_VALUES = 800_000  # at 80 bytes each, 64 MB
MAX_DEPTH = 100

LONE = re.compile("[\ud800-\udfff]")
KEY = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
LONG_KEY = re.compile(rf"(?<![\w-]){KEY}(?:[ \t]*+\.[ \t]*+{KEY}){{{MAX_DEPTH}}}")  # tomllib takes its square


def open_file(path: Path, *, exit_code: int = 2) -> BinaryIO:
    """A regular file, open for reading. Raises FileNotFoundError for none, SgError for what is not to be read."""
    try:
        # A FIFO that nobody writes to would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        hint = "Check the path and its permissions."
        raise SgError(f"{path} cannot be read: {error.strerror}.", hint, exit_code=exit_code) from error
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise SgError(f"{str(path)!r} is not a file name.", "Check the path.", exit_code=exit_code) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        hint = "Name a file: a folder, a pipe or a device cannot be read."
        raise SgError(f"{path} is not a regular file.", hint, exit_code=exit_code)
    return open(handle, "rb")


def read_bytes(path: Path, most: int = MAX_BYTES, *, exit_code: int = 2) -> bytes:
    """A regular file's bytes. Raises SgError for none, for what is no file, and for one larger than `most`."""
    try:
        file = open_file(path, exit_code=exit_code)
    except FileNotFoundError as error:
        raise SgError(f"There is no file at {path}.", "Check the path.", exit_code=exit_code) from error
    with file:
        found = os.fstat(file.fileno()).st_size
        if found > most:
            hint = f"Files up to {size(most)} are read. Is it the right one?"
            raise SgError(f"{path} is too large ({size(found)}).", hint, exit_code=exit_code)
        return file.read(found)  # room for `most` would be taken before the first byte


def read_text(path: Path, most: int = MAX_BYTES, *, exit_code: int = 2) -> str:
    """A file's text, lines ending at \\n. Raises SgError as `read_bytes` does, and for another encoding."""
    return _decoded(read_bytes(path, most, exit_code=exit_code), path, 1, exit_code).replace("\r\n", "\n")


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Each line of a text that is not blank, with its number from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def read_lines(path: Path, *, exit_code: int = 2) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, with its number from 1. U+2028 and its like end no line."""
    data = read_bytes(path, MAX_ROW_BYTES, exit_code=exit_code)
    start = number = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        line = _decoded(data[start:end], path, number, exit_code)
        start = end + 1
        if line.strip():
            yield number, line


def read_json(path: Path, hint: str = "Check the file.", *, exit_code: int = 2) -> Any:
    """A JSON file's data. Raises SgError that names the line."""
    return parse_json(read_text(path, exit_code=exit_code), str(path), hint, exit_code=exit_code)


def parse_json(text: str, place: str, hint: str, *, is_line: bool = False, exit_code: int = 2) -> Any:
    """The data of JSON text. `place` says where it stands; the line is added where it is more than one line's text."""
    try:
        return loads(text)
    except ValueError as error:
        line = None if is_line else getattr(error, "lineno", None)
        place = f"{place}:{line}" if line else place
        raise SgError(f"{place}: this is not JSON ({_brief(error)}).", hint, exit_code=exit_code) from error


def read_record(path: Path, cls: type[T], hint: str = "Check the file.", *, exit_code: int = 1) -> T:
    """The record in a JSON file. Raises SgError that names the file and, by its path in the data, the key."""
    return as_record(cls, read_json(path, hint, exit_code=exit_code), str(path), hint, exit_code=exit_code)


def as_record(cls: type[T], data: Any, place: str, hint: str, *, exit_code: int = 1) -> T:
    """The record in plain data that stands at this place: a file, or FILE:LINE. Raises SgError that names both."""
    try:
        return from_dict(cls, data)
    except SgError as error:
        raise SgError(f"{place}: {error.message}.", error.hint or hint, exit_code=exit_code) from error


def read_toml(path: Path, hint: str = "Fix this line.") -> dict[str, Any]:
    """A TOML file's tables. Raises SgError (usage) that names the line."""
    return parse_toml(read_text(path, MAX_TOML_BYTES), path, hint)


def parse_toml(text: str, path: Path, hint: str) -> dict[str, Any]:
    """The tables of TOML text from the file `path`."""
    marks = text.count("=") + text.count("{") + 3 * text.count("\n[") + text.count(".") // 2
    if marks > MAX_TOML_MARKS:
        advice = "Keep many rows in a JSON lines file of their own."
        raise SgError(f"{path} holds too many keys for TOML.", advice, exit_code=2)
    try:
        if LONG_KEY.search(text):
            raise ValueError(f"a key of more than {MAX_DEPTH} parts")
        data = tomllib.loads(text)
        check_plain(data)
    except (ValueError, RecursionError) as error:  # ValueError: Python's own for a number of thousands of digits, too
        found = re.search(r"line (\d+)", str(error))
        last = text.rstrip().count("\n") + 1 if "end of document" in str(error) else None
        line = found[1] if found else last
        place = f"{path}:{line}" if line else str(path)
        raise SgError(f"{place}: this is not TOML ({_brief(error)}).", hint, exit_code=2) from error
    return data


def loads(text: str | bytes) -> Any:
    """The data of JSON text, where it can be written again and be shown; ValueError otherwise."""
    if len(text) > MAX_VALUES and _n_marks(text) > MAX_VALUES:
        raise ValueError("too many values")
    try:
        data = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"more than {MAX_DEPTH} levels") from error
    check_plain(data)
    return data


def check_plain(data: Any) -> None:
    """Raise ValueError for more than MAX_DEPTH levels, a number that is not finite, and a lone surrogate."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str:
                if not one.isascii() and LONE.search(one):
                    raise ValueError("half of a surrogate pair, which is not a character")
            elif kind is dict:
                deeper += one
                deeper += one.values()
            elif kind is list:
                deeper += one
            elif kind is float and one - one != 0:
                raise ValueError(f"{one} is not a JSON value")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"more than {MAX_DEPTH} levels")


def _n_marks(text: str | bytes) -> int:
    """At least the number of values that JSON text holds."""
    if isinstance(text, bytes):
        return sum(text.count(mark) for mark in (b",", b"[", b"{", b":"))
    return sum(text.count(mark) for mark in ",[{:")


def _decoded(data: bytes, path: Path, line: int, exit_code: int) -> str:
    """Bytes that begin in this line of the file, as text."""
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = "It looks like UTF-16: save it as UTF-8." if wide else "Save it as UTF-8."
        raise SgError(f"{path}:{line}: this is not UTF-8 text.", hint, exit_code=exit_code) from error


def _refuse(constant: str) -> None:
    """NaN and the infinities are Python's, not JSON's."""
    raise ValueError(f"{constant} is not a JSON value")


def _brief(error: BaseException) -> str:
    """What a parser says, without the text it could not read."""
    if isinstance(error, RecursionError):
        return f"more than {MAX_DEPTH} levels"
    text = str(error)
    return text if len(text) <= 120 else f"{text[:119]}\u2026"
