"""A GGUF as the model that transformers has for its architecture, tensor by tensor, frozen.

transformers can read GGUF files itself, but marks the result as quantised, which its own tools then refuse; so the
model is built empty and filled here. Rows of rotary heads are put back into transformers' order (in some architectures
a GGUF stores rotary pairs side by side). Projections that read the same input share one block of storage, of which the
model's own parameters are views, so that each such group is one matrix product. Or the matrices stay blocks (`frozen`):
then transformers' model has its norms and its rotary table, and no matrices.

Covers the rows of gguf.architectures, whose block is that of `forward`. The rotary table is transformers' own, its
frequencies divided by the file's factors where it has some. What gguf.read_config refuses is refused here.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from sg_local.backends.torch.frozen import Blocks, Frozen, Scratch, Whole
from sg_local.backends.training.holding import keeps_blocks
from sg_local.gguf import ROPE_FACTORS, GgufFile, ModelConfig, StoredRows, Tensor, read_config, rows_to_hf


@dataclass(frozen=True, eq=False)
class Projection:
    """One or more linear modules with a common input, stacked: `weight` is (sum of sizes, columns in).

    `bias` is (sum of sizes), None where the modules have none. `names` are the stacked modules' GGUF tensor names and
    `modules` their transformers names in the layer.
    """

    weight: Frozen
    bias: torch.Tensor | None
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One layer's frozen weights, and its index in the file.

    `norms` are its norms' weights by their GGUF stems, as what is normed is multiplied by them.
    """

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
    """A loaded base: the transformers model, its shape, and the same weights as `forward` reads them.

    `blocks` may be a slice of the file's layers; then the shape counts these alone. `map` is the file in memory, where
    matrices lie in it.
    """

    model: Any  # transformers' class of the architecture: its parts have no types of their own
    shape: ModelConfig
    blocks: tuple[Block, ...]
    last_norm: torch.Tensor
    embedding: Frozen
    head: Frozen
    map: mmap.mmap | None = None

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrices and of products with them."""
        return self.embedding.dtype

    @property
    def flow(self) -> torch.dtype:
        """The precision of what goes from product to product."""
        return flow_of(self.device, self.dtype)


def flow_of(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """float32 on a CPU, where all but products is slower in bfloat16; on a GPU, that of the matrices."""
    return torch.float32 if device.type == "cpu" else dtype


def load_base(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    layers: Sequence[int] | None = None,
    *,
    as_blocks: bool = False,
) -> LoadedBase:
    """Build the model from the file's weights, or from those layers alone. Raises SgError for one that is unfit.

    With `as_blocks`, matrices stay as in the file where their types allow it.
    """
    whole = read_config(path)
    chosen = tuple(range(whole.layers)) if layers is None else tuple(layers)
    shape = dataclasses.replace(whole, layers=len(chosen))
    with torch.device("meta"):
        model = _empty_model(shape)
    with GgufFile(path) as file:
        fill = _Filler(file, shape, Scratch(device, dtype), as_blocks)
        blocks = tuple(fill.block(model.model.layers[at], layer) for at, layer in enumerate(chosen))
        last_norm = fill.ends(model)
        embedding, head = fill.vocabulary(model)
        held = file.map if device.type == "cpu" else None
    return LoadedBase(model.eval().requires_grad_(False), shape, blocks, last_norm, embedding, head, held)


def slice_of(base: LoadedBase, layers: Sequence[int]) -> LoadedBase:
    """The same weights reduced to these layers, without a copy."""
    blocks = tuple(block for block in base.blocks if block.index in layers)
    return dataclasses.replace(base, shape=dataclasses.replace(base.shape, layers=len(blocks)), blocks=blocks)


def _empty_model(shape: ModelConfig) -> Any:
    """transformers' model of this shape, without values."""
    model_class = getattr(transformers, shape.row.model_class)
    # A default of some classes lies beyond a small vocabulary.
    return model_class(model_class.config_class(**shape.settings(), use_cache=False, pad_token_id=None))


