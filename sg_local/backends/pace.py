"""How fast a machine computes, where nothing has been measured with a model: a short probe of its arithmetic."""

from __future__ import annotations

import time
from pathlib import Path

from sg_local.gguf import GgufFile

WIDTH = 768  # of the matrices that are multiplied: beyond the first caches, as a model's are
PROBE_S = 0.4


def products_per_s(seconds: float = PROBE_S) -> float:
    """Multiplications with additions a second, in float32 by NumPy's library on all cores: the best of some turns."""
    import numpy as np

    left, right = np.ones((WIDTH, WIDTH), np.float32), np.ones((WIDTH, WIDTH), np.float32)
    out, best = left @ right, float("inf")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        np.matmul(left, right, out=out)
        best = min(best, time.perf_counter() - began)
    return WIDTH**3 / best


def layer_weights(model: Path) -> int:
    """Weights that every token is multiplied with on its way through the layers."""
    with GgufFile(model) as file:
        tensors = [tensor for name, tensor in file.tensors.items() if name.startswith("blk.")]
    return max(1, sum(tensor.rows * tensor.columns for tensor in tensors if len(tensor.shape) > 1))
