"""Several processes that train one adapter, as mlx.launch starts them: sums over all of them, and who they are.

Every process holds the whole model, computes its share of a step's rows, and makes the same optimiser step after the
sums. Tested with two processes on one CPU (the ring backend); Metal and several hosts were never tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx
from mlx.nn.utils import average_gradients
from mlx.utils import tree_map

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's number `rank` among `size`; alone it is 0 of 1."""

    rank: int = 0
    size: int = 1

    def share(self, rows: tuple[T, ...]) -> tuple[T, ...]:
        """The rows that this process computes: every size-th."""
        return rows[self.rank :: self.size]

    def sum_tree(self, arrays: Any) -> Any:
        """A tree of arrays summed over all processes."""
        if self.size == 1:
            return arrays
        return tree_map(lambda mean: mean * self.size, average_gradients(arrays))

    def sum_numbers(self, *numbers: float) -> tuple[float, ...]:
        """Numbers summed over all processes, in float32 where they are several."""
        if self.size == 1:
            return numbers
        summed = mx.distributed.all_sum(mx.array(numbers, mx.float32))
        return tuple(float(number) for number in summed)


def join() -> Processes:
    """Join the other processes where mlx.launch started this one; alone otherwise."""
    group = mx.distributed.init()
    return Processes(group.rank(), group.size())
