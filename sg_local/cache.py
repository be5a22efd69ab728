"""What sg-local keeps to be faster the second time: what it is, of which model, how large; and its removal.

Everything in the folder of caches can be made again: faster copies of models, what was found about engines, digests of
files. Files that a process was still writing bear its number; those of a process that is gone are swept.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sg_local.files import is_left_over, remove
from sg_local.reading import read_record
from sg_local.records import SgError

COPIES, CHOICES, DIGESTS, TRIED, PACES, KNOWN = "models", "choices", "digests", "tried", "paces", "known"
KINDS = {
    COPIES: "faster copy",
    CHOICES: "engine choices",
    DIGESTS: "file hashes",
    TRIED: "models tested with an engine",
    PACES: "how long stages took",
    KNOWN: "inputs for calibrating labels",
}
LEFT_OVER = "left over"
COPY = re.compile(r"(?P<digest>[0-9a-f]{16})-(?P<format>\w+)\.gguf$")


@dataclass(frozen=True)
class Cached:
    """One line of what fills the cache: files of a kind, for a model where they belong to one. Sizes in bytes."""

    kind: str
    model: str
    size_bytes: int
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Digested:
    """An entry of the cache of digests."""

    path: Path
    sha256: str


def cached(folder: Path, names: Mapping[str, str]) -> list[Cached]:
    """What is in the folder of caches, the largest first. `names` are models' names by the head of their digest."""
    found = [_copy(path, names) for path in _files(folder / COPIES) if COPY.fullmatch(path.name)]
    found += [_all(KINDS[name], _files(folder / name)) for name in (CHOICES, DIGESTS, TRIED, PACES, KNOWN)]
    found.append(_all(LEFT_OVER, left_over(folder)))
    return sorted((line for line in found if line.paths), key=lambda line: -line.size_bytes)


def digests_by_path(folder: Path) -> dict[Path, str]:
    """The SHA-256 of every file that was digested, as the cache remembers it."""
    found = {}
    for path in _files(folder / DIGESTS):
        with contextlib.suppress(SgError):  # an entry that is damaged is made again when it is needed
            entry = read_record(path, Digested)
            found[entry.path] = entry.sha256
    return found


def left_over(folder: Path) -> list[Path]:
    """What processes that are gone were still writing."""
    files = [*_files(folder), *(path for name in KINDS for path in _files(folder / name))]
    return [path for path in files if is_left_over(path)]


def sweep(folder: Path) -> int:
    """Delete what processes that are gone have left, and return how many bytes that frees."""
    return clear([_all(LEFT_OVER, left_over(folder))])


def clear(lines: list[Cached]) -> int:
    """Delete the files of these lines, and return how many bytes that frees."""
    for path in (path for line in lines for path in line.paths):
        remove(path)
    return sum(line.size_bytes for line in lines)


def _copy(path: Path, names: Mapping[str, str]) -> Cached:
    found = COPY.fullmatch(path.name)
    assert found is not None
    model = names.get(found["digest"], f"a model that is gone ({found['digest'][:8]})")
    return Cached(f"{KINDS[COPIES]}, {found['format']}", model, path.stat().st_size, (path,))


def _all(kind: str, paths: list[Path]) -> Cached:
    return Cached(kind, "", sum(path.stat().st_size for path in paths), tuple(paths))


def _files(folder: Path) -> list[Path]:
    """The files right inside a folder, links left out; none where there is no folder."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_file() and not path.is_symlink()]
