"""What a reviewer looks at: each candidate with its filter verdict and the signals that make it doubtful.

Doubt is a sum of five signals between 0 and 1, each shown in words on the card: few votes for the answer, an output
other than the one that its input was written for, a near duplicate, an unusual length, a low likelihood among this
run's rows.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from sg_local.records import Candidate, Verdict
from sg_local.review.scores import LabelScore, label_scores
from sg_local.splitting import stretches, words

ORDERS = ("file", "doubt", "votes", "neighbour", "length", "likelihood", "disagreement")
NEAR = 0.5
SURE_VOTES = 0.8


@dataclass(frozen=True)
class Signals:
    """Why a row may be bad, each from 0 (fine) to 1.

    `neighbour` is the id of the row whose input shares most words, `similarity` their Jaccard index. `disagreement` is
    how far the ways of labelling are apart: what was asked for, the votes, what the filters chose.
    """

    votes: float = 0.0
    asked: float = 0.0
    similarity: float = 0.0
    neighbour: str | None = None
    length: float = 0.0
    likelihood: float = 0.0
    disagreement: float = 0.0

    @property
    def doubt(self) -> float:
        """The sum that sorts most doubtful rows first."""
        near = max(0.0, self.similarity - NEAR) / (1 - NEAR)
        return self.votes + self.asked + near + self.length + max(0.0, self.likelihood - 0.8) * 5

    def words(self) -> tuple[str, ...]:
        """The signals that stand out, in words."""
        found = (
            (self.votes >= 0.4, "the votes disagree"),
            (self.asked >= 0.5, "another output than asked for"),
            (self.similarity >= NEAR, "close to another row"),
            (self.length >= 0.66, "unusual length"),
            (self.likelihood >= 0.9, "unlikely text"),
        )
        return tuple(word for holds, word in found if holds)


@dataclass(frozen=True)
class ReviewRow:
    """One candidate as the reviewer meets it. `number` counts from 1 in file order; `scores` has the likeliest label
    first."""

    number: int
    candidate: Candidate
    filters: Verdict | None = None
    signals: Signals = Signals()
    scores: tuple[LabelScore, ...] = ()

    @property
    def id(self) -> str:
        return self.candidate.id

    @property
    def kept(self) -> bool:
        """What the filters say; a row they never saw counts as kept."""
        return self.filters is None or self.filters.keep

    @property
    def rule(self) -> str:
        """The rule that rejected the row, or an empty string."""
        return "" if self.filters is None or self.filters.keep else self.filters.rule

    @property
    def input(self) -> str:
        """The input before any person's edit."""
        changed = None if self.filters is None else self.filters.input
        return self.candidate.input if changed is None else changed

    @property
    def output(self) -> str:
        """The output before any person's edit: the label that the filters chose, or the voted one."""
        changed = None if self.filters is None else self.filters.output
        return self.candidate.output if changed is None else changed

    @property
    def is_sure(self) -> bool:
        """True where nothing speaks against the row: most votes say what was asked for, with no sign of doubt."""
        is_voted = self.candidate.output == self.output and self.candidate.vote_share >= SURE_VOTES
        return is_voted and self.signals.asked == 0.0 and not self.signals.words()


def build(
    candidates: Sequence[Candidate], filters: dict[str, Verdict], labels: Sequence[str] = ()
) -> tuple[ReviewRow, ...]:
    """Rows in file order with their signals. `filters` holds the filters' last verdict by id."""
    scores = label_scores(candidates, labels)
    plain = [
        ReviewRow(i, candidate, filters.get(candidate.id), scores=scores.get(candidate.id, ()))
        for i, candidate in enumerate(candidates, 1)
    ]
    near = neighbours([candidate.input for candidate in candidates])
    lengths = _outlying([len(row.input) + len(row.output) for row in plain])
    ranks = _ranks([_mean_logprob(candidate) for candidate in candidates])
    signals = (
        Signals(
            votes=1.0 - row.candidate.vote_share,
            asked=_unlike(row, bool(labels)),
            similarity=near[i][1],
            neighbour=plain[near[i][0]].id if near[i][0] >= 0 else None,
            length=lengths[i],
            likelihood=ranks[i],
            disagreement=_disagreement(row, bool(labels)),
        )
        for i, row in enumerate(plain)
    )
    return tuple(replace(row, signals=found) for row, found in zip(plain, signals, strict=True))


