"""The content of a model folder: the merged model as transformers and mlx-lm load it, and a peft adapter.

Weights are float16, in Hugging Face's row order, streamed from the base GGUF a slab at a time; mlx-lm reads the same
form, and its `mlx_lm.convert -q` makes a small model of it. A quantised base comes out dequantised, so that what is
merged meets no grid to be lost on. Not covered: tokenizers that `tokenizer` refuses, and what mlx-lm leaves out of
Gemma: the window of Gemma 2's layers, the caps of Gemma 3's logits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sg_local.export.safetensors import SafeTensor, size_bytes, write_safetensors
from sg_local.export.tokenizer import check_tokenizer, tokenizer_config, tokenizer_json
from sg_local.gguf import (
    ARCHITECTURES,
    ROPE_FACTORS,
    Architecture,
    GgufFile,
    LoraAdapter,
    Measure,
    ModelConfig,
    Retained,
    Tensor,
    read_config,
    rows_to_hf,
)
from sg_local.records import SgError

WEIGHTS, PROVENANCE, PEFT = "model.safetensors", "sg_local.json", "adapter"
SLAB_BYTES = 32 << 20  # float32 bytes at a time, as in gguf.GgufFile.slabs
# Llama 3.1's rotary scaling: its published config; GGUF keeps the factors that follow from these and one more.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True)
class FolderPlan:
    """What goes into a folder. `provenance` is plain data; `peft` adds the adapter in peft's form; `ends` are the
    tokens that end an answer, where they are more than the file's end of sequence.
    """

    source: Path
    adapter: LoraAdapter
    chat_template: str | None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    peft: bool = False
    base_name: str = ""
    ends: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The weights' size on the disk, about that of the folder."""
        with GgufFile(self.source) as file:
            tensors = _tensors(file, ARCHITECTURES[file.value("general.architecture")])
        pairs = self.adapter.pairs.values() if self.peft else ()
        return size_bytes(tensors) + sum(a.nbytes + b.nbytes for a, b in pairs)


def check_source(source: Path) -> None:
    """Raise SgError for a model that has no such folder: its rotary embedding, its tokenizer."""
    config = read_config(source)
    with GgufFile(source) as file:
        model_config(file, config)
        check_tokenizer(file)


def write_folder(folder: Path, plan: FolderPlan, on_bytes: Callable[[int], None]) -> list[Retained]:
    """Fill an empty folder; the retained share of every touched tensor, in file order."""
    shape = read_config(plan.source)
    with GgufFile(plan.source) as file:
        texts = {
            "config.json": model_config(file, shape),
            "generation_config.json": _generation(file, plan.ends),
            "tokenizer.json": tokenizer_json(file),
            "tokenizer_config.json": tokenizer_config(file, plan.chat_template),
        }
        retained = _write_weights(folder / WEIGHTS, file, plan.adapter, shape, on_bytes)
    for name, data in texts.items():
        _write_json(folder / name, data)
    if plan.peft:
        (folder / PEFT).mkdir()
        write_peft(folder / PEFT, plan.adapter, shape, plan.base_name)
    return retained


def write_note(folder: Path, data: Mapping[str, Any]) -> None:
    """Say in the folder where it came from: the mark by which it is known as ours."""
    _write_json(folder / PROVENANCE, data)


def model_config(file: GgufFile, shape: ModelConfig) -> dict[str, Any]:
    """config.json: the keys of transformers' config that mlx-lm reads too.

    Raises SgError for rotary factors that no config says.
    """
    return {
        "architectures": [shape.row.model_class],
        "model_type": shape.row.model_type,
        **shape.settings(),
        "torch_dtype": "float16",
        **({"rope_scaling": _llama3(file, shape)} if shape.rope_factors else {}),
        **_special_ids(file),
    }


def write_peft(folder: Path, adapter: LoraAdapter, shape: ModelConfig, base_name: str) -> None:
    """The adapter as peft reads it: B's rows of queries and keys in Hugging Face's order."""
    arrays = {}
    for name, (a, b) in adapter.pairs.items():
        heads = shape.rotary_heads(name)
        stem = f"base_model.model.{shape.row.module_name(name)}"
        arrays[f"{stem}.lora_A.weight"] = a
        arrays[f"{stem}.lora_B.weight"] = b if heads is None else rows_to_hf(b, heads)
    tensors = [SafeTensor(name, array.shape, "F32") for name, array in arrays.items()]
    write_safetensors(
        folder / "adapter_model.safetensors",
        tensors,
        lambda tensor: [np.ascontiguousarray(arrays[tensor.name], np.float32)],
    )
    _write_json(folder / "adapter_config.json", peft_config(adapter, base_name, shape.row))


