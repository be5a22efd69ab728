"""What a judged random sample says about the rows nobody judged: the exact binomial (Clopper-Pearson) bound.

The bound is one-sided: with the stated confidence the rate of bad rows is not above it. Rows are drawn without
replacement, so the binomial bound is on the safe side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sg_local.records import SgError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SampleResult:
    """A judged sample: `bad` of `n` rows were not accepted as they stood; `rest` rows were not drawn.

    `bound` is the highest rate of bad rows, among those drawn and the rest together, that the sample leaves possible,
    from 0 to 1.
    """

    n: int
    bad: int
    rest: int
    bound: float

    @property
    def at_most(self) -> int:
        """How many of the rest may be bad, at most: the bound is on the whole, of which the sample's own are known."""
        return min(self.rest, math.floor(self.bound * (self.n + self.rest)) - self.bad)


def sample_result(n: int, bad: int, rest: int) -> SampleResult:
    """The result of a sample of `n` judged rows, of which `bad` were bad."""
    return SampleResult(n, bad, rest, upper_bound(bad, n))


def upper_bound(bad: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The rate p in (0, 1] at which seeing `bad` or fewer bad rows in `n` has the probability 1 - confidence."""
    if not 0 <= bad <= n or n < 1:
        raise SgError(f"{bad} bad rows of {n} are not a sample.", "Judge at least one row of the sample.")
    if bad == n:
        return 1.0
    low, high = bad / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(bad, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) for X binomial with n draws at rate p in (0, 1), through logarithms so that large n holds."""
    log_p, log_q = math.log(p), math.log1p(-p) if p < 1 else -math.inf
    return math.fsum(math.exp(_log_choose(n, i) + i * log_p + (n - i) * log_q) for i in range(k + 1)) if p > 0 else 1.0


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
