"""Builds mlx-lm's model of a GGUF's architecture from the file, tensor by tensor, and never through `mx.load`.

`mx.load` reads Q4_K wrongly without an error and drops or refuses other types. Here every tensor goes through our own
reader. The rows stay as the GGUF has them: where llama.cpp stores q and k for the interleaved form of rotary
embedding, mlx-lm computes that form (`rope_traditional`). All arithmetic is float32.

Dense, every weight is float32 (fast on a CPU with OpenBLAS). Quantised, the types of `grids.BITS` stay on their own
grid, as linear layers and as embedding; the others (Q6_K, Q3_K, Q2_K) become float16, F16 and BF16 stay what they are.
Quantised models have run on the CPU only; on Metal nothing of this was ever run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize

from sg_local.backends.mlx.grids import BITS, GROUP, affine, pack
from sg_local.backends.mlx.model import Model, empty_model
from sg_local.gguf import ARCHITECTURES, ROPE_FACTORS, GgufFile, ModelConfig, Tensor, read_config
from sg_local.records import SgError

_EMBEDDING = "token_embd.weight"


class FactorRope(Module):
    """Rotary embedding whose frequencies are divided by the file's own factors (Llama 3.1 and later).

    `traditional`: its pairs lie side by side.
    """

    def __init__(self, base: float, factors: mx.array, traditional: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # MLX gives it no types
        n = factors.shape[0]
        self.dims = 2 * n
        self.traditional = traditional
        self._periods = base ** (mx.arange(n, dtype=mx.float32) / n) * factors

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        freqs = self._periods
        return mx.fast.rope(
            x, self.dims, traditional=self.traditional, base=None, scale=1.0, offset=offset, freqs=freqs
        )


def load_model(path: Path, *, keep_quantised: bool, layers: Sequence[int] | None = None) -> Model:
    """The file's model, evaluated and frozen. Raises SgError for one that is no row of the architectures.

    With `layers` it holds these blocks alone, numbered anew, and never rounds a weight: a slice to compare with.
    """
    config = read_config(path)
    wanted = range(config.layers) if layers is None else layers
    with GgufFile(path) as file:
        names = {name: config.row.module_name(name, tuple(wanted)) for name in file.tensors}
        model = empty_model(dataclasses.replace(config, layers=len(wanted)))
        if keep_quantised:
            matrices = [tensor for tensor in file.tensors.values() if tensor.name.endswith(".weight")]
            grids = {names[tensor.name]: BITS.get(tensor.type) for tensor in matrices}
            quantize(model, class_predicate=lambda name, _: _grid(grids.get(name)))
        weights: list[tuple[str, mx.array]] = []
        for tensor in file.tensors.values():
            if names[tensor.name] is not None:
                parts = _parts(file, tensor, keep_quantised, round_others=layers is None)
                mx.eval(list(parts.values()))
                weights += [(f"{names[tensor.name]}.{part}", array) for part, array in parts.items()]
        _prepare_rope(file, model, config)
    try:
        model.load_weights(weights, strict=True)
    except ValueError as error:
        message = f"{path} is not a complete {config.architecture} model: {error}"
        raise SgError(message, "Fetch the file again.") from error
    model.freeze()
    model.eval()
    return model


def _grid(bits: int | None) -> dict[str, int] | bool:
    """What `nn.quantize` wants to know of a module; False leaves it dense."""
    return False if bits is None else {"group_size": GROUP, "bits": bits}


def _prepare_rope(file: GgufFile, model: Model, config: ModelConfig) -> None:
    """Rotate pairs as they lie in the file, which mlx-lm's models do not all ask, by its own factors if it has some."""
    pairs = config.row.has_rotary_pairs
    rotating = [layer.self_attn for layer in model.layers if hasattr(layer.self_attn.rope, "traditional")]
    factors = mx.array(file.dequantize(ROPE_FACTORS)) if ROPE_FACTORS in file.tensors else None
    for attention in rotating:
        if factors is not None:
            attention.rope = FactorRope(config.rope_base, factors, pairs)
        attention.rope.traditional = pairs


def _parts(file: GgufFile, tensor: Tensor, keep_quantised: bool, *, round_others: bool) -> dict[str, mx.array]:
    """A module's arrays by the names that MLX gives them."""
    if keep_quantised and tensor.type in BITS:
        slabs = [_packed(file.rows(tensor, start, stop), tensor.type) for start, stop in file.slabs(tensor)]
        return {part: mx.array(np.concatenate([slab[part] for slab in slabs])) for part in slabs[0]}
    values = file.dequantize(tensor.name)
    if offset := ARCHITECTURES[file.value("general.architecture")].offset_of(tensor.name):
        values = values - offset
    weight = mx.array(values)
    if keep_quantised and round_others and tensor.type != "F32" and tensor.name != _EMBEDDING:
        weight = weight.astype(mx.bfloat16 if tensor.type == "BF16" else mx.float16)
    return {tensor.name.rpartition(".")[2]: weight}


def _packed(raw: np.ndarray, type: str) -> dict[str, np.ndarray]:
    grid = affine(raw, type)
    return {"weight": pack(grid.q, BITS[type]), "scales": grid.scale, "biases": grid.bias}