def peft_config(adapter: LoraAdapter, base_name: str, row: Architecture) -> dict[str, Any]:
    """adapter_config.json. Modules are named in full, so that any choice of layers is said exactly."""
    modules = {row.module_name(name): pair[0].shape[0] for name, pair in adapter.pairs.items()}
    rank = next(iter(modules.values()))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": adapter.alpha,
        "rank_pattern": {module: other for module, other in modules.items() if other != rank},
        "lora_dropout": 0.0,
        "target_modules": list(modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _tensors(file: GgufFile, row: Architecture) -> list[SafeTensor]:
    return [SafeTensor(name, tensor.shape) for name, tensor in _written(file, row).items()]


def _written(file: GgufFile, row: Architecture) -> dict[str, Tensor]:
    """The tensors that a folder holds, by their names in it; rotary factors go into its config."""
    tensors = (tensor for tensor in file.tensors.values() if tensor.name != ROPE_FACTORS)
    return {f"{row.module_name(tensor.name)}.{tensor.name.rpartition('.')[2]}": tensor for tensor in tensors}


def _write_weights(
    path: Path, file: GgufFile, adapter: LoraAdapter, shape: ModelConfig, on_bytes: Callable[[int], None]
) -> list[Retained]:
    sources = _written(file, shape.row)
    retained: list[Retained] = []

    def chunks(target: SafeTensor) -> Iterator[np.ndarray]:
        tensor, measure = sources[target.name], Measure()
        for slab in _slabs(tensor, shape):
            old = file.dequantize(tensor.name, *slab)
            if offset := shape.row.offset_of(tensor.name):
                old = old - offset
            delta = adapter.delta(tensor.name, *slab) if tensor.name in adapter.pairs else None
            half = _half(tensor.name, old if delta is None else old + delta)
            if delta is not None:
                measure.add(old, half.astype(np.float32), delta)
            permuted = shape.rotary_heads(tensor.name) is not None
            yield rows_to_hf(half, half.shape[0] // shape.head_dim) if permuted else half
            on_bytes(half.nbytes)
        if tensor.name in adapter.pairs:
            retained.append(measure.result(tensor.name, "F16"))

    write_safetensors(path, _tensors(file, shape.row), chunks)
    return retained


def _slabs(tensor: Tensor, shape: ModelConfig) -> Iterator[tuple[int, int]]:
    """Row ranges of whole heads, of about SLAB_BYTES of float32 each."""
    step = max(1, SLAB_BYTES // (4 * tensor.columns * shape.head_dim)) * shape.head_dim
    for start in range(0, tensor.rows, step):
        yield start, min(start + step, tensor.rows)


def _half(name: str, weights: np.ndarray) -> np.ndarray:
    """Rows of a tensor in float16. Raises SgError for values beyond it."""
    with np.errstate(over="ignore"):
        half = weights.astype(np.float16)
    if not np.isfinite(half).all():
        raise SgError(f"{name} holds values beyond float16's range.", "Export GGUF files instead.")
    return half


def _special_ids(file: GgufFile) -> dict[str, int]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {key: file.value(f"tokenizer.ggml.{name}_token_id") for key, name in names.items()}
    return {key: number for key, number in found.items() if number is not None}


def _generation(file: GgufFile, ends: tuple[int, ...]) -> dict[str, Any]:
    """generation_config.json; both libraries stop at any of its ends of sequence."""
    ids: dict[str, Any] = _special_ids(file)
    every = list(dict.fromkeys([*ends, *([ids["eos_token_id"]] if "eos_token_id" in ids else [])]))
    return {**ids, **({"eos_token_id": every} if len(every) > 1 else {}), "do_sample": False}


def _llama3(file: GgufFile, shape: ModelConfig) -> dict[str, Any]:
    """The settings of Llama 3's rotary scaling whose factors the file holds."""
    held = file.dequantize(ROPE_FACTORS).reshape(-1)
    scaling = {"rope_type": "llama3", "factor": float(held.max()), **LLAMA3}
    if not np.allclose(_llama3_factors(shape, scaling), held, rtol=1e-3):
        message = f"{file.path} scales its rotary frequencies in a way that no folder's config says."
        raise SgError(message, "Export GGUF files.")
    return scaling


def _llama3_factors(shape: ModelConfig, scaling: Mapping[str, Any]) -> np.ndarray:
    """What each rotary frequency is divided by (Llama 3.1's reference code)."""
    low, high, context = (float(scaling[key]) for key in LLAMA3)
    lengths = 2 * np.pi * shape.rope_base ** (np.arange(0, shape.head_dim, 2) / shape.head_dim)
    smooth = np.clip((context / lengths - low) / (high - low), 0.0, 1.0)
    found: np.ndarray = 1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)
    return found


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
