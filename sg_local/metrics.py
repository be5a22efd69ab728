"""How an answer is scored, and what a score is worth: pure functions of texts and numbers.

Two metrics decide: exact match after normalising, for classification, and ROUGE-L of the rouge-score package with
stemming, for generation, best over the references. Two more are SELF-GUIDE's own (arXiv 2407.12874, released
code) and are reported beside them under their names: the case-sensitive last label in the text, and ROUGE-L over
characters. JSON answers to a schema are scored by field, too. Scores of one answer lie in 0..1; estimates are in
percent.

Intervals are 95 % percentile bootstrap intervals over test rows, where every system sees the same resamples, so
that differences are paired. Where all rows score alike the bootstrap has no width and the exact binomial bound
stands in. NumPy and rouge-score are loaded by the functions that need them, not by importing this module.
It is longer than most, so that every figure of a report is defined in one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sg_local.fields import likeness
from sg_local.prompts import majority, match_label, normalise
from sg_local.schemas import misfit
from sg_local.splitting import holds, pieces, words

Metric = Callable[[str, Sequence[str]], float]

LEVEL = 0.95
OTHER = "(none)"


@dataclass(frozen=True)
class Estimate:
    """A mean over rows in percent with its 95 % interval."""

    score: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A paired difference of two means in points, its 95 % interval, and the two-sided bootstrap p-value."""

    gain: float
    low: float
    high: float
    p: float

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """`better` or `worse` where the interval leaves zero out, else `open`."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"


# Scores of one answer


def exact_match(text: str, references: Sequence[str]) -> float:
    """1 where the answer equals a reference after normalising, else 0."""
    answer = normalise(text)
    return float(any(answer == normalise(reference) for reference in references))


def exact_label(labels: Sequence[str]) -> Metric:
    """Exact match among labels: 1 where the answer names the label of a reference and no other, else 0."""

    def score(text: str, references: Sequence[str]) -> float:
        label = match_label(labels, text)
        return float(label is not None and label in {match_label(labels, reference) for reference in references})

    return score


def rouge_l() -> Metric:
    """A metric: the best ROUGE-L F-measure over the references, as rouge-score computes it, over words in any script.

    English words are stemmed as rouge-score stems them. A reference without a word is compared by what stands between
    its spaces.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Stemmed())

    def score(text: str, references: Sequence[str]) -> float:
        return max(one(text, reference) for reference in references)

    def one(text: str, reference: str) -> float:
        if words(reference):
            return float(scorer.score(reference, text)["rougeL"].fmeasure)
        return lcs_f1(text.split(), reference.split())

    return score


class Stemmed:
    """rouge-score's tokenizer for words in any script: those in ASCII are what its own makes of them."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """The stemmed words of a text in order."""
        return [stem for word in words(text) for stem in (self._english.tokenize(word) if word.isascii() else (word,))]


def authors_label(labels: Sequence[str]) -> Metric:
    """A metric of the SELF-GUIDE authors: the label that stands last in the text, case-sensitive, is the answer."""

    def score(text: str, references: Sequence[str]) -> float:
        ends = {label: text.rfind(label) + len(label) for label in labels if label in text}
        return float(bool(ends) and max(ends, key=lambda label: (ends[label], len(label))) in references)

    return score


def authors_rouge_l(text: str, references: Sequence[str]) -> float:
    """A metric of the SELF-GUIDE authors: ROUGE-L over characters, best over the references."""
    return max(lcs_f1(text, reference) for reference in references)


def names_label(labels: Sequence[str], text: str) -> bool:
    """True where some label stands in the text as words, both normalised."""
    return any(holds(text, label) for label in labels)


def field_f1(text: str, references: Sequence[str]) -> float:
    """F1 over the values of an answer in JSON, each at its field (fields.likeness), best over the references."""
    return max(likeness(text, reference).f1 for reference in references)


def fields_right(text: str, references: Sequence[str]) -> float:
    """The share of a reference's fields that the answer has exactly right, best over the references."""
    return max(likeness(text, reference).exact for reference in references)


def valid_json(schema: str) -> Metric:
    """A metric: 1 where the answer is JSON that fits the schema, whatever it says, else 0."""
    return lambda text, references: float(not misfit(schema, text))


def metrics_of(kind: str, labels: Sequence[str], schema: str = "") -> dict[str, Metric]:
    """The metrics of a task by name, the deciding one first."""
    if kind == "classification":
        return {"exact_match": exact_label(labels), "authors_label": authors_label(labels)}
    found = {"rouge_l": rouge_l(), "exact_match": exact_match, "authors_rouge_l": authors_rouge_l}
    if schema:
        found |= {"field_f1": field_f1, "fields_right": fields_right, "valid_json": valid_json(schema)}
    return found


