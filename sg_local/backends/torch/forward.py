"""The forward pass over a packed micro-batch: the block of all architectures written out, the adapter beside it.

The arithmetic is that of transformers' model with peft's adapter (tests compare both); what differs is the
order of work. Projections with a common input are one product, attention runs on packed rows, and logits exist
only at answer positions, a chunk at a time, so the full (tokens, vocabulary) matrix never does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from sg_local.backends.torch import functions
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.attention import View, attention, rotate, views_of
from sg_local.backends.torch.model import Block, LoadedBase, Projection
from sg_local.backends.torch.packing import Pack


@dataclass(frozen=True)
class Pass:
    """How a pass runs: with dropout drawn from this seed (None: without).

    Of the first `recompute` layers with an adapter the inputs alone are kept, and the rest is computed again.
    """

    dropout_seed: int | None = None
    recompute: int = 0


def hidden_states(
    base: LoadedBase,
    adapter: TorchLora | None,
    pack: Pack,
    how: Pass = Pass(),
    below: torch.Tensor | None = None,
) -> torch.Tensor:
    """Outputs of the last norm at the pack's answer positions: (answers, width), scaled as the logits are.

    `below` is what `below_adapter` gives for the pack, where it is known.
    """
    with torch.no_grad():
        views = views_of(base, pack)
        x = _embedded(base, pack) if below is None else below
    first = 0 if below is None or adapter is None else adapter.first
    again = _recomputed(base, adapter, how)
    for block in base.blocks:
        if block.index < first:
            continue
        wanted = pack.answers if block is base.blocks[-1] else None
        layer = _Layer(base, block, adapter, views[base.shape.slides(block.index)], how.dropout_seed, wanted)
        x = checkpoint(layer, x, use_reentrant=False) if block.index in again else layer(x)
    out = _norm(x, base.last_norm, base.shape.norm_eps)
    return out if base.shape.logit_divisor == 1 else out / base.shape.logit_divisor


def below_adapter(base: LoadedBase, adapter: TorchLora, pack: Pack) -> torch.Tensor:
    """What goes into the first layer that has an adapter: (tokens, width)."""
    with torch.no_grad():
        views, x = views_of(base, pack), _embedded(base, pack)
        for block in base.blocks:
            if block.index < adapter.first:
                x = _Layer(base, block, None, views[base.shape.slides(block.index)], None)(x)
    return x


def _embedded(base: LoadedBase, pack: Pack) -> torch.Tensor:
    x = base.embedding.pick(pack.tokens).to(base.flow)
    return x if base.shape.embedding_scale == 1 else x * base.shape.embedding_scale


def _recomputed(base: LoadedBase, adapter: TorchLora | None, how: Pass) -> Collection[int]:
    """The layers whose activations are computed again: early ones, since by then the others have let go of theirs."""
    if adapter is None:
        return ()
    adapted = [block.index for block in base.blocks if block.qkv.names in adapter.parts]
    return frozenset(adapted[: how.recompute])


def answer_loss(base: LoadedBase, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
    """The summed, weighted negative log-likelihood of the pack's targets, in nats."""
    cap = base.shape.logit_cap
    return functions.answer_loss(hidden, base.head, pack.targets, pack.weights, cap)


def logits(base: LoadedBase, adapter: TorchLora | None, pack: Pack) -> torch.Tensor:
    """Float32 logits at the pack's answer positions: (answers, vocabulary)."""
    with torch.no_grad():
        hidden = hidden_states(base, adapter, pack)
        return functions.head_logits(hidden, base.head, base.shape.logit_cap)


@dataclass(frozen=True)
class _Layer:
    """One block over packed rows (tokens, width). `wanted`: the positions whose outputs are used, None for all of them.

    A norm that the architecture lacks passes its input on; so does the rotation, in layers without positions.
    """

    base: LoadedBase
    block: Block
    adapter: TorchLora | None
    view: View
    dropout_seed: int | None
    wanted: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        block, out = self.block, self._attend(self._normed(x, "attn_norm"))
        if self.wanted is not None:
            x, out = x[self.wanted], out[self.wanted]
        out = self._project(block.attn_output, out)
        x = self._added(x, self._normed(out, "post_attention_norm"))
        gate_up = self._project(block.gate_up, self._normed(x, "ffn_norm"))
        out = self._project(block.ffn_down, functions.gated[self.base.shape.row.activation](gate_up))
        return self._added(x, self._normed(out, "post_ffw_norm"))

    def _normed(self, x: torch.Tensor, stem: str) -> torch.Tensor:
        weight = self.block.norms.get(stem)
        return x if weight is None else _norm(x, weight, self.base.shape.norm_eps)

    def _added(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        scale = self.base.shape.residual_scale
        return x + (out if scale == 1 else out * scale)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        shape, n_tokens = self.base.shape, len(x)
        heads, kv_heads = shape.heads, shape.kv_heads
        qkv = self._project(self.block.qkv, x).view(n_tokens, heads + 2 * kv_heads, shape.head_dim)
        turned, value = qkv.split((heads + kv_heads, kv_heads), dim=1)
        query, key = self._turned(turned).split((heads, kv_heads), dim=1)
        # A copy of the values lets go of the product that they are cut from.
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value.clone()))
        if self.view.factor is not None:
            query = query * self.view.factor.to(query.dtype).transpose(0, 1)
        out = attention(query, key, value, self.view.pack, shape)
        return out[0].transpose(0, 1).reshape(n_tokens, heads * shape.head_dim)

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        """Queries and keys (tokens, heads + kv_heads, head_dim), normed where the block has such norms, and rotated."""
        shape = self.base.shape
        if "attn_q_norm" in self.block.norms:
            parts = x.split((shape.heads, shape.kv_heads), dim=1)
            pairs = zip(parts, ("attn_q_norm", "attn_k_norm"), strict=True)
            x = torch.cat([self._normed_heads(part, stem) for part, stem in pairs], dim=1)
        return rotate(x, self.view.cos, self.view.sin) if shape.row.rotates(self.block.index) else x

    def _normed_heads(self, x: torch.Tensor, stem: str) -> torch.Tensor:
        """Each head normed by itself, or all as one vector: as long as the norm's weight is."""
        return self._normed(x.reshape(len(x), -1, len(self.block.norms[stem])), stem).view(x.shape)

    def _project(self, projection: Projection, x: torch.Tensor) -> torch.Tensor:
        part = None if self.adapter is None else self.adapter.parts.get(projection.names)
        if self.adapter is None or part is None:
            return functions.frozen(x, projection.weight, projection.bias)
        kept = self._kept(projection, x, self.adapter.dropout)
        return functions.adapted(x, projection.weight, projection.bias, kept, self.adapter.scale, part.a, *part.b)

    def _kept(self, projection: Projection, x: torch.Tensor, rate: float) -> torch.Tensor | None:
        """The dropout mask over the adapter's input, scaled; None where nothing is dropped."""
        if self.dropout_seed is None or rate == 0:
            return None
        at = self.block.projections.index(projection) + len(self.block.projections) * self.block.index
        draw = torch.Generator(x.device).manual_seed((self.dropout_seed << 16) + at)
        kept = torch.rand(x.shape, generator=draw, device=x.device) >= rate
        return kept / (1 - rate)


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm, computed in float32 as transformers does; so is the product with a float32 weight."""
    normed = F.rms_norm(x.float(), weight.shape, None, eps)
    return (normed * weight).to(x.dtype) if weight.dtype == torch.float32 else normed.to(x.dtype) * weight
