"""How alike two texts are, as ROUGE-L over words, fast enough to hold every new row against all accepted ones.

The longest common subsequence is computed bit-parallel (Hyyro, 'Bit-parallel LCS-length computation revisited',
2004): one Python integer holds a whole row of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def words(text: str) -> tuple[str, ...]:
    """The lower-case words of a text, punctuation dropped."""
    return tuple(re.findall(r"\w+", text.lower()))


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence of two word sequences."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """ROUGE-L F1 of two word sequences in [0, 1]; two empty ones count as equal."""
    if not first or not second:
        return float(len(first) == len(second))
    return 2 * lcs_length(first, second) / (len(first) + len(second))


def nearest(text: str, others: Iterable[str], at_least: float = 0.0) -> tuple[float, str]:
    """The most similar other text and its ROUGE-L; (0.0, "") when none reaches `at_least`.

    Only pairs whose lengths allow `at_least` are compared.
    """
    mine = words(text)
    best, found = at_least, ""
    for other in others:
        theirs = words(other)
        total = len(mine) + len(theirs)
        if total and 2 * min(len(mine), len(theirs)) / total < best:
            continue
        score = rouge_l(mine, theirs)
        if score >= best and (score > best or not found):
            best, found = score, other
    return (best, found) if found else (0.0, "")
