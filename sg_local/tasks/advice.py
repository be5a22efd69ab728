"""One finding about a task, and the task with the places of its parts, from which a finding takes its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sg_local.records import Task
from sg_local.tasks.source import Part, TaskSource

MOST_PLACES = 4


@dataclass(frozen=True)
class Advice:
    """One finding: `level` is `error` (no run works, or results would mislead) or `warning`.

    `place` is FILE:LINE, or FILE:LINE, LINE and 3 more; '' where the task came from no file.
    """

    level: str
    finding: str
    advice: str
    place: str = ""


@dataclass(frozen=True)
class Subject:
    """A task that is looked at, and the text of its file where it has one."""

    task: Task
    source: TaskSource | None = None

    def error(self, finding: str, advice: str, *parts: Part) -> Advice:
        """What makes a run impossible or its results mislead, at these parts of the task."""
        return Advice("error", finding, advice, self._places(parts))

    def warning(self, finding: str, advice: str, *parts: Part) -> Advice:
        """What is doubtful, at these parts of the task."""
        return Advice("warning", finding, advice, self._places(parts))

    def _places(self, parts: Sequence[Part]) -> str:
        if self.source is None:
            return ""
        places = list(dict.fromkeys(self.source.place(*part) for part in parts or [()]))
        file = places[0].rpartition(":")[0]
        others = [place.rpartition(":")[2] for place in places[1:] if place.rpartition(":")[0] == file]
        more = f" and {len(others) - MOST_PLACES + 1} more" if len(others) >= MOST_PLACES else ""
        return ", ".join([places[0], *others[: MOST_PLACES - 1]]) + more
