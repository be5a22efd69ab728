"""Runs for reading: the facts of one, and its line in the list."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from sg_local.records import SgError
from sg_local.report import read_report
from sg_local.run import FORECAST, MEASURED, REPORT, STAGES, Run, default_name
from sg_local.views.verdict import stage_times
from sg_local.words import duration, size


def run_facts_or_fault(run: Run) -> dict[str, Any]:
    """The run's facts, or what is wrong with one that cannot be read: the others are listed all the same."""
    try:
        return run_facts(run)
    except (SgError, OSError) as error:
        blank = dict.fromkeys(("task", "model", "seed", "base", "tuned", "served", "size_bytes"))
        return {"run": run.name, **blank, "stages": [], "tags": [], "path": str(run.root), "broken": str(error)}


def run_facts(run: Run) -> dict[str, Any]:
    """What a run is, how far it came, its scores in percent and its size in bytes.

    `base` and `tuned` answer in free text; `served` is the score of what predict and serve answer.
    """
    data = run.settings
    report = read_report(run) if run.path(REPORT).exists() else None
    return {
        "run": run.name,
        "task": data.get("task", {}).get("name", ""),
        "model": data.get("model", {}).get("name", ""),
        "seed": data.get("seed"),
        "stages": [stage for stage in STAGES if run.stamp(stage) is not None],
        "base": None if report is None else report.base.score,
        "tuned": None if report is None else report.tuned.score,
        "served": None if report is None else report.systems[report.served].score,
        "size_bytes": _size(run.root),
        "tags": list(data.get("tags", ())),
        "path": str(run.root),
    }


USES = {
    "input": "as inputs",
    "row": "training or validating",
    "example": "as examples",
    "test": "held back to measure with",
    "earlier": "of an earlier version of the task",
}


def own_rows(run: Run) -> tuple[tuple[str, str], ...]:
    """The files of a person's own rows that the run was given, and what the rows are for; empty without any."""
    own = run.settings.get("own") or {}
    files = ", ".join(f"{own[kind]['file']} ({own[kind]['n']} {kind})" for kind in ("rows", "inputs") if kind in own)
    uses = ", ".join(f"{n} {USES.get(part, part)}" for part, n in own.get("parts", {}).items())
    return (("own data", f"{files}: {uses}" if files else uses),) if uses else ()


def stage_costs(run: Run) -> tuple[tuple[str, str], ...]:
    """Each finished stage with the time and the memory that it took, and what had been expected."""
    data = run.settings
    measured, told = data.get(MEASURED) or {}, (data.get(FORECAST) or {}).get("stages", {})
    return tuple(
        (stage, f"done in {seconds}{_memory(measured.get(stage))}{_expected(told.get(stage))}")
        for stage, seconds in stage_times(run)
    )


def _memory(took: dict[str, Any] | None) -> str:
    return f", {size(took['peak_bytes'])} of memory" if took else ""


def _expected(told: dict[str, Any] | None) -> str:
    """What the forecast said, where it could say anything."""
    if not told or told.get("seconds") is None or told["stage"] == "filter":
        return ""
    return f" (expected {duration(told['seconds'])}, {size(told['memory_bytes'])})"


def _size(folder: Path) -> int:
    """The bytes of a folder's files; those that go away while it is looked at count nothing."""
    sizes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes


def run_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as text; where the name says what the run was made from, it is not said again."""
    if "broken" in row:
        return (row["run"], "broken", "", "", "", row["broken"])
    scores = ["" if row[key] is None else f"{row[key]:.1f}" for key in ("base", "served")]
    source = row["model"] if row["run"] == row["task"] else f"{row['task']} on {row['model']}"
    source = "" if row["run"] == default_name(row["task"], row["model"]) else source
    return (row["run"], "".join(row["stages"][-1:]), *scores, size(row["size_bytes"]), source)
