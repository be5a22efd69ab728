"""How files are written, anywhere: whole or not at all, for their owner alone unless they are published; their digests.

A file or folder is built under a `.partial` name and moved into place. Modes are 0600 and 0700 whatever the umask:
rows and texts are private. What is made to be shared is published, with the modes that the user's own files have.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sg_local.records import SgError

logger = logging.getLogger(__name__)

DIGESTED_BYTES = 64 << 20  # up to here, a tenth of a second: the log tells the digest of a written file
NO_SPACE = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "Your share of the disk is full",
    errno.EFBIG: "The limit on a file's size is reached",
}
ENTRY = re.compile(rb'"sha256": "(?P<digest>[0-9a-f]{64})"')
MAX_ENTRY = 100_000  # bytes: a path and a digest
RESTED_S = 2.0  # file systems keep times as coarse as this
OF_A_PROCESS = re.compile(r"\.(?P<process>\d+)\.(?:partial|gguf)$")


@contextlib.contextmanager
def artefact(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Build a file or folder at `path.partial`, then move it into place; on an error the partial is removed.

    `shared`: other processes may build the same one at the same time, as in a cache; each has a partial of its own.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    with translated(path):
        remove(partial)
        make_folder(path.parent)
        try:
            yield partial
        except BaseException:
            remove(partial)
            raise
        _set_modes(partial, 0o077)
        _sync(partial)
        if partial.is_dir():
            remove(path)
        os.replace(partial, path)
        _sync(path.parent)
    _tell_written(path)


def _tell_written(path: Path) -> None:
    """Log a file's size and digest, where somebody listens; large files are digested by the stage that made them."""
    if not logger.isEnabledFor(logging.INFO) or not path.is_file():
        return
    size = path.stat().st_size
    found = f"sha256 {file_digest(path)}" if size <= DIGESTED_BYTES else "not digested here"
    logger.info("wrote %s, %d bytes, %s", path, size, found)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, for their owner alone."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def private(path: str, flags: int) -> int:
    """An opener for `open`: a new file is its owner's alone, and a link is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def held(path: Path, what: str, hint: str) -> Iterator[None]:
    """Hold a lock file for this process; SgError that says `what` is in use when another process holds it."""
    with translated(path):
        make_folder(path.parent)
        file = open(path, "a+", opener=private)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SgError(f"{what} is in use by process {holder}.", hint) from error
        with translated(path):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def publish(path: Path) -> None:
    """Give a file or folder that is made to be shared the modes that the user's files have."""
    _set_modes(path, _users_umask())


def keep_private() -> None:
    """Let all that this process and its children write be the owner's alone, libraries' files included."""
    _users_umask()
    os.umask(0o077)


@functools.cache
def _users_umask() -> int:
    """The umask that the process was started with."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_modes(path: Path, umask: int) -> None:
    """Modes of a file, or of a folder and all in it, but for what the umask takes away."""
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        one.chmod((0o777 if one.is_dir() else 0o666) & ~umask)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` once it is closed without an error and safe on the disk."""
    with artefact(path) as partial, open(partial, "wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with artefact(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_cache(path: Path, data: Any) -> None:
    """Write a cache entry as JSON, whole or not at all. A cache that cannot be written is no failure."""
    with contextlib.suppress(SgError), artefact(path, shared=True) as partial:
        partial.write_text(json.dumps(data), encoding="utf-8")


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_left_over(path: Path) -> bool:
    """Whether a process that is gone was still writing this file: its name bears the process's number."""
    found = OF_A_PROCESS.search(path.name)
    return found is not None and not _lives(int(found["process"]))


def _lives(process: int) -> bool:
    """Whether a process runs; one of somebody else's does."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def shred(path: Path) -> None:
    """Overwrite every file in a folder once, and delete it.

    What a solid-state disk, a copying file system or a backup holds beside is out of reach: an encrypted disk helps.
    """
    for file in path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            with open(file, "r+b", buffering=0, opener=private) as opened:
                left = os.fstat(opened.fileno()).st_size
                while left > 0:
                    left -= opened.write(os.urandom(min(left, 1 << 20)))
                os.fsync(opened.fileno())
    remove(path)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an SgError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            hint = "Free some space and run the same command again: finished rows are kept."
            raise SgError(f"{NO_SPACE[error.errno]} while writing {path}.", hint) from error
        if error.errno == errno.ELOOP:
            raise SgError(f"Cannot write {path}: it is a link.", "Put the file itself there.") from error
        raise SgError(f"Cannot write {path}: {error.strerror}.", "Check the folder's permissions.") from error


def file_digest(path: Path, cache: Path | None = None) -> str | None:
    """SHA-256 of a file's bytes in hex, or None where there is no file.

    A file that has rested for RESTED_S is read once: the process remembers it by path, size and time of change, and so
    does the folder `cache` where one is given. A younger one could still change within its clock's tick.
    """
    if not path.is_file():
        return None
    facts = path.stat()
    if time.time() - facts.st_mtime < RESTED_S:
        return _sha256(path)
    key = (path.resolve(), *state_of(facts))
    known = _known_digests()
    if key not in known:
        known[key] = _sha256(path) if cache is None else _cached_sha256(path, facts, cache)
    return known[key]


@functools.cache
def _known_digests() -> dict[tuple[Path, int, int, int, int], str]:
    """The process's memory of `file_digest`."""
    return {}


def state_of(facts: os.stat_result) -> tuple[int, int, int, int]:
    """What sets a file apart from another that took its place, even one of its size and with its time of change.

    Whoever copies a file can give it any time of change (images and archives often do), but not the system's own.
    """
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _cached_sha256(path: Path, facts: os.stat_result, cache: Path) -> str:
    key = hashlib.sha256("\0".join(map(str, (path.resolve(), *state_of(facts)))).encode()).hexdigest()[:32]
    entry = cache / "digests" / f"{key}.json"
    known = _digest_in(entry)
    if known:
        return known
    found = _sha256(path)
    write_cache(entry, {"path": str(path), "sha256": found})
    return found


def _digest_in(entry: Path) -> str:
    """The digest in an entry of the cache; empty where it cannot be read as we write it."""
    with contextlib.suppress(OSError):
        found = ENTRY.search(entry.read_bytes()) if entry.is_file() and entry.stat().st_size <= MAX_ENTRY else None
        return found["digest"].decode() if found else ""
    return ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
