"""LoRA on an MLX model: mlx-lm's own layers, their arrays by canonical name, and both file forms of an adapter.

The canonical arrays (`sg_local.backends.training.lora`) are A (rank, n_in) and B (n_out, rank); MLX keeps both
transposed. In an adapter GGUF the rows of B are the base GGUF's, as here. In mlx-lm's own files they follow Hugging
Face's row order, because the models that people load with mlx-lm come from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear

from sg_local.backends.mlx.model import Model, TransformerBlock
from sg_local.backends.training.checkpoint import Arrays
from sg_local.backends.training.lora import init_a
from sg_local.files import replacing, write_text
from sg_local.gguf import Architecture, Pair, rows_to_hf

MLX_FOLDER = "mlx"


class KeyedDropout(Module):
    """Dropout whose mask is a function of a key that the trainer sets, so that a recomputed layer draws it again."""

    def __init__(self, p: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # MLX gives it no types
        self._keep = 1.0 - p
        self._key: mx.array | None = None

    def set_key(self, key: mx.array | None) -> None:
        """Draw from this key from now on; None passes everything."""
        self._key = key

    def __call__(self, x: mx.array) -> mx.array:
        if self._key is None or self._keep == 1.0:
            return x
        return mx.random.bernoulli(self._keep, x.shape, self._key) * x * (1.0 / self._keep)


@dataclass(frozen=True)
class LoraShape:
    """What layers an adapter changes, and how: its delta is alpha / rank * B @ A."""

    layers: range
    rank: int
    alpha: float
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class MlxLora:
    """The LoRA layers put into one model. `modules` maps base tensor names to them, layer by layer."""

    def __init__(self, model: Model, shape: LoraShape) -> None:
        self.model, self.shape = model, shape
        self.modules: dict[str, LoRALinear] = {}
        for layer in shape.layers:
            self.modules |= _adapt(model.layers[layer], layer, shape, model.shape.row)

    def initialise(self, seed: int) -> None:
        """The seeded first value: A as every engine draws it, B zero."""
        for name, module in self.modules.items():
            n_in, rank = module.lora_a.shape
            module.lora_a = mx.array(init_a(name, rank, n_in, seed).T)
            module.lora_b = mx.zeros_like(module.lora_b)

    def arrays(self) -> Arrays:
        """The adapter by canonical name, float32."""
        out: Arrays = {}
        for name, module in self.modules.items():
            out[f"{name}.lora_a"] = np.ascontiguousarray(np.array(module.lora_a).T)
            out[f"{name}.lora_b"] = np.ascontiguousarray(np.array(module.lora_b).T)
        return out

    def restore(self, arrays: Arrays) -> None:
        """Take the values that `arrays` gave."""
        for name, module in self.modules.items():
            module.lora_a = mx.array(np.ascontiguousarray(arrays[f"{name}.lora_a"].T))
            module.lora_b = mx.array(np.ascontiguousarray(arrays[f"{name}.lora_b"].T))

    def pairs(self) -> dict[str, Pair]:
        """A and B of each adapted tensor, as `gguf.write_adapter` takes them."""
        arrays = self.arrays()
        return {name: (arrays[f"{name}.lora_a"], arrays[f"{name}.lora_b"]) for name in self.modules}

    def set_dropout_key(self, seed: int | None) -> None:
        """Give every layer its own key under this seed; None switches dropout off."""
        keys: Iterable[mx.array | None] = [None] * len(self.modules)
        if seed is not None:
            keys = mx.random.split(mx.random.key(seed), len(self.modules))
        for module, key in zip(self.modules.values(), keys, strict=True):
            module.dropout.set_key(key)


def apply_adapter(model: Model, pairs: Mapping[str, Pair], alpha: float, layers: Sequence[int] | None = None) -> None:
    """Put an adapter's pairs, each of its own rank, onto a model: the whole one, or a slice made of these layers."""
    wanted = range(len(model.layers)) if layers is None else layers
    for name, (a, b) in pairs.items():
        _, layer, target, _ = name.split(".")
        if int(layer) not in wanted:
            continue
        block = model.layers[wanted.index(int(layer))]
        module = model.shape.row.module_in_layer(target)
        lora = _wrap(_module_of(block, module), LoraShape(range(0), a.shape[0], alpha))
        lora.lora_a, lora.lora_b = mx.array(np.ascontiguousarray(a.T)), mx.array(np.ascontiguousarray(b.T))
        block.update_modules(tree_unflatten([(module, lora)]))


def remove_adapter(model: Model) -> None:
    """Take every LoRA layer out again."""
    found = [(name, module.linear) for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    if found:
        model.update_modules(tree_unflatten(found))


def write_mlx_adapter(out: Path, lora: MlxLora) -> None:
    """Write adapters.safetensors and adapter_config.json in `out/mlx`, for `mlx_lm.load(..., adapter_path=)`."""
    folder, shape, base, pairs = out / MLX_FOLDER, lora.shape, lora.model.shape, lora.pairs()
    row = base.row
    arrays: dict[str, mx.array] = {}
    for layer in shape.layers:
        for module in row.modules:
            name = row.tensor_name(layer, module)
            a, b = pairs[name]
            heads = base.rotary_heads(name)
            b = b if heads is None else rows_to_hf(b, heads)
            arrays[f"model.layers.{layer}.{module}.lora_a"] = mx.array(np.ascontiguousarray(a.T))
            arrays[f"model.layers.{layer}.{module}.lora_b"] = mx.array(np.ascontiguousarray(b.T))
    how = {"rank": shape.rank, "scale": shape.scale, "dropout": shape.dropout}
    config = {
        "fine_tune_type": "lora",
        "num_layers": len(shape.layers),
        "lora_parameters": {**how, "keys": list(row.modules)},
    }
    with replacing(folder / "adapters.safetensors") as file:
        mx.save_safetensors(file, arrays)
    write_text(folder / "adapter_config.json", json.dumps(config, indent=2))


def _adapt(block: TransformerBlock, layer: int, shape: LoraShape, row: Architecture) -> dict[str, LoRALinear]:
    found = {module: _wrap(_module_of(block, module), shape) for module in row.modules}
    block.update_modules(tree_unflatten(list(found.items())))
    return {row.tensor_name(layer, module): lora for module, lora in found.items()}


def _wrap(linear: Module, shape: LoraShape) -> LoRALinear:
    lora: LoRALinear = LoRALinear.from_base(linear, r=shape.rank, dropout=0.0, scale=shape.scale)
    lora.dropout = KeyedDropout(shape.dropout)
    return lora


def _module_of(block: TransformerBlock, path: str) -> Module:
    found: Any = block
    for part in path.split("."):
        found = found[part]
    module: Module = found
    return module
