"""The run folder: every path in it, journals that survive a kill, stamps that make a run resumable, one lock.

Journals (journals.py) are appended and flushed, and each line is parsed once. An artefact is built under a `.partial`
name and moved into place. A stage's stamp is written last and holds its settings and the digests of what it read, so
that its presence means the stage is complete and its content says whether it would come out the same. Only Unix file
locks are used. A run folder is its owner's alone, and nothing is written into it through links: it may come from
somebody else. The module is longer than most, so that every name and promise of the folder stands in one place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sg_local import __version__
from sg_local.facts import RUN_FACTS, STAMP_FACTS, read_facts, task_in
from sg_local.facts import read_json as read_json
from sg_local.files import file_digest, held, is_left_over, remove, translated, write_text
from sg_local.journals import JournalFile
from sg_local.records import MadeOtherwise as MadeOtherwise
from sg_local.records import SgError, Task, digest, to_json
from sg_local.words import did_you_mean

T = TypeVar("T")

logger = logging.getLogger(__name__)

RUN = "run.json"

STAGES = ("synth", "filter", "review", "train", "export", "eval")
INPUTS = "inputs.jsonl"
CANDIDATES = "candidates.jsonl"
VERDICTS, NOTES = "verdicts.jsonl", "notes.jsonl"
TRAIN = "train.jsonl"
VALID = "valid.jsonl"
ANSWERS = "answers.jsonl"
FILE_ANSWERS = "file_answers.jsonl"
REPORT = "report.json"
ADAPTER = "adapter.gguf"
FUSED = "*-*.gguf"
"""The merged models: names of GGUF's convention, and fused-TYPE.gguf where 0.1.0 made them."""

FORECAST, MEASURED = "forecast", "measured"
"""Where run.json keeps what the stages were expected to take, and what they took."""
TRAINING = "adapter"
CALIBRATION = "calibration.json"
LABEL_BIAS = "label_bias.json"

GAINED = {
    "channel": False,
    "n_per_draw": 1,
    "n_orders": 1,
    "backward": False,
    "evidence": "direct",
    "named_label": {"on": False},
    "abstain": 0.0,
    "ensemble": 0,
    "mbr": 0,
    "mbr_temperature": 0.7,
    "canaries": 0,
    "without_demonstrations": False,
    "score_files": True,
    "may_lose": None,
    "precision": "f32",
    "layout": "lead",
    "shown": ("all",),
    "generations": 1,
    "soft": 0.0,
    "n_seeds": 1,
    "layer_share": 1.0,
    "lr_by_width": False,
    "policies": (),
}
"""Settings that stages gained later, each with the value that does what was done before."""


