"""Task files for a list: what each is for, or what is wrong with one that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sg_local.reading import parse_toml
from sg_local.records import SgError
from sg_local.tasks.files import PlacedTask, read_placed_task


@dataclass(frozen=True)
class ListedTask:
    """One file. `summary` is its own, else its instruction; `fault` says why it cannot be read (empty: it can)."""

    name: str
    path: str
    kind: str = ""
    labels: tuple[str, ...] = ()
    tests: int = 0
    summary: str = ""
    instruction: str = ""
    fault: str = ""


def list_tasks(paths: Iterable[Path]) -> list[ListedTask]:
    """The tasks of these files, in their order."""
    return [_listed(path) for path in paths]


def _listed(path: Path) -> ListedTask:
    try:
        placed = read_placed_task(path)
        task = placed.task
        summary = _summary(path, placed)
    except (SgError, OSError) as error:
        return ListedTask(path.stem, str(path), fault=str(error))
    return ListedTask(path.stem, str(path), task.kind, task.labels, len(task.tests), summary, task.instruction)


def _summary(path: Path, placed: PlacedTask) -> str:
    """The file's own summary; TOML files may have one."""
    if path.suffix != ".toml":
        return placed.task.instruction
    return str(parse_toml(placed.source.text, path, "").get("summary") or placed.task.instruction)