def by_field(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """For each field of the right outputs the share of the rows that have it in which it is right, in percent.

    Each answer counts against the reference that it is most like.
    """
    right: dict[str, list[bool]] = {}
    for text, outputs in zip(texts, references, strict=True):
        best = max((likeness(text, output) for output in outputs), key=lambda one: (one.f1, one.exact))
        for path, is_right in best.fields.items():
            right.setdefault(path, []).append(is_right)
    return {path: round(100 * sum(found) / len(found), 2) for path, found in right.items()}


def lcs_f1(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """F-measure of the longest common subsequence of two sequences; 0 where one is empty."""
    return 2 * lcs_length(a, b) / (len(a) + len(b)) if a and b else 0.0


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, one big-integer step per item of b.

    Hyyro, 'Bit-parallel LCS-length computation revisited', 2004: an integer holds a whole row of the table.
    """
    places: dict[Hashable, int] = {}
    for i, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        match = row & places.get(item, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()


def consensus(votes: Mapping[str, int], backward: Mapping[str, float] | None = None) -> str:
    """The output that is most like all the votes: the highest mean ROUGE-L, every vote counted; empty without votes.

    Minimum Bayes risk over samples (arXiv 2309.10966). Of equals their `majority` stands.
    """
    likeness = {output: likeness_to(output, votes) for output in votes}
    most = max(likeness.values(), default=0.0)
    return majority({output: n for output, n in votes.items() if likeness[output] == most}, backward)


def typical(
    votes: Mapping[str, int],
    stands: Callable[[Mapping[str, int]], str],
    backward: Mapping[str, float] | None = None,
) -> str:
    """The consensus of the votes that stand before a filters' gate: `stands` elects an output of some votes, or none.

    What more than half of them say is itself the consensus: the gate judges it, and no other takes its place.
    """
    top = majority(votes, backward)
    if 2 * votes.get(top, 0) > sum(votes.values()):
        return stands(votes)
    return consensus({output: n for output, n in votes.items() if stands({output: n})}, backward)


def likeness_to(output: str, votes: Mapping[str, int]) -> float:
    """The mean ROUGE-L of an output to all the votes, every one counted, from 0 to 1."""
    mine = pieces(output)
    total = sum(n * (1.0 if other == output else lcs_f1(mine, pieces(other))) for other, n in votes.items())
    return round(total / max(1, sum(votes.values())), 6)


# Tables over all answers


def confusion(labels: Sequence[str], texts: Sequence[str], wanted: Sequence[str]) -> list[list[int]]:
    """Counts by right label (rows, in label order) and answered label (columns; the last one: no label)."""
    counts = Counter(zip(wanted, (match_label(labels, text) or OTHER for text in texts), strict=True))
    return [[counts[right, answered] for answered in (*labels, OTHER)] for right in labels]


def macro_f1(table: Sequence[Sequence[int]]) -> float:
    """Mean F1 in percent over the labels that occur as right or as answered, from a confusion table."""
    scores = []
    for i, row in enumerate(table):
        right, answered = sum(row), sum(other[i] for other in table)
        if right + answered:
            scores.append(200 * row[i] / (right + answered))
    return sum(scores) / len(scores) if scores else 0.0


# What a score is worth


def resamples(n: int, seed: int, rounds: int = 2000) -> Any:
    """Row numbers drawn with replacement: an integer array of (rounds, n)."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, n, size=(rounds, n), dtype=np.int32)


def estimate(values: Sequence[float], draws: Any) -> Estimate:
    """Mean and interval in percent of row scores in 0..1, over `resamples`."""
    n = len(values)
    mean = 100 * sum(values) / n
    low, high, _ = _spread(values, draws)
    if len(set(values)) == 1 and values[0] in (0.0, 1.0):
        reach = 100 * ((1 - LEVEL) / 2) ** (1 / n)
        low, high = (reach, 100.0) if values[0] else (0.0, 100 - reach)
    return Estimate(round(mean, 2), round(low, 2), round(high, 2), n)


def paired(tuned: Sequence[float], base: Sequence[float], draws: Any) -> Difference:
    """What `tuned` gains over `base` on the same rows, in points."""
    gaps = [a - b for a, b in zip(tuned, base, strict=True)]
    low, high, p = _spread(gaps, draws)
    return Difference(round(100 * sum(gaps) / len(gaps), 2), round(low, 2), round(high, 2), round(p, 4))


def _spread(values: Sequence[float], draws: Any) -> tuple[float, float, float]:
    """Interval of the mean in percent, and how often it falls on the far side of zero (two-sided, never 0)."""
    import numpy as np

    means = np.asarray(values, dtype=float)[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    far = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return 100 * float(low), 100 * float(high), min(1.0, 2 * (far + 1) / (len(means) + 1))


# Leaks


@dataclass(frozen=True)
class Words:
    """A text as its words, for comparing many with many."""

    sequence: tuple[str, ...]
    bag: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Words:
        sequence = pieces(text)
        return cls(sequence, frozenset(sequence))


def nearly_equal(a: Words, b: Words, threshold: float = 0.9) -> bool:
    """True where the token sets overlap (Jaccard), or the word-level ROUGE-L is, above the threshold."""
    if a.sequence == b.sequence:
        return True
    shared = len(a.bag & b.bag)
    if shared > threshold * len(a.bag | b.bag):
        return True
    n, m = len(a.sequence), len(b.sequence)
    return 2 * min(n, m) > threshold * (n + m) and lcs_f1(a.sequence, b.sequence) > threshold


def leaks(texts: Sequence[str], known: Sequence[str], threshold: float = 0.9) -> list[bool]:
    """For each text, whether it equals or nearly equals one that is known."""
    others = {Words.of(text) for text in known}
    return [any(nearly_equal(words, other, threshold) for other in others) for words in map(Words.of, texts)]
