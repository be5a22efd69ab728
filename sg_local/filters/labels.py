"""Which label a synthesised row gets: the voted one as published, the asked one, the calibrated one, or agreement.

A small model's votes often collapse onto one label, while it writes inputs for a label it was asked for rather
well; and its label scores, minus each label's mean over the synthetic inputs, undo the collapse. `auto` looks at
the rows themselves: it keeps those where the asked label and a second opinion agree, if enough do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sg_local.filters.settings import POLICIES
from sg_local.filters.similarity import rouge_l, words
from sg_local.records import Candidate, SgError

FEWEST = 30
"""`auto` wants agreement to leave at least so many rows; below, it takes every row as asked."""


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
    judge, why = _better_judge(asked, {"voted": voted, "calibrated": best}, len(labels))
    agreed = {id: label if label is not None and judge.get(id) == label else None for id, label in asked.items()}
    if policy == "auto":
        policy, why = _decide(asked, best, agreed, why)
    choices = {"voted": voted, "asked": asked, "calibrated": best, "agree": agreed}
    if policy not in choices:
        hint = f"Use {', '.join(POLICIES)}."
        raise SgError(f"There is no label policy {policy!r}.", hint, exit_code=2)
    return Labelling(policy, why, {row.id: choices[policy].get(row.id) for row in candidates})


def _better_judge(asked: Labels, judges: dict[str, dict[str, str]], n_labels: int) -> tuple[dict[str, str], str]:
    """Whose labels follow the asked ones best, and how well each does, in words."""
    shares = {name: above_chance(asked, labels, n_labels) for name, labels in judges.items() if labels}
    name = max(shares, key=lambda name: shares[name], default="voted")
    words = ", ".join(f"{name} labels {share:+.0%}" for name, share in shares.items())
    return judges[name], f"agreement with the asked labels, 0 % being chance: {words}"


def _decide(asked: Labels, best: dict[str, str], agreed: Labels, why: str) -> tuple[str, str]:
    """The policy that the rows speak for, and why."""
    if all(label is None for label in asked.values()):
        return ("calibrated" if best else "voted"), "no label was asked for"
    n_agreed = sum(label is not None for label in agreed.values())
    if n_agreed < min(FEWEST, len(asked) / 3):
        return "asked", f"only {n_agreed} rows would agree; {why}"
    return "agree", why


def above_chance(asked: Labels, given: dict[str, str], n_labels: int) -> float:
    """The share of asked labels that were given, rescaled so that guessing makes 0 and full agreement 1."""
    known = [id for id, label in asked.items() if label is not None]
    if not known:
        return 0.0
    chance = 1 / n_labels
    return (sum(given.get(id) == asked[id] for id in known) / len(known) - chance) / (1 - chance)


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
