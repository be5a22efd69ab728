"""The run folder: every path in it, journals that survive a kill, stamps that make a run resumable, one lock.

Journals (journals.py) are appended and flushed, and each line is parsed once. An artefact is built under a `.partial`
name and moved into place. A stage's stamp is written last and holds its settings and the digests of what it read, so
that its presence means the stage is complete and its content says whether it would come out the same. Only Unix file
locks are used. Longer than most: all that touches a run's files, and how files are written anywhere, is one room.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sg_local import __version__
from sg_local.facts import RUN_FACTS, STAMP_FACTS, read_facts
from sg_local.facts import read_json as read_json
from sg_local.journals import JournalFile
from sg_local.records import MadeOtherwise as MadeOtherwise
from sg_local.records import SgError, digest, to_json
from sg_local.words import did_you_mean

T = TypeVar("T")

logger = logging.getLogger(__name__)

DIGESTED_BYTES = 64 << 20  # up to here, a tenth of a second: the log tells the digest of a written file

RUN = "run.json"
RESTED_S = 2.0  # file systems keep times as coarse as this

STAGES = ("synth", "filter", "review", "train", "export", "eval")
INPUTS = "inputs.jsonl"
CANDIDATES = "candidates.jsonl"
VERDICTS = "verdicts.jsonl"
TRAIN = "train.jsonl"
VALID = "valid.jsonl"
ANSWERS = "answers.jsonl"
REPORT = "report.json"
ADAPTER = "adapter.gguf"


class Run:
    """One run folder. Opening it reads nothing; `settings` reads run.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journals: dict[str, JournalFile] = {}

    @property
    def name(self) -> str:
        return self.root.name

    def path(self, name: str) -> Path:
        """The path of a file or folder inside the run."""
        return self.root / name

    @property
    def settings(self) -> dict[str, Any]:
        """What run.json holds: task, model, form, seed and version, as plain data. What it lacks is an SgError."""
        return read_facts(self.path(RUN), RUN_FACTS)

    def exists(self) -> bool:
        return self.path(RUN).is_file()

    def discard_if_empty(self) -> None:
        """Take away a folder in which nothing but the lock was made."""
        if all(path.name == ".lock" for path in self.root.iterdir()):
            remove(self.root)

    # Journals

    def append(self, name: str, rows: Iterable[Any]) -> None:
        """Append records as lines, flushed to the disk before it returns."""
        text = "".join(to_json(row) + "\n" for row in rows)
        if not text:
            return
        with translated(self.path(name)):
            self._journal(name).append(text)

    def read(self, name: str, cls: type[T]) -> list[T]:
        """The records of a journal in file order; a torn last line is passed over. No file: no records.

        The list is the caller's own. Rows are parsed once, however often they are read.
        """
        return self._journal(name).read(cls)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The lines of a journal as plain data, for rooms that do not know the record."""
        return self._journal(name).lines()

    def _journal(self, name: str) -> JournalFile:
        return self._journals.setdefault(name, JournalFile(self.path(name)))

    def replace(self, name: str, rows: Iterable[Any]) -> None:
        """Write a whole journal anew, atomically."""
        with artefact(self.path(name)) as partial:
            partial.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")

    def write_json(self, name: str, data: Any) -> None:
        """Write plain data as indented JSON, atomically."""
        with artefact(self.path(name)) as partial:
            partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    # Stamps

    def stamp(self, stage: str) -> dict[str, Any] | None:
        """The stamp of a finished stage, or None. What it lacks is an SgError."""
        path = self.path(f"stages/{stage}.json")
        return read_facts(path, STAMP_FACTS) if path.exists() else None

    def is_done(self, stage: str, settings: Any, reads: Iterable[str] = ()) -> bool:
        """True when the stage is finished with these settings and inputs; MadeOtherwise when with others."""
        old = self.stamp(stage)
        if old is None:
            return False
        different = differences(old, self._stamp_data(settings, reads))
        if not different:
            return True
        raise MadeOtherwise(
            f"Stage {stage} of run {self.name} was made with {different}.",
            "Use `redo` to make it again, or another `name` for a new run.",
        )

    def write_stamp(self, stage: str, settings: Any, reads: Iterable[str] = (), **extra: Any) -> None:
        """Mark a stage as finished. `extra` holds what it reports, such as seconds and counts."""
        data = {**self._stamp_data(settings, reads), "version": __version__, **extra}
        self.write_json(f"stages/{stage}.json", data)

    def clear_stage(self, stage: str) -> None:
        """Forget that a stage was finished."""
        self.path(f"stages/{stage}.json").unlink(missing_ok=True)

    def _stamp_data(self, settings: Any, reads: Iterable[str]) -> dict[str, Any]:
        is_record = dataclasses.is_dataclass(settings) and not isinstance(settings, type)
        plain = dataclasses.asdict(settings) if is_record else settings
        return {
            "settings": json.loads(json.dumps(plain)),
            "reads": {name: file_digest(self.path(name)) for name in reads},
        }

    # Lock

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; SgError when another process holds it."""
        path = self.path(".lock")
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                hint = "Wait for it to end, or use another `name` for a run of your own."
                raise SgError(f"Run {self.name} is in use by process {holder}.", hint) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def check_name(name: str) -> str:
    """A run name that is safe as one folder name; SgError (usage) otherwise."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        return name
    hint = "Use letters, digits, dots, dashes and underscores, beginning with a letter or digit."
    raise SgError(f"{name!r} cannot be a run name.", hint, exit_code=2)


def default_name(task: str, model: str) -> str:
    """The run's name where none is given: task and model."""
    text = f"{task}-{model}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")[:100] or "run"


