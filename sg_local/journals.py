"""A journal: a file of one JSON object a line, appended and flushed, each line parsed once however often it is read.

A torn last line is passed over, and cut before the next append. The parsed rows are kept for each record class, and
stand for as long as the file is the one that was read (inode, size, time of change); after an append of our own only
the new lines are parsed. A program that rewrote the file in place, to the same size and within one tick of the file
system's clock, would not be noticed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sg_local.files import private
from sg_local.reading import as_record, loads, open_file
from sg_local.records import SgError

T = TypeVar("T")
Identity = tuple[int, int, int]

HINT = "Fix or delete this line; the rows after it are kept."


@dataclass
class Parsed:
    """The rows read so far as one record class, the byte where the next one begins, and the file as it was then."""

    file: Identity
    end: int = 0
    rows: list[Any] = field(default_factory=list)


class JournalFile:
    """One journal. Opening it reads nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parsed: dict[type, Parsed] = {}

    def append(self, text: str) -> None:
        """Append whole lines, on the disk before it returns. Raises OSError as the file system does."""
        with open(self.path, "a+b", opener=private) as file:
            before = identity(file)
            cut_torn_line(file)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            after = identity(file)
        for parsed in self._parsed.values():
            if parsed.file == before:
                parsed.file = after

    def read(self, cls: type[T]) -> list[T]:
        """The records in file order, in a list of the caller's own. No file: no records."""
        try:
            file = open_file(self.path, exit_code=1)
        except FileNotFoundError:
            self._parsed.clear()
            return []
        with file:
            now = identity(file)
            parsed = self._parsed.get(cls)
            if parsed is None or parsed.file != now:
                parsed = self._parsed[cls] = Parsed(now)
            for end, data in self._lines(file, parsed.end, len(parsed.rows)):
                place = f"{self.path}:{len(parsed.rows) + 1}"
                parsed.rows.append(as_record(cls, data, place, HINT))
                parsed.end = end
        return list(parsed.rows)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines as plain data, parsed anew each time: the caller may change them."""
        if not self.path.exists():
            return
        with open_file(self.path, exit_code=1) as file:
            for _, data in self._lines(file):
                yield data

    def _lines(self, file: BinaryIO, end: int = 0, n_before: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each whole line from byte `end` on, with `n_before` lines before it: where it ends, and its data."""
        file.seek(end)
        for number, line in enumerate(file, n_before + 1):
            if not line.endswith(b"\n"):
                return
            try:
                data = loads(line)
            except ValueError as error:
                raise self._wrong(number, f"this line is not JSON ({error})") from error
            if not isinstance(data, dict):
                raise self._wrong(number, "this line is not an object")
            end += len(line)
            yield end, data

    def _wrong(self, number: int, what: str) -> SgError:
        return SgError(f"{self.path}:{number}: {what}.", HINT)


def identity(file: BinaryIO) -> Identity:
    """What tells an open file and its state from another: inode, size in bytes, time of the last change in ns."""
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def cut_torn_line(file: BinaryIO) -> None:
    """Truncate an open binary file after its last line end, and stand at its end."""
    end = file.seek(0, os.SEEK_END)
    keep = end
    while keep:
        start = max(0, keep - 65536)
        file.seek(start)
        found = file.read(keep - start).rfind(b"\n")
        keep = start + found + 1 if found >= 0 else start
        if found >= 0:
            break
    if keep != end:
        file.truncate(keep)
    file.seek(0, os.SEEK_END)
