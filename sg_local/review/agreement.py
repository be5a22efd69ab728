"""How far two reviewers agree: Cohen's kappa over the rows that both judged on their own.

A row has one of these outcomes: rejected, or accepted as one of the labels; without labels, accepted. An edit of a text
counts as accepted. The interval is Wilson's for the share alike, with the agreement by chance taken as known: rough for
few rows, but it does not shrink to a point where two people agree on all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sg_local.kappa import judged_alike
from sg_local.records import Verdict
from sg_local.review.history import FILTERS, WITHDRAWN

Z95 = 1.96
Outcome = tuple[bool, str | None]


@dataclass(frozen=True)
class Agreement:
    """Two people's judgements of the same rows: `alike` of `n` have the same outcome.

    `kappa` is 1 for full agreement and 0 for what chance gives, with its interval `low` to `high` (95 %); None where
    both gave one and the same outcome to every row, so that chance would agree as well.
    """

    judges: tuple[str, str]
    n: int
    alike: int
    kappa: float | None
    low: float | None
    high: float | None


def agreements(
    mine: Iterable[Verdict], theirs: Iterable[Verdict], ids: Collection[str], labels: Collection[str] = ()
) -> tuple[Agreement, ...]:
    """The agreement of each person in one journal with each other one in another, over rows that both judged."""
    here, there = independent(mine), independent(theirs)
    found = []
    for (one, own), (other, others) in itertools.product(here.items(), there.items()):
        both = [id for id in own if id in others and id in ids]
        if one != other and both:
            pairs = [(_outcome(own[id], labels), _outcome(others[id], labels)) for id in both]
            found.append(agreement((one, other), pairs))
    return tuple(found)


def independent(journal: Iterable[Verdict]) -> dict[str, dict[str, Verdict]]:
    """Each person's last verdict on each row, by judge and id, from before anybody else's was in the journal."""
    first: dict[str, str] = {}
    found: dict[str, dict[str, Verdict]] = {}
    spoilt: set[str] = set()
    for row in journal:
        if row.judge == FILTERS:
            continue
        if first.setdefault(row.id, row.judge) != row.judge:
            spoilt.add(row.id)
        if row.id in spoilt:
            continue
        if row.rule == WITHDRAWN:
            found.get(row.judge, {}).pop(row.id, None)
        else:
            found.setdefault(row.judge, {})[row.id] = row
    return found


def agreement(judges: tuple[str, str], pairs: Sequence[tuple[Outcome, Outcome]]) -> Agreement:
    """The agreement on at least one row, from both outcomes of each."""
    found = judged_alike(pairs)
    if found.kappa is None:
        return Agreement(judges, found.n, found.alike, None, None, None)
    low, high = map(found.beyond_chance, _wilson(found.alike, found.n))
    ends = round(max(-1.0, low), 3), round(min(1.0, high), 3)
    return Agreement(judges, found.n, found.alike, round(found.kappa, 3), *ends)


def _outcome(verdict: Verdict, labels: Collection[str]) -> Outcome:
    return verdict.keep, verdict.output if verdict.keep and labels else None


def _wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Journal of the American Statistical Association 22, 1927)."""
    middle = (k + Z95**2 / 2) / (n + Z95**2)
    half = Z95 * math.sqrt(k * (n - k) / n + Z95**2 / 4) / (n + Z95**2)
    return max(0.0, middle - half), min(1.0, middle + half)
