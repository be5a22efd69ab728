"""Which output a synthesised row of a generation task gets: the voted one, or the one its input was written for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sg_local.filters.labels import Labelling
from sg_local.filters.similarity import pieces, rouge_l
from sg_local.metrics import typical
from sg_local.records import Candidate

OF_TEXTS = ("auto", "voted", "asked", "agree", "mbr")
"""The policies that tasks of generation have."""
RARELY = 0.3
"""The share of votes like the output asked for below which `auto` trains generation on these rows alone."""
FEWEST = 20
"""Such rows that are enough to train on: 24 and 29 of them beat six times as many voted ones, 16 did not."""

Elect = Callable[[str, Mapping[str, int], Mapping[str, float]], str]
"""(input, votes, backward scores) -> the output that the votes elect, empty where none stands: `OutputGate.elect`."""


def choose_outputs(candidates: Sequence[Candidate], policy: str, similar: float, elect: Elect) -> Labelling:
    """Outputs for generation: the voted one, the one that the input was written for, or the latter where both agree.

    `mbr` is the vote that is most like all the others.

    Where `elect` lets none stand, the most frequent does, for a rule to name what is wrong with it. `similar` is the
    ROUGE-L from which on two outputs agree. `auto` is the vote, which measured better on a small model than the output
    written first; but where the two agree on few rows, though surely beyond chance, most votes are likely wrong, and
    `auto` takes the rows that agree.
    """
    if policy == "mbr":
        return Labelling(policy, "as set", {row.id: _typical(row, elect) or row.output for row in candidates})
    voted = {row.id: elect(row.input, row.votes, row.backward) or row.output for row in candidates}
    share, why = 1.0, "as set"
    if policy not in OF_TEXTS:
        policy, why = "agree", f"policy {policy} is one for labels"
    if policy == "auto":
        share, why = _agreement(candidates, voted, similar)
        policy = "agree" if share < RARELY else "voted"
    chosen = {row.id: _output(row, voted[row.id], policy, similar) for row in candidates}
    return Labelling(policy, why, chosen)


def _typical(row: Candidate, elect: Elect) -> str:
    """The consensus of those votes that stand by themselves; its share counts the others too, as doubts (_verdict)."""
    return typical(row.votes, lambda alone: elect(row.input, alone, row.backward), row.backward)


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
