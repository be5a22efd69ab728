"""A model's shape as its metadata tells it, and whether we can use it, train it and merge into it.

`check_model` refuses what no engine here can open; `check_trainable` also refuses what the trainers and the merge
cannot handle, before any work is done. Trainers handle the dense models of `architectures`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_local.gguf.architectures import ARCHITECTURES, CONFIG, ROPE_FACTORS, Architecture
from sg_local.gguf.reader import GgufFile, Tensor
from sg_local.gguf.types import FILE_TYPE_NAMES
from sg_local.records import SgError

TRAINABLE_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
BY_LAYER = (
    *("feed_forward_length", "attention.head_count", "attention.head_count_kv", "attention.key_length"),
    *("attention.layer_norm_rms_epsilon", "rope.dimension_count", "rope.scaling.factor"),
)
"""What llama.cpp lets differ between layers, and the trainers do not."""
_SUPPORTED = "sg-local trains dense models of these architectures: {}.".format(
    "; ".join(f"{row.name} ({row.models})" for row in ARCHITECTURES.values() if not row.refused)
)


@dataclass(frozen=True)
class ModelConfig:
    """What a trainer builds a network from. `tied`: the head is the embedding matrix.

    `rope_scaling` is `none` or `linear` (positions divided by `rope_factor`). With `rope_factors` the file holds
    rope_freqs.weight, by which llama.cpp divides each rotary frequency (Llama 3.1). `extra` holds the architecture's
    own settings, by transformers' names.
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

    @property
    def row(self) -> Architecture:
        """What is known of the model's architecture."""
        return ARCHITECTURES[self.architecture]

    @property
    def attention_scale(self) -> float | None:
        """What scores are multiplied by; None: 1 / sqrt(head_dim)."""
        return self.extra.get("attention_multiplier")

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied by."""
        return float(self.extra.get("embedding_multiplier", 1.0))

    @property
    def residual_scale(self) -> float:
        """What the outputs of attention and feed-forward are multiplied by before they are added."""
        return float(self.extra.get("residual_multiplier", 1.0))

    @property
    def logit_divisor(self) -> float:
        """What logits are divided by."""
        return float(self.extra.get("logits_scaling", 1.0))

    def shape_of(self, target: str) -> tuple[int, int]:
        """Rows and columns of one adapted matrix, such as `attn_k`."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.row.shape_of(target, {"hidden": self.hidden, "q": q, "kv": kv, "ffn": self.ffn})

    def rotary_heads(self, tensor: str) -> int | None:
        """The heads by which a tensor's rows are permuted between GGUF and transformers, or None."""
        return self.row.rotary_heads(tensor, self.heads, self.kv_heads)

    def settings(self) -> dict[str, Any]:
        """The config of transformers and mlx-lm, but for what depends on who reads it (rotary scaling, token ids)."""
        sizes = {key: getattr(self, name) for key, name in CONFIG.items()}
        return {**sizes, **self.row.constants, **self.extra, "tie_word_embeddings": self.tied}


@dataclass(frozen=True)
class GgufInfo:
    """A model file at a glance. `types` counts tensors by type; `cannot_train` is empty or says why not."""

    path: str
    name: str
    architecture: str
    file_type: str
    types: dict[str, int]
    n_tensors: int
    n_parameters: int
    size_bytes: int
    context: int
    chat_template: str | None
    cannot_train: str


def check_model(path: Path) -> GgufInfo:
    """What the file is. Raises SgError for anything that is not one whole, readable model."""
    with GgufFile(path) as file:
        return info_of(file)


def info_of(file: GgufFile) -> GgufInfo:
    """`check_model` on an open file."""
    _check_generates(file)
    architecture = file.value("general.architecture", "")
    return GgufInfo(
        path=str(file.path),
        name=file.value("general.name", file.path.stem),
        architecture=architecture,
        file_type=FILE_TYPE_NAMES.get(file.value("general.file_type", -1), "unknown"),
        types=dict(Counter(tensor.type for tensor in file.tensors.values())),
        n_tensors=len(file.tensors),
        n_parameters=sum(tensor.rows * tensor.columns for tensor in file.tensors.values()),
        size_bytes=file.size,
        context=file.value(f"{architecture}.context_length", 0),
        chat_template=file.value("tokenizer.chat_template"),
        cannot_train=why_not_trainable(file),
    )


def check_trainable(path: Path) -> ModelConfig:
    """The model's shape. Raises SgError for a file that cannot be trained on or merged into."""
    with GgufFile(path) as file:
        _check_generates(file)
        reason = why_not_trainable(file)
        if reason:
            raise SgError(f"{path} cannot be trained: {reason}", _SUPPORTED)
        return _config(file)


def read_config(path: Path) -> ModelConfig:
    """The model's shape for a trainer: `check_trainable` by another name, since no unfit file may reach one."""
    return check_trainable(path)