def _unlike(row: ReviewRow, has_labels: bool) -> float:
    """How far the output is from the one asked for: another label wholly, a text by the share of words not common."""
    asked = row.candidate.label_asked
    if asked is None or asked == row.output:
        return 0.0
    one, other = frozenset(words(asked)), frozenset(words(row.output))
    return 1.0 if has_labels or not one | other else 1.0 - len(one & other) / len(one | other)


def _disagreement(row: ReviewRow, has_labels: bool) -> float:
    """The chance that two ways of labelling, drawn at random, name two labels; of a text, what its votes lack.

    A vote for what is no label counts as one for another label.
    """
    candidate = row.candidate
    if not has_labels:
        return (1.0 - candidate.vote_share + _unlike(row, has_labels)) / 2
    votes = {answer: count / max(1, candidate.n_samples) for answer, count in candidate.votes.items()}
    votes[""] = votes.get("", 0.0) + max(0.0, 1.0 - sum(votes.values()))
    asked = [] if candidate.label_asked is None else [{candidate.label_asked: 1.0}]
    ways = [votes, {row.output: 1.0}, *asked]
    shares: dict[str, float] = defaultdict(float)
    for label, share in (pair for way in ways for pair in way.items()):
        shares[label] += share
    return 1.0 - sum((share / len(ways)) ** 2 for share in shares.values())


def order_key(order: str, row: ReviewRow) -> tuple[float, int]:
    """The sort key that puts the most doubtful rows of this order first."""
    signals = row.signals
    weight = {
        "file": 0.0,
        "doubt": signals.doubt,
        "votes": signals.votes,
        "neighbour": signals.similarity,
        "length": signals.length,
        "likelihood": signals.likelihood,
        "disagreement": signals.disagreement,
    }[order]
    return (-weight, row.number)


def neighbours(texts: Sequence[str]) -> list[tuple[int, float]]:
    """For each text the index of the other text that shares most words, and their Jaccard index; (-1, 0.0) for none."""
    bags = [frozenset(words(text)) for text in texts]
    posts: dict[str, list[int]] = defaultdict(list)
    for i, bag in enumerate(bags):
        for word in bag:
            posts[word].append(i)
    return [_nearest(i, bags, posts) for i in range(len(texts))]


def _nearest(i: int, bags: Sequence[frozenset[str]], posts: dict[str, list[int]]) -> tuple[int, float]:
    shared = Counter(j for word in bags[i] for j in posts[word])
    del shared[i]
    scored = ((common / (len(bags[i]) + len(bags[j]) - common), -j) for j, common in shared.items())
    best = max(scored, default=(0.0, 1))
    return -best[1], best[0]


def words_apart(one: str, other: str) -> list[tuple[str, bool]]:
    """The second text in stretches (text, differs), where its words differ from the first one's."""
    before, after = stretches(one), stretches(other)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    return [("".join(after[j:k]), tag != "equal") for tag, _, _, j, k in matcher.get_opcodes() if k > j]


def _mean_logprob(candidate: Candidate) -> float:
    return candidate.logprob / max(1, candidate.n_tokens)


def _outlying(lengths: Sequence[int]) -> list[float]:
    """How far each length's logarithm lies from the mean, in units of three standard deviations, at most 1."""
    logs = [math.log(length + 1) for length in lengths]
    spread = pstdev(logs) if len(logs) > 1 else 0.0
    if spread == 0.0:
        return [0.0] * len(logs)
    centre = fmean(logs)
    return [min(1.0, abs(value - centre) / (3 * spread)) for value in logs]


def _ranks(values: Sequence[float]) -> list[float]:
    """The share of values above each one: 1 for the least likely row, 0 where all are alike."""
    if len(set(values)) < 2:
        return [0.0] * len(values)
    order = sorted(range(len(values)), key=lambda i: -values[i])
    ranks = [0.0] * len(values)
    for place, i in enumerate(order):
        ranks[i] = place / (len(values) - 1)
    return ranks


def n_rows(n: int, kind: str = "") -> str:
    """A count of rows for reading: 1 row, 12 open rows."""
    return f"{n:d} {kind} row{'' if n == 1 else 's'}".replace("  ", " ")


def reasons(rows: Iterable[ReviewRow]) -> tuple[str, ...]:
    """The rules that rejected at least one row, most frequent first."""
    return tuple(rule for rule, _ in Counter(row.rule for row in rows if row.rule).most_common())
