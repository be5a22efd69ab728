"""What a row of the table of architectures can say (the rows are in `architectures`), and what follows from it.

A row says as data what differs between architectures: the matrices and norms of a block by their names in a GGUF and
in transformers (mlx-lm's are the same), whose rows are permuted, what the metadata becomes in a config, how exact the
parity gate may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Size = Literal["hidden", "q", "kv", "ffn"]
"""A length by name: the model's width, all query heads, all key-value heads, the feed-forward's width."""

ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""The modules outside the blocks, the same in every row."""

ROPE_FACTORS = "rope_freqs.weight"
"""Divisors of the rotary frequencies (Llama 3.1 and later): a tensor of the file, no module of the model."""

LONG_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
"""The two sets of divisors of longrope (Phi-3's and Phi-4's models of long contexts)."""

HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
"""Norms of queries and keys before they are rotated: of each head, or of all heads as one vector (OLMo 2)."""

CONFIG = {
    "hidden_size": "hidden",
    "intermediate_size": "ffn",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab",
    "max_position_embeddings": "context",
    "rms_norm_eps": "norm_eps",
}
"""Keys of transformers' and mlx-lm's configs, by the field of `ModelConfig` that holds their value."""


@dataclass(frozen=True)
class Matrix:
    """A linear module of every block, which training adapts: `blk.N.STEM.weight`, (sum of `rows`, `columns`).

    `rows` has several lengths where one tensor holds several projections. With `heads` the GGUF keeps rotary pairs side
    by side, in transformers half a head apart. `heavy`: llama.cpp's mixes give it more bits. `bias`: it has one.
    """

    stem: str
    module: str
    rows: tuple[Size, ...]
    columns: Size
    heads: Literal["q", "kv"] | None = None
    heavy: bool = False
    bias: bool = False


