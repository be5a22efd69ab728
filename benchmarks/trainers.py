"""The trainers that train.py measures, each as a function that takes one optimiser step: ours, and the libraries'."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from sg_local.backends import TrainSettings, machine
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine
from sg_local.backends.torch.model import load_base
from sg_local.backends.torch.output import peft_tensors
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.backends.training.loop import StepPlan
from sg_local.backends.training.lora import adapted_layers
from sg_local.records import TokenExample

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CPU = torch.device("cpu")
MLX_LM_PAD = 32  # mlx_lm.tuner.trainer pads rows to multiples of this, and one more

Step = Callable[[StepPlan], float]


def ours(
    model: Path, rows: Sequence[TokenExample], settings: TrainSettings, dtype: torch.dtype = torch.float32
) -> Step:
    """One optimiser step of our trainer."""
    base = load_base(model, CPU, dtype)
    lora = TorchLora(base, settings)
    engine = TorchEngine(base, lora, TrainJob(rows, [], Path(), settings, "", "torch"))
    engine.start()
    return lambda plan: engine.step(plan).loss


def ours_bf16(model: Path, rows: Sequence[TokenExample], settings: TrainSettings) -> Step | None:
    """One optimiser step of our trainer with `train.precision=bf16`, None where the processor does not multiply it."""
    return ours(model, rows, settings, torch.bfloat16) if machine.multiplies_bf16() else None


def plain(model: Path, rows: Sequence[TokenExample], settings: TrainSettings) -> Step:
    """One optimiser step as the libraries' own examples have it: padded rows, labels, model(...).loss, AdamW."""
    base = load_base(model, CPU, torch.float32)
    lora = TorchLora(base, settings)
    lora.start()
    first = peft_tensors(base, lora)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layers = list(adapted_layers(base.shape.layers, settings))
        config = LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules=LINEAR, layers_to_transform=layers
        )
        network = get_peft_model(base.model, config).train()
    for name, value in first.items():
        network.get_parameter(name.replace(".weight", ".default.weight")).data.copy_(value)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)

    def step(plan: StepPlan) -> float:
        optimiser.zero_grad()
        loss = network(**padded(plan.batches[0])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        optimiser.param_groups[0]["lr"] = plan.lr
        optimiser.step()
        return loss.item()

    return step


def padded(rows: Sequence[TokenExample]) -> dict[str, torch.Tensor]:
    """Rows as rectangles: ids, attention mask, and labels of -100 outside the answers."""
    width = max(len(row.tokens) for row in rows)
    ids, mask, labels = (torch.full((len(rows), width), fill) for fill in (0, 0, -100))
    for i, row in enumerate(rows):
        n = len(row.tokens)
        ids[i, :n], mask[i, :n] = torch.tensor(row.tokens), 1
        labels[i, row.n_prompt : n] = torch.tensor(row.tokens[row.n_prompt :])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def ours_mlx(model: Path, rows: Sequence[TokenExample], settings: TrainSettings) -> Step | None:
    """One optimiser step of our MLX trainer, or None where mlx is missing."""
    if not has_mlx():
        return None
    from sg_local.backends.mlx.adapter import LoraShape
    from sg_local.backends.mlx.adapter import MlxLora as MlxLora
    from sg_local.backends.mlx.trainer import MlxEngine
    from sg_local.backends.mlx.weights import load_model

    network = load_model(model, keep_quantised=False)
    lora = MlxLora(network, LoraShape(range(len(network.layers)), settings.rank, settings.alpha))
    engine = MlxEngine(lora, settings, recompute=False)
    engine.start()
    return lambda plan: engine.step(plan).loss


def has_mlx() -> bool:
    """Whether MLX and mlx_lm are installed; MLX is then imported on the CPU, after OpenBLAS."""
    if find_spec("mlx") is None or find_spec("mlx_lm") is None:
        return False
    from sg_local.backends.mlx import blas

    blas.prefer_openblas()
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    return True


def blas_note() -> str | None:
    """Which BLAS serves MLX, None without MLX."""
    from sg_local.backends.mlx import blas

    return blas.prefer_openblas() if has_mlx() else None


def mlx_lm_lora(model: Path, rows: Sequence[TokenExample], settings: TrainSettings) -> Step | None:
    """One optimiser step of mlx_lm's trainer (its loss and LoRA layers), or None where mlx is missing."""
    if not has_mlx():
        return None
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx import nn
    from mlx_lm.tuner.trainer import default_loss
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from sg_local.backends.mlx.weights import load_model

    network = load_model(model, keep_quantised=False)
    network.freeze()
    scale = settings.alpha / settings.rank
    keys = [f"{'self_attn' if name in LINEAR[:4] else 'mlp'}.{name}" for name in LINEAR]
    config = {"rank": settings.rank, "scale": scale, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(network, len(network.layers), config)
    optimiser = optim.AdamW(settings.lr, bias_correction=True)
    compute = nn.value_and_grad(network, default_loss)
    state = [network.state, optimiser.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)  # mlx_lm compiles its step as well
    def update(ids: mx.array, spans: mx.array) -> mx.array:
        (loss, _), gradient = compute(network, ids, spans)
        gradient, _ = optim.clip_grad_norm(gradient, settings.max_grad_norm)
        optimiser.update(network, gradient)
        return loss

    def step(plan: StepPlan) -> float:
        batch = plan.batches[0]
        ids = padded(batch)["input_ids"].numpy()
        ids = np.pad(ids, ((0, 0), (0, 1 + -ids.shape[1] % MLX_LM_PAD)))
        spans = np.array([[row.n_prompt, len(row.tokens)] for row in batch])
        optimiser.learning_rate = mx.array(plan.lr)
        loss = update(mx.array(ids), mx.array(spans))
        mx.eval(state, loss)
        return loss.item()

    return step


SYSTEMS = {"ours": ours, "plain": plain, "ours_bf16": ours_bf16, "ours_mlx": ours_mlx, "mlx_lm": mlx_lm_lora}
