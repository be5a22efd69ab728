"""A GGUF of the llama family as transformers' LlamaForCausalLM, tensor by tensor, frozen.

transformers can read GGUF files itself, but marks the result as quantised, which its own tools then refuse; so
the model is built empty and filled here. Query and key rows are put back into transformers' order (GGUF stores
rotary pairs side by side). Projections that read the same input share one block of storage, of which the
model's own parameters are views, so that each such group is one matrix product.

Covers dense llama models: grouped-query attention, tied or own head, linear and frequency-factor rope scaling
(both written into the model's rotary table). What gguf.read_config refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from sg_local.backends.training.lora import tensor_name
from sg_local.gguf import GgufFile, ModelConfig, read_config, rotary_heads, rows_to_hf
from sg_local.records import SgError


@dataclass(frozen=True, eq=False)
class Projection:
    """One or more linear modules with a common input, stacked: `weight` is (sum of sizes, columns in).

    `names` are the stacked modules' GGUF tensor names and `modules` their transformers names in the layer.
    """

    weight: torch.Tensor
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One layer's frozen weights, and its index in the file."""

    index: int
    attn_norm: torch.Tensor
    qkv: Projection
    attn_output: Projection
    ffn_norm: torch.Tensor
    gate_up: Projection
    ffn_down: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        return (self.qkv, self.attn_output, self.gate_up, self.ffn_down)


@dataclass(frozen=True)
class Base:
    """A loaded base: the transformers model, the file's shape, and the same weights as blocks.

    `blocks` may be a slice of the file's layers; then the model holds these alone.
    """

    model: LlamaForCausalLM
    shape: ModelConfig
    blocks: tuple[Block, ...]


def load_base(path: Path, device: torch.device, dtype: torch.dtype, layers: Sequence[int] | None = None) -> Base:
    """Build the model from the file's weights, or from those layers alone. Raises SgError for a model unlike llama."""
    shape = read_config(path)
    chosen = tuple(range(shape.layers)) if layers is None else tuple(layers)
    with torch.device("meta"):
        model = LlamaForCausalLM(_llama_config(path, shape, len(chosen)))
    with GgufFile(path) as file:
        fill = _Filler(file, shape, device, dtype)
        blocks = tuple(fill.block(model.model.layers[at], layer) for at, layer in enumerate(chosen))
        fill.ends(model)
    return Base(model.eval().requires_grad_(False), shape, blocks)


def slice_of(base: Base, layers: Sequence[int]) -> Base:
    """The same weights reduced to these layers, without a copy."""
    return Base(base.model, base.shape, tuple(block for block in base.blocks if block.index in layers))


def _llama_config(path: Path, shape: ModelConfig, n_layers: int) -> LlamaConfig:
    if shape.rope_dim != shape.head_dim:
        raise SgError(f"{path} rotates only part of each head, which the torch trainer does not support.")
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=n_layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )


class _Filler:
    """Moves tensors from the file into a model that was built on the meta device."""

    def __init__(self, file: GgufFile, shape: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.file, self.shape, self.device, self.dtype = file, shape, device, dtype

    def tensor(self, name: str) -> torch.Tensor:
        weights = self.file.dequantize(name)
        heads = rotary_heads(name, self.shape.heads, self.shape.kv_heads)
        if heads is not None:
            weights = rows_to_hf(weights, heads)
        return torch.from_numpy(np.ascontiguousarray(weights)).to(self.device, self.dtype)

    def block(self, layer: torch.nn.Module, index: int) -> Block:
        block = Block(
            index,
            self.tensor(f"blk.{index}.attn_norm.weight"),
            self._stacked(layer, index, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            self._stacked(layer, index, "self_attn.o_proj"),
            self.tensor(f"blk.{index}.ffn_norm.weight"),
            self._stacked(layer, index, "mlp.gate_proj", "mlp.up_proj"),
            self._stacked(layer, index, "mlp.down_proj"),
        )
        _put(layer.input_layernorm, block.attn_norm)
        _put(layer.post_attention_layernorm, block.ffn_norm)
        return block

    def _stacked(self, layer: torch.nn.Module, index: int, *modules: str) -> Projection:
        """Stack the modules' rows in one matrix; each module's own weight becomes a view of its rows."""
        parts = [layer.get_submodule(module) for module in modules]
        sizes = tuple(part.out_features for part in parts)
        names = tuple(tensor_name(index, module) for module in modules)
        weight = torch.empty(sum(sizes), parts[0].in_features, device=self.device, dtype=self.dtype)
        for part, name, rows in zip(parts, names, weight.split(sizes), strict=True):
            rows.copy_(self.tensor(name))
            _put(part, rows)
        return Projection(weight, sizes, names, modules)

    def ends(self, model: LlamaForCausalLM) -> None:
        """Embeddings, head, last norm, and the rotary table, which the meta device left without values."""
        _put(model.model.embed_tokens, self.tensor("token_embd.weight"))
        _put(model.model.norm, self.tensor("output_norm.weight"))
        if self.shape.tied:
            model.lm_head.weight = model.model.embed_tokens.weight
        else:
            _put(model.lm_head, self.tensor("output.weight"))
        model.model.rotary_emb = LlamaRotaryEmbedding(model.config).to(self.device)
        frequencies = model.model.rotary_emb.inv_freq
        if self.shape.rope_scaling == "linear":
            frequencies /= self.shape.rope_factor
        if self.shape.rope_factors:
            factors = self.file.dequantize("rope_freqs.weight").copy()
            frequencies /= torch.from_numpy(factors).to(self.device)


def _put(module: torch.nn.Module, weight: torch.Tensor) -> None:
    module.weight = torch.nn.Parameter(weight, requires_grad=False)
