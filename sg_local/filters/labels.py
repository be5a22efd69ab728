"""Which label a synthesised row gets: the voted one as published, the asked one, the calibrated one, or agreement.

A small model's votes often collapse onto one label, while it writes inputs for a label it was asked for rather
well; and its label scores, minus each label's mean over the synthetic inputs, undo the collapse. `auto` looks at
the rows themselves: it keeps those where the asked label and a second opinion agree, if enough do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sg_local.filters.settings import POLICIES
from sg_local.filters.similarity import rouge_l, words
from sg_local.records import Candidate, SgError

FEWEST = 30
"""`auto` wants agreement to leave at least so many rows; below, it takes every row as asked."""

FEWEST_OF_A_LABEL = 5
"""`auto` wants agreement to leave at least so many rows of every label."""

SURE = 2.0
"""Standard errors that Cohen's kappa must lie above zero (one-sided p = 0.02; its error under chance from Fleiss et al., Psychological Bulletin 72,
1969). Below, a second opinion may be a guess: keeping only what it agrees with would keep its own bias."""


Labels = dict[str, str | None]


@dataclass(frozen=True)
class Labelling:
    """The policy that was used, why, and the label of every candidate by id (None: no label to train on)."""

    policy: str
    why: str
    labels: Labels


def calibrated(candidates: Sequence[Candidate], labels: Sequence[str]) -> dict[str, str]:
    """The best label of each scored row once every label's mean log-probability over the rows is subtracted."""
    scored = [row for row in candidates if len(row.label_scores) == len(labels)]
    if not scored:
        return {}
    scores = np.array([row.label_scores for row in scored])
    best = (scores - scores.mean(axis=0)).argmax(axis=1)
    return {row.id: labels[k] for row, k in zip(scored, best, strict=True)}


def choose(candidates: Sequence[Candidate], labels: Sequence[str], policy: str) -> Labelling:
    """Labels for all candidates under a policy; `auto` decides it from the rows first.

    `agree` holds the asked label against the votes or the calibrated labels, whichever follow it better.
    """
    voted = {row.id: row.output for row in candidates}
    best = calibrated(candidates, labels)
    asked = {row.id: row.label_asked for row in candidates}
    opinion = _better_judge(asked, {"voted": voted, "calibrated": best})
    agreed = {
        id: label if label is not None and opinion.labels.get(id) == label else None for id, label in asked.items()
    }
    why = opinion.why
    if policy == "auto" and not any(asked.values()):
        policy, why = ("calibrated" if best else "voted"), "no label was asked for"
    elif policy == "auto":
        policy, why = _decide(asked, agreed, opinion, labels)
    choices = {"voted": voted, "asked": asked, "calibrated": best, "agree": agreed}
    if policy not in choices:
        hint = f"Use {', '.join(POLICIES)}."
        raise SgError(f"There is no label policy {policy!r}.", hint, exit_code=2)
    return Labelling(policy, why, {row.id: choices[policy].get(row.id) for row in candidates})


@dataclass(frozen=True)
class Opinion:
    """A second opinion on the asked labels: every row's label, and how many standard errors it is beyond chance."""

    labels: dict[str, str]
    z: float
    why: str


def _better_judge(asked: Labels, judges: dict[str, dict[str, str]]) -> Opinion:
    """Whose labels follow the asked ones best, and how well each does, in words."""
    found = {name: kappa(asked, labels) for name, labels in judges.items() if labels}
    name = max(found, key=lambda name: found[name].z, default="voted")
    words = ", ".join(
        f"{name} labels {value.kappa:.2f} ({value.z:.1f} standard errors)" for name, value in found.items()
    )
    return Opinion(judges[name], found[name].z if found else 0.0, f"Cohen's kappa with the asked labels: {words}")


def _decide(asked: Labels, agreed: Labels, opinion: Opinion, labels: Sequence[str]) -> tuple[str, str]:
    """The policy that the rows speak for, and why."""
    if opinion.z < SURE:
        return "asked", f"no second opinion is surely better than a guess ({opinion.why})"
    counts = Counter(label for label in agreed.values() if label is not None)
    n_agreed, rarest = sum(counts.values()), min(labels, key=lambda label: counts[label])
    if n_agreed < min(FEWEST, len(asked) / 3):
        return "asked", f"only {n_agreed} rows would agree ({opinion.why})"
    if counts[rarest] < min(FEWEST_OF_A_LABEL, sum(label == rarest for label in asked.values()) / 3):
        return "asked", f"only {counts[rarest]} rows for {rarest!r} would agree ({opinion.why})"
    return "agree", opinion.why


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa (1: full agreement, 0: what the labels' frequencies give by chance), and in standard errors."""

    kappa: float
    z: float


def kappa(asked: Labels, given: dict[str, str]) -> Kappa:
    """Agreement of asked and given labels beyond chance; rows that nothing was asked of do not count."""
    pairs = [(label, given.get(id)) for id, label in asked.items() if label is not None]
    if not pairs:
        return Kappa(0.0, 0.0)
    n, ours, theirs = len(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(ours[label] * theirs[label] for label in ours) / n**2
    if chance == 1:
        return Kappa(1.0, math.inf)
    value = (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
    return Kappa(value, value / math.sqrt(chance / (n * (1 - chance))) if chance else 0.0)


def choose_outputs(candidates: Sequence[Candidate], policy: str, similar: float) -> Labelling:
    """Outputs for generation: the voted one, the one that the input was written for, or the latter where both agree.

    `similar` is the ROUGE-L from which on two outputs agree. `auto` is the vote: measured better on a small model
    than the output written first, whose use is to bring inputs of the right kind.
    """
    if policy == "auto":
        policy = "voted"
    chosen = {row.id: _output(row, policy, similar) for row in candidates}
    return Labelling(policy, "as set", chosen)


def _output(row: Candidate, policy: str, similar: float) -> str | None:
    if policy == "voted" or row.label_asked is None:
        return row.output
    agrees = rouge_l(words(row.label_asked), words(row.output)) >= similar
    return row.label_asked if policy == "asked" or agrees else None
