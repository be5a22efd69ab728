"""Whether a model's file can be used, trained and merged into, and if not, why, in one sentence.

`check_model` refuses what no engine here can open; `check_trainable` also refuses what the trainers and the merge
cannot handle, before any work is done. Trainers handle the dense models of `architectures`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sg_local.gguf.architecture import LONG_FACTORS, Architecture
from sg_local.gguf.architectures import ARCHITECTURES, why_unknown
from sg_local.gguf.reader import GgufFile, Tensor
from sg_local.gguf.shape import ModelConfig, shape_of_file
from sg_local.gguf.types import FILE_TYPE_NAMES
from sg_local.records import SgError

TRAINABLE_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
BY_LAYER = (
    *("feed_forward_length", "attention.head_count", "attention.head_count_kv", "attention.key_length"),
    *("attention.layer_norm_rms_epsilon", "rope.dimension_count", "rope.scaling.factor"),
    *("attention.sliding_window", "attention.temperature_scale", "rope.freq_base_swa"),
)
"""What llama.cpp lets differ between layers, and the trainers do not."""
LONGROPE = "longrope"
_SUPPORTED = "sg-local trains dense models of these architectures: {}.".format(
    "; ".join(f"{row.name} ({row.models})" for row in ARCHITECTURES.values() if not row.refused)
)


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
        return shape_of_file(file)


def read_config(path: Path) -> ModelConfig:
    """The model's shape for a trainer: `check_trainable` by another name, since no unfit file may reach one."""
    return check_trainable(path)


def why_not_architecture(architecture: str) -> str:
    """One sentence on why no file of an architecture can be trained on, or an empty string."""
    row = ARCHITECTURES.get(architecture)
    return why_unknown(architecture) if row is None else row.refused


def why_not_scaling(name: str) -> str:
    """One sentence on why no model with a rotary scaling of this name can be trained, or an empty string."""
    if name != LONGROPE:
        return ""
    return "its rotary scaling is longrope, and llama.cpp picks its factors by the size of the whole context."


def why_not_trainable(file: GgufFile) -> str:
    """One sentence on why a file cannot be trained on, or an empty string."""
    architecture = file.value("general.architecture", "")
    reason = why_not_architecture(architecture)
    if reason:
        return reason
    row = ARCHITECTURES[architecture]
    unfit = (_unfit_tensor(row, tensor) for tensor in file.tensors.values())
    return _unfit_metadata(file, row) or next(filter(None, unfit), "") or _misshapen(file, row)


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


def _unfit_metadata(file: GgufFile, row: Architecture) -> str:
    experts = file.value(f"{row.name}.expert_count", 0)
    if experts:
        return f"it is a mixture of experts ({row.name}.expert_count is {experts})."
    for key in (*BY_LAYER, *row.settings.values(), *row.caps):
        field = file.fields.get(f"{row.name}.{key}")
        if field is not None and field.element is not None:
            return f"{row.name}.{key} differs between layers."
    scaling = file.value(f"{row.name}.rope.scaling.type", "none")
    if scaling == LONGROPE or any(name in file.tensors for name in LONG_FACTORS):
        return why_not_scaling(LONGROPE)
    told = {key: file.value(f"{row.name}.{key}", usual) for key, usual in row.fixed.items()}
    other = next((key for key, value in told.items() if value != row.fixed[key]), None)
    return "" if other is None else f"its {row.name}.{other} is {told[other]}, which no trainer here computes."


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
        config = shape_of_file(file)
    except SgError as error:
        return error.message
    if len(file.tensors["token_embd.weight"].shape) != 2:
        return "token_embd.weight is not a matrix."
    if config.rope_scaling not in row.rope_scalings:
        handled = f"handled for {row.name} are {', '.join(row.rope_scalings)} and Llama 3's factors"
        return f"its rotary scaling is {config.rope_scaling}; {handled}."
    if config.rope_dim != config.head_dim and not row.rotates_part:
        return f"it rotates {config.rope_dim} of each head's {config.head_dim} numbers."
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
