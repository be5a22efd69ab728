"""The LoRA adapter in flat float32 storage: parameters and gradients are each one vector, seen as many matrices.

Clipping, averaging over processes and AdamW then work on one tensor. peft's modules hold views of the same
storage, so saving in peft's format writes what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sg_local.backends import TrainSettings
from sg_local.backends.torch.model import LoadedBase, Projection
from sg_local.backends.training.lora import adapted_layers, init_a


@dataclass(frozen=True)
class LoraPart:
    """The adapter of one projection with k modules: `a` is (k * rank, columns in), `b` k matrices (rows, rank)."""

    names: tuple[str, ...]
    a: torch.Tensor
    b: tuple[torch.Tensor, ...]


class TorchLora:
    """All parts by their projection's tensor names. `scale` is alpha / rank; `first` the lowest layer with a part."""

    def __init__(self, base: LoadedBase, settings: TrainSettings) -> None:
        self.rank, self.seed = settings.rank, settings.seed
        self.scale, self.dropout = settings.alpha / settings.rank, settings.dropout
        wanted = adapted_layers(base.shape.layers, settings)
        self.first = wanted.start
        chosen = [p for block in base.blocks if block.index in wanted for p in block.projections]
        size = sum(self.rank * (p.weight.shape[1] * len(p.names) + sum(p.sizes)) for p in chosen)
        device = base.device
        self.flat = torch.zeros(size, device=device)
        self.gradient = torch.zeros(size, device=device)
        self.flat.grad = self.gradient
        self._at = 0
        self.parts: Mapping[tuple[str, ...], LoraPart] = {p.names: self._part(p) for p in chosen}

    def _part(self, projection: Projection) -> LoraPart:
        a = self._carve(self.rank * len(projection.names), projection.weight.shape[1])
        b = tuple(self._carve(rows, self.rank) for rows in projection.sizes)
        return LoraPart(projection.names, a, b)

    def _carve(self, rows: int, columns: int) -> torch.Tensor:
        """The next matrix of the flat vector, as a leaf whose gradient lies in the flat gradient."""
        cut = slice(self._at, self._at + rows * columns)
        self._at = cut.stop
        leaf = self.flat[cut].view(rows, columns).requires_grad_()
        leaf.grad = self.gradient[cut].view(rows, columns)
        return leaf

    def start(self) -> None:
        """The seeded first value: `lora.init_a` and zeros."""
        with torch.no_grad():
            self.flat.zero_()
            for name, (a, _) in self.matrices().items():
                rank, n_in = a.shape
                a.copy_(torch.from_numpy(init_a(name, rank, n_in, self.seed)))

    def matrices(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """(A, B) by tensor name, as views of the storage, rows in transformers' order."""
        pairs = {}
        for part in self.parts.values():
            for name, a, b in zip(part.names, part.a.detach().split(self.rank), part.b, strict=True):
                pairs[name] = (a, b.detach())
        return pairs

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies by canonical name, rows of B in transformers' order."""
        named = {}
        for name, (a, b) in self.matrices().items():
            named[f"{name}.lora_a"] = a.cpu().numpy().copy()
            named[f"{name}.lora_b"] = b.cpu().numpy().copy()
        return named

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` gave."""
        for name, (a, b) in self.matrices().items():
            a.copy_(torch.from_numpy(arrays[f"{name}.lora_a"]))
            b.copy_(torch.from_numpy(arrays[f"{name}.lora_b"]))
