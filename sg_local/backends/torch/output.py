"""What a finished job leaves: `adapter.gguf` for llama.cpp, and `peft/` for everything that reads peft's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.model import LoadedBase
from sg_local.backends.training.checkpoint import TrainJob, adapter_metadata
from sg_local.backends.training.lora import adapted_layers
from sg_local.files import artefact
from sg_local.gguf import GgufFile, Pair, rows_to_gguf, write_adapter

ADAPTER = "adapter.gguf"


def write_outputs(base: LoadedBase, adapter: TorchLora, job: TrainJob, model: Path) -> Path:
    """Write both forms into the job's folder, each under its name at once, and return the GGUF's path."""
    _write_peft(base, adapter, job, model)
    path = job.out / ADAPTER
    with GgufFile(model) as file:
        metadata = adapter_metadata(file, job)
    write_adapter(path, base.shape.architecture, gguf_pairs(base, adapter), job.settings.alpha, metadata)
    return path


def gguf_pairs(base: LoadedBase, adapter: TorchLora) -> dict[str, Pair]:
    """(A, B) by tensor name, B's rows in the base's order: queries and keys keep rotary pairs side by side."""
    pairs = {}
    for name, (a, b) in adapter.matrices().items():
        heads = base.shape.rotary_heads(name)
        rows = b.cpu().numpy()
        pairs[name] = (a.cpu().numpy(), rows if heads is None else rows_to_gguf(rows, heads))
    return pairs


def _write_peft(base: LoadedBase, adapter: TorchLora, job: TrainJob, model: Path) -> None:
    settings: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "base_model_name_or_path": model.name,
        "r": job.settings.rank,
        "lora_alpha": job.settings.alpha,
        "lora_dropout": job.settings.dropout,
        "target_modules": [module.rpartition(".")[2] for module in base.shape.row.modules],
        "layers_to_transform": list(adapted_layers(base.shape.layers, job.settings)),
    }
    config = LoraConfig(**settings)
    fields = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    text = json.dumps(fields, indent=2, sort_keys=True, default=str)
    with artefact(job.out / "peft") as partial:
        partial.mkdir()
        (partial / "adapter_config.json").write_text(text + "\n")
        save_file(peft_tensors(base, adapter), partial / "adapter_model.safetensors")


def peft_tensors(base: LoadedBase, adapter: TorchLora) -> dict[str, torch.Tensor]:
    """The adapter under peft's names."""
    pairs, tensors = adapter.matrices(), {}
    for block in base.blocks:
        for projection in block.projections:
            for name, module in zip(projection.names, projection.modules, strict=True):
                for letter, matrix in zip("AB", pairs.get(name, ()), strict=False):
                    key = f"base_model.model.model.layers.{block.index}.{module}.lora_{letter}.weight"
                    tensors[key] = matrix.cpu().clone()
    return tensors
