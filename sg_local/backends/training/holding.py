"""How a trainer can hold a base in memory: matrices whole or as the file's blocks, activations kept or computed again.

Blocks and recomputing change no result: they exchange time for memory. What a base of blocks takes is read from the
file's header here, for the estimate (`memory`); the torch trainer holds them as `torch.frozen` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import TrainSettings
from sg_local.backends.training.lora import adapted_layers
from sg_local.gguf import GgufFile, ModelConfig, Tensor, decodes, read_config
from sg_local.gguf.architecture import Size

CUDA_BLOCKS = ("F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
"""Types that torch decodes on a GPU. On a CPU ggml decodes every type."""
PART_ROWS = 8192  # rows of the head at a time: their logits' columns, and with blocks a decoded part


@dataclass(frozen=True)
class Way:
    """One way of training: matrices as the file's `blocks`, activations of the first layers `recomputed`.

    Of the layers with an adapter, that is: others keep nothing.
    """

    blocks: bool = False
    recomputed: int = 0

    def __str__(self) -> str:
        weights = "as the file's blocks" if self.blocks else "whole"
        again = f"those of {self.recomputed} layers computed again" if self.recomputed else "kept"
        return f"weights {weights}, activations {again}"


WHOLE = Way()


@dataclass(frozen=True)
class Stored:
    """What a base takes as blocks: bytes of the file that stay as they are, and numbers that must be decoded for good.

    `scratch` is how many numbers the largest matrix has that is decoded at a time.
    """

    n_bytes: int
    n_whole: int
    scratch: int


def keeps_blocks(type: str, *, on_cuda: bool) -> bool:
    """Whether matrices of a type can stay blocks, and take less memory for it."""
    return type in CUDA_BLOCKS if on_cuda else type != "F32" and decodes(type)


def stored(model: Path, *, on_cuda: bool) -> Stored:
    """What the torch trainer holds of a file."""
    shape, found = read_config(model), Stored(0, 0, 0)
    with GgufFile(model) as file:
        for stack in _stacks(file, shape):
            n_numbers = sum(tensor.rows * tensor.columns for tensor in stack)
            if not all(keeps_blocks(tensor.type, on_cuda=on_cuda) for tensor in stack):
                found = dataclasses.replace(found, n_whole=found.n_whole + n_numbers)
                continue
            at_once = min(n_numbers, PART_ROWS * stack[0].columns) if stack[0].name in _ENDS else n_numbers
            n_bytes = found.n_bytes + sum(tensor.n_bytes for tensor in stack)
            found = Stored(n_bytes, found.n_whole, max(found.scratch, at_once))
    return found


def share_adapted(model: Path, settings: TrainSettings) -> float:
    """The share of a model's layers that get an adapter."""
    n_layers = read_config(model).layers
    return len(adapted_layers(n_layers, settings)) / n_layers


def share_recomputed(model: Path, way: Way) -> float:
    """The share of a model's layers that are computed twice in a step."""
    return way.recomputed / read_config(model).layers


def _stacks(file: GgufFile, shape: ModelConfig) -> Iterator[Sequence[Tensor]]:
    """Matrices that are decoded together: those with a common input."""
    row = shape.row
    stems = [row.with_input(part, source) for part, source in _INPUTS]
    for layer in range(shape.layers):
        yield from ([file.tensors[f"blk.{layer}.{stem}.weight"] for stem in stack] for stack in stems)
    yield from ([file.tensors[name]] for name in _ENDS if name in file.tensors)


_INPUTS: tuple[tuple[str, Size], ...] = (("self_attn", "hidden"), ("self_attn", "q"), ("mlp", "hidden"), ("mlp", "ffn"))
_ENDS = ("token_embd.weight", "output.weight")
