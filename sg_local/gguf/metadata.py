"""What a GGUF's metadata may say: refuses, by the key's name, what would end the process in llama.cpp or mislead us.

llama.cpp asserts on some values (no layers or too many, an epsilon that is no number, experts of which none is used)
and reads past the end of token scores that are too few. Here is also how much a header may ask of us: no more memory
than the file's size, besides the bytes themselves, and few enough entries to be read in a second or two. What a model
needs and lacks is for `config` to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.gguf.reader import Field, GgufFile

STRING, BOOL = 8, 7
MAX_FIELDS, MAX_TENSORS = 1 << 13, 1 << 16  # hundreds and thousands are what models have
MAX_VALUES = 1 << 22  # in arrays: Gemma, the largest, has 262k tokens with scores and types, and 514k merges
MAX_BYTES = 1 << 28  # of one entry: Gemma's merges take 8 MB
MAX_LAYERS = MAX_EXPERTS = 512  # llama.cpp: LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS
FIELD_BYTES, TENSOR_BYTES = 13, 24  # the least that an entry takes in the file
STRING_MEMORY, NUMBER_MEMORY = 60, 36  # what Python takes for a short text or a number in a list
LEAST_MEMORY = 32 << 20  # what any file may ask for

_HINT = "The file is damaged, or was written wrongly: fetch it again, or use another one."
_TEXTS = (
    *("general.architecture", "general.type", "general.name", "general.license", "adapter.type"),
    *("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template", "{}.rope.scaling.type"),
)
_ONE_FOR_ALL = ("block_count", "context_length", "embedding_length", "rope.freq_base")
"""Numbers of the architecture that never differ between layers; others may be lists."""

_SETTINGS = (
    *("attention.sliding_window", "attention.temperature_scale", "attn_logit_softcapping", "final_logit_softcapping"),
    *("rope.freq_base_swa", "rope.scaling.attn_factor", "rope.scaling.original_context_length", "rope.scale_linear"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_log_multiplier"),
)
"""Numbers of some architectures alone, any finite one."""


class Allowance:
    """What is left of the memory and the entries that a header may ask for. Methods raise SgError beyond it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._memory, self._values = max(size, LEAST_MEMORY), MAX_VALUES

    def counts(self, n_tensors: int, n_fields: int) -> None:
        """Tensors and metadata entries that the header announces."""
        if n_tensors * TENSOR_BYTES + n_fields * FIELD_BYTES > self.size:
            what = f"its header announces {n_fields} metadata entries and {n_tensors} tensors"
            raise SgError(f"{self.path} is damaged or cut off: {what}.", _HINT)
        if n_fields > MAX_FIELDS or n_tensors > MAX_TENSORS:
            raise SgError(f"{self.path} has {n_fields} metadata entries and {n_tensors} tensors: too many.", _HINT)

    def array(self, element: int, count: int) -> None:
        """An array of metadata, before it is read."""
        self._values -= count
        self._memory -= count * (STRING_MEMORY if element == STRING else NUMBER_MEMORY)
        if self._values < 0 or self._memory < 0:
            raise SgError(f"{self.path} has an array of {count} values in its metadata: too many to read.", _HINT)

    def entry(self, n_bytes: int) -> None:
        """A whole entry, before it is copied."""
        if n_bytes > MAX_BYTES:
            raise SgError(f"{self.path} has an entry of {n_bytes} bytes in its metadata: too long to read.", _HINT)


def check_kinds(path: Path, fields: Mapping[str, Field]) -> None:
    """Raise SgError for a key of another type than it must have: a text, a number, a list of numbers by layer."""
    own = _architecture(fields)
    texts, numbers = {name.format(own) for name in _TEXTS}, _numbers(own)
    single = {f"{own}.{name}" for name in _ONE_FOR_ALL}
    for key in (name for name in fields if name in texts or name in numbers):
        field = fields[key]
        if key in texts and (field.type != STRING or field.element is not None):
            raise SgError(f"{path}: {key} is not a text.", _HINT)
        may_be_list = key.startswith(f"{own}.") and key not in single
        if key in numbers and not (_is_list(field) if may_be_list and field.element is not None else _is_one(field)):
            raise SgError(f"{path}: {key} is not a number.", _HINT)


def check_values(file: GgufFile) -> None:
    """Raise SgError for the first value that no model can have."""
    for key, rule in _numbers(_architecture(file.fields)).items():
        field = file.fields.get(key)
        value = None if field is None or field.element is not None else field.value()
        if value is not None and not rule.holds(value):
            raise SgError(f"{file.path}: {key} is {value}; it must be {rule.words}.", _HINT)
    for check in (_check_finite, _check_heads, _check_experts, _check_tokens):
        what = check(file)
        if what:
            raise SgError(f"{file.path}: {what}.", _HINT)


@dataclass(frozen=True)
class Rule:
    """What a number must be, for us and in words."""

    words: str
    holds: Callable[[Any], bool]


