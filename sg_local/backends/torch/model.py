"""A GGUF as the model that transformers has for its architecture, tensor by tensor, frozen.

transformers can read GGUF files itself, but marks the result as quantised, which its own tools then refuse; so the
model is built empty and filled here. Rows of rotary heads are put back into transformers' order (in some architectures
a GGUF stores rotary pairs side by side). Projections that read the same input share one block of storage, of which the
model's own parameters are views, so that each such group is one matrix product.

Covers the rows of gguf.architectures whose block is that of `forward`: grouped-query attention, tied or own head,
linear and frequency-factor rope scaling (both written into the model's rotary table). What gguf.read_config refuses is
refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from sg_local.gguf import ROPE_FACTORS, GgufFile, ModelConfig, read_config, rows_to_hf
from sg_local.records import SgError


@dataclass(frozen=True, eq=False)
class Projection:
    """One or more linear modules with a common input, stacked: `weight` is (sum of sizes, columns in).

    `bias` is (sum of sizes), None where the modules have none. `names` are the stacked modules' GGUF tensor names and
    `modules` their transformers names in the layer.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One layer's frozen weights, and its index in the file. `norms` are its norms' weights by their GGUF stems."""

    index: int
    norms: Mapping[str, torch.Tensor]
    qkv: Projection
    attn_output: Projection
    gate_up: Projection
    ffn_down: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        return (self.qkv, self.attn_output, self.gate_up, self.ffn_down)


@dataclass(frozen=True)
class LoadedBase:
    """A loaded base: the transformers model, the file's shape, and the same weights as blocks.

    `blocks` may be a slice of the file's layers; then the model holds these alone.
    """

    model: Any  # transformers' class of the architecture: its parts have no types of their own
    shape: ModelConfig
    blocks: tuple[Block, ...]


def load_base(path: Path, device: torch.device, dtype: torch.dtype, layers: Sequence[int] | None = None) -> LoadedBase:
    """Build the model from the file's weights, or from those layers alone. Raises SgError for one that is unfit."""
    shape = read_config(path)
    chosen = tuple(range(shape.layers)) if layers is None else tuple(layers)
    with torch.device("meta"):
        model = _empty_model(path, shape, len(chosen))
    with GgufFile(path) as file:
        fill = _Filler(file, shape, device, dtype)
        blocks = tuple(fill.block(model.model.layers[at], layer) for at, layer in enumerate(chosen))
        fill.ends(model)
    return LoadedBase(model.eval().requires_grad_(False), shape, blocks)


def slice_of(base: LoadedBase, layers: Sequence[int]) -> LoadedBase:
    """The same weights reduced to these layers, without a copy."""
    return LoadedBase(base.model, base.shape, tuple(block for block in base.blocks if block.index in layers))


def _empty_model(path: Path, shape: ModelConfig, n_layers: int) -> Any:
    """transformers' model of this shape with `n_layers` blocks and no values; its rope scaling is for `ends`."""
    if shape.rope_dim != shape.head_dim:
        raise SgError(f"{path} rotates only part of each head, which the torch trainer does not support.")
    model_class = getattr(transformers, shape.row.model_class)
    rope = {"rope_type": "default", "rope_theta": shape.rope_base}
    settings = {**shape.settings(), "num_hidden_layers": n_layers, "rope_parameters": rope, "use_cache": False}
    settings["pad_token_id"] = None  # a default of some classes lies beyond a small vocabulary
    return model_class(model_class.config_class(**settings))


class _Filler:
    """Moves tensors from the file into a model that was built on the meta device."""

    def __init__(self, file: GgufFile, shape: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.file, self.shape, self.device, self.dtype = file, shape, device, dtype

    def tensor(self, name: str) -> torch.Tensor:
        weights = self.file.dequantize(name)
        heads = self.shape.rotary_heads(name)
        if heads is not None:
            weights = rows_to_hf(weights, heads)
        if offset := self.shape.row.offset_of(name):
            weights = weights - offset
        return torch.from_numpy(np.ascontiguousarray(weights)).to(self.device, self.dtype)

    def block(self, layer: Any, index: int) -> Block:
        block = Block(
            index,
            {stem: self.tensor(f"blk.{index}.{stem}.weight") for stem in self.shape.row.norms},
            self._stacked(layer, index, "attn_q", "attn_k", "attn_v"),
            self._stacked(layer, index, "attn_output"),
            self._stacked(layer, index, "ffn_gate", "ffn_up"),
            self._stacked(layer, index, "ffn_down"),
        )
        for stem, norm in block.norms.items():
            _put(layer.get_submodule(self.shape.row.module_in_layer(stem)), norm)
        return block

    def _stacked(self, layer: Any, index: int, *stems: str) -> Projection:
        """Stack the modules' rows in one matrix and their biases; each module's own become views of these."""
        modules = tuple(map(self.shape.row.module_in_layer, stems))
        parts = [layer.get_submodule(module) for module in modules]
        sizes: tuple[int, ...] = tuple(part.out_features for part in parts)
        names = tuple(f"blk.{index}.{stem}.weight" for stem in stems)
        weight = torch.empty(sum(sizes), parts[0].in_features, device=self.device, dtype=self.dtype)
        for part, name, rows in zip(parts, names, weight.split(sizes), strict=True):
            rows.copy_(self.tensor(name))
            _put(part, rows)
        return Projection(weight, self._biases(parts, names), sizes, names, modules)

    def _biases(self, parts: Sequence[Any], names: Sequence[str]) -> torch.Tensor | None:
        """The modules' biases behind each other, None where the architecture gives them none."""
        own = [name.removesuffix("weight") + "bias" for name in names]
        if not all(map(self.shape.row.knows, own)):
            return None
        biases = torch.cat([self.tensor(name) for name in own])
        for part, rows in zip(parts, biases.split([part.out_features for part in parts]), strict=True):
            part.bias = torch.nn.Parameter(rows, requires_grad=False)
        return biases

    def ends(self, model: Any) -> None:
        """Embeddings, head, last norm, and the rotary table, which the meta device left without values."""
        _put(model.model.embed_tokens, self.tensor("token_embd.weight"))
        _put(model.model.norm, self.tensor("output_norm.weight"))
        if self.shape.tied:
            model.lm_head.weight = model.model.embed_tokens.weight
        else:
            _put(model.lm_head, self.tensor("output.weight"))
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(self.device)
        frequencies = model.model.rotary_emb.inv_freq
        if self.shape.rope_scaling == "linear":
            frequencies /= self.shape.rope_factor
        if self.shape.rope_factors:
            factors = self.file.dequantize(ROPE_FACTORS).copy()
            frequencies /= torch.from_numpy(factors).to(self.device)


def _put(module: torch.nn.Module, weight: torch.Tensor) -> None:
    module.weight = torch.nn.Parameter(weight, requires_grad=False)
