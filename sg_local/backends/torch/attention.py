"""Attention over packed rows: the prefix sees itself, each group of rows sees the prefix and itself.

A `View` is what the layers of one kind see: masks, rotary positions, the factor of late queries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from sg_local.backends.torch.model import LoadedBase
from sg_local.backends.torch.packing import Pack
from sg_local.gguf import ModelConfig

RIGHT_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True)
class View:
    """A pack as some layers see it. `cos` and `sin` are (tokens, 1, half of the rotated length).

    `factor` (tokens, 1, 1) multiplies queries, None: nothing does.
    """

    pack: Pack
    cos: torch.Tensor
    sin: torch.Tensor
    factor: torch.Tensor | None


def views_of(base: LoadedBase, pack: Pack) -> dict[bool, View]:
    """What layers without and with a window see, by whether they have one; only kinds that the base has."""
    found = {}
    for slides in {base.shape.slides(block.index) for block in base.blocks}:
        cos, sin = _rotary(base, pack, slides)
        seen = windowed(pack, base.shape.window) if slides else pack
        found[slides] = View(seen, cos, sin, _query_factor(base.shape, pack))
    return found


def windowed(pack: Pack, window: int) -> Pack:
    """The pack with masks that let a token see the last `window` positions of its row; its own among them."""
    if len(pack.positions) == 0 or int(pack.positions.max()) < window:
        return pack
    prefix = pack.positions[: pack.n_prefix]
    groups = []
    for group in pack.groups:
        own = pack.positions[group.start : group.stop]
        near = own[:, None] - torch.cat((prefix, own))[None] < window
        mask = torch.ones_like(near).tril() if group.mask is None else group.mask
        groups.append(dataclasses.replace(group, mask=mask & near))
    distance = prefix[:, None] - prefix[None]
    return dataclasses.replace(pack, groups=tuple(groups), prefix_mask=(distance >= 0) & (distance < window))


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pack: Pack, shape: ModelConfig
) -> torch.Tensor:
    """Attention of the prefix to itself and of each group to the prefix and itself; (1, heads, tokens, head_dim)."""
    end, out = pack.n_prefix, []
    if end:
        out.append(_attend(query[:, :, :end], key[:, :, :end], value[:, :, :end], pack.prefix_mask, shape))
    for group in pack.groups:
        own = slice(group.start, group.stop)
        keys, values = key[:, :, own], value[:, :, own]
        if end:
            keys = torch.cat((key[:, :, :end], keys), dim=2)
            values = torch.cat((value[:, :, :end], values), dim=2)
        out.append(_attend(query[:, :, own], keys, values, group.mask, shape))
    return torch.cat(out, dim=2) if len(out) > 1 else out[0]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions on (tokens, heads, head_dim) with halves side by side; what is beyond them stays as it is.

    Some tables are in float32 whatever the model is in, as OLMo 2 computes.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1).to(x.dtype)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, shape: ModelConfig
) -> torch.Tensor:
    """Attention under a mask, or causal where there is none."""
    scale = shape.attention_scale
    if shape.score_cap:
        scale = shape.head_dim**-0.5 if scale is None else scale
        mask = _causal(query) if mask is None else mask
        # Scores are computed again for the gradient: they would take more memory than all else.
        inputs = (query * scale, key, value, mask, shape.score_cap)
        found: torch.Tensor = checkpoint(_capped, *inputs, use_reentrant=False, preserve_rng_state=False)
        return found
    if query.is_cuda:
        return _attend_on_cuda(query, key, value, mask, scale)
    gqa = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=gqa)


def _attend_on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Attention by any kernel but cuDNN's, whose gradient under a mask is NaN or wrong (pytorch issue 196678).

    The fast kernel that takes a mask wants as many keys' heads as queries'.
    """
    n_groups = query.shape[1] // key.shape[1]
    if n_groups > 1 and mask is not None:
        key, value = key.repeat_interleave(n_groups, dim=1), value.repeat_interleave(n_groups, dim=1)
    gqa = query.shape[1] != key.shape[1]
    with sdpa_kernel(RIGHT_KERNELS):
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=gqa
        )


def _capped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, cap: float
) -> torch.Tensor:
    """Attention whose scores are bounded by tanh; `query` is scaled already, (1, heads, tokens, head_dim)."""
    heads, kv_heads = query.shape[1], key.shape[1]
    grouped = query.unflatten(1, (kv_heads, heads // kv_heads))
    scores = torch.tanh(grouped @ key[:, :, None].mT / cap) * cap
    shares = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (shares @ value[:, :, None]).flatten(1, 2)


def _causal(query: torch.Tensor) -> torch.Tensor:
    n = query.shape[2]
    return torch.ones(n, n, dtype=torch.bool, device=query.device).tril()


def _rotary(base: LoadedBase, pack: Pack, slides: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the pack's positions, (tokens, 1, half of the rotated length) each."""
    kind = ("full_attention", "sliding_attention")[slides]
    kinds = (kind,) if base.shape.window_rope_base else ()
    table = base.model.model.rotary_emb
    cos, sin = table(torch.empty(0, device=base.device, dtype=base.flow), pack.positions[None], *kinds)
    half = cos.shape[-1] // 2
    return cos[0, :, None, :half], sin[0, :, None, :half]


def _query_factor(shape: ModelConfig, pack: Pack) -> torch.Tensor | None:
    if not shape.temperature or int(pack.positions.max()) < shape.first_context:
        return None
    factor = 1 + shape.temperature * torch.log1p(pack.positions // shape.first_context)
    return factor[:, None, None]