def _whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low} to {high}", lambda value: isinstance(value, int) and low <= value <= high)


_POSITIVE = Rule("a number above 0", lambda value: math.isfinite(value) and value > 0)
_NOT_NEGATIVE = Rule("a number from 0 on", lambda value: math.isfinite(value) and value >= 0)
_POWER = Rule("a power of two", lambda value: isinstance(value, int) and value > 0 and value & (value - 1) == 0)
_FINITE = Rule("a finite number", math.isfinite)
_COUNT, _ANY = _whole(1, 2**31 - 1), Rule("a number", lambda value: True)


def _numbers(architecture: str) -> dict[str, Rule]:
    """The keys that must hold one number."""
    own = {
        "block_count": _whole(1, MAX_LAYERS),
        "context_length": _whole(1, 2**32 - 1),
        "embedding_length": _COUNT,
        "attention.head_count": _ANY,
        "attention.head_count_kv": _ANY,
        "feed_forward_length": _ANY,
        "attention.key_length": _COUNT,
        "attention.value_length": _COUNT,
        "rope.dimension_count": _whole(0, 2**31 - 1),
        "attention.layer_norm_rms_epsilon": _POSITIVE,
        "attention.layer_norm_epsilon": _POSITIVE,
        "rope.freq_base": _POSITIVE,
        "rope.scaling.factor": _NOT_NEGATIVE,
        "expert_count": _whole(0, MAX_EXPERTS),
        "expert_used_count": _whole(0, MAX_EXPERTS),
    }
    own |= dict.fromkeys(_SETTINGS, _FINITE)
    ids = {f"tokenizer.ggml.{name}_token_id": _ANY for name in ("bos", "eos", "unknown", "padding")}
    general = {"general.alignment": _POWER, "general.file_type": _ANY, "split.count": _whole(0, 2**16)}
    return {
        **{f"{architecture}.{key}": rule for key, rule in own.items()},
        **ids,
        **general,
        "adapter.lora.alpha": _FINITE,
    }


def _architecture(fields: Mapping[str, Field]) -> str:
    field = fields.get("general.architecture")
    return "" if field is None or field.type != STRING else str(field.value())


def _is_one(field: Field) -> bool:
    return field.element is None and field.type not in (STRING, BOOL)


def _is_list(field: Field) -> bool:
    return field.element not in (STRING, BOOL)


def _check_finite(file: GgufFile) -> str:
    """Every setting of the architecture that is a number is a finite one."""
    own = f"{_architecture(file.fields)}."
    for key, field in file.fields.items():
        value = field.value() if key.startswith(own) and field.element is None else None
        if isinstance(value, float) and not math.isfinite(value):
            return f"{key} is {value}"
    return ""


def _check_heads(file: GgufFile) -> str:
    """The heads share the width, the key-value heads the heads; models with a recurrent state have neither."""
    own = _architecture(file.fields)
    if f"{own}.ssm.state_size" in file.fields or f"{own}.wkv.head_size" in file.fields:
        return ""
    names = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
    heads, kv_heads, ffn = (_scalar(file, f"{own}.{name}") for name in names)
    width = _scalar(file, f"{own}.embedding_length")
    for name, value in zip(names, (heads, kv_heads, ffn), strict=True):
        if value is not None and not (isinstance(value, int) and 0 < value < 2**31):
            return f"{own}.{name} is {value}"
    if heads and width and f"{own}.attention.key_length" not in file.fields and width % heads:
        return f"{heads} attention heads do not divide a width of {width}"
    if heads and kv_heads and heads % kv_heads:
        return f"{kv_heads} key-value heads do not divide {heads} heads"
    return ""


def _check_experts(file: GgufFile) -> str:
    own = _architecture(file.fields)
    names = [f"{own}.{name}" for name in ("expert_count", "expert_used_count")]
    if any(name in file.fields and file.fields[name].element is not None for name in names):
        return ""  # by layer
    n, used = (_scalar(file, name) or 0 for name in names)
    if (n or used) and not 0 < used <= n:
        return f"{used} of {n} experts are used ({own}.expert_used_count)"
    return ""


def _check_tokens(file: GgufFile) -> str:
    """Tokens, their scores and their types are lists of one length."""
    tokens = file.fields.get("tokenizer.ggml.tokens")
    if tokens is None:
        return ""
    texts = (file.fields.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
    wrong = next((field for field in texts if field is not None and field.element != STRING), None)
    if wrong is not None:
        return f"{wrong.key} is not a list of texts"
    for name in ("scores", "token_type"):
        field = file.fields.get(f"tokenizer.ggml.{name}")
        if field is not None and (field.element in (None, STRING) or field.count != tokens.count):
            return f"tokenizer.ggml.{name} is not a list of {tokens.count} numbers, one for each token"
    return ""


def _scalar(file: GgufFile, key: str) -> Any:
    field = file.fields.get(key)
    return None if field is None or field.element is not None else field.value()
