"""What a job tells while it works: one typed event after the other, to whoever listens.

The rooms' own events (`SynthEvent`, `TrainStep`, `ExportEvent`, `EvalEvent`) come as they are inside `Moved`; what a
screen makes of them is the matter of `views.progress`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

At: TypeAlias = "SynthEvent | TrainStep | ExportEvent | EvalEvent | PredictEvent"
"""Where a stage stands, in its room's own words."""

if TYPE_CHECKING:
    from sg_local.evaluate import EvalEvent
    from sg_local.export import ExportEvent
    from sg_local.records import TrainStep
    from sg_local.synth import SynthEvent


@dataclass(frozen=True)
class PredictEvent:
    """Where the answers to a file stand: `done` of `wanted` texts, `n_failed` of them passed over, the last ones."""

    done: int
    wanted: int
    n_failed: int = 0
    latest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Began:
    """A stage starts."""

    stage: str


@dataclass(frozen=True)
class Moved:
    """A stage stands here."""

    stage: str
    at: At


@dataclass(frozen=True)
class Ended:
    """A stage is done: how long it took, and one clause about what came out."""

    stage: str
    seconds: float
    note: str


@dataclass(frozen=True)
class Skipped:
    """A stage need not run, or cannot; `note` says why."""

    stage: str
    note: str


@dataclass(frozen=True)
class Said:
    """Something worth a line; a `warning` is something to look into."""

    text: str
    warning: bool = False


Event = Began | Moved | Ended | Skipped | Said
Listener = Callable[[Event], None]


def deaf(event: Event) -> None:
    """The listener that passes over everything."""
