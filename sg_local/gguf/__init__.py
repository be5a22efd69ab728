"""GGUF files: read, check, decode, merge and write them as a stream; adapter GGUFs; the retained-delta measure."""

from sg_local.gguf.quants import dequantize, quantize
from sg_local.gguf.reader import Field, GgufFile, Tensor
from sg_local.gguf.types import FILE_TYPE_NAMES, FILE_TYPES, TYPES, TensorType

__all__ = [
    "FILE_TYPES",
    "FILE_TYPE_NAMES",
    "TYPES",
    "Field",
    "GgufFile",
    "Tensor",
    "TensorType",
    "dequantize",
    "quantize",
]