def open_run(runs: Path, name: str) -> Run:
    """An existing run by name; SgError with the nearest name, or all there are, otherwise."""
    run = Run(runs / check_name(name))
    if run.exists():
        return run
    known = [found.name for found in list_runs(runs)]
    hint = did_you_mean(name, known) or f"Runs here: {', '.join(known) or 'none yet'}."
    raise SgError(f"There is no run named {name!r} in {runs}.", hint, exit_code=2)


def list_runs(runs: Path) -> list[Run]:
    """Every run in the folder, by name."""
    if not runs.is_dir():
        return []
    return [Run(path) for path in sorted(runs.iterdir()) if (path / RUN).is_file()]


@contextlib.contextmanager
def artefact(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Build a file or folder at `path.partial`, then move it into place; on an error the partial is removed.

    `shared`: other processes may build the same one at the same time, as in a cache; each has a partial of its own.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    with translated(path):
        remove(partial)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        except BaseException:
            remove(partial)
            raise
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


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an SgError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            hint = "Free some space and run the same command again: finished rows are kept."
            raise SgError(f"The disk is full while writing {path}.", hint) from error
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
    # The inode sets a file apart that was put in the place of another of its size and time.
    key = (path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ino)
    known = _known_digests()
    if key not in known:
        known[key] = _sha256(path) if cache is None else _cached_sha256(path, facts, cache)
    return known[key]


@functools.cache
def _known_digests() -> dict[tuple[Path, int, int, int], str]:
    """The process's memory of `file_digest`."""
    return {}


def _cached_sha256(path: Path, facts: os.stat_result, cache: Path) -> str:
    key = hashlib.sha256(f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()).hexdigest()[:32]
    entry = cache / "digests" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads(entry.read_text())["sha256"])
    found = _sha256(path)
    write_cache(entry, {"path": str(path), "sha256": found})
    return found


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two stamps, in words; empty when nothing does."""
    words = []
    for key in sorted({*old["settings"], *new["settings"]}):
        before, after = old["settings"].get(key), new["settings"].get(key)
        if before != after:
            words.append(f"{key} {_brief(before)} (now {_brief(after)})")
    for name, value in new["reads"].items():
        if old["reads"].get(name) != value:
            words.append(f"another {name}")
    return ", ".join(words)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else digest(value)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The work's result and the seconds it took."""
    start = time.monotonic()
    return work(), time.monotonic() - start
