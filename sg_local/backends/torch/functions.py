"""The parts of the forward pass with gradients of their own, written out so that they keep no more than they must.

Frozen matrices are asked for again in the backward pass: what `Frozen.whole` gives does not last until then. Products
are computed in the matrices' precision, and what goes in and comes out has that of `LoadedBase.flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from sg_local.backends.torch.frozen import Frozen
from sg_local.backends.training.memory import logit_rows


class _FrozenLinear(torch.autograd.Function):
    """x @ W.T + bias, W frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Frozen, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        return _product(x.to(weight.dtype), weight, bias, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _product_back(grad, ctx.weight), None, None


class _Adapted(torch.autograd.Function):
    """x @ W.T + bias plus scale * (x * kept) @ A.T @ B.T for each stacked module, W frozen.

    Written out so that the adapter's parts are added in place and nothing but x and x @ A.T is kept. They are never
    added to numbers in bfloat16: whatever is below half of the last bit of these would be lost, which is nearly all of
    it when a training begins. On a CPU the sum is in float32; on a GPU the product is added to the adapter's part,
    inside its own float32 sum.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: Frozen,
        bias: torch.Tensor | None,
        kept: torch.Tensor | None,
        scale: float,
        a: torch.Tensor,
        *b: torch.Tensor,
    ) -> torch.Tensor:
        read = x.to(weight.dtype)
        low = _source(read, kept, a) @ a.T
        in_float32 = x.dtype == a.dtype
        out = _product(read, weight, bias, x.dtype) if in_float32 else x.new_empty(len(x), weight.shape[0])
        places = out.split([m.shape[0] for m in b], 1)
        for place, part, matrix in zip(places, low.mul(scale).chunk(len(b), 1), b, strict=True):
            if in_float32:
                place.addmm_(part, matrix.T)
            else:
                place.copy_(part @ matrix.T)
        if not in_float32:
            out.addmm_(read, weight.whole().T)
            if bias is not None:
                out += bias
        ctx.save_for_backward(read, kept, low, a, *b)
        ctx.weight, ctx.scale = weight, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        read, kept, low, a, *b = ctx.saved_tensors
        grad_low, grad_b = torch.empty_like(low), []
        pieces = zip(
            grad.split([m.shape[0] for m in b], 1),
            b,
            low.mul(ctx.scale).chunk(len(b), 1),
            grad_low.chunk(len(b), 1),
            strict=True,
        )
        for rows, matrix, low_part, grad_low_part in pieces:
            rows = rows.to(a.dtype)
            torch.mm(rows, matrix, out=grad_low_part)
            grad_b.append(rows.T @ low_part)
        grad_low.mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _product_back(grad, ctx.weight)
            if kept is None:
                _add_product(grad_x, grad_low, a)
            else:
                grad_x += ((grad_low @ a) * kept).to(grad_x.dtype)
        return grad_x, None, None, None, None, grad_low.T @ _source(read, kept, a), *grad_b


def _product(read: torch.Tensor, weight: Frozen, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """read @ W.T + bias in this dtype, which is the bias's as well."""
    if dtype == weight.dtype:
        return F.linear(read, weight.whole(), bias)
    out = F.linear(read, weight.whole()).to(dtype)
    return out if bias is None else out.add_(bias)


def _product_back(grad: torch.Tensor, weight: Frozen) -> torch.Tensor:
    """What `_product` makes of a gradient: grad @ W, in the gradient's dtype."""
    return (grad.to(weight.dtype) @ weight.whole()).to(grad.dtype)


def _source(read: torch.Tensor, kept: torch.Tensor | None, a: torch.Tensor) -> torch.Tensor:
    """What the adapter reads: its input in the adapter's own precision, without what dropout drops."""
    return read.to(a.dtype) if kept is None else read * kept


def _add_product(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """out += left @ right, in place, whatever precision `out` has."""
    if out.dtype == left.dtype:
        out.addmm_(left, right)
    else:
        out += (left @ right).to(out.dtype)


class _SiluGated(torch.autograd.Function):
    """silu(gate) * up of (tokens, 2 * width), which alone is kept; silu and its slope are computed again."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, dim=1)
        torch.ops.aten.silu_backward(up * grad, gate, grad_input=grad_gate)
        torch.mul(F.silu(gate), grad, out=grad_up)
        return out


class _GeluGated(torch.autograd.Function):
    """gelu(gate) * up, gelu in its tanh form, keeping as little as `_SiluGated`."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=1)
        return F.gelu(gate, approximate="tanh").mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        gate, up = ctx.saved_tensors[0].chunk(2, dim=1)
        grad_gate = torch.ops.aten.gelu_backward(up * grad, gate, approximate="tanh")
        return torch.cat((grad_gate, F.gelu(gate, approximate="tanh").mul_(grad)), dim=1)


class _AnswerLoss(torch.autograd.Function):
    """Sum of weight * -log softmax(logits)[target]; the gradient for h is made in the forward pass.

    The head is frozen, so each chunk of logits is needed once and can be dropped at once. It is read in parts, for the
    logits and for the gradient, which is summed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: Frozen, targets: torch.Tensor, weights: torch.Tensor, cap: float
    ) -> torch.Tensor:
        grads, total = [], hidden.new_zeros((), dtype=torch.float32)
        n_rows = logit_rows(head.shape[0])
        for h, target, weight in zip(*(t.split(n_rows) for t in (hidden, targets, weights)), strict=True):
            scores = head_logits(h, head, cap)
            slope = 1 - (scores / cap) ** 2 if cap and ctx.needs_input_grad[0] else None
            top = scores.logsumexp(dim=1)
            total += (weight * (top - scores.gather(1, target[:, None])[:, 0])).sum()
            if ctx.needs_input_grad[0]:
                share = scores.sub_(top[:, None]).exp_()
                share.scatter_add_(1, target[:, None], share.new_full((len(target), 1), -1.0))
                share.mul_(weight[:, None] if slope is None else slope.mul_(weight[:, None]))
                grads.append(_times(share, head))
        ctx.save_for_backward(torch.cat(grads).to(hidden.dtype) if grads else None)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.saved_tensors[0] * grad.to(ctx.saved_tensors[0].dtype), None, None, None, None


def _times(share: torch.Tensor, head: Frozen) -> torch.Tensor:
    """share @ head in float32, for shares (rows, vocabulary)."""
    out = share.new_zeros(len(share), head.shape[1])
    for start, rows in head.parts():
        _add_product(out, share[:, start : start + len(rows)].to(rows.dtype), rows)
    return out


def head_logits(hidden: torch.Tensor, head: Frozen, cap: float) -> torch.Tensor:
    """Float32 logits (rows, vocabulary), bounded by tanh at `cap` unless it is 0."""
    scores = hidden.new_empty(len(hidden), head.shape[0], dtype=torch.float32)
    hidden = hidden.to(head.dtype)
    for start, rows in head.parts():
        scores[:, start : start + len(rows)] = F.linear(hidden, rows)
    return scores.div_(cap).tanh_().mul_(cap) if cap else scores


# `apply` has no types of its own.
frozen: Callable[..., torch.Tensor] = _FrozenLinear.apply
"""The product that `_FrozenLinear` describes."""
adapted: Callable[..., torch.Tensor] = _Adapted.apply
"""The sum that `_Adapted` describes."""
gated: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"silu": _SiluGated.apply, "gelu": _GeluGated.apply}
"""The feed-forward's gate, by the name of what it goes through."""
answer_loss: Callable[..., torch.Tensor] = _AnswerLoss.apply
"""The loss that `_AnswerLoss` describes."""
