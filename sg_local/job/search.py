"""One setting for all: the temperature and epochs whose worst gain over several dev tasks is the highest (maximin).

SELF-GUIDE's search (arXiv 2407.12874): every setting of a grid is tried on every dev task, a trial's figure is the
tuned model's score minus its base's, and the setting wins whose lowest figure is the highest. Ties go to the setting
that stands first: fewer epochs, then the lower temperature. A setting is given up as soon as one task shows that it
cannot win, which changes no winner; `exhaustive` tries it on every task nonetheless.

What a trial does is the caller's (`Attempt`). Trials are journalled one by one, and what stands in the journal is not
tried again, so a search that was killed goes on, and one with a wider grid or more tasks makes only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from sg_local.records import SgError
from sg_local.run import Run

TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class SearchSettings:
    """The grid, and whether a setting that cannot win any more is tried on the remaining tasks."""

    temperatures: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0)
    epochs: tuple[float, ...] = (1.0, 2.0, 3.0)
    exhaustive: bool = False


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    temperature: float
    epochs: float


@dataclass(frozen=True)
class Trial:
    """One setting on one task. Scores are in percent of the task's metric, by the systems named.

    `failed` says why the setting left nothing to score; it then loses to every setting that did.
    """

    task: str
    temperature: float
    epochs: float
    base: float = 0.0
    tuned: float = 0.0
    base_system: str = ""
    tuned_system: str = ""
    n_tests: int = 0
    n_rows: int = 0
    failed: str = ""

    @property
    def gain(self) -> float:
        """Points over the base; minus infinity where the setting failed."""
        return -inf if self.failed else round(self.tuned - self.base, 4)

    @property
    def setting(self) -> Setting:
        return Setting(self.temperature, self.epochs)


Attempt = Callable[[str, Setting], Trial]
"""(task's name, setting) -> the trial, made by running the stages."""


@dataclass(frozen=True)
class Search:
    """One search: its folder, the dev tasks by name, the grid, and how a trial is made."""

    run: Run
    tasks: tuple[str, ...]
    settings: SearchSettings
    attempt: Attempt


@dataclass(frozen=True)
class Standing:
    """What is known of one setting. `worst` is its lowest gain so far; `complete` when every task was tried."""

    setting: Setting
    trials: tuple[Trial, ...]
    complete: bool

    @property
    def worst(self) -> float:
        return min((trial.gain for trial in self.trials), default=inf)


@dataclass(frozen=True)
class SearchOutcome:
    """The winner, and every setting's standing in the order of the grid."""

    best: Standing
    standings: tuple[Standing, ...]


def grid(settings: SearchSettings) -> list[Setting]:
    """The settings in the order in which they are tried and win ties."""
    epochs, temperatures = sorted(set(settings.epochs)), sorted(set(settings.temperatures))
    return [Setting(temperature, n) for n in epochs for temperature in temperatures]


def search(job: Search) -> SearchOutcome:
    """Try the grid, going on where an earlier search in the same folder stopped.

    Raises SgError when no setting can be used on every task.
    """
    if not (job.tasks and grid(job.settings)):
        raise SgError("There is nothing to search.", "Name a task, a temperature and a number of epochs.", exit_code=2)
    known = {(trial.task, trial.setting): trial for trial in job.run.read(TRIALS, Trial)}
    best: Standing | None = None
    standings = []
    for setting in grid(job.settings):
        trials = tuple(_trials(job, setting, best, known))
        standing = Standing(setting, trials, len(trials) == len(job.tasks))
        standings.append(standing)
        if standing.complete and standing.worst > (best.worst if best else -inf):
            best = standing
    if best is None:
        reasons = [trial.failed for standing in standings for trial in standing.trials if trial.failed]
        raise SgError(f"No setting could be used on every task; the first reason: {reasons[0]}", ADVICE)
    return SearchOutcome(best, tuple(standings))


ADVICE = "Look at the tasks one by one with `run TASK`, or search other temperatures."


def _trials(
    job: Search, setting: Setting, best: Standing | None, known: dict[tuple[str, Setting], Trial]
) -> Iterator[Trial]:
    """The setting's trials, the task first on which the best so far did worst, until it cannot win any more."""
    for task in hardest_first(job.tasks, best):
        trial = known.get((task, setting))
        if trial is None:
            trial = job.attempt(task, setting)
            job.run.append(TRIALS, [trial])
        yield trial
        if not job.settings.exhaustive and trial.gain <= (best.worst if best else -inf):
            return


def hardest_first(tasks: Sequence[str], best: Standing | None) -> list[str]:
    """The tasks by rising gain of the best setting so far."""
    gains = {trial.task: trial.gain for trial in best.trials} if best else {}
    return sorted(tasks, key=lambda task: gains.get(task, 0.0))
