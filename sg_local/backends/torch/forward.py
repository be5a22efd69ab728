"""The forward pass over a packed micro-batch: the llama block written out, with the adapter beside it.

The arithmetic is that of transformers' model with peft's adapter (tests compare both); what differs is the
order of work. Projections with a common input are one product, attention runs on packed rows, and logits exist
only at answer positions, a chunk at a time, so the full (tokens, vocabulary) matrix never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.model import Block, LoadedBase, Projection
from sg_local.backends.torch.packing import Pack

# Logit rows computed at a time: 256 rows of a 49k vocabulary take 50 MB in float32.
_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Pass:
    """How a pass runs: with dropout drawn from this seed (None: without), and with activations recomputed."""

    dropout_seed: int | None = None
    recompute: bool = False


def hidden_states(base: LoadedBase, adapter: TorchLora | None, pack: Pack, how: Pass = Pass()) -> torch.Tensor:
    """Outputs of the last norm at the pack's answer positions: (answers, width), scaled as the logits are."""
    model = base.model.model
    with torch.no_grad():
        x = F.embedding(pack.tokens, model.embed_tokens.weight)
        if base.shape.embedding_scale != 1:
            x = x * base.shape.embedding_scale
        cos, sin = model.rotary_emb(x, pack.positions[None])
        half = base.shape.head_dim // 2
        rope = (cos[0, :, None, :half], sin[0, :, None, :half])
    for block in base.blocks:
        layer = _Layer(base, block, adapter, pack, rope, how.dropout_seed)
        x = checkpoint(layer, x, use_reentrant=False) if how.recompute else layer(x)
    out = _norm(x[pack.answers], model.norm.weight, base.shape.norm_eps)
    return out if base.shape.logit_divisor == 1 else out / base.shape.logit_divisor


