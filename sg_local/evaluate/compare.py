"""Several runs side by side: what each gains, the settings that differ, and the difference where test rows are shared.

A difference is of the answers that runs serve, paired over the test rows that both reports hold, so that which rows
were drawn counts in neither's favour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sg_local import metrics
from sg_local.report.facts import dotted
from sg_local.report.file import read_report
from sg_local.report.records import Report
from sg_local.run import GAINED, REPORT, STAGES, Run

UNSET = {"rows", "task", "form", "forms", "base", "gate", "tests", "examples adapter", "canary adapter", "labelled"}
"""What stamps hold among their settings that nobody sets: digests."""
FEWEST = 2


@dataclass(frozen=True)
class ComparedRun:
    """A run's figures: `system` is what it serves, `base` what it is held against (`Report.rival`). None: not measured.

    Scores and their intervals are in percent, gains in points.
    """

    run: str
    task: str
    model: str
    n_training: int | None = None
    n_tests: int | None = None
    system: str | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    base: str | None = None
    base_score: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True)
class PairedRun:
    """What `run` scores above `against` on the `n` test rows of both, in points, with its 95 % interval."""

    run: str
    against: str
    n: int
    gain: float
    low: float
    high: float
    p: float
    outcome: str


@dataclass(frozen=True)
class DifferingSetting:
    """A setting that runs were made with differently: one value a run, in their order; None where it had none."""

    setting: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs in the order given; `pairs` compare each to the first, as far as they share test rows."""

    runs: tuple[ComparedRun, ...]
    pairs: tuple[PairedRun, ...]
    settings: tuple[DifferingSetting, ...]


def compare(runs: Sequence[Run]) -> Comparison:
    """The runs side by side. Raises SgError for a report or stamp that is damaged."""
    reports = [read_report(run) if run.path(REPORT).exists() else None for run in runs]
    figures = tuple(_figures(run, report) for run, report in zip(runs, reports, strict=True))
    measured = [(run.name, report) for run, report in zip(runs, reports, strict=True) if report is not None]
    pairs = [_paired(one, measured[0]) for one in measured[1:]] if reports[0] is not None else []
    return Comparison(figures, tuple(pair for pair in pairs if pair is not None), _differing(runs))


def _figures(run: Run, report: Report | None) -> ComparedRun:
    data = run.settings
    named = ComparedRun(run.name, data["task"]["name"], data["model"]["name"])
    if report is None:
        return named
    served, main = report.systems[report.served], report.main
    base = report.systems[main.base] if main is not None else report.base
    measured = replace(
        named,
        n_training=report.n_training,
        n_tests=report.n,
        system=served.title,
        score=served.score,
        low=served.low,
        high=served.high,
        base=base.title,
        base_score=base.score,
    )
    return measured if main is None else replace(measured, gain=main.gain, gain_low=main.low, gain_high=main.high)


def _paired(one: tuple[str, Report], against: tuple[str, Report]) -> PairedRun | None:
    """The difference of what two runs serve; None where they have no test rows in common, or another metric.

    Each comes with its name as the folder has it: a copied run's report still has the name of the first.
    """
    (name, report), (first_name, first) = one, against
    mine, other = _scores(report), _scores(first)
    shared = [key for key in mine if key in other]
    if len(shared) < FEWEST or report.metric != first.metric:
        return None
    draws = metrics.resamples(len(shared), 0)
    scores = [[found[key] / 100 for key in shared] for found in (mine, other)]
    found = metrics.paired(scores[0], scores[1], draws)
    return PairedRun(name, first_name, len(shared), found.gain, found.low, found.high, found.p, found.outcome)


def _scores(report: Report) -> dict[tuple[Any, ...], float]:
    """What the served system scored, in percent, by test row; a row that stands twice counts twice."""
    seen: Counter[tuple[Any, ...]] = Counter()
    found = {}
    for row in report.rows:
        key = (row.input, row.outputs)
        found[(*key, seen[key])] = row.scores[report.served]
        seen[key] += 1
    return found


def _differing(runs: Sequence[Run]) -> tuple[DifferingSetting, ...]:
    """Every setting that not all runs have alike, those of run.json first."""
    all_settings = [_settings(run) for run in runs]
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    rows = [DifferingSetting(name, tuple(one.get(name) for one in all_settings)) for name in names]
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def _settings(run: Run) -> dict[str, Any]:
    """What a run was made with, by dotted name."""
    data = run.settings
    found: dict[str, Any] = {key: data.get(key) for key in ("preset", "seed", "form", "backend", "trainer")}
    found |= {"task": data["task"]["name"], "model": data["model"]["name"]}
    for stage in STAGES:
        settings = (run.stamp(stage) or {}).get("settings", {})
        gained = {f"{stage}.{name}": value for name, value in GAINED.items() if name in settings}
        own = {name: one for name, one in settings.items() if name not in UNSET}
        found |= gained | dict(dotted(own, f"{stage}."))
    return found
