"""Class balance: what a label has beyond its share goes, the rows with the least support first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sg_local.filters.settings import Balance
from sg_local.records import LABELLED, Candidate, Verdict


def balanced(candidates: Sequence[Candidate], verdicts: Sequence[Verdict], settings: Balance) -> list[Verdict]:
    """Reject what a label has beyond the allowed ratio, the rows with the fewest votes behind them first.

    Labelled rows count, and stay.
    """
    if not settings.on:
        return list(verdicts)
    rows = {row.id: row for row in candidates}
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.keep:
            groups.setdefault(output_of(rows[verdict.id], verdict), []).append(verdict)
    most = max(settings.at_least, round(settings.ratio * min(map(len, groups.values()), default=0)))
    surplus: dict[str, str] = {}
    for label, group in groups.items():
        ranked = sorted(group, key=lambda v: _rank(rows[v.id], v))
        surplus.update({v.id: label for v in ranked[most:] if rows[v.id].source != LABELLED})
    return [
        replace(v, keep=False, rule="balance", reason=f"{surplus[v.id]} has more than {most} rows")
        if v.id in surplus
        else v
        for v in verdicts
    ]


def _rank(candidate: Candidate, verdict: Verdict) -> tuple[bool, float]:
    """What stays first when a label has too many rows: labelled ones, then those with the most votes."""
    return candidate.source != LABELLED, -support(candidate, output_of(candidate, verdict))


def support(candidate: Candidate, output: str) -> float:
    """The share of the votes that the output got."""
    return candidate.votes.get(output, 0) / max(1, candidate.n_samples)


def output_of(candidate: Candidate, verdict: Verdict) -> str:
    return candidate.output if verdict.output is None else verdict.output
