"""One training job from a base GGUF to an adapter: load, check, train, check, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from sg_local.backends import TrainSettings, machine
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine, give_back_memory, n_processes, rank
from sg_local.backends.torch.forward import logits
from sg_local.backends.torch.model import LoadedBase, load_base, slice_of
from sg_local.backends.torch.output import ADAPTER, write_outputs
from sg_local.backends.torch.packing import pack_tokens
from sg_local.backends.training.checkpoint import TrainJob, adapter_record
from sg_local.backends.training.holding import stored
from sg_local.backends.training.loop import run_loop
from sg_local.backends.training.lora import check_examples, check_settings
from sg_local.backends.training.memory import Place, check_fits
from sg_local.backends.training.parity import Logits, parity_gate
from sg_local.backends.training.precision import AUTO, check_precision, halves
from sg_local.files import file_digest
from sg_local.gguf import read_config
from sg_local.records import Adapter, TokenExample, TrainStep


def open_trainer(model: Path) -> TorchTrainer:
    """A trainer bound to one base GGUF. Raises SgError for a file that cannot be trained."""
    read_config(model)
    return TorchTrainer(model)


class TorchTrainer:
    """`backends.Trainer` on torch. Each `train` loads the base anew, so nothing is held between calls."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.note = f"torch on {placement_note()}"

    def train(
        self,
        examples: Sequence[TokenExample],
        valid: Sequence[TokenExample],
        out: Path,
        settings: TrainSettings,
        on_step: Callable[[TrainStep], None],
    ) -> Adapter:
        """Train, resuming from `out` where it holds a checkpoint of the same work; see backends.Trainer."""
        began = time.monotonic()
        check_settings(settings)
        check_precision(settings.precision, "torch")
        shape = read_config(self.model)
        check_examples(examples, shape.vocab)
        if valid:
            check_examples(valid, shape.vocab)
        way = check_fits(examples, settings, shape, place(self.model, settings.precision), valid)
        n_threads = settings.n_threads or max(1, machine.physical_cores() // n_processes())
        torch.set_num_threads(n_threads)
        base = load_base(self.model, *placement(settings.precision), as_blocks=way.blocks)
        adapter = TorchLora(base, settings)
        gate = parity_gate(self.model, out, examples, n_threads) if rank() == 0 else None
        if gate is not None:
            gate.check_base(self._logits_of(base, None))
        spent_s = time.monotonic() - began
        base_digest = file_digest(self.model) or ""
        job = TrainJob(examples, valid, out, settings, base_digest, "torch", spent_s, writes=gate is not None)
        progress = run_loop(TorchEngine(base, adapter, job, recompute=way.recomputed), job, on_step)
        give_back_memory(base)
        if gate is None:
            return adapter_record(job, progress, "torch", out / ADAPTER, "")
        path = write_outputs(base, adapter, job, self.model)
        gate.check_adapter(path, self._logits_of(base, adapter))
        return adapter_record(job, progress, "torch", path, file_digest(path) or "")

    def _logits_of(self, base: LoadedBase, adapter: TorchLora | None) -> Logits:
        """Logits in float32 from the layers asked for; a bfloat16 base is loaded again, those layers alone."""

        def logits_of(tokens: Sequence[int], layers: tuple[int, ...]) -> np.ndarray:
            part = slice_of(base, layers)
            if base.dtype != torch.float32:
                part = load_base(self.model, base.device, torch.float32, layers, as_blocks=True)
            return logits(part, adapter, pack_tokens(tokens, base.device)).cpu().numpy()

        return logits_of


def placement(precision: str = AUTO) -> tuple[torch.device, torch.dtype]:
    """Where the base lives and in which numbers: on this process's GPU in bfloat16, else on the CPU (`precision`)."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()), torch.bfloat16
    return torch.device("cpu"), torch.bfloat16 if halves(precision) else torch.float32


def place(model: Path, precision: str = AUTO) -> Place:
    """What is free where `placement` puts the base, and what its blocks take there."""
    device, _ = placement()
    if device.type == "cuda":
        return Place(torch.cuda.mem_get_info(device)[0], on_cuda=True, blocks=stored(model, on_cuda=True))
    return Place(machine.free_memory(), blocks=stored(model, on_cuda=False), halves=halves(precision))


def placement_note() -> str:
    """The device, for people."""
    device, _ = placement()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
