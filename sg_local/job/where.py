"""Where a job computes: on the processor, on an NVIDIA card with memory of its own, or on a Mac's GPU.

What a card holds and how fast a GPU is, nobody knows before something has run on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sg_local.backends import machine, on_apple_silicon

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun

Where = Literal["cpu", "cuda", "metal"]


def engines_on() -> Where:
    """The best that engines find on this machine."""
    if machine.has_nvidia():
        return "cuda"
    return "metal" if on_apple_silicon() else "cpu"


def trains_on(job: OpenRun) -> Where:
    """Where the job's trainer computes: torch on a card, MLX on a Mac's GPU, each on the processor elsewhere."""
    there = {"torch": "cuda", "mlx": "metal"}.get(job.trainer)
    found = engines_on()
    return found if found == there else "cpu"