class _Filler:
    """Moves tensors from the file into a model that was built on the meta device."""

    def __init__(self, file: GgufFile, shape: ModelConfig, scratch: Scratch, as_blocks: bool) -> None:
        self.file, self.shape, self.scratch, self.as_blocks = file, shape, scratch, as_blocks
        self.device, self.dtype = scratch.device, scratch.dtype
        self.flow = flow_of(self.device, self.dtype)

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A tensor as transformers has it, in the matrices' precision unless another is asked for."""
        weights = self.file.dequantize(name)
        heads = self.shape.rotary_heads(name)
        if heads is not None:
            weights = rows_to_hf(weights, heads)
        if offset := self.shape.row.offset_of(name):
            weights = weights - offset
        return torch.from_numpy(np.ascontiguousarray(weights)).to(self.device, dtype or self.dtype)

    def block(self, layer: Any, index: int) -> Block:
        row = self.shape.row
        block = Block(
            index,
            {stem: self.norm(f"blk.{index}.{stem}.weight") for stem in row.norms},
            self._stacked(layer, index, row.with_input("self_attn", "hidden")),
            self._stacked(layer, index, row.with_input("self_attn", "q")),
            self._stacked(layer, index, row.with_input("mlp", "hidden")),
            self._stacked(layer, index, row.with_input("mlp", "ffn")),
        )
        for stem in row.norms:
            _put(layer.get_submodule(row.module_in_layer(stem)), self.tensor(f"blk.{index}.{stem}.weight"))
        return block

    def norm(self, name: str) -> torch.Tensor:
        """What a norm multiplies by; in float32 where transformers adds to its weight, and does that in float32."""
        weights = torch.from_numpy(self.file.dequantize(name).copy()).to(self.device)
        return weights if self.shape.row.norm_offset else weights.to(self.flow)

    def _stacked(self, layer: Any, index: int, stems: Sequence[str]) -> Projection:
        """Stack the modules' rows in one matrix and their biases; each module's own become views of these."""
        modules = tuple(map(self.shape.row.module_in_layer, stems))
        parts = [layer.get_submodule(module) for module in modules]
        sizes: tuple[int, ...] = tuple(part.out_features for part in parts)
        names = tuple(f"blk.{index}.{stem}.weight" for stem in stems)
        return Projection(self._matrix(parts, names), self._biases(parts, names), sizes, names, modules)

    def _matrix(self, modules: Sequence[Any], names: Sequence[str]) -> Frozen:
        """The tensors' rows behind each other: as the file's blocks, or whole, the modules' own then views of them."""
        tensors, on_cuda = [self.file.tensors[name] for name in names], self.device.type == "cuda"
        if self.as_blocks and all(keeps_blocks(tensor.type, on_cuda=on_cuda) for tensor in tensors):
            return Blocks([self._stored(tensor) for tensor in tensors], self.scratch)
        sizes = [tensor.rows for tensor in tensors]
        weight = torch.empty(sum(sizes), tensors[0].columns, device=self.device, dtype=self.dtype)
        for module, name, rows in zip(modules, names, weight.split(sizes), strict=True):
            rows.copy_(self.tensor(name))
            _put(module, rows)
        return Whole(weight)

    def _stored(self, tensor: Tensor) -> StoredRows:
        return StoredRows(self.file.mapped(tensor), tensor.type, self.shape.rotary_heads(tensor.name))

    def _biases(self, parts: Sequence[Any], names: Sequence[str]) -> torch.Tensor | None:
        """The modules' biases behind each other, as precise as what comes out; None where the architecture has none."""
        own = [name.removesuffix("weight") + "bias" for name in names]
        if not all(map(self.shape.row.knows, own)):
            return None
        biases = torch.cat([self.tensor(name, self.flow) for name in own])
        for part, rows in zip(parts, biases.split([part.out_features for part in parts]), strict=True):
            part.bias = torch.nn.Parameter(rows, requires_grad=False)
        return biases

    def ends(self, model: Any) -> torch.Tensor:
        """The last norm, and the tables that the meta device left without values; the norm's weight.

        transformers scales embeddings in a buffer of its own, which `forward` does not use.
        """
        _put(model.model.norm, self.tensor("output_norm.weight"))
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(self.device)
        if self.shape.rope_factors:
            factors = self.file.dequantize(ROPE_FACTORS).copy()
            model.model.rotary_emb.inv_freq /= torch.from_numpy(factors).to(self.device)
        if hasattr(model.model.embed_tokens, "embed_scale"):
            model.model.embed_tokens.embed_scale = torch.tensor(self.shape.embedding_scale, device=self.device)
        return self.norm("output_norm.weight")

    def vocabulary(self, model: Any) -> tuple[Frozen, Frozen]:
        """Embedding and head, which are one where the shape is tied."""
        embedding = self._matrix([model.model.embed_tokens], ["token_embd.weight"])
        if self.shape.tied:
            model.lm_head.weight = model.model.embed_tokens.weight
            return embedding, embedding
        return embedding, self._matrix([model.lm_head], ["output.weight"])


def _put(module: torch.nn.Module, weight: torch.Tensor) -> None:
    module.weight = torch.nn.Parameter(weight, requires_grad=False)
