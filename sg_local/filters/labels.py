"""Which label a synthesised row gets: the voted one as published, the asked one, the calibrated one, or agreement.

A small model's votes often collapse onto one label, while it writes inputs for a label it was asked for rather
well; and its label scores, minus each label's mean over the synthetic inputs, undo the collapse. Where rows also have
channel scores, how likely each label makes the input, both together are the better judge of an own input; an input that
was written for a label speaks for it by the way it came about, and is held against others of that label only.

`auto` looks at the rows themselves. Those with both scores all get the ensemble's label. Else it keeps those where the
asked label and a second opinion agree if that opinion is surely better than a guess, else the better half of every
label, or the calibrated labels where these speak against the asked ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sg_local.filters.settings import POLICIES
from sg_local.kappa import judged_alike
from sg_local.records import OWN, Candidate, SgError

if TYPE_CHECKING:
    import numpy as np

FEWEST = 30
"""Rows that agreement must leave for `auto` to use it, and that `ranked` keeps where there are so many."""

HALF = 0.5
"""The share of each label's rows that `ranked` keeps."""

FEWEST_OF_A_LABEL = 5
"""Rows of every label that agreement must leave for `auto` to use it."""

SURE = 2.0
"""Standard errors that Cohen's kappa must lie above zero (one-sided p = 0.02; Fleiss et al., Psychological Bulletin 72,
1969). Below, a second opinion may be a guess: keeping only what it agrees with would keep its own bias."""

AGREEING = "the asked labels agree, beyond chance (Cohen's kappa: 0 none, 1 full), with"


Labels = dict[str, str | None]


@dataclass(frozen=True)
class Labelling:
    """The policy that was used, why, and the label of every candidate by id (None: no label to train on)."""

    policy: str
    why: str
    labels: Labels


Evidence = Callable[[Candidate], Sequence[float]]
"""A row's score for each label, in nats; empty where it has none."""


def direct(row: Candidate) -> Sequence[float]:
    """log P(label | input)."""
    return row.label_scores


def both(row: Candidate) -> Sequence[float]:
    """log P(label | input) + log P(input | label)."""
    if len(row.channel_scores) != len(row.label_scores):
        return ()
    return [one + other for one, other in zip(row.label_scores, row.channel_scores, strict=True)]


def calibrated(
    candidates: Sequence[Candidate],
    labels: Sequence[str],
    over: Sequence[Candidate] | None = None,
    evidence: Evidence = direct,
) -> dict[str, str]:
    """The best label of each scored row once every label's mean score over the rows is subtracted.

    `over` are the rows that the mean is taken over, where they are others: rows with known outputs must not shift it.
    """
    scored = _scored(candidates, labels, evidence)
    base = scored if over is None else _scored(over, labels, evidence)
    if not scored or not base:
        return {}
    best = _centred(scored, base, evidence).argmax(axis=1)
    return {row.id: labels[k] for row, k in zip(scored, best, strict=True)}


def _scored(candidates: Sequence[Candidate], labels: Sequence[str], evidence: Evidence) -> list[Candidate]:
    return [row for row in candidates if len(evidence(row)) == len(labels)]


def _centred(scored: Sequence[Candidate], over: Sequence[Candidate], evidence: Evidence) -> np.ndarray:
    """Label scores (rows, labels), each label's mean over the rows `over` subtracted."""
    import numpy as np

    means = np.array([evidence(row) for row in over]).mean(axis=0)
    centred: np.ndarray = np.array([evidence(row) for row in scored]) - means
    return centred


def choose(candidates: Sequence[Candidate], labels: Sequence[str], policy: str, evidence: str = "direct") -> Labelling:
    """Labels for all candidates under a policy; `auto` decides it from the rows first.

    `agree` holds the asked label against a second opinion: the ensemble's where `evidence` is `both` and the rows have
    channel scores, else that of the votes or the calibrated labels, whichever follow the asked ones better. Own inputs
    were asked for by nobody: where a policy goes by the asked label, they get that of this opinion.
    Raises SgError (usage) for a policy that there is not, and for `ensemble` without channel scores.
    """
    written = [row for row in candidates if row.source != OWN]
    asked = {row.id: row.label_asked for row in written}
    best, together = calibrated(candidates, labels), calibrated(candidates, labels, evidence=both)
    _check_policy(policy, is_scored=bool(together or not candidates))
    judge = both if evidence == "both" and together else direct
    opinion = second_opinion(candidates, labels)
    second = together if judge is both else opinion.labels
    agreed = {id: label if label is not None and second.get(id) == label else None for id, label in asked.items()}
    why = opinion.why
    if policy == "auto" and judge is both:
        policy, why = "ensemble", "how likely a label is after the input, and the input after the label"
    elif policy == "auto" and not any(asked.values()):
        policy, why = "calibrated" if best else "voted", "no label was asked for"
    elif policy == "auto":
        doubt = _doubt(asked, agreed, opinion, labels)
        policy = _unsure(asked, best, labels) if doubt else "agree"
        why = f"{doubt} ({why})" if doubt else why
    over = candidates if len(written) < len(candidates) else None
    choices: dict[str, Callable[[], Mapping[str, str | None]]] = {
        "voted": lambda: {row.id: row.output for row in candidates},
        "asked": lambda: asked,
        "calibrated": lambda: best,
        "ensemble": lambda: together,
        "agree": lambda: agreed,
        "ranked": lambda: ranked(candidates, labels, over, judge),
    }
    chosen = choices[policy]()
    if policy in ("asked", "agree", "ranked"):
        chosen = {**chosen, **{row.id: second.get(row.id) for row in candidates if row.source == OWN}}
    return Labelling(policy, why, {row.id: chosen.get(row.id) for row in candidates})


