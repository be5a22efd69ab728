"""Tiny random models of every architecture that is trained, an adapter for each, and both trainers' view of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from tiny_models import TinySpec, lora_pairs, tokens_of, write_lora, write_model

from sg_local import gguf
from sg_local.backends import TrainSettings
from sg_local.records import TokenExample

ALPHA, RANK = 4.0, 4
SETTINGS = TrainSettings(rank=RANK, alpha=ALPHA, batch_size=4, n_threads=1)
PLAIN = TinySpec(type="F32", head_type="F32")
# Where an architecture has a length of its own or layers of several kinds, its tiny model has them too.
SPECS = {
    "llama": PLAIN,
    "qwen2": dataclasses.replace(PLAIN, rope_base=1e6),
    "qwen3": dataclasses.replace(PLAIN, head_width=96, rope_base=1e6, tied=False),
    "granite": PLAIN,
    "smollm3": dataclasses.replace(PLAIN, layers=5, rope_base=2e6),
    "olmo2": dataclasses.replace(PLAIN, tied=False),
    "gemma2": dataclasses.replace(
        PLAIN,
        layers=3,
        head_width=96,
        metadata=(
            ("attention.sliding_window", 16),
            ("attn_logit_softcapping", 5.0),
            ("final_logit_softcapping", 3.0),
        ),
    ),
    "gemma3": dataclasses.replace(
        PLAIN,
        layers=4,
        head_width=96,
        rope_base=1e6,
        metadata=(
            ("attention.sliding_window", 16),
            ("attention.sliding_window_pattern", 3),
            ("rope.scaling.type", "linear"),
            ("rope.scaling.factor", 8.0),
        ),
    ),
    "phi3": dataclasses.replace(PLAIN, rope_dim=48, tied=False, metadata=(("attention.sliding_window", 16),)),
    "mistral3": dataclasses.replace(
        PLAIN,
        rope_base=1e6,
        metadata=(
            ("rope.scaling.type", "yarn"),
            ("rope.scaling.factor", 16.0),
            ("rope.scaling.original_context_length", 32),
            ("rope.scaling.yarn_log_multiplier", 1.0),
            ("attention.temperature_scale", 0.1),
        ),
    ),
}


def spec_of(architecture: str, **changes: object) -> TinySpec:
    """The tiny model of an architecture, in float32 unless changed."""
    return dataclasses.replace(SPECS[architecture], architecture=architecture, **changes)


def write_pair(folder: Path, architecture: str, **changes: object) -> tuple[Path, Path]:
    """A tiny model, and an adapter for it that changes much."""
    return write_pair_of(folder, spec_of(architecture, **changes))


def write_pair_of(folder: Path, spec: TinySpec) -> tuple[Path, Path]:
    """`write_pair` for a model that is described in full."""
    model = write_model(folder / "tiny.gguf", spec)
    return model, write_lora(folder / "adapter.gguf", lora_pairs(spec, RANK, size=0.1), ALPHA, spec.architecture)


def examples(n: int = 5, n_prefix: int = 20) -> list[TokenExample]:
    """Rows with a common prefix and parts of their own, of unequal lengths and weights."""
    draw = np.random.default_rng(3)
    prefix = tuple(draw.integers(3, 500, n_prefix).tolist())
    own = [tuple(draw.integers(3, 500, 4 + i).tolist()) for i in range(n)]
    return [
        TokenExample(f"row{i}", (*prefix, *part, 7, 2), n_prefix + len(part), 1.0 + i % 3) for i, part in enumerate(own)
    ]


def torch_side(model: Path, adapter: Path):
    """The base in torch, in float32 on the CPU, and the file's adapter as its own."""
    import torch

    from sg_local.backends.torch.adapter import TorchLora
    from sg_local.backends.torch.model import load_base

    base = load_base(model, torch.device("cpu"), torch.float32)
    lora = TorchLora(base, SETTINGS)
    pairs = gguf.read_adapter(adapter).pairs
    for name, (a, b) in lora.matrices().items():
        heads = base.shape.rotary_heads(name)
        own = pairs[name]
        a.copy_(torch.from_numpy(own[0].copy()))
        b.copy_(torch.from_numpy(np.ascontiguousarray(own[1] if heads is None else gguf.rows_to_hf(own[1], heads))))
    return base, lora


def torch_gradient(base, lora, *, shared: bool) -> np.ndarray:
    """The adapter's gradient on the examples: their prefix shared by all, or each row whole by itself."""
    from sg_local.backends.torch.forward import answer_loss, hidden_states
    from sg_local.backends.torch.packing import pack_rows

    rows, device = examples(), lora.flat.device
    lora.flat.grad.zero_()
    for pack in [pack_rows(rows, 20, device)] if shared else [pack_rows([row], 0, device) for row in rows]:
        answer_loss(base, hidden_states(base, lora, pack), pack).backward()
    return lora.flat.grad.numpy().copy()


def mlx_side(model: Path, adapter: Path | None):
    """The base in MLX, with the file's adapter where one is given."""
    from sg_local.backends.mlx.adapter import apply_adapter
    from sg_local.backends.mlx.weights import load_model

    loaded = load_model(model, keep_quantised=False)
    if adapter is not None:
        found = gguf.read_adapter(adapter)
        apply_adapter(loaded, found.pairs, found.alpha)
    return loaded


def mlx_gradient(model, *, shared: bool) -> np.ndarray:
    """The adapter's gradient on the examples, as `torch_gradient` gives it."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from sg_local.backends.mlx.forward import make_batch, summed_loss

    model.freeze()
    model.unfreeze(keys=["lora_a", "lora_b"], strict=False)
    batch = make_batch(examples(), share_prefix=shared)
    _, grads = nn.value_and_grad(model, lambda batch: summed_loss(model, batch))(batch)
    return np.array(mx.concatenate([grad.reshape(-1) for _, grad in tree_flatten(grads)]))


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The difference's length by the wanted one's."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def talker_of(architecture: str) -> TinySpec:
    """The tiny model of an architecture in Q8_0, whose noise has line ends and endings: synthesis takes it for rows.

    A tied head would say each token again and again; Gemma 2 has no other, but caps what it is sure of.
    """
    spec = spec_of(architecture, type="Q8_0", head_type="Q8_0", tied=architecture == "gemma2")
    tokens = tokens_of(spec)
    newline = "<0x0A>" if spec.tokenizer == "spm" else "\u010a"
    return dataclasses.replace(spec, loud=(tokens.index(newline), 2))
