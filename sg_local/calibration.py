"""From label scores to probabilities that mean what they say, and how far they do: pure functions of numbers.

Scores are log-probabilities in nats, one for each label. Each label's mean score over known inputs may be taken off
them, and they are divided by one temperature, fitted on rows with known labels (Guo et al. 2017, arXiv 1706.04599).
With few rows the fit stays near 1: ln T has a prior of mean 0, four times as wide towards less sure as towards surer.
Reliability is measured over BINS bins of equal width. Not covered: whether the rows that were fitted on resemble what a
user will really ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = 4
"""Decimals of a score in nats: what the journal of answers keeps, so that every reader computes the same."""
BINS = 10
SURE = 0.9
UNSURE = "unsure"
"""The answer where no label is as probable as was asked for."""
LOG_TEMPERATURES = tuple(step / 50 for step in range(-115, 197))
"""The grid of ln T: T from 0.1 to 50, in steps of 2 %."""
SURER, LESS_SURE = 0.5, 2.0
"""Deviations of the prior of ln T: a few rows that a model gets right, which it wrote itself, are no proof."""

Scores = Sequence[float]


@dataclass(frozen=True)
class Calibration:
    """What is done to scores: `means` are taken off (empty: nothing is), then they are divided by `temperature`.

    `n` counts the rows that the temperature was fitted on; with none of them it is 1.
    """

    means: tuple[float, ...] = ()
    temperature: float = 1.0
    n: int = 0

    def shifted(self, scores: Scores) -> tuple[float, ...]:
        """The scores less the means."""
        means = self.means or (0.0,) * len(scores)
        return tuple(score - mean for score, mean in zip(scores, means, strict=True))

    def probabilities(self, scores: Scores) -> tuple[float, ...]:
        """The probability of each label, given that one of them is right, from scores as the model gave them."""
        return shares(self.shifted(scores), self.temperature)


UNFITTED = Calibration()


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in one range: how many, their mean confidence and the share right (percent)."""

    low: float
    high: float
    n: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Sure:
    """The answers at or above a confidence of `threshold`, 0 to 1: which share of all, and of them the share right.

    In percent; `right` is None where no answer is that sure.
    """

    threshold: float
    coverage: float
    right: float | None


@dataclass(frozen=True)
class Reliability:
    """How far probabilities mean what they say, over `n` answers. `bins` are those that are not empty.

    `ece` is the expected calibration error in points over bins of equal width, `brier` the mean squared distance of all
    labels' probabilities from the right label, 0 to 2; both also as they were at temperature 1. `sure` holds the
    answers above 0.9, `abstain` those above the threshold that was asked for, if one was.
    """

    temperature: float
    n_fitted: int
    n: int
    ece: float
    ece_before: float
    brier: float
    brier_before: float
    sure: Sure
    bins: tuple[Bin, ...]
    abstain: Sure | None = None


def shares(scores: Scores, temperature: float = 1.0) -> tuple[float, ...]:
    """Probabilities of labels, given that the answer is one of them; they sum to 1. The scores count as the journal
    keeps them.
    """
    counted = [round(score, DIGITS) for score in scores]
    top = max(counted)
    weights = [math.exp((value - top) / temperature) for value in counted]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def mean_scores(rows: Sequence[Scores]) -> tuple[float, ...]:
    """Each label's mean score; empty without rows."""
    return tuple(round(sum(column) / len(rows), DIGITS) for column in zip(*rows, strict=True))


def fitted(rows: Sequence[Scores], right: Sequence[int], means: tuple[float, ...] = ()) -> Calibration:
    """The calibration with the likeliest temperature for rows of scores, `right[i]` being the i-th row's label."""
    if not rows:
        return Calibration(means)
    shift = Calibration(means)
    found = [shift.shifted(row) for row in rows]

    def cost(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        lost = sum(_surprise(row, label, temperature) for row, label in zip(found, right, strict=True))
        return lost + (log_temperature / (SURER if log_temperature < 0 else LESS_SURE)) ** 2 / 2

    return Calibration(means, round(math.exp(min(LOG_TEMPERATURES, key=cost)), DIGITS), len(rows))


def _surprise(scores: Scores, label: int, temperature: float) -> float:
    """-log of a label's probability, in nats."""
    top = max(scores)
    total = math.log(sum(math.exp((score - top) / temperature) for score in scores))
    return total - (scores[label] - top) / temperature


def reliability(
    rows: Sequence[Scores], right: Sequence[frozenset[int]], calibration: Calibration, abstain: float = 0.0
) -> Reliability:
    """How far the probabilities of at least one row mean what they say; `right[i]` are the labels right for the i-th.

    `abstain` is a confidence whose coverage is told as well (0: none).
    """
    after = [calibration.probabilities(row) for row in rows]
    before = [Calibration(calibration.means).probabilities(row) for row in rows]
    hits = [(max(p), p.index(max(p)) in labels) for p, labels in zip(after, right, strict=True)]
    earlier = [(max(p), p.index(max(p)) in labels) for p, labels in zip(before, right, strict=True)]
    return Reliability(
        temperature=calibration.temperature,
        n_fitted=calibration.n,
        n=len(rows),
        ece=_error(bins_of(hits)),
        ece_before=_error(bins_of(earlier)),
        brier=_brier(after, right),
        brier_before=_brier(before, right),
        sure=sure(hits, SURE),
        bins=bins_of(hits),
        abstain=sure(hits, abstain) if abstain else None,
    )


def bins_of(hits: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Answers as (confidence, whether right) by ranges of confidence; empty ranges are left out."""
    found: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in hits:
        found.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, is_right))
    return tuple(
        Bin(
            place / BINS,
            (place + 1) / BINS,
            len(group),
            _percent([confidence for confidence, _ in group]),
            _percent([float(is_right) for _, is_right in group]),
        )
        for place, group in sorted(found.items())
    )


def sure(hits: Sequence[tuple[float, bool]], threshold: float) -> Sure:
    """What the answers at or above a confidence cover, and how many of them are right."""
    kept = [float(is_right) for confidence, is_right in hits if confidence >= threshold]
    return Sure(threshold, round(100 * len(kept) / len(hits), 2), _percent(kept) if kept else None)


def _error(bins: Sequence[Bin]) -> float:
    n = sum(one.n for one in bins)
    return round(sum(one.n * abs(one.confidence - one.right) for one in bins) / n, 2)


def _brier(rows: Sequence[Scores], right: Sequence[frozenset[int]]) -> float:
    """The mean over rows; of several right labels the likeliest one counts."""
    total = 0.0
    for row, labels in zip(rows, right, strict=True):
        wanted = max(labels, key=lambda i: row[i], default=-1)
        total += sum((share - (i == wanted)) ** 2 for i, share in enumerate(row))
    return round(total / len(rows), 4)


def _percent(values: Sequence[float]) -> float:
    return round(100 * sum(values) / len(values), 2)