def _check_policy(policy: str, *, is_scored: bool) -> None:
    if policy == "mbr":
        hint = "Use `filter.policy=voted`, or another policy for labels."
        raise SgError("Policy mbr compares written answers, and this task has labels.", hint, exit_code=2)
    if policy not in POLICIES:
        hint = f"Use {', '.join(POLICIES)}."
        raise SgError(f"There is no label policy {policy!r}.", hint, exit_code=2)
    if policy == "ensemble" and not is_scored:
        hint = "Synthesise with `synth.channel=true`, or choose another `filter.policy`."
        raise SgError("These rows have no channel scores, which the policy ensemble needs.", hint, exit_code=2)


def _unsure(asked: Labels, best: dict[str, str], labels: Sequence[str]) -> str:
    """What `auto` does where agreement may be chance.

    `ranked` needs scores that lean the asked labels' way. Where they lean against them, the rows with large margins are
    exceptions, and the scores alone measured better.
    """
    if not best:
        return "asked"
    return "ranked" if kappa(asked, best).kappa > 0 else "calibrated"


@dataclass(frozen=True)
class Opinion:
    """A second opinion on the asked labels: `voted` or `calibrated`, every row's label, how far it is beyond chance."""

    name: str
    labels: dict[str, str]
    agreement: Kappa
    why: str


def ranked(
    candidates: Sequence[Candidate],
    labels: Sequence[str],
    over: Sequence[Candidate] | None = None,
    evidence: Evidence = direct,
) -> Labels:
    """The asked label of those rows, half of each label, whose calibrated scores speak for it most; None for the rest.

    A row's margin is its asked label's centred log-probability minus the best other label's. Ranking inside each label
    keeps the labels' shares, and harms little where the scores know nothing: then half the rows go at random.
    At least FEWEST rows stay, where there are so many. `over` is as in `calibrated`.
    """
    import numpy as np

    scored = [row for row in _scored(candidates, labels, evidence) if row.label_asked in labels]
    base = scored if over is None else _scored(over, labels, evidence)
    if not scored or not base:
        return {}
    centred = _centred(scored, base, evidence)
    own = np.array([labels.index(row.label_asked) for row in scored])
    rows = np.arange(len(scored))
    asked = centred[rows, own]
    centred[rows, own] = -np.inf
    margins = asked - centred.max(axis=1)
    kept: Labels = {row.id: None for row in candidates}
    for k, label in enumerate(labels):
        best = sorted(rows[own == k], key=lambda i: -margins[i])
        for i in best[: max(math.ceil(HALF * len(best)), math.ceil(FEWEST / len(labels)))]:
            kept[scored[i].id] = label
    return kept


def second_opinion(candidates: Sequence[Candidate], labels: Sequence[str]) -> Opinion:
    """Whose labels follow the asked ones better, the votes' or the calibrated ones; `why` tells how well each does."""
    asked = {row.id: row.label_asked for row in candidates if row.source != OWN}
    judges = {"voted": {row.id: row.output for row in candidates}, "calibrated": calibrated(candidates, labels)}
    found = {name: kappa(asked, labels) for name, labels in judges.items() if labels}
    name = max(found, key=lambda name: found[name].z, default="voted")
    words = ", ".join(
        f"{name} labels {value.kappa:.2f} ({value.z:.1f} standard errors)" for name, value in found.items()
    )
    agreement = found.get(name, Kappa(0.0, 0.0))
    return Opinion(name, judges[name], agreement, f"{AGREEING} {words}")


def _doubt(asked: Labels, agreed: Labels, opinion: Opinion, labels: Sequence[str]) -> str:
    """What speaks against keeping only the rows that agree, or an empty string."""
    if opinion.agreement.z < SURE:
        return "no second opinion is clearly better than chance"
    counts = Counter(label for label in agreed.values() if label is not None)
    n_agreed, rarest = sum(counts.values()), min(labels, key=lambda label: counts[label])
    if n_agreed < min(FEWEST, len(asked) / 3):
        return f"only {n_agreed} rows would agree"
    if counts[rarest] < min(FEWEST_OF_A_LABEL, sum(label == rarest for label in asked.values()) / 3):
        return f"only {counts[rarest]} rows for {rarest!r} would agree"
    return ""


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
    found = judged_alike(pairs)
    value, chance = found.kappa, found.chance
    if value is None:
        return Kappa(1.0, math.inf)
    return Kappa(value, value / math.sqrt(chance / (found.n * (1 - chance))) if chance else 0.0)
