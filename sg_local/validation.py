"""Which of a job's rows validate its training, and never train: a share of each label's, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

NO_VALID_BELOW = 20
VALID_SHARE, MIN_VALID = 0.1, 4


@dataclass(frozen=True)
class Split:
    """Row numbers that train and that validate, each in rising order."""

    train: tuple[int, ...]
    valid: tuple[int, ...]


def split_rows(labels: Sequence[str], seed: int, right: Sequence[int] = (), share: float = 0.0) -> Split:
    """A tenth of the rows for validation, at least MIN_VALID, drawn from each label in proportion.

    Below NO_VALID_BELOW rows all of them train. Pass one label for all rows where there are none. `right` are row
    numbers whose outputs a person gave: `share` of these validates before any other row does.
    """
    n = len(labels)
    if n < NO_VALID_BELOW:
        return Split(tuple(range(n)), ())
    draw = random.Random(seed)
    wanted = max(MIN_VALID, round(VALID_SHARE * n))
    valid = _drawn(labels, right, min(wanted, round(share * len(right))), draw)
    others = sorted(set(range(n)) - set(right))
    valid |= _drawn(labels, others, wanted - len(valid), draw)
    return Split(tuple(i for i in range(n) if i not in valid), tuple(sorted(valid)))


def _drawn(labels: Sequence[str], rows: Sequence[int], wanted: int, draw: random.Random) -> set[int]:
    """So many of these rows, of each label in proportion."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(labels[row], []).append(row)
    sizes = {label: len(group) for label, group in groups.items()}
    found: set[int] = set()
    for label, share in shares(sizes, wanted).items() if sizes and wanted > 0 else ():
        found |= set(draw.sample(groups[label], share))
    return found


def shares(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """How many rows each label gives to `wanted`: in proportion, largest remainders first, one always left."""
    total = sum(sizes.values())
    exact = {label: wanted * size / total for label, size in sizes.items()}
    given = {label: min(int(exact[label]), size - 1) for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (int(exact[label]) - exact[label], label))
    for label in by_remainder:
        if sum(given.values()) < wanted and given[label] < sizes[label] - 1:
            given[label] += 1
    return given
