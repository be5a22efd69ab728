"""GGUF files: read, check, decode, merge, write as a stream; adapter GGUFs; provenance; the retained-delta measure."""

from sg_local.gguf.adapter import LoraAdapter, Pair, check_adapter, read_adapter, write_adapter
from sg_local.gguf.architecture import ENDS, HEAD_NORMS, ROPE_FACTORS, Architecture, Matrix
from sg_local.gguf.architectures import ARCHITECTURES, REFUSED
from sg_local.gguf.config import (
    GgufInfo,
    check_model,
    check_trainable,
    info_of,
    read_config,
    why_not_trainable,
)
from sg_local.gguf.layout import rows_to_gguf, rows_to_hf
from sg_local.gguf.merge import SAMPLE_WEIGHTS, MergeSettings, Weighed, copy_with_fields, merge, plan_merge, weigh
from sg_local.gguf.provenance import FACTS, PREFIX, Origin, adopt, shown_facts
from sg_local.gguf.quant_grid import GRIDS, Measure, Retained, add_on_grid
from sg_local.gguf.quant_mix import EXPORT_TYPES, IMPORTANCE, WEIGHTED_TYPES, bits, fitting, is_matrix, mix, plain_type
from sg_local.gguf.quants import decodes, dequantize, ggml, quantize
from sg_local.gguf.reader import Field, GgufFile, Tensor
from sg_local.gguf.shape import ModelConfig, Yarn
from sg_local.gguf.stored import StoredRows
from sg_local.gguf.types import FILE_TYPE_NAMES, FILE_TYPES, FLOATS, TYPES, TensorType
from sg_local.gguf.writer import FilePlan, TensorPlan, pack_field, pack_fields, stream_gguf, write_gguf

__all__ = [
    "ARCHITECTURES",
    "ENDS",
    "REFUSED",
    "ROPE_FACTORS",
    "Architecture",
    "Matrix",
    "EXPORT_TYPES",
    "FACTS",
    "FILE_TYPES",
    "FILE_TYPE_NAMES",
    "FLOATS",
    "GRIDS",
    "HEAD_NORMS",
    "IMPORTANCE",
    "PREFIX",
    "SAMPLE_WEIGHTS",
    "TYPES",
    "WEIGHTED_TYPES",
    "Field",
    "FilePlan",
    "GgufFile",
    "GgufInfo",
    "LoraAdapter",
    "Measure",
    "MergeSettings",
    "ModelConfig",
    "Origin",
    "Pair",
    "Retained",
    "StoredRows",
    "Tensor",
    "TensorPlan",
    "TensorType",
    "Weighed",
    "Yarn",
    "add_on_grid",
    "adopt",
    "bits",
    "check_adapter",
    "check_model",
    "check_trainable",
    "copy_with_fields",
    "decodes",
    "dequantize",
    "fitting",
    "ggml",
    "info_of",
    "is_matrix",
    "merge",
    "mix",
    "pack_field",
    "pack_fields",
    "plain_type",
    "plan_merge",
    "quantize",
    "read_adapter",
    "read_config",
    "rows_to_gguf",
    "rows_to_hf",
    "shown_facts",
    "stream_gguf",
    "weigh",
    "why_not_trainable",
    "write_adapter",
    "write_gguf",
]
