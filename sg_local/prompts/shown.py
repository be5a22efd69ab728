"""How many demonstrations prompts show: training takes turns through a few numbers, of which the last one is for use.

A tuned model may do without what the base needs: prompts with fewer demonstrations are shorter, so they are answered
faster. Rows that show more of them beside rows that show fewer let the model learn the task from both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from sg_local.records import SgError

EVERY = "all"


def numbers(shown: Sequence[str]) -> tuple[int | None, ...]:
    """`all`, `1`, `0` as numbers, None for all. Raises SgError (usage) for what is no number of demonstrations."""
    if not shown or any(one != EVERY and not (one.isascii() and one.isdigit()) for one in shown):
        message = f"train.shown={','.join(shown)!r} is no list of numbers of examples."
        raise SgError(message, "Give numbers or `all`, such as `train.shown=all,1,0`.", exit_code=2)
    return tuple(None if one == EVERY else int(one) for one in shown)


def in_turn(shown: Sequence[str], n: int, seed: int) -> list[int | None]:
    """For each of n rows how many it shows: each number as often as the others, in a drawn order."""
    each = numbers(shown)
    turns = [each[i % len(each)] for i in range(n)]
    random.Random(seed).shuffle(turns)
    return turns
