"""What training takes with MLX on Metal: matrices stay quantised there, and all activations are computed again.

Where a step does not fit, one with half as many rows at a time follows by itself (`mlx.child`); so what must fit is a
step of one row. Estimated as for the other trainers, and never held against a measured peak: no Mac was at hand.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sg_local.backends import TrainSettings
from sg_local.backends.mlx.grids import BITS, GROUP
from sg_local.backends.training.holding import Stored
from sg_local.backends.training.memory import Place
from sg_local.gguf import GgufFile, Tensor

_EMBEDDING = "token_embd.weight"


def metal_place(model: Path, free_bytes: int | None) -> Place:
    """Metal with so much memory free, and the base as MLX holds it there."""
    with GgufFile(model) as file:
        matrices = [tensor for tensor in file.tensors.values() if len(tensor.shape) > 1]
        return Place(free_bytes, pads=True, blocks=Stored(sum(map(_held, matrices)), 0, 0))


def one_row(settings: TrainSettings) -> TrainSettings:
    """The settings of the smallest step."""
    return dataclasses.replace(settings, batch_size=1)


def _held(tensor: Tensor) -> int:
    """Bytes of a matrix: on its grid with a scale and a bias in float32 for each group, else as `mlx.weights` says."""
    n = tensor.rows * tensor.columns
    if tensor.type in BITS:
        return n * BITS[tensor.type] // 8 + 8 * (n // GROUP)
    return n * (4 if tensor.type == "F32" or tensor.name == _EMBEDDING else 2)
