"""Which label a synthesised row gets: the voted one as published, the asked one, the calibrated one, or agreement.

A small model's votes often collapse onto one label, while it writes inputs for a label it was asked for rather
well; and its label scores, minus each label's mean over the synthetic inputs, undo the collapse. `auto` looks at
the rows themselves: it keeps those where the asked label and a second opinion agree if that opinion is surely better
than a guess, else the better half of every label, or the calibrated labels where these speak against the asked ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sg_local.filters.settings import POLICIES
from sg_local.filters.similarity import pieces, rouge_l
from sg_local.records import OWN, Candidate, SgError

if TYPE_CHECKING:
    import numpy as np

FEWEST = 30
"""Rows that agreement must leave for `auto` to use it, and that `ranked` keeps where there are so many."""

HALF = 0.5
"""The share of each label's rows that `ranked` keeps."""

FEWEST_OF_A_LABEL = 5
"""Rows of every label that agreement must leave for `auto` to use it."""

RARELY = 0.3
"""The share of votes like the output asked for below which `auto` trains generation on these rows alone."""

SURE = 2.0
"""Standard errors that Cohen's kappa must lie above zero (one-sided p = 0.02; Fleiss et al., Psychological Bulletin 72,
1969). Below, a second opinion may be a guess: keeping only what it agrees with would keep its own bias."""


Labels = dict[str, str | None]


@dataclass(frozen=True)
class Labelling:
    """The policy that was used, why, and the label of every candidate by id (None: no label to train on)."""

    policy: str
    why: str
    labels: Labels


def calibrated(
    candidates: Sequence[Candidate], labels: Sequence[str], over: Sequence[Candidate] | None = None
) -> dict[str, str]:
    """The best label of each scored row once every label's mean log-probability over the rows is subtracted.

    `over` are the rows that the mean is taken over, where they are others: rows with known outputs must not shift it.
    """
    scored = _scored(candidates, labels)
    base = scored if over is None else _scored(over, labels)
    if not scored or not base:
        return {}
    best = _centred(scored, base).argmax(axis=1)
    return {row.id: labels[k] for row, k in zip(scored, best, strict=True)}


def _scored(candidates: Sequence[Candidate], labels: Sequence[str]) -> list[Candidate]:
    return [row for row in candidates if len(row.label_scores) == len(labels)]


def _centred(scored: Sequence[Candidate], over: Sequence[Candidate]) -> np.ndarray:
    """Label scores (rows, labels), each label's mean over the rows `over` subtracted."""
    import numpy as np

    means = np.array([row.label_scores for row in over]).mean(axis=0)
    centred: np.ndarray = np.array([row.label_scores for row in scored]) - means
    return centred


def choose(candidates: Sequence[Candidate], labels: Sequence[str], policy: str) -> Labelling:
    """Labels for all candidates under a policy; `auto` decides it from the rows first.

    `agree` holds the asked label against the votes or the calibrated labels, whichever follow it better. Own inputs
    were asked for by nobody: where a policy goes by the asked label, they get that of this second opinion.
    """
    voted = {row.id: row.output for row in candidates}
    best = calibrated(candidates, labels)
    written = [row for row in candidates if row.source != OWN]
    asked = {row.id: row.label_asked for row in written}
    opinion = second_opinion(candidates, labels)
    agreed = {
        id: label if label is not None and opinion.labels.get(id) == label else None for id, label in asked.items()
    }
    why = opinion.why
    if policy == "auto" and not any(asked.values()):
        policy, why = ("calibrated" if best else "voted"), "no label was asked for"
    elif policy == "auto":
        doubt = _doubt(asked, agreed, opinion, labels)
        policy = _unsure(asked, best, labels) if doubt else "agree"
        why = f"{doubt} ({why})" if doubt else why
    has_own = len(written) < len(candidates)
    by_margin = ranked(candidates, labels, candidates if has_own else None) if policy == "ranked" else {}
    choices: dict[str, Mapping[str, str | None]] = {
        "voted": voted,
        "asked": asked,
        "calibrated": best,
        "agree": agreed,
        "ranked": by_margin,
    }
    if policy not in choices:
        hint = f"Use {', '.join(POLICIES)}."
        raise SgError(f"There is no label policy {policy!r}.", hint, exit_code=2)
    chosen = choices[policy]
    if policy not in ("voted", "calibrated"):
        chosen = {**chosen, **{row.id: opinion.labels.get(row.id) for row in candidates if row.source == OWN}}
    return Labelling(policy, why, {row.id: chosen.get(row.id) for row in candidates})


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


