"""Attention by any kernel against the formula written out: outputs and gradients, masked or not, with grouped heads."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from test_memory import VICUNA

from sg_local.backends.torch.attention import RIGHT_KERNELS, SDPBackend, _attend, _attend_on_cuda

N_PREFIX, N_OWN, HEAD_DIM = 7, 12, 16


def written_out(query, key, value, mask, scale: float):
    """Softmax of scaled scores, each head of keys serving its group of queries' heads."""
    n_groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(n_groups, dim=1), value.repeat_interleave(n_groups, dim=1)
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril() if mask is None else mask
    return (query @ key.mT * scale).masked_fill(~mask, -torch.inf).softmax(-1) @ value


def two_rows_behind_a_prefix():
    row = torch.arange(N_OWN) // 5
    own = (row[:, None] == row[None]).tril()
    return torch.cat((torch.ones(N_OWN, N_PREFIX, dtype=torch.bool), own), dim=1)


def output_and_gradients(attend, tensors, mask, scale) -> list:
    own = [tensor.clone().requires_grad_() for tensor in tensors]
    out = attend(*own, mask, scale)
    slopes = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    (out * slopes).sum().backward()
    return [out.detach(), *(tensor.grad for tensor in own)]


@pytest.mark.parametrize("masked", [False, True], ids=["causal", "masked"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (4, 1)])
def test_both_ways_compute_attention_and_its_gradient(heads: int, kv_heads: int, masked: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    n_keys = N_PREFIX + N_OWN if masked else N_OWN
    sizes = ((heads, N_OWN), (kv_heads, n_keys), (kv_heads, n_keys))
    tensors = [torch.randn(1, *size, HEAD_DIM, generator=draw) for size in sizes]
    mask, scale = two_rows_behind_a_prefix() if masked else None, HEAD_DIM**-0.5
    doubles = [tensor.double() for tensor in tensors]
    expected = output_and_gradients(written_out, doubles, mask, scale)

    def on_the_cpu(query, key, value, mask, scale):
        return _attend(query, key, value, mask, VICUNA)  # its scale is head_dim ** -0.5, as None stands for

    for attend in (on_the_cpu, _attend_on_cuda):
        for found, wanted in zip(output_and_gradients(attend, tensors, mask, scale), expected, strict=True):
            assert torch.allclose(found.double(), wanted, atol=2e-6, rtol=1e-5)


def test_a_scale_of_the_models_own_reaches_the_kernel() -> None:
    tensors = [torch.randn(1, 2, N_OWN, HEAD_DIM, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    found, wanted = (_attend_on_cuda(*tensors, None, 0.7), written_out(*tensors, None, 0.7))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert SDPBackend.CUDNN_ATTENTION not in RIGHT_KERNELS