def answer_loss(base: LoadedBase, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
    """The summed, weighted negative log-likelihood of the pack's targets, in nats."""
    return _answer_loss(hidden, base.model.lm_head.weight, pack.targets, pack.weights)


def logits(base: LoadedBase, adapter: TorchLora | None, pack: Pack) -> torch.Tensor:
    """Float32 logits at the pack's answer positions: (answers, vocabulary)."""
    with torch.no_grad():
        return F.linear(hidden_states(base, adapter, pack), base.model.lm_head.weight).float()


@dataclass(frozen=True)
class _Layer:
    """One block over packed rows (tokens, width).

    A norm that the architecture lacks passes its input on; so does the rotation, in layers without positions.
    """

    base: LoadedBase
    block: Block
    adapter: TorchLora | None
    pack: Pack
    rope: tuple[torch.Tensor, torch.Tensor]
    dropout_seed: int | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        block = self.block
        out = self._project(block.attn_output, self._attend(self._normed(x, "attn_norm")))
        x = self._added(x, self._normed(out, "post_attention_norm"))
        gate_up = self._project(block.gate_up, self._normed(x, "ffn_norm"))
        out = self._project(block.ffn_down, _gated(gate_up))
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
        out = _attention(query, key, value, self.pack, shape.attention_scale)
        return out[0].transpose(0, 1).reshape(n_tokens, heads * shape.head_dim)

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        """Queries and keys (tokens, heads + kv_heads, head_dim), normed where the block has such norms, and rotated."""
        shape = self.base.shape
        if "attn_q_norm" in self.block.norms:
            parts = x.split((shape.heads, shape.kv_heads), dim=1)
            pairs = zip(parts, ("attn_q_norm", "attn_k_norm"), strict=True)
            x = torch.cat([self._normed_heads(part, stem) for part, stem in pairs], dim=1)
        return _rotate(x, *self.rope) if shape.row.rotates(self.block.index) else x

    def _normed_heads(self, x: torch.Tensor, stem: str) -> torch.Tensor:
        """Each head normed by itself, or all as one vector: as long as the norm's weight is."""
        return self._normed(x.reshape(len(x), -1, len(self.block.norms[stem])), stem).view(x.shape)

    def _project(self, projection: Projection, x: torch.Tensor) -> torch.Tensor:
        part = None if self.adapter is None else self.adapter.parts.get(projection.names)
        if self.adapter is None or part is None:
            return F.linear(x, projection.weight, projection.bias)
        kept = self._kept(projection, x, self.adapter.dropout)
        return _adapted(x, projection.weight, projection.bias, kept, self.adapter.scale, part.a, *part.b)

    def _kept(self, projection: Projection, x: torch.Tensor, rate: float) -> torch.Tensor | None:
        """The dropout mask over the adapter's input, scaled; None where nothing is dropped."""
        if self.dropout_seed is None or rate == 0:
            return None
        at = self.block.projections.index(projection) + len(self.block.projections) * self.block.index
        draw = torch.Generator(x.device).manual_seed((self.dropout_seed << 16) + at)
        kept = torch.rand(x.shape, generator=draw, device=x.device) >= rate
        return kept / (1 - rate)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pack: Pack, scale: float | None
) -> torch.Tensor:
    """Attention of the prefix to itself and of each group to the prefix and itself; (1, heads, tokens, head_dim)."""
    end, out = pack.n_prefix, []
    if end:
        out.append(_attend(query[:, :, :end], key[:, :, :end], value[:, :, :end], None, scale))
    for group in pack.groups:
        own = slice(group.start, group.stop)
        keys, values = key[:, :, own], value[:, :, own]
        if end:
            keys = torch.cat((key[:, :, :end], keys), dim=2)
            values = torch.cat((value[:, :, :end], values), dim=2)
        out.append(_attend(query[:, :, own], keys, values, group.mask, scale))
    return torch.cat(out, dim=2) if len(out) > 1 else out[0]


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Scaled dot-product attention under a mask, or causal where there is none; scale None: 1 / sqrt(head_dim)."""
    gqa = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=gqa)


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm, computed in float32 as transformers does."""
    return F.rms_norm(x.float(), weight.shape, None, eps).to(x.dtype) * weight


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions on (tokens, heads, head_dim) with halves side by side."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class _Adapted(torch.autograd.Function):
    """x @ W.T + bias plus scale * (x * kept) @ A.T @ B.T for each stacked module, W frozen.

    Written out so that the adapter's parts are added in place and nothing but x and x @ A.T is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        kept: torch.Tensor | None,
        scale: float,
        a: torch.Tensor,
        *b: torch.Tensor,
    ) -> torch.Tensor:
        out = F.linear(x, weight, bias)
        source = x.to(a.dtype) if kept is None else x * kept
        low = source @ a.T
        for rows, part, low_part in zip(out.split([m.shape[0] for m in b], 1), b, low.chunk(len(b), 1), strict=True):
            _add_product(rows, low_part, part.T, scale)
        ctx.save_for_backward(x, weight, kept, low, a, *b)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, kept, low, a, *b = ctx.saved_tensors
        source = x.to(a.dtype) if kept is None else x * kept
        grad_low, grad_b = torch.empty_like(low), []
        pieces = zip(
            grad.split([m.shape[0] for m in b], 1), b, low.chunk(len(b), 1), grad_low.chunk(len(b), 1), strict=True
        )
        for rows, part, low_part, grad_low_part in pieces:
            rows = rows.to(a.dtype) * ctx.scale
            torch.mm(rows, part, out=grad_low_part)
            grad_b.append(rows.T @ low_part)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if kept is None:
                _add_product(grad_x, grad_low, a, 1.0)
            else:
                grad_x += ((grad_low @ a) * kept).to(grad_x.dtype)
        return grad_x, None, None, None, None, grad_low.T @ source, *grad_b


def _add_product(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """out += scale * left @ right, in place, whatever precision `out` has."""
    if out.dtype == left.dtype:
        out.addmm_(left, right, alpha=scale)
    else:
        out += (scale * (left @ right)).to(out.dtype)


class _Gated(torch.autograd.Function):
    """silu(gate) * up of (tokens, 2 * width), which alone is kept; silu and its slope are computed again."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        gate, up = ctx.saved_tensors[0].chunk(2, dim=1)
        share = torch.sigmoid(gate)
        active = gate * share  # silu; its slope is share + silu * (1 - share)
        slope = torch.addcmul(share, active, 1 - share)
        return torch.cat((slope.mul_(up).mul_(grad), active.mul_(grad)), dim=1)


class _AnswerLoss(torch.autograd.Function):
    """Sum of weight * -log softmax(h @ W.T)[target]; the gradient for h is made in the forward pass.

    The head is frozen, so each chunk of logits is needed once and can be dropped at once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        grads, total = [], hidden.new_zeros((), dtype=torch.float32)
        for h, target, weight in zip(*(t.split(_CHUNK_ROWS) for t in (hidden, targets, weights)), strict=True):
            scores = F.linear(h, head).float()
            top = scores.logsumexp(dim=1)
            total += (weight * (top - scores.gather(1, target[:, None])[:, 0])).sum()
            if ctx.needs_input_grad[0]:
                share = scores.sub_(top[:, None]).exp_()
                share.scatter_add_(1, target[:, None], share.new_full((len(target), 1), -1.0))
                grads.append((share.mul_(weight[:, None]).to(head.dtype)) @ head)
        ctx.save_for_backward(torch.cat(grads) if grads else None)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.saved_tensors[0] * grad.to(ctx.saved_tensors[0].dtype), None, None, None


# `apply` has no types of its own.
_adapted: Callable[..., torch.Tensor] = _Adapted.apply
_gated: Callable[[torch.Tensor], torch.Tensor] = _Gated.apply
_answer_loss: Callable[..., torch.Tensor] = _AnswerLoss.apply
