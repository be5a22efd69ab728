"""A forecast for reading: two lines before a run, a table where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from sg_local.job.events import Forecast, RowsAhead, StageForecast
from sg_local.words import duration, size

SOURCES = {
    "measured": "an earlier run",
    "tried": "the engine's trial",
    "probed": "a quick test of this machine",
}
UNKNOWN = "unknown"
HEADINGS = ("stage", "memory", "disk", "time", "based on")


def brief_lines(found: Forecast) -> Iterator[str]:
    """Time, memory and disk of what is to come, and the rows that this assumes."""
    parts = ", ".join(f"{one.stage} {_time(one.seconds)}" for one in found.stages if one.stage != "filter")
    most = max(found.stages, key=lambda one: one.memory_bytes)
    memory = f"{size(most.memory_bytes)} of memory at most ({most.stage})"
    yield f"  expected: {_time(found.seconds)} ({parts}), {memory}, {size(found.disk_bytes)} of disk"
    yield f"  assuming {assumed(found.rows)}"


def assumed(rows: RowsAhead) -> str:
    """The rows that a forecast assumes, in words."""
    asked = f" of {rows.n_asked} asked for" if rows.n_asked and not rows.counted else ""
    tokens = f"inputs of {rows.n_input:.0f} tokens, outputs of {rows.n_output:.0f}, {rows.n_shared} shared"
    return f"{rows.n_inputs} rows{asked} ({tokens}), {rows.n_training} for training, {rows.n_tests} for testing"


def cells(found: Forecast) -> list[tuple[str, ...]]:
    """The table: stage, memory, disk, time, where the time is from; the last line sums up."""
    total = ("together", size(found.memory_bytes), size(found.disk_bytes), _time(found.seconds), "")
    return [*map(_cells, found.stages), total]


def _cells(one: StageForecast) -> tuple[str, ...]:
    known = SOURCES[one.source] if one.seconds is not None and one.stage != "filter" else ""
    return (one.stage, size(one.memory_bytes), size(one.disk_bytes), _time(one.seconds), known)


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)