def why_not_architecture(architecture: str) -> str:
    """One sentence on why no file of an architecture can be trained on, or an empty string."""
    row = ARCHITECTURES.get(architecture)
    return f"its architecture is {architecture or 'not named'}." if row is None else row.refused


def why_not_trainable(file: GgufFile) -> str:
    """One sentence on why a file cannot be trained on, or an empty string."""
    architecture = file.value("general.architecture", "")
    reason = why_not_architecture(architecture)
    if reason:
        return reason
    row = ARCHITECTURES[architecture]
    unfit = next(filter(None, (_unfit_tensor(row, tensor) for tensor in file.tensors.values())), "")
    if unfit:
        return unfit
    for key in (*BY_LAYER, *row.settings.values()):
        field = file.fields.get(f"{row.name}.{key}")
        if field is not None and field.element is not None:
            return f"{row.name}.{key} differs between layers."
    scaling = file.value(f"{row.name}.rope.scaling.type", "none")
    if scaling not in row.rope_scalings:
        return f"its rotary scaling is {scaling}; none, linear and Llama 3's frequency factors are handled."
    return _misshapen(file, row)


def _check_generates(file: GgufFile) -> None:
    path, kind = file.path, file.value("general.type", "model")
    if file.value("split.count", 0) > 1:
        n_parts = file.value("split.count")
        hint = "Join the parts into one file with llama.cpp's `llama-gguf-split --merge`."
        raise SgError(f"{path} is one of {n_parts} parts of a split model.", hint)
    if kind != "model":
        raise SgError(f"{path} is a GGUF of type {kind!r}, not a model.", "Give the base model's GGUF here.")
    if not file.tensors or "tokenizer.ggml.tokens" not in file.fields:
        raise SgError(f"{path} holds no {'tokenizer' if file.tensors else 'weights'}.", "Give a whole model's GGUF.")


def _unfit_tensor(row: Architecture, tensor: Tensor) -> str:
    name = tensor.name
    if "_exps." in name or "ffn_gate_inp" in name or len(tensor.shape) > 2:
        return f"it is a mixture of experts (tensor {name})."
    if ".attn_qkv." in name and not row.knows(name):
        return f"its attention matrices are fused into one (tensor {name})."
    if tensor.type not in TRAINABLE_TYPES:
        return f"tensor {name} is of type {tensor.type}; handled are {', '.join(TRAINABLE_TYPES)}."
    if not row.knows(name):
        return f"it holds a tensor beyond the plain {row.name} architecture ({name})."
    return ""


def _misshapen(file: GgufFile, row: Architecture) -> str:
    """Check that the metadata and the tensors tell the same story."""
    try:
        config = _config(file)
    except SgError as error:
        return error.message
    if len(file.tensors["token_embd.weight"].shape) != 2:
        return "token_embd.weight is not a matrix."
    for layer in range(config.layers):
        for target in row.targets:
            name = f"blk.{layer}.{target}.weight"
            tensor = file.tensors.get(name)
            if tensor is None or tensor.shape != config.shape_of(target):
                found = "missing" if tensor is None else f"of shape {tensor.shape}"
                return f"{name} is {found}; its metadata promises {config.shape_of(target)}."
        absent = [name for name in row.vectors(layer) if name not in file.tensors]
        if absent:
            return f"{absent[0]} is missing."
    return ""


def _config(file: GgufFile) -> ModelConfig:
    """The shape that the metadata tells. Raises SgError for a key or a tensor that it cannot do without."""
    row = ARCHITECTURES[file.value("general.architecture")]

    def value(key: str, default: Any = None) -> Any:
        return file.value(f"{row.name}.{key}", default)

    def need(key: str) -> Any:
        if not value(key):
            raise SgError(f"the metadata key {row.name}.{key} is missing.")
        return value(key)

    hidden, heads = need("embedding_length"), need("attention.head_count")
    if "token_embd.weight" not in file.tensors:
        raise SgError("token_embd.weight is missing.")
    head_dim = value("attention.key_length", hidden // heads)
    return ModelConfig(
        architecture=row.name,
        hidden=hidden,
        layers=need("block_count"),
        heads=heads,
        kv_heads=value("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=need("feed_forward_length"),
        vocab=file.tensors["token_embd.weight"].shape[0],
        context=need("context_length"),
        norm_eps=need("attention.layer_norm_rms_epsilon"),
        rope_base=value("rope.freq_base", 10000.0),
        rope_dim=value("rope.dimension_count", head_dim),
        rope_scaling=value("rope.scaling.type", "none"),
        rope_factor=value("rope.scaling.factor", 1.0),
        rope_factors=ROPE_FACTORS in file.tensors,
        tied="output.weight" not in file.tensors,
        extra={key: need(name) for key, name in row.settings.items()},
    )
