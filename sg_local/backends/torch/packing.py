"""Rows laid end to end as one packed sequence: the tokens they all share once, then each row's own rest.

No padding anywhere, so every matrix product works on real tokens alone. Attention runs in groups of whole
rows: a group's queries see the shared prefix in full and their own row up to themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sg_local.backends.training.lora import n_answer
from sg_local.backends.training.memory import GROUP_TOKENS
from sg_local.records import TokenExample


@dataclass(frozen=True)
class PackGroup:
    """Packed positions [start, stop) of whole rows. `mask`: True where query (row) may see key (column).

    Keys are the prefix followed by the group's own tokens. None stands for plain causal attention, which a
    single row without a prefix has.
    """

    start: int
    stop: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Pack:
    """A packed micro-batch. `answers` are the packed positions whose logits predict `targets`.

    `weights` is each target's row weight. All are one-dimensional; `n_prefix` tokens stand first, and see each other as
    `prefix_mask` says, like that of a group; None: causally.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    n_prefix: int
    groups: tuple[PackGroup, ...]
    answers: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    prefix_mask: torch.Tensor | None = None

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)


def pack_rows(
    rows: Sequence[TokenExample], n_prefix: int, device: torch.device, n_together: int = GROUP_TOKENS
) -> Pack:
    """Pack rows that share their first `n_prefix` tokens, which must all be prompt tokens short of the last.

    About `n_together` tokens of them attend together.

    A single row keeps them to itself: there is nothing to share, and plain causal attention is faster.
    """
    n_prefix = n_prefix if len(rows) > 1 else 0
    assert all(n_prefix < row.n_prompt for row in rows)
    tokens, positions = list(rows[0].tokens[:n_prefix]), list(range(n_prefix))
    answers: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    starts: list[int] = []
    for row in rows:
        starts.append(len(tokens))
        answers += range(len(tokens) + row.n_prompt - n_prefix - 1, len(tokens) + len(row.tokens) - n_prefix - 1)
        tokens += row.tokens[n_prefix:]
        positions += range(n_prefix, len(row.tokens))
        targets += row.tokens[row.n_prompt :]
        weights += [row.weight] * n_answer(row)
    edges = [*starts, len(tokens)]
    return Pack(
        torch.tensor(tokens, device=device),
        torch.tensor(positions, device=device),
        n_prefix,
        tuple(_group(part, n_prefix, device) for part in _parts(edges, n_together)),
        torch.tensor(answers, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, device=device, dtype=torch.float32),
    )


def pack_tokens(tokens: Sequence[int], device: torch.device) -> Pack:
    """One sequence with every position as an answer position: for reading all its logits."""
    ids = torch.tensor(tokens, device=device)
    everywhere = torch.arange(len(tokens), device=device)
    group = PackGroup(0, len(tokens), None)
    return Pack(ids, everywhere, 0, (group,), everywhere, ids, torch.ones(len(tokens), device=device))


def _parts(edges: Sequence[int], n_tokens: int) -> list[list[int]]:
    """Row edges cut into runs of whole rows of about so many tokens; neighbours share an edge."""
    parts = [[edges[0]]]
    for edge in edges[1:]:
        if len(parts[-1]) > 1 and edge - parts[-1][0] > n_tokens:
            parts.append([parts[-1][-1]])
        parts[-1].append(edge)
    return parts


def _group(edges: Sequence[int], n_prefix: int, device: torch.device) -> PackGroup:
    start, stop = edges[0], edges[-1]
    if len(edges) == 2 and n_prefix == 0:
        return PackGroup(start, stop, None)
    lengths = torch.tensor([b - a for a, b in itertools.pairwise(edges)])
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    own = (row[:, None] == row[None, :]).tril()
    mask = torch.cat([torch.ones(len(row), n_prefix, dtype=torch.bool), own], dim=1)
    return PackGroup(start, stop, mask.to(device))
