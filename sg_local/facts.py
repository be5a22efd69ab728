"""The JSON files of a run that are no journals: run.json and stamps, every known fact held to its type.

A key that a file lacks is named when it is asked for; keys that this version does not know are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sg_local import reading
from sg_local.records import SgError, Task
from sg_local.typed import Misfit, reader

RESTORE = "Restore the file, or delete the run and make it again."
RUN_FACTS: dict[str, Any] = {
    "task": {"name": str, "kind": str},
    "task_digest": str,
    "written": dict,
    "own": dict,
    "tests": dict,
    "tags": list[str],
    "model": {"name": str, "path": str, "digest": str, "template": str | None},
    "form": str,
    "layout": str,
    "channel": bool,
    "evidence": str,
    "ensemble": int,
    "seed": int,
    "preset": str,
    "backend": str | None,
    "trainer": str | None,
    "set": dict[str, dict[str, Any]],
    "measured": dict[str, dict[str, Any]],
    "forecast": dict,
    "engine": {"format": str, "n_parallel": int, "n_replicas": int},
    "budget": {"ram_bytes": int | None, "disk_bytes": int | None, "time_s": float | None, "chose": dict},
    "version": str,
}
"""The types of what run.json holds, where it holds it. Other keys may stand beside these."""

STAMP_FACTS: dict[str, Any] = {
    "settings": dict,
    "reads": dict[str, str | None],
    "made": dict[str, str | None],
    "version": str,
    "seconds": float,
    "note": str,
    "funnel": dict,
    "adapter": dict,
    "curve": tuple[tuple[int, float, float | None], ...],
}
"""The types of what a stage's stamp holds, where it holds it."""

EXPORT_FACTS: dict[str, Any] = {
    "adapter": str,
    "adapter_sha256": str,
    "fused": list[dict[str, Any]],
    "folders": list[dict[str, Any]],
    "seconds": float,
}
"""The types of what export.json holds."""

GROUPS = ("task", "model", "adapter")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run; SgError with the line where it is broken."""
    data = reading.read_json(path, RESTORE, exit_code=1)
    if isinstance(data, dict):
        return data
    raise SgError(f"{path}: this is not an object.", RESTORE)


def task_in(path: Path, data: Any) -> Task:
    """The task that the file holds as plain data."""
    return reading.as_record(Task, data, str(path), RESTORE)


class _Facts(dict[str, Any]):
    """Facts of a file in which every key can be asked for: the ones it lacks are named."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        is_group = {key: key in GROUPS and isinstance(one, dict) for key, one in data.items()}
        super().__init__({key: _Facts(path, one) if is_group[key] else one for key, one in data.items()})
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise SgError(f"{self.path} has no {key}.", RESTORE)


def read_facts(path: Path, known: Mapping[str, Any]) -> _Facts:
    """A file's facts, those that are `known` held to their types."""
    data = read_json(path)
    try:
        _hold(data, known)
    except Misfit as wrong:
        raise SgError(f"{path}: {wrong}.", RESTORE) from wrong
    return _Facts(path, data)


def _hold(data: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise Misfit for the first value that is not of its type."""
    for key, kind in known.items():
        if key in data:
            try:
                if isinstance(kind, dict):
                    _hold(reader(dict)(data[key]), kind)
                else:
                    reader(kind)(data[key])
            except Misfit as wrong:
                raise wrong.inside(key) from None