def ranked(candidates: Sequence[Candidate], labels: Sequence[str], over: Sequence[Candidate] | None = None) -> Labels:
    """The asked label of those rows, half of each label, whose calibrated scores speak for it most; None for the rest.

    A row's margin is its asked label's centred log-probability minus the best other label's. Ranking inside each label
    keeps the labels' shares, and harms little where the scores know nothing: then half the rows go at random.
    At least FEWEST rows stay, where there are so many. `over` is as in `calibrated`.
    """
    import numpy as np

    scored = [row for row in _scored(candidates, labels) if row.label_asked in labels]
    base = scored if over is None else _scored(over, labels)
    if not scored or not base:
        return {}
    centred = _centred(scored, base)
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
    return Opinion(name, judges[name], agreement, f"Cohen's kappa with the asked labels: {words}")


def _doubt(asked: Labels, agreed: Labels, opinion: Opinion, labels: Sequence[str]) -> str:
    """What speaks against keeping only the rows that agree, or an empty string."""
    if opinion.agreement.z < SURE:
        return "no second opinion is surely better than a guess"
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
    n, ours, theirs = len(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(ours[label] * theirs[label] for label in ours) / n**2
    if chance == 1:
        return Kappa(1.0, math.inf)
    value = (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
    return Kappa(value, value / math.sqrt(chance / (n * (1 - chance))) if chance else 0.0)


Elect = Callable[[str, Mapping[str, int]], str]
"""(input, votes) -> the output that the votes elect, empty where none stands: `OutputGate.elect`."""


def choose_outputs(candidates: Sequence[Candidate], policy: str, similar: float, elect: Elect) -> Labelling:
    """Outputs for generation: the voted one, the one that the input was written for, or the latter where both agree.

    Where `elect` lets none stand, the most frequent does, for a rule to name what is wrong with it. `similar` is the
    ROUGE-L from which on two outputs agree. `auto` is the vote, which measured better on a small model than the output
    written first; but where the two agree on few rows, though surely beyond chance, most votes are likely wrong, and
    `auto` takes the rows that agree.
    """
    voted = {row.id: elect(row.input, row.votes) or row.output for row in candidates}
    share, why = 1.0, "as set"
    if policy == "auto":
        share, why = _agreement(candidates, voted, similar)
        policy = "agree" if share < RARELY else "voted"
    chosen = {row.id: _output(row, voted[row.id], policy, similar) for row in candidates}
    return Labelling(policy, why, chosen)


def _output(row: Candidate, voted: str, policy: str, similar: float) -> str | None:
    if policy == "voted" or row.label_asked is None:
        return voted
    return row.label_asked if policy == "asked" or _alike(row.label_asked, voted, similar) else None


def _alike(first: str, second: str, similar: float) -> bool:
    return rouge_l(pieces(first), pieces(second)) >= similar


def _agreement(candidates: Sequence[Candidate], voted: dict[str, str], similar: float) -> tuple[float, str]:
    """The share of the rows whose vote is like the output asked for, and that in words; 1 where it tells nothing.

    It tells nothing when too few rows agree to train on, or votes are like other rows' outputs half as often.
    """
    rows = [row for row in candidates if row.label_asked]
    others = [row.label_asked for row in (*rows[1:], *rows[:1])]
    agreed = sum(_alike(row.label_asked or "", voted[row.id], similar) for row in rows)
    by_chance = sum(_alike(other or "", voted[row.id], similar) for row, other in zip(rows, others, strict=True))
    if not rows:
        return 1.0, "no output was asked for"
    why = f"{agreed} of {len(rows)} votes are like the output asked for, {by_chance} like another row's"
    return (agreed / len(rows) if agreed >= FEWEST and agreed >= 2 * by_chance else 1.0), why
