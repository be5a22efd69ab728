"""Which of a task's demonstrations are shown, and in what order, where there are more than a prompt should hold.

Prompts leave out the first ones where the room is small (prompts.fitted_answer), so those that matter most stand last:
one of each label, then a second of each. Up to three stay as they were written.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence

from sg_local.records import Pair, Task

FEW = 3
"""As many as SELF-GUIDE shows (arXiv 2407.12874); so many are asked for, and shown in any case."""

SHARE = 0.5
"""The share of the context that demonstrations may take: as much is left for the input and what is asked of it."""


def drawn(task: Task, n: int | None = None) -> Task:
    """The task with its `n` (None: all) demonstrations that matter most, these last; as it is with FEW or fewer."""
    if len(task.examples) <= FEW:
        return task
    best = by_weight(task.examples, is_labelled=bool(task.labels))[:n]
    return dataclasses.replace(task, examples=tuple(reversed(best)))


def by_weight(examples: Sequence[Pair], *, is_labelled: bool) -> list[Pair]:
    """Demonstrations that matter most first: round by round one of each label, as they come; free text as it comes."""
    if not is_labelled:
        return list(examples)
    rounds: defaultdict[str, int] = defaultdict(int)
    placed = []
    for pair in examples:
        placed.append((rounds[pair.output], pair))
        rounds[pair.output] += 1
    return [pair for _, pair in sorted(placed, key=lambda one: one[0])]


def n_fitting(task: Task, n_tokens: Callable[[str], int], n_ctx: int) -> int:
    """How many demonstrations take at most SHARE of a context of `n_ctx` tokens, the weightiest first; FEW at least."""
    taken = 0
    for n, pair in enumerate(by_weight(task.examples, is_labelled=bool(task.labels))):
        taken += n_tokens(f"Input: {pair.input}\nOutput: {pair.output}\n\n")
        if n >= FEW and taken > SHARE * n_ctx:
            return n
    return len(task.examples)
