"""LoRA training on MLX: the engine under the shared loop (`sg_local.backends.training.loop`), and the adapter's files.

mlx-lm's own training loop is not used: it trains a padding token per row, drops rows, forgets the optimiser on resume
and draws on stdout. Everything random is a function of (seed, step), so a resumed run repeats an uninterrupted one to
the byte on a CPU with the same BLAS and thread count.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from sg_local.backends import TrainSettings, machine
from sg_local.backends.mlx import blas
from sg_local.backends.mlx.adapter import LoraShape, MlxLora, apply_adapter, write_mlx_adapter
from sg_local.backends.mlx.child import train_in_child
from sg_local.backends.mlx.device import Device, memory_errors, prepare_device
from sg_local.backends.mlx.forward import Batch, logits, make_batch, summed_loss
from sg_local.backends.mlx.processes import Processes, join
from sg_local.backends.mlx.weights import load_model
from sg_local.backends.training.checkpoint import Arrays, TrainJob, adapter_metadata, adapter_record
from sg_local.backends.training.handover import Handover
from sg_local.backends.training.loop import StepPlan, StepResult, run_loop
from sg_local.backends.training.lora import (
    adapted_layers,
    check_examples,
    check_settings,
    dropout_seed,
    micro_batches,
    normaliser,
)
from sg_local.backends.training.memory import Place, check_fits
from sg_local.backends.training.on_metal import metal_place, one_row
from sg_local.backends.training.parity import Logits, parity_gate
from sg_local.backends.training.precision import check_precision
from sg_local.files import file_digest
from sg_local.gguf import GgufFile, read_config, write_adapter
from sg_local.records import Adapter, TokenExample, TrainStep

ADAPTER = "adapter.gguf"
ALONE = Processes()
_ADAM = "adam."
_CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_ adds the same


class MlxEngine:
    """One MLX model with LoRA layers and AdamW, as the loop drives it.

    `rows_at_once` cuts the loop's micro-batches further, where a process died of a larger one.
    """

    def __init__(
        self,
        lora: MlxLora,
        settings: TrainSettings,
        *,
        recompute: bool,
        rows_at_once: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.lora, self.settings, self.recompute = lora.model, lora, settings, recompute
        self.processes = processes
        self.rows_at_once = rows_at_once or settings.batch_size
        self.optimizer = self._fresh_optimizer()

    def start(self) -> None:
        """Set the adapter to its seeded first value and forget the optimiser's moments."""
        self.lora.initialise(self.settings.seed)
        self.optimizer = self._fresh_optimizer()
        mx.reset_peak_memory()

    def step(self, plan: StepPlan) -> StepResult:
        """One optimiser step: gradients summed over the micro-batches, clipped, then AdamW."""
        total = normaliser([row for batch in plan.batches for row in batch])
        with memory_errors():
            loss, gradient, n_tokens = self._gradient(plan, total)
            norm = math.sqrt(sum(float(mx.square(g).sum()) for _, g in _leaves(gradient)))
            if math.isfinite(loss) and math.isfinite(norm):
                self._update(gradient, norm, plan.lr)
        return StepResult(loss, norm, n_tokens)

    def evaluate(self, rows: Sequence[TokenExample]) -> float:
        """Weighted token-mean loss of these rows, without dropout."""
        order = sorted(rows, key=lambda row: len(row.tokens))
        self.lora.set_dropout_key(None)
        loss = 0.0
        with memory_errors():
            for places in micro_batches(range(len(order)), self.rows_at_once):
                batch = make_batch([order[i] for i in places], share_prefix=self.settings.share_prefix)
                loss += float(summed_loss(self.model, batch))
        return loss / normaliser(rows)

    def arrays(self) -> Arrays:
        """The adapter by canonical name, and the optimiser's state under `adam.`."""
        moments = _leaves(self.optimizer.state)
        return self.lora.arrays() | {f"{_ADAM}{name}": np.array(array) for name, array in moments}

    def restore(self, arrays: Arrays) -> None:
        """Go back to a state that `arrays` gave; without optimiser entries the adapter alone."""
        self.lora.restore(arrays)
        moments = [
            (name.removeprefix(_ADAM), mx.array(array)) for name, array in arrays.items() if name.startswith(_ADAM)
        ]
        if moments:
            self.optimizer.state = tree_unflatten(moments)

    def memory_bytes(self) -> int:
        """Peak bytes of MLX's arrays since the start."""
        return mx.get_peak_memory()

    def agree(self, value: float) -> float:
        (shared,) = self.processes.sum_numbers(value if self.processes.rank == 0 else 0.0)
        return shared

    def _fresh_optimizer(self) -> optim.AdamW:
        # Without bias correction, MLX's default, the first steps would be up to ten times as long as torch's.
        return optim.AdamW(self.settings.lr, weight_decay=self.settings.weight_decay, bias_correction=True)

    def _gradient(self, plan: StepPlan, total: float) -> tuple[float, dict[str, Any], int]:
        """Loss, gradient and computed tokens of a step, one micro-batch in memory at a time."""
        compute = value_and_grad(self.model, self._share_of_loss)
        loss, gradient, n_tokens = 0.0, None, 0.0
        shares = [self.processes.share(rows) for rows in plan.batches]
        parts = [rows[i : i + self.rows_at_once] for rows in shares for i in range(0, len(rows), self.rows_at_once)]
        for micro, rows in enumerate(parts):
            seed = dropout_seed(self.settings.seed, plan.index, micro) if self.settings.dropout else None
            self.lora.set_dropout_key(seed)
            batch = make_batch(rows, share_prefix=self.settings.share_prefix)
            value, part = compute(batch, total)
            gradient = part if gradient is None else tree_map(mx.add, gradient, part)
            mx.eval(value, gradient)
            loss, n_tokens = loss + float(value), n_tokens + batch.n_tokens
        if gradient is None:  # fewer rows than processes
            gradient = tree_map(mx.zeros_like, self.model.trainable_parameters())
        loss, n_tokens = self.processes.sum_numbers(loss, n_tokens)
        return loss, self.processes.sum_tree(gradient), int(n_tokens)

    def _share_of_loss(self, batch: Batch, total: float) -> mx.array:
        return summed_loss(self.model, batch, recompute=self.recompute) / total

    def _update(self, gradient: dict[str, Any], norm: float, lr: float) -> None:
        scale = min(1.0, self.settings.max_grad_norm / (norm + _CLIP_EPS))
        self.optimizer.learning_rate = lr
        self.optimizer.update(self.model, tree_map(lambda g: g * scale, gradient))
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)