def without_gained(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as stamps had them before: without those that were gained and are not used."""
    return {name: value for name, value in settings.items() if name not in GAINED or value != GAINED[name]}


class Run:
    """One run folder. Opening it reads nothing; `settings` reads run.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journals: dict[str, JournalFile] = {}

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def typed(self) -> str:
        """What stands for the run in a command that can be copied: its name, or its folder, in quotes where a shell
        needs them, if that is not in `runs`."""
        return self.name if self.root.parent == Path("runs") else shlex.quote(str(self.root))

    def path(self, name: str) -> Path:
        """The path of a file or folder inside the run."""
        return self.root / name

    @property
    def settings(self) -> dict[str, Any]:
        """What run.json holds: task, model, form, seed and version, as plain data. What it lacks is an SgError."""
        return read_facts(self.path(RUN), RUN_FACTS)

    def task(self, version: str = "task") -> Task:
        """The task in run.json: as it is shown and trained on, or as its file was `written`."""
        return task_in(self.path(RUN), self.settings[version])

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
        write_text(self.path(name), "".join(to_json(row) + "\n" for row in rows))

    def write_json(self, name: str, data: Any) -> None:
        """Write plain data as indented JSON, atomically."""
        write_text(self.path(name), json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    # Stamps

    def stamp(self, stage: str) -> dict[str, Any] | None:
        """The stamp of a finished stage, or None. What it lacks is an SgError."""
        path = self.path(f"stages/{stage}.json")
        return read_facts(path, STAMP_FACTS) if path.exists() else None

    def is_done(self, stage: str, settings: Any, reads: Iterable[str] = ()) -> bool:
        """True when the stage is finished with these settings and inputs, and what it made is as it was.

        MadeOtherwise when it is finished with others.
        """
        old = self.stamp(stage)
        if old is None:
            return False
        damaged = self.damaged(stage)
        different = differences(old, self._stamp_data(settings, [name for name in reads if name not in damaged]))
        if not different:
            return not damaged
        raise MadeOtherwise(
            f"Stage {stage} of run {self.name} was made with {different}.",
            "Make it again with `redo`, or start a new run with another `name`.",
        )

    def damaged(self, stage: str) -> tuple[str, ...]:
        """The files of a finished stage that are gone, cut or changed. Stamps of 0.1.0 do not tell."""
        made = (self.stamp(stage) or {}).get("made", {})
        return tuple(name for name, was in made.items() if file_digest(self.path(name)) != was)

    def write_stamp(
        self, stage: str, settings: Any, reads: Iterable[str] = (), made: Iterable[str] = (), **extra: Any
    ) -> None:
        """Mark a stage as finished. `made` are files of its own that nothing adds to afterwards.

        `extra` holds what it reports, such as seconds and counts.
        """
        digests = {name: file_digest(self.path(name)) for name in made}
        data = {**self._stamp_data(settings, reads), "made": digests, "version": __version__, **extra}
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
        hint = "Wait for it to end, or use another `name` for a run of your own."
        with held(self.path(".lock"), f"Run {self.name}", hint):
            self._close_off()
            self._sweep()
            yield

    def _close_off(self) -> None:
        """Let nobody else into the folder, and refuse one with links in it, through which files would be written."""
        for folder, folders, files in os.walk(self.root):
            for path in (Path(folder, name) for name in (*folders, *files)):
                if path.is_symlink():
                    hint = "Put the file itself there, or begin a run of your own with another `name`."
                    raise SgError(f"{path} is a link, and nothing is written into a run through links.", hint)
        if self.root.stat().st_uid == os.getuid():
            self.root.chmod(0o700)

    def _sweep(self) -> None:
        """Delete what killed processes left half written. A prepared training may write its own without the lock."""
        for path in [path for path in self.root.rglob("*") if path.suffix in (".partial", ".gguf")]:
            is_ours = path.suffix == ".partial" and TRAINING not in path.relative_to(self.root).parts
            if is_ours or is_left_over(path):
                remove(path)


def check_name(name: str) -> str:
    """A run name that is safe as one folder name; SgError (usage) otherwise."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        return name
    hint = "Use letters, digits, dots, dashes and underscores, beginning with a letter or digit."
    raise SgError(f"{name!r} cannot be a run name.", hint, exit_code=2)


def default_name(task: str, model: str) -> str:
    """The run's name where none is given: task and model. Of a task in another script than Latin it has a digest."""
    if task and not re.search("[a-z0-9]", task.lower()):
        task = f"task-{digest(task)[:6]}"
    text = f"{task}-{model}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")[:100] or "run"


def usual_run(runs: Path, task: str, model: str) -> Run:
    """The run that a task and a model have where no name is given; 0.1.0 named some after the model alone."""
    run, older = Run(runs / default_name(task, model)), Run(runs / default_name("", model))
    if run.exists() or not older.exists() or run.name == older.name:
        return run
    with contextlib.suppress(SgError, KeyError):
        if older.task().name == task:
            return older
    return run


def open_run(runs: Path, name: str) -> Run:
    """An existing run, as `find_run` finds it; SgError with the nearest name, or all there are, otherwise."""
    run = find_run(runs, name)
    if run is not None:
        return run
    known = [found.name for found in list_runs(runs)]
    hint = did_you_mean(name, known) or f"Runs here: {', '.join(known) or 'none yet'}."
    raise SgError(f"There is no run named {name!r} in {runs}.", hint, exit_code=2)


def find_run(runs: Path, name: str) -> Run | None:
    """The run of this name, or the folder of one, or the only run in `runs` whose name begins so; None without any.

    SgError (usage) where several begin so, and for a name that no folder can have.
    """
    if os.sep in name:
        folder = Run(Path(os.path.normpath(name)))
        return folder if folder.exists() else None
    run = Run(runs / check_name(name))
    if run.exists():
        return run
    begun = [found for found in list_runs(runs) if found.name.startswith(name)]
    if len(begun) > 1:
        names = ", ".join(found.name for found in begun)
        raise SgError(f"Several runs in {runs} begin with {name!r}: {names}.", "Type more of the name.", exit_code=2)
    return begun[0] if begun else None


def list_runs(runs: Path) -> list[Run]:
    """Every run in the folder, by name."""
    if not runs.is_dir():
        return []
    return [Run(path) for path in sorted(runs.iterdir()) if (path / RUN).is_file()]


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two stamps, in words; empty when nothing does."""
    words = []
    for key in sorted({*old["settings"], *new["settings"]}):
        before, after = (stamp["settings"].get(key, GAINED.get(key)) for stamp in (old, new))
        if before != after:
            words.append(f"{key} {_brief(before)} (now {_brief(after)})")
    for name, value in new["reads"].items():
        if old["reads"].get(name) != value:
            words.append(f"another {name}")
    return ", ".join(words)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else digest(value)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The work's result and the seconds it took."""
    start = time.monotonic()
    return work(), time.monotonic() - start
