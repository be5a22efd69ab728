"""The architectures that are trained, one row each: what readers, trainers and exports must know of a model's blocks.

A row says as data what differs between architectures: the matrices and norms of a block by their names in a GGUF and
in transformers (mlx-lm's are the same), whose rows are permuted, what the metadata becomes in a config, how exact the
parity gate may be. To add one, add its row; where its block also computes something else than the blocks here, teach
the two forward passes (`backends/torch/forward.py`, `backends/mlx/forward.py`). Facts: llama.cpp's converter and
transformers' model classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Size = Literal["hidden", "q", "kv", "ffn"]
"""A length by name: the model's width, all query heads, all key-value heads, the feed-forward's width."""

ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""The modules outside the blocks, the same in every row."""

ROPE_FACTORS = "rope_freqs.weight"
"""Divisors of the rotary frequencies (Llama 3.1 and later): a tensor of the file, no module of the model."""

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
    norm_offset: float = 0.0
    rope_scalings: tuple[str, ...] = ("none",)
    unrotated: int = 0
    """Every so many layers, the last of them has no rotary positions; 0: none is without."""
    tolerance: float = 1e-3
    """How far logits may differ between a trainer and llama.cpp, both in float32; the row's comment says why."""
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

    def slice_of(self, n_layers: int) -> tuple[int, ...]:
        """Few layers, first and last, that stay of their kinds when they are numbered anew."""
        if not self.unrotated:
            return tuple(sorted({0, n_layers - 1}))
        last = n_layers - n_layers % self.unrotated - 1
        return (*range(self.unrotated - 1), last) if last > 0 else tuple(range(n_layers))

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
            return tensor == ROPE_FACTORS or (parts[0] in ENDS and parts[1:] == ["weight"])
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


LLAMA = Architecture(
    name="llama",
    models="Llama 2 and 3, Vicuna, SmolLM2, TinyLlama and kin",
    model_type="llama",
    model_class="LlamaForCausalLM",
    matrices=(
        Matrix("attn_q", "self_attn.q_proj", ("q",), "hidden", heads="q"),
        Matrix("attn_k", "self_attn.k_proj", ("kv",), "hidden", heads="kv"),
        Matrix("attn_v", "self_attn.v_proj", ("kv",), "hidden", heavy=True),
        Matrix("attn_output", "self_attn.o_proj", ("hidden",), "q"),
        Matrix("ffn_gate", "mlp.gate_proj", ("ffn",), "hidden"),
        Matrix("ffn_up", "mlp.up_proj", ("ffn",), "hidden"),
        Matrix("ffn_down", "mlp.down_proj", ("hidden",), "ffn", heavy=True),
    ),
    norms={"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
    constants={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # a right copy stays near 1e-4; one with q's and k's rows in a wrong order is off by more than 1
)

# llama.cpp rotates its halves (rope type NEOX): rows lie as in transformers. The biases are not adapted.
QWEN2 = Architecture(
    name="qwen2",
    models="Qwen2 and 2.5",
    model_type="qwen2",
    model_class="Qwen2ForCausalLM",
    matrices=tuple(replace(m, heads=None, bias=m.stem in ("attn_q", "attn_k", "attn_v")) for m in LLAMA.matrices),
    norms=LLAMA.norms,
    constants={"hidden_act": "silu", "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the same operations and a sum more
)

QWEN3 = Architecture(
    name="qwen3",
    models="Qwen3, dense",
    model_type="qwen3",
    model_class="Qwen3ForCausalLM",
    matrices=tuple(replace(matrix, heads=None) for matrix in LLAMA.matrices),
    norms={**LLAMA.norms, **HEAD_NORMS},
    constants={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the norms of queries and keys are float32 on both sides
)

GRANITE = Architecture(
    name="granite",
    models="Granite 3 and 4, dense",
    model_type="granite",
    model_class="GraniteForCausalLM",
    matrices=LLAMA.matrices,
    norms=LLAMA.norms,
    constants=LLAMA.constants,
    settings={
        "attention_multiplier": "attention.scale",
        "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale",
        "logits_scaling": "logit_scale",
    },
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: a factor more here and there
)

# llama.cpp fixes the step (n_no_rope_layer_step = 4); transformers' default is the same.
SMOLLM3 = Architecture(
    name="smollm3",
    models="SmolLM3",
    model_type="smollm3",
    model_class="SmolLM3ForCausalLM",
    matrices=LLAMA.matrices,
    norms=LLAMA.norms,
    constants={**LLAMA.constants, "no_rope_layer_interval": 4, "use_sliding_window": False},
    rope_scalings=("none", "linear"),
    unrotated=4,
    tolerance=1e-3,  # as llama; a layer that is rotated against its kind is off by more than 0.1
)

OLMO2 = Architecture(
    name="olmo2",
    models="OLMo 2",
    model_type="olmo2",
    model_class="Olmo2ForCausalLM",
    matrices=QWEN3.matrices,
    norms={
        **HEAD_NORMS,
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    constants={"hidden_act": "silu", "attention_bias": False},
    rope_scalings=("none", "linear"),
    tolerance=1e-3,  # as llama: the norms stand elsewhere
)

ARCHITECTURES: Mapping[str, Architecture] = {row.name: row for row in (LLAMA, QWEN2, QWEN3, GRANITE, SMOLLM3, OLMO2)}
"""Every row, by general.architecture."""


def row_of_type(model_type: str) -> Architecture:
    """The row whose models transformers and mlx-lm know by this type."""
    return next(row for row in ARCHITECTURES.values() if row.model_type == model_type)


def targets_of(architecture: str) -> tuple[str, ...]:
    """What an adapter may change in such a model; for an architecture without a row, what it may in any."""
    rows = [ARCHITECTURES[architecture]] if architecture in ARCHITECTURES else list(ARCHITECTURES.values())
    return tuple(dict.fromkeys(stem for row in rows for stem in row.targets))