class MlxTrainer:
    """Trains LoRA adapters on one base GGUF. `device` says what it computes on."""

    def __init__(self, model: Path) -> None:
        self.path = model
        self.config = read_config(model)
        self.device: Device = prepare_device()
        self.note = f"MLX on {self.device.note}"
        self.base_digest = file_digest(model) or ""
        self.processes = ALONE

    def join(self) -> bool:
        """Train together with the processes that mlx.launch started beside this one. True in the first of them."""
        self.processes = join()
        return self.processes.rank == 0

    def train(
        self,
        examples: Sequence[TokenExample],
        valid: Sequence[TokenExample],
        out: Path,
        settings: TrainSettings,
        on_step: Callable[[TrainStep], None],
    ) -> Adapter:
        """Train, or go on from the checkpoint in `out`; writes `out/adapter.gguf` and `out/mlx/` for mlx-lm.

        On Metal a child process does it, so that running out of memory there can be survived. Raises SgError where not
        even one row at a time would fit.
        """
        job = Handover(self.path, tuple(examples), tuple(valid), settings)
        if self.device.is_metal:
            check_settings(settings)
            check_examples(examples, self.config.vocab)
            check_fits(examples, one_row(settings), self.config, metal_place(self.path, self.device.memory_limit))
            return train_in_child(job, out, on_step)
        return self.train_here(job, out, on_step)

    def train_here(
        self, work: Handover, out: Path, on_step: Callable[[TrainStep], None], rows_at_once: int | None = None
    ) -> Adapter:
        """`train` in this process, computing at most so many rows at a time.

        Where `processes` are several, the first one checks, keeps the files and returns the whole record.
        """
        began, settings = time.monotonic(), work.settings
        check_settings(settings)
        check_precision(settings.precision, "mlx")
        check_examples(work.train, self.config.vocab)
        if work.valid:
            check_examples(work.valid, self.config.vocab)
        if not self.device.is_metal:
            check_fits(work.train, settings, self.config, Place(machine.free_memory(), pads=True))
        n_threads = settings.n_threads or machine.physical_cores()
        blas.set_threads(n_threads)
        lora = self._load(settings)
        gate = parity_gate(self.path, out, work.train, n_threads) if self.processes.rank == 0 else None
        if gate is not None:
            gate.check_base(self._logits_of(lora, with_adapter=False))
        job = TrainJob(
            work.train, work.valid, out, settings, self.base_digest, "mlx", time.monotonic() - began, gate is not None
        )
        engine = MlxEngine(
            lora, settings, recompute=self.device.is_metal, rows_at_once=rows_at_once, processes=self.processes
        )
        progress = run_loop(engine, job, on_step)
        mx.clear_cache()
        if gate is None:
            return adapter_record(job, progress, "mlx", out / ADAPTER, "")
        path = self._write(job, lora)
        gate.check_adapter(path, self._logits_of(lora, with_adapter=True))
        return adapter_record(job, progress, "mlx", path, file_digest(path) or "")

    def _load(self, settings: TrainSettings) -> MlxLora:
        model = load_model(self.path, keep_quantised=self.device.is_metal)
        layers = adapted_layers(self.config.layers, settings)
        return MlxLora(model, LoraShape(layers, settings.rank, settings.alpha, settings.dropout))

    def _logits_of(self, lora: MlxLora, *, with_adapter: bool) -> Logits:
        """Logits for the parity gate. A slice is loaded anew on Metal, since some weights are rounded to float16 there,
        and where llama.cpp scales its scores otherwise because it has fewer layers.

        Without the adapter this counts on B being zero still, so that base and adapted model are the same.
        """

        def logits_of(tokens: Sequence[int], layers: tuple[int, ...]) -> np.ndarray:
            lora.set_dropout_key(None)
            part_shape = dataclasses.replace(self.config, layers=len(layers))
            if not self.device.is_metal and part_shape.attention_scale == self.config.attention_scale:
                return logits(lora.model, tokens, layers)
            part = load_model(self.path, keep_quantised=True, layers=layers)
            if with_adapter:
                apply_adapter(part, lora.pairs(), lora.shape.alpha, layers)
            return logits(part, tokens, range(len(layers)))

        return logits_of

    def _write(self, job: TrainJob, lora: MlxLora) -> Path:
        """Both forms of the adapter; the GGUF last, since its presence means that training is done."""
        write_mlx_adapter(job.out, lora)
        path = job.out / ADAPTER
        with GgufFile(self.path) as file:
            metadata = adapter_metadata(file, job)
        write_adapter(path, self.config.architecture, lora.pairs(), lora.shape.alpha, metadata)
        return path


def _leaves(tree: Any) -> list[tuple[str, mx.array]]:
    """A tree's arrays by their dotted names."""
    found: Any = tree_flatten(tree)
    return list(found)