@dataclass(frozen=True)
class Architecture:
    """One row. `name` is general.architecture; `model_type` is transformers' and mlx-lm's name for it.

    `norms` maps the blocks' other tensors to their modules; `norm_offset` is what transformers adds to a norm's weight
    and the GGUF holds already. `constants` are config values that all its models share; `settings` are config keys by
    the metadata key, without the architecture's name, that holds their value. `refused` says why it cannot be trained,
    '' where it can.
    """

    name: str
    models: str
    model_type: str
    model_class: str
    matrices: tuple[Matrix, ...]
    norms: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Metadata with other values of which llama.cpp computes what no block here does: refused."""
    norm_offset: float = 0.0
    rope_scalings: tuple[str, ...] = ("none",)
    rotates_part: bool = False
    """A file may rotate the first part of each head alone."""
    unrotated: int = 0
    """Every so many layers, the last of them has no rotary positions; 0: none is without."""
    pattern: int = 0
    """Every so many layers, the last of them sees all positions, the others a window; 0: all see all."""
    window: int = 0
    """How many positions such a window has where the file does not say; 0: then no layer has one."""
    window_rope_base: float = 0.0
    """The rotary base of layers with a window where the file does not say; 0: that of the others."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """Bounds by tanh, by their key in metadata and config, where the file does not say: of scores, of logits."""
    temperature: bool = False
    """Queries grow with their position where the file has `attention.temperature_scale`."""
    activation: Literal["silu", "gelu"] = "silu"
    """What the gate goes through; gelu in its tanh form."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the square root of the model's width."""
    own_head: bool = True
    """A file may hold a head of its own; else it is always the embedding."""
    wide_layers: int = 0
    """A model of so many layers divides scores by sqrt(width / heads), all others by sqrt(head_dim)."""
    tolerance: float = 1e-3
    """How far logits may differ between a trainer and llama.cpp, both in float32, as `parity.difference` measures it.

    The row's comment says why.
    """
    refused: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """The matrices' stems, in the order of the block."""
        return tuple(matrix.stem for matrix in self.matrices)

    @property
    def modules(self) -> tuple[str, ...]:
        """The matrices' modules inside a layer, in the order of the block."""
        return tuple(matrix.module for matrix in self.matrices)

    @property
    def has_rotary_pairs(self) -> bool:
        """Whether the GGUF keeps rotary pairs side by side (llama.cpp's rope type NORM)."""
        return any(matrix.heads is not None for matrix in self.matrices)

    def rotates(self, layer: int) -> bool:
        """Whether a layer of the file has rotary positions."""
        return not self.unrotated or (layer + 1) % self.unrotated != 0

    def slice_of(self, n_layers: int, pattern: int | None = None) -> tuple[int, ...]:
        """Few layers, first and last, that stay of their kinds when they are numbered anew. `pattern`: the file's."""
        period = self.unrotated or (self.pattern if pattern is None else pattern)
        if not period:
            return tuple(sorted({0, n_layers - 1}))
        last = n_layers - n_layers % period - 1
        return (*range(period - 1), last) if last > 0 else tuple(range(n_layers))

    def with_input(self, part: str, columns: Size) -> tuple[str, ...]:
        """The stems of the matrices in a part of the block ('self_attn') that read the same input."""
        return tuple(m.stem for m in self.matrices if m.module.startswith(f"{part}.") and m.columns == columns)

    def vectors(self, layer: int) -> tuple[str, ...]:
        """The names of a layer's norms and biases in a GGUF."""
        biases = (f"blk.{layer}.{matrix.stem}.bias" for matrix in self.matrices if matrix.bias)
        return (*(f"blk.{layer}.{stem}.weight" for stem in self.norms), *biases)

    def tensor_name(self, layer: int, module: str) -> str:
        """The GGUF weight of a layer's module: (3, 'self_attn.q_proj') -> 'blk.3.attn_q.weight'."""
        stem = next(matrix.stem for matrix in self.matrices if matrix.module == module)
        return f"blk.{layer}.{stem}.weight"

    def module_in_layer(self, stem: str) -> str:
        """'attn_q' -> 'self_attn.q_proj'; norms too."""
        matrix = self._matrix(stem)
        return self.norms[stem] if matrix is None else matrix.module

    def module_name(self, tensor: str, layers: range | tuple[int, ...] | None = None) -> str | None:
        """'blk.3.attn_q.weight' -> 'model.layers.3.self_attn.q_proj'; None for a tensor that is no module's.

        With `layers` the model holds these blocks alone, numbered anew, and tensors of others have no module.
        """
        parts = tensor.split(".")
        if parts[0] != "blk":
            return ENDS.get(parts[0])
        layer = int(parts[1])
        if layers is not None and layer not in layers:
            return None
        number = layer if layers is None else layers.index(layer)
        return f"model.layers.{number}.{self.module_in_layer(parts[2])}"

    def knows(self, tensor: str) -> bool:
        """Whether a tensor of this name belongs to the architecture as it is described here."""
        parts = tensor.split(".")
        if parts[0] != "blk":
            known = parts[0] in ENDS and (self.own_head or parts[0] != "output")
            return tensor == ROPE_FACTORS or (known and parts[1:] == ["weight"])
        if len(parts) != 4 or not parts[1].isdecimal():
            return False
        matrix = self._matrix(parts[2])
        if parts[3] == "bias":
            return matrix is not None and matrix.bias
        return parts[3] == "weight" and (matrix is not None or parts[2] in self.norms)

    def rotary_heads(self, tensor: str, heads: int, kv_heads: int) -> int | None:
        """The heads by which a tensor's rows are permuted, None where they lie alike; on a LoRA pair, B's alone."""
        parts = tensor.split(".")
        matrix = self._matrix(parts[2]) if parts[0] == "blk" else None
        if matrix is None or matrix.heads is None:
            return None
        return heads if matrix.heads == "q" else kv_heads

    def offset_of(self, tensor: str) -> float:
        """What a GGUF's tensor holds beyond the weight that transformers and mlx-lm keep: a norm's offset, else 0."""
        parts = tensor.split(".")
        stem = parts[2] if parts[0] == "blk" else parts[0]
        return self.norm_offset if stem in self.norms or stem == "output_norm" else 0.0

    def shape_of(self, stem: str, sizes: Mapping[Size, int]) -> tuple[int, int]:
        """Rows and columns of one matrix, such as `attn_k`."""
        matrix = self._matrix(stem)
        assert matrix is not None, (self.name, stem)
        return sum(sizes[part] for part in matrix.rows), sizes[matrix.columns]

    def _matrix(self, stem: str) -> Matrix | None:
        return next((matrix for matrix in self.matrices if matrix.stem == stem), None)
