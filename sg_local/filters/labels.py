"""Which label a synthesised row gets: the voted one as published, the asked one, the calibrated one, or agreement.

A small model's votes often collapse onto one label, while it writes inputs for a label it was asked for rather
well; and its label scores, minus each label's mean over the synthetic inputs, undo the collapse. `auto` looks at
the rows themselves: votes are trusted only where they follow what was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sg_local.records import Candidate, SgError

TRUST = 0.6
"""Votes are trusted from this agreement above chance with the asked labels on (0: chance, 1: all agree)."""


@dataclass(frozen=True)
class Labelling:
    """The policy that was used, why, and the label of every candidate by id (None: no label to train on)."""

    policy: str
    why: str
    labels: dict[str, str | None]


def calibrated(candidates: Sequence[Candidate], labels: Sequence[str]) -> dict[str, str]:
    """The best label of each scored row once every label's mean log-probability over the rows is subtracted."""
    scored = [row for row in candidates if len(row.label_scores) == len(labels)]
    if not scored:
        return {}
    scores = np.array([row.label_scores for row in scored])
    best = (scores - scores.mean(axis=0)).argmax(axis=1)
    return {row.id: labels[k] for row, k in zip(scored, best, strict=True)}


def choose(candidates: Sequence[Candidate], labels: Sequence[str], policy: str) -> Labelling:
    """Labels for all candidates under a policy; `auto` decides it from the rows first."""
    best = calibrated(candidates, labels)
    why = "as set"
    if policy == "auto":
        policy, why = decide(candidates, labels, best)
    return Labelling(policy, why, {row.id: _label(row, policy, best) for row in candidates})


def decide(candidates: Sequence[Candidate], labels: Sequence[str], best: dict[str, str]) -> tuple[str, str]:
    """The policy that the rows speak for, and the evidence in one clause."""
    asked = [row for row in candidates if row.label_asked is not None]
    if not asked:
        return ("calibrated", "no label was asked for") if best else ("voted", "no label was asked for or scored")
    voted = above_chance([row.output == row.label_asked for row in asked], len(labels))
    if voted >= TRUST:
        return "agree", f"votes follow the asked labels ({voted:.0%} above chance)"
    return "asked", f"votes do not follow the asked labels ({voted:.0%} above chance: {_spread(asked, labels)})"


def above_chance(agree: Sequence[bool], n_labels: int) -> float:
    """The share of agreement, rescaled so that guessing gives 0 and full agreement 1."""
    chance = 1 / n_labels
    return (sum(agree) / len(agree) - chance) / (1 - chance)


def _spread(rows: Sequence[Candidate], labels: Sequence[str]) -> str:
    counts = Counter(row.output for row in rows)
    return ", ".join(f"{counts[label]} {label}" for label in labels)


def _label(row: Candidate, policy: str, best: dict[str, str]) -> str | None:
    if policy == "voted":
        return row.output
    if policy == "asked":
        return row.label_asked
    if policy == "calibrated":
        return best.get(row.id)
    if policy == "agree":
        return row.label_asked if row.label_asked == best.get(row.id, row.output) else None
    raise SgError(f"There is no label policy {policy!r}.", "Use auto, voted, asked, calibrated or agree.", exit_code=2)
