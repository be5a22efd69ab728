"""Cohen's kappa: how far two who judged the same rows agree beyond chance.

Educational and Psychological Measurement 20 (1960). Pure counts; what counts as the same answer, and how sure a kappa
is, is the caller's matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreed:
    """Two who judged the same `n` rows, `alike` of them alike; `chance` is the share that chance alone would give."""

    n: int
    alike: int
    chance: float

    @property
    def kappa(self) -> float | None:
        """1 for full agreement, 0 for chance; None where both gave one and the same answer to every row."""
        return None if self.chance == 1 else self.beyond_chance(self.alike / self.n)

    def beyond_chance(self, share: float) -> float:
        """The kappa of another share alike in [0, 1], such as the end of an interval; chance must be below 1."""
        return (share - self.chance) / (1 - self.chance)


def judged_alike(pairs: Sequence[tuple[Hashable, Hashable]]) -> Agreed:
    """The counts of at least one pair of answers to the same row."""
    n, ours, theirs = len(pairs), Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    chance = sum(ours[answer] * theirs[answer] for answer in ours) / n**2
    return Agreed(n, sum(one == other for one, other in pairs), chance)
