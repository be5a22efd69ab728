"""mlx-lm's models as llama.cpp computes them: embedding scale, windows and caps are ours, the blocks are mlx-lm's.

mlx-lm's own calls differ in places: its Gemma 2 has no window, its Gemma 3 rounds the embedding's scale to bfloat16.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import KVCache
from mlx_lm.models.llama import TransformerBlock as TransformerBlock

from sg_local.gguf import ModelConfig


class Model(Module):
    """A model of mlx-lm's, of which the class is the second base, and its `shape`.

    It answers with logits as any of mlx-lm's models, and keeps all keys and values: a row may start from a prefix that
    others share.
    """

    shape: ModelConfig
    args: Any
    model: Any
    layers: Sequence[TransformerBlock]
    lm_head: Any

    if TYPE_CHECKING:  # MLX gives these no types

        def trainable_parameters(self) -> dict[str, Any]: ...

        def named_modules(self) -> list[tuple[str, Module]]: ...

    def __call__(self, inputs: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """Logits (rows, tokens, vocabulary)."""
        hidden = embedded(self, inputs)
        for index, layer in enumerate(self.layers):
            own = None if cache is None else cache[index]
            hidden = layer(hidden, mask=mask_of(self.shape, index, hidden, own), cache=own)
        return head(self, self.model.norm(hidden))

    def make_cache(self) -> list[KVCache]:
        """An empty cache for every layer."""
        return [KVCache() for _ in self.layers]


def empty_model(shape: ModelConfig) -> Model:
    """mlx-lm's model of this shape, with weights drawn at random."""
    row = shape.row
    module = importlib.import_module(f"mlx_lm.models.{row.model_type}")
    arguments = module.ModelArgs.from_dict({**shape.settings(), "model_type": row.model_type})
    model: Model = type("Model", (Model, module.Model), {})(arguments)
    model.shape = shape
    if shape.tied:
        model.pop("lm_head", None)  # some of mlx-lm's models make one first
    return model


def embedded(model: Model, tokens: mx.array) -> mx.array:
    """What the first layer reads of these tokens (rows, tokens)."""
    found: mx.array = model.model.embed_tokens(tokens)
    scale = model.shape.embedding_scale
    return found if scale == 1 else found * scale


def head(model: Model, hidden: mx.array) -> mx.array:
    """Logits of normed hidden states."""
    shape = model.shape
    found: mx.array = model.model.embed_tokens.as_linear(hidden) if shape.tied else model.lm_head(hidden)
    if shape.logit_divisor != 1:
        found = found / shape.logit_divisor
    return mx.tanh(found / shape.logit_cap) * shape.logit_cap if shape.logit_cap else found


def mask_of(shape: ModelConfig, index: int, hidden: mx.array, cache: Any) -> Any:
    """A layer's mask for hidden states that follow what the cache holds, as mlx-lm's blocks take it."""
    window = shape.window if shape.slides(index) else None
    offset = getattr(cache, "offset", 0)
    if window is not None and isinstance(offset, int) and offset + hidden.shape[1] <= window:
        window = None
    mask = create_attention_mask(hidden, cache, window_size=window, return_array=bool(shape.score_cap))
    grouped = shape.score_cap and shape.heads != shape.kv_heads
    # With capped scores mlx-lm's attention keeps an axis for the heads of a group, which rows' own masks lack.
    return mask[:, :, None] if grouped and mask is not None and mask.ndim == 4 else mask
