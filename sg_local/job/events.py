"""What a job tells while it works: one typed event after the other, to whoever listens.

The rooms' own events (`SynthEvent`, `TrainStep`, `ExportEvent`, `EvalEvent`) come as they are inside `Moved`; what a
screen makes of them is the matter of `views.progress`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

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
class RowsAhead:
    """How many, and in tokens how long.

    Of `n_inputs` that get an output `n_asked` are asked for first and `n_labelled` have theirs already; `n_training`
    train or validate. `n_shared` is what all prompts begin with; `n_input` and `n_output` are means, `n_longest` is
    the longest input and `n_longest_output` the longest output. `counted`: the rows are there.
    """

    n_asked: int
    n_inputs: int
    n_labelled: int
    n_training: int
    n_tests: int
    n_shared: int
    n_input: float
    n_output: float
    n_longest: int
    n_longest_output: int
    counted: bool = False


Source = Literal["measured", "tried", "probed"]
"""Where a time is from: an earlier run here, the engine's own trial, a probe of the machine."""


@dataclass(frozen=True)
class StageForecast:
    """One stage: the most memory at once, what it leaves on the disk, and the seconds where anybody knows them."""

    stage: str
    memory_bytes: int
    disk_bytes: int
    seconds: float | None
    source: Source = "probed"


@dataclass(frozen=True)
class Forecast:
    """The stages to come, in order, and the rows that the figures assume."""

    rows: RowsAhead
    stages: tuple[StageForecast, ...]

    @property
    def memory_bytes(self) -> int:
        """The most memory at once."""
        return max((one.memory_bytes for one in self.stages), default=0)

    @property
    def disk_bytes(self) -> int:
        """What all the stages put on the disk."""
        return sum(one.disk_bytes for one in self.stages)

    @property
    def seconds(self) -> float | None:
        """Of all the stages; None where one of them is unknown."""
        known = [one.seconds for one in self.stages if one.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None


@dataclass(frozen=True)
class Expected:
    """What the stages to come will take, before the first of them begins."""

    forecast: Forecast


@dataclass(frozen=True)
class Prospect:
    """How the labels of `n` rows stand up to a second opinion: `judge` is `calibrated` (label scores) or `voted`.

    `agreed` is the share of rows for which it gives the label asked for, in percent; `kappa` that agreement beyond
    chance (0: none, 1: full), which is `z` standard errors above none: `is_sure` where that is no accident. `at_least`
    is the least share of such inputs, in percent, of which the judge is right, with 95 % confidence, if every input is
    what was asked for: those that are not lower the agreement, so the true share may be far higher. `n_right` are a
    person's own labelled rows. `is_doubtful` where neither these nor the agreement speak for training.
    `without_training` are the labels to ask the untuned model for instead: `ensemble` where rows are judged by both
    scores.
    """

    judge: str
    n: int
    agreed: float
    kappa: float
    z: float
    at_least: float
    n_right: int
    is_sure: bool
    is_doubtful: bool
    without_training: str = "calibrated"


@dataclass(frozen=True)
class Weighed:
    """What the rows of a run say before they train. `run` is what stands for it in a command."""

    run: str
    prospect: Prospect


@dataclass(frozen=True)
class Began:
    """A stage starts."""

    stage: str


@dataclass(frozen=True)
class Waiting:
    """Something goes on that cannot be counted: `what` names it, such as loading the model."""

    what: str


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


Event = Expected | Weighed | Began | Waiting | Moved | Ended | Skipped | Said
Listener = Callable[[Event], None]


def deaf(event: Event) -> None:
    """The listener that passes over everything."""
