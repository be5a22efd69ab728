"""A model's shape: what the metadata of a file tells a trainer of the network that it holds.

What differs between architectures comes from their rows (`architectures`); what differs between files of one, from
here. Both trainers and the exported folders' config build on this alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sg_local.gguf.architecture import CONFIG, ROPE_FACTORS, Architecture
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.gguf.reader import GgufFile
from sg_local.records import SgError


@dataclass(frozen=True)
class Yarn:
    """YaRN's settings beside its factor and the context trained at first.

    Cosines and sines are multiplied by m(1) / m(`mscale`), m(s) being 0.1 s ln(factor) + 1.
    """

    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """What a trainer builds a network from. `tied`: the head is the embedding matrix.

    `rope_scaling` is `none`, `linear` (positions divided by `rope_factor`) or `yarn`. With `rope_factors` the file
    holds rope_freqs.weight, by which llama.cpp divides each rotary frequency (Llama 3.1). `extra` holds the
    architecture's own settings, by transformers' names. Layers of which `slides` is true see the last `window`
    positions alone, a token's own among them. A query is multiplied by
    1 + `temperature` * ln(1 + position // `first_context`).
    """

    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    norm_eps: float
    rope_base: float
    rope_dim: int
    rope_scaling: str
    rope_factor: float
    rope_factors: bool
    tied: bool
    extra: Mapping[str, Any] = field(default_factory=dict)
    window: int = 0
    pattern: int = 0
    window_rope_base: float = 0.0
    yarn: Yarn | None = None
    temperature: float = 0.0
    first_context: int = 0

    @property
    def row(self) -> Architecture:
        """What is known of the model's architecture."""
        return ARCHITECTURES[self.architecture]

    @property
    def attention_scale(self) -> float | None:
        """What scores are multiplied by; None: 1 / sqrt(head_dim)."""
        if self.row.wide_layers and self.row.wide_layers == self.layers:
            return float((self.hidden // self.heads) ** -0.5)
        return self.extra.get("attention_multiplier")

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied by."""
        return self.hidden**0.5 if self.row.scaled_embedding else float(self.extra.get("embedding_multiplier", 1.0))

    @property
    def residual_scale(self) -> float:
        """What the outputs of attention and feed-forward are multiplied by before they are added."""
        return float(self.extra.get("residual_multiplier", 1.0))

    @property
    def logit_divisor(self) -> float:
        """What logits are divided by."""
        return float(self.extra.get("logits_scaling", 1.0))

    @property
    def score_cap(self) -> float:
        """Where tanh bounds attention's scores; 0: nowhere."""
        return float(self.extra.get("attn_logit_softcapping") or 0.0)

    @property
    def logit_cap(self) -> float:
        """Where tanh bounds the logits; 0: nowhere."""
        return float(self.extra.get("final_logit_softcapping") or 0.0)

    def slides(self, layer: int) -> bool:
        """Whether a layer of the file sees a window of the positions alone."""
        return bool(self.window) and layer % self.pattern < self.pattern - 1

    def slice_layers(self) -> tuple[int, ...]:
        """Few layers that compute in a file of their own what they compute here."""
        return self.row.slice_of(self.layers, self.pattern)

    def shape_of(self, target: str) -> tuple[int, int]:
        """Rows and columns of one adapted matrix, such as `attn_k`."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.row.shape_of(target, {"hidden": self.hidden, "q": q, "kv": kv, "ffn": self.ffn})

    def rotary_heads(self, tensor: str) -> int | None:
        """The heads by which a tensor's rows are permuted between GGUF and transformers, or None."""
        return self.row.rotary_heads(tensor, self.heads, self.kv_heads)

    def settings(self) -> dict[str, Any]:
        """The config of transformers and mlx-lm, but for Llama 3's factors, which the file holds, and token ids."""
        sizes = {key: getattr(self, name) for key, name in CONFIG.items()}
        own = {**sizes, **self.row.constants, **self.extra, **self._windows(), **self._rotary()}
        return {**own, "tie_word_embeddings": self.tied}

    def _windows(self) -> dict[str, Any]:
        """Which layers see a window, and the scale of scores that goes with it in Gemma's configs."""
        if not self.row.pattern:
            return {}
        kinds = ("full_attention", "sliding_attention")
        return {
            "query_pre_attn_scalar": self.head_dim if self.attention_scale is None else self.hidden // self.heads,
            "sliding_window": self.window or None,
            "sliding_window_pattern": self.pattern or 1,
            "layer_types": [kinds[self.slides(layer)] for layer in range(self.layers)],
        }

    def _rotary(self) -> dict[str, Any]:
        """The rotary embedding by the older keys, which both libraries read; Ministral's has only the newer one."""
        scaling: dict[str, Any] = {"rope_type": self.rope_scaling, "type": self.rope_scaling}
        if self.rope_scaling != "none":
            scaling["factor"] = self.rope_factor
        if self.yarn is not None:
            scaling |= {"beta_fast": self.yarn.beta_fast, "beta_slow": self.yarn.beta_slow}
            scaling |= {"mscale": 1.0, "mscale_all_dim": self.yarn.mscale}
        if self.row.temperature:
            kind = "default" if self.rope_scaling == "none" else self.rope_scaling
            scaling |= {"rope_type": kind, "type": kind, "rope_theta": self.rope_base}
            scaling["original_max_position_embeddings"] = self.first_context
            return {"rope_parameters": {**scaling, "llama_4_scaling_beta": self.temperature}}
        keys: dict[str, Any] = {"rope_theta": self.rope_base}
        if self.rope_scaling != "none":
            keys["rope_scaling"] = scaling
        if self.window_rope_base:
            keys["rope_local_base_freq"] = self.window_rope_base
        if self.rope_dim != self.head_dim:
            keys["partial_rotary_factor"] = self.rope_dim / self.head_dim
        return keys


def shape_of_file(file: GgufFile) -> ModelConfig:
    """The shape that the metadata tells. Raises SgError for a key or a tensor that it cannot do without."""
    row = ARCHITECTURES[file.value("general.architecture")]
    meta = _Metadata(file, row.name)
    hidden, heads = meta.need("embedding_length"), meta.need("attention.head_count")
    if "token_embd.weight" not in file.tensors:
        raise SgError("token_embd.weight is missing.")
    head_dim = meta.value("attention.key_length", hidden // heads)
    scaling, factor = _scaling(meta)
    window, pattern = _window(meta, row)
    context = meta.need("context_length")
    first_context = meta.value("rope.scaling.original_context_length", context)
    return ModelConfig(
        architecture=row.name,
        hidden=hidden,
        layers=meta.need("block_count"),
        heads=heads,
        kv_heads=meta.value("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=meta.need("feed_forward_length"),
        vocab=file.tensors["token_embd.weight"].shape[0],
        context=context,
        norm_eps=meta.need("attention.layer_norm_rms_epsilon"),
        rope_base=meta.value("rope.freq_base", 10000.0),
        rope_dim=meta.value("rope.dimension_count", head_dim),
        rope_scaling=scaling,
        rope_factor=factor,
        rope_factors=ROPE_FACTORS in file.tensors,
        tied="output.weight" not in file.tensors,
        extra={key: meta.need(name) for key, name in row.settings.items()}
        | {key: meta.value(key, default) or None for key, default in row.caps.items()},
        window=window,
        pattern=pattern,
        window_rope_base=meta.value("rope.freq_base_swa", row.window_rope_base) if row.window_rope_base else 0.0,
        yarn=_yarn(meta) if scaling == "yarn" else None,
        temperature=meta.value("attention.temperature_scale", 0.0) if row.temperature else 0.0,
        first_context=first_context,
    )


@dataclass(frozen=True)
class _Metadata:
    """A file's metadata by keys without the architecture's name."""

    file: GgufFile
    architecture: str

    def value(self, key: str, default: Any = None) -> Any:
        return self.file.value(f"{self.architecture}.{key}", default)

    def need(self, key: str) -> Any:
        if not self.value(key):
            raise SgError(f"the metadata key {self.architecture}.{key} is missing.")
        return self.value(key)


def _scaling(meta: _Metadata) -> tuple[str, float]:
    """How rotary positions are scaled, and by what. As in llama.cpp a factor without a type is a linear one."""
    factor = meta.value("rope.scaling.factor", meta.value("rope.scale_linear", 0.0)) or 1.0
    kind = meta.value("rope.scaling.type", "none" if factor == 1.0 else "linear")
    return kind, factor


def _yarn(meta: _Metadata) -> Yarn:
    if meta.value("rope.scaling.attn_factor", 1.0) != 1.0:
        raise SgError(f"its {meta.architecture}.rope.scaling.attn_factor is not 1, which no trainer here computes.")
    return Yarn(
        meta.value("rope.scaling.yarn_beta_fast", 32.0),
        meta.value("rope.scaling.yarn_beta_slow", 1.0),
        meta.value("rope.scaling.yarn_log_multiplier", 0.0),
    )


def _window(meta: _Metadata, row: Architecture) -> tuple[int, int]:
    """The length of the windows, and after how many layers one sees all; zeros where none has a window."""
    if not row.pattern:
        return 0, 0
    window = meta.value("attention.sliding_window", row.window)
    told = meta.value("attention.sliding_window_pattern", row.pattern)
    # llama.cpp: with a pattern of 0 every layer has a window.
    pattern = _pattern_of(told) if isinstance(told, list) else int(told) or meta.need("block_count") + 1
    return (int(window), pattern) if window and pattern > 1 else (0, 0)


def _pattern_of(kinds: Sequence[bool]) -> int:
    """The pattern of layers that are told one by one. Raises SgError where they follow none."""
    for pattern in range(1, len(kinds) + 2):
        if all(bool(kind) == (layer % pattern < pattern - 1) for layer, kind in enumerate(kinds)):
            return pattern
    raise SgError("its layers with a window follow no pattern, which is not handled.")
