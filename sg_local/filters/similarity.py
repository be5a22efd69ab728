"""How alike two texts are, as ROUGE-L over words, fast enough to hold every new row against all accepted ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sg_local.metrics import lcs_f1
from sg_local.splitting import pieces, words

__all__ = ["nearest", "pieces", "rouge_l", "words"]


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """ROUGE-L F1 of two word sequences in [0, 1]; two empty ones count as equal."""
    return lcs_f1(first, second) if first or second else 1.0


def nearest(text: str, others: Iterable[str], at_least: float = 0.0) -> tuple[float, str]:
    """The most similar other text and its ROUGE-L; (0.0, "") when none reaches `at_least`.

    Only pairs whose lengths allow `at_least` are compared.
    """
    mine = pieces(text)
    best, found = at_least, ""
    for other in others:
        theirs = pieces(other)
        total = len(mine) + len(theirs)
        if total and 2 * min(len(mine), len(theirs)) / total < best:
            continue
        score = rouge_l(mine, theirs)
        if score >= best and (score > best or not found):
            best, found = score, other
    return (best, found) if found else (0.0, "")
