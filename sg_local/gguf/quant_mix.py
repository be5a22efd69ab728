"""Which type each tensor of a file gets: llama.cpp's own mixes for whole-file types.

The rules are those of llama.cpp's quantiser for dense models (src/llama-quant.cpp): matrices alone are quantised; the
head gets Q6_K (Q8_0 where rows do not divide by 256); in Q4_K_M and Q5_K_M about half of the architecture's heavy
matrices (value and down) get Q6_K; a K type that does not divide a row falls back to a 32-weight type of about its
size. Types whose names end in `_imat` are mixed as llama.cpp does with an importance matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

from sg_local.gguf.architecture import Architecture
from sg_local.gguf.reader import Tensor
from sg_local.gguf.types import TYPES

EXPORT_TYPES = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
IMPORTANCE = "_imat"
"""Behind a type's name: encoded with an importance matrix."""
WEIGHTED_TYPES = tuple(type + IMPORTANCE for type in ("Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M"))
_MAIN = {"F16": "F16", "Q8_0": "Q8_0", "Q6_K": "Q6_K", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q4_0": "Q4_0"}
_MAIN |= {"IQ4_XS": "IQ4_XS", "Q3_K_M": "Q3_K"}
_FALLBACKS = {"Q3_K": "Q4_0", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def mix(tensors: Mapping[str, Tensor], file_type: str, row: Architecture) -> dict[str, str]:
    """The type of each tensor, by name, in a file of one of EXPORT_TYPES, or of a weighted type's plain name."""
    n_layers = 1 + max((_layer(name) for name in tensors), default=-1)
    tied = "output.weight" not in tensors
    types, sharing = {}, _sharing(tensors)
    for name, tensor in tensors.items():
        if not is_matrix(tensor):
            types[name] = tensor.type
            continue
        head = name == "output.weight" or (tied and name == "token_embd.weight")
        wanted = _of_head(file_type) if head else _of_block(name, file_type, row, (n_layers, sharing))
        types[name] = fitting(wanted, tensor.columns)
    return types


def fitting(type: str, columns: int) -> str:
    """`type`, or what llama.cpp falls back to where a row of `columns` does not divide into its blocks."""
    if columns % TYPES[type].block:
        type = _FALLBACKS.get(type, type)
    return type if columns % TYPES[type].block == 0 else "F16"


def plain_type(type: str) -> str:
    """A weighted type's name without its ending."""
    return type.removesuffix(IMPORTANCE)


def is_matrix(tensor: Tensor) -> bool:
    """Whether llama.cpp would quantise the tensor at all: norms and vectors stay as they are."""
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight") and "_norm." not in tensor.name


def bits(type: str) -> float:
    """Bits per weight."""
    return 8 * TYPES[type].block_bytes / TYPES[type].block


def _of_head(file_type: str) -> str:
    main = _MAIN[file_type]
    return main if main in ("F16", "Q8_0") else "Q6_K"


def _of_block(name: str, file_type: str, row: Architecture, shape: tuple[int, int]) -> str:
    """`shape`: how many layers there are, and how many query heads share a value head."""
    n_layers, sharing = shape
    if file_type == "Q3_K_M":
        return _of_q3_k_m(name, n_layers)
    if file_type == "IQ4_XS" and ".attn_v." in name and sharing >= 4:
        return "Q5_K"
    heavy = any(matrix.heavy and f".{matrix.stem}." in name for matrix in row.matrices)
    if file_type.endswith("_M") and heavy and _more_bits(_layer(name), n_layers):
        return "Q6_K"
    return _MAIN[file_type]


def _of_q3_k_m(name: str, n_layers: int) -> str:
    """Value, down, output and fused matrices get more bits; the first of value and down still more."""
    layer, stem = _layer(name), name.split(".")[2] if name.startswith("blk.") else ""
    first = {"attn_v": 2, "ffn_down": n_layers // 16}.get(stem, 0)
    if layer < first and stem:
        return "Q5_K"
    return "Q4_K" if stem in ("attn_v", "ffn_down", "attn_output", "attn_qkv") else "Q3_K"


def _sharing(tensors: Mapping[str, Tensor]) -> int:
    """How many query heads share a value head; 1 where their matrices are one."""
    value, output = (tensors.get(f"blk.0.{stem}.weight") for stem in ("attn_v", "attn_output"))
    return output.columns // value.rows if value is not None and output is not None else 1


def _more_bits(layer: int, n_layers: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth, and every third layer between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _layer(name: str) -> int:
    return int(name.split(".")[1]) if name.startswith("blk.") else -1
