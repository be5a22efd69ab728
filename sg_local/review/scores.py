"""How likely each label is for a row by the scores that the model gave it when the row was made.

Each label's mean over the rows is taken off first, as the filters do: a small model gives every input the same label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sg_local.calibration import Calibration, Scores, mean_scores
from sg_local.records import Candidate


@dataclass(frozen=True)
class LabelScore:
    """A label's share of all labels' probability, 0 to 1, by all scores of its row.

    `ways` are the shares by the label after the input alone and by the input after the label alone; empty where a row
    was scored in the first way only.
    """

    label: str
    share: float
    ways: tuple[float, ...] = ()


def label_scores(candidates: Sequence[Candidate], labels: Sequence[str]) -> dict[str, tuple[LabelScore, ...]]:
    """The labels of each scored row by its id, the likeliest first."""
    n = len(labels)
    direct = {row.id: row.label_scores for row in candidates if n and len(row.label_scores) == n}
    channel = {row.id: row.channel_scores for row in candidates if row.id in direct and len(row.channel_scores) == n}
    both = {id: [sum(pair) for pair in zip(direct[id], scores, strict=True)] for id, scores in channel.items()}
    by_label, by_input = _shares(direct), _shares(channel)
    shares = {**by_label, **_shares(both)}
    ways = {id: tuple(zip(by_label[id], by_input[id], strict=True)) for id in channel}
    return {id: _ranked(labels, shares[id], ways.get(id, ((),) * n)) for id in direct}


def _ranked(
    labels: Sequence[str], shares: Sequence[float], ways: Sequence[tuple[float, ...]]
) -> tuple[LabelScore, ...]:
    found = map(LabelScore, labels, shares, ways)
    return tuple(sorted(found, key=lambda one: -one.share))


def _shares(scored: Mapping[str, Scores]) -> dict[str, tuple[float, ...]]:
    """Each label's share for every row, once the labels' means over these rows are taken off."""
    centred = Calibration(mean_scores(list(scored.values())))
    return {id: centred.probabilities(scores) for id, scores in scored.items()}
