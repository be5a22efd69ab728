"""`loop.Engine` in torch: one optimiser step over micro-batches, in one process or several.

With several processes (torchrun) each takes every n-th row of a micro-batch, gradients are summed over all of
them before clipping, and every process then makes the same step; so the result is that of one process up to the
order of sums, and what bfloat16 rounds.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import resource
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist

from sg_local.backends import machine
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.below import Below
from sg_local.backends.torch.forward import Pass, answer_loss, hidden_states
from sg_local.backends.torch.model import LoadedBase
from sg_local.backends.torch.packing import Pack, pack_rows
from sg_local.backends.training.checkpoint import Arrays, TrainJob
from sg_local.backends.training.loop import OutOfMemory, StepPlan, StepResult
from sg_local.backends.training.lora import (
    dropout_seed,
    micro_batches,
    normaliser,
    shared_prefix,
    valid_rows_at_a_time,
)
from sg_local.backends.training.memory import group_tokens, tokens_below
from sg_local.records import TokenExample

# AdamW's usual constants (Loshchilov and Hutter 2019), which torch, peft's examples and mlx-lm share.
_BETAS, _EPS = (0.9, 0.999), 1e-8


class TorchEngine:
    """A base, its adapter and AdamW, bound to one job. `recompute`: in how many layers activations are not kept."""

    def __init__(self, base: LoadedBase, lora: TorchLora, job: TrainJob, *, recompute: int = 0) -> None:
        self.base, self.lora, self.settings = base, lora, job.settings
        self.device = lora.flat.device
        rows = (*job.examples, *job.valid)
        self.n_prefix = shared_prefix(rows) if job.settings.share_prefix else 0
        self.recompute = recompute
        self.n_together = group_tokens(base.shape, on_cuda=self.device.type == "cuda")
        longest = max((len(row.tokens) for row in job.valid), default=0)
        self.valid_rows = valid_rows_at_a_time(longest - self.n_prefix, job.settings)
        # Of several processes, one meets other rows in every epoch.
        holds = n_processes() == 1 and tokens_below(rows, job.settings, base.shape) > 0
        self.below = Below(base, lora, job, self.n_prefix, self.valid_rows, self.n_together) if holds else None
        self.optimiser = self._optimiser()

    def start(self) -> None:
        self.lora.start()
        self.optimiser = self._optimiser()

    def step(self, plan: StepPlan) -> StepResult:
        gradient, sums = self.lora.gradient, self._fitting_gradient(plan)
        _sum_over_processes(gradient, sums)
        loss, n_tokens = sums.tolist()
        norm = float(torch.linalg.vector_norm(gradient))
        if math.isfinite(norm) and math.isfinite(loss):
            gradient.mul_(min(1.0, self.settings.max_grad_norm / (norm + 1e-6)))
            self.optimiser.param_groups[0]["lr"] = plan.lr
            self.optimiser.step()
        return StepResult(loss, norm, int(n_tokens))

    def _fitting_gradient(self, plan: StepPlan) -> torch.Tensor:
        """`_gradient`; where memory runs out, once more with nothing kept that can be computed again, from then on.

        Nothing is done inside `except`: there, the error's traceback still holds what did not fit.
        """
        said = ""
        for recompute in dict.fromkeys((self.recompute, len(self.base.blocks))):
            self.recompute = recompute
            try:
                return self._gradient(plan)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU it is a bare one
                if not (isinstance(error, torch.OutOfMemoryError) or machine.is_out_of_memory(error)):
                    raise
                said = str(error)
            self.below = None
            torch.cuda.empty_cache()
        raise OutOfMemory(said)

    def _gradient(self, plan: StepPlan) -> torch.Tensor:
        """Leave this process's gradient of a step in the adapter; its loss and the tokens that were computed."""
        self.lora.gradient.zero_()
        sums = torch.zeros(2, device=self.device)
        divisor = normaliser([row for batch in plan.batches for row in batch])
        for micro, batch in enumerate(plan.batches):
            seed = dropout_seed(self.settings.seed, plan.index, micro)
            sums += self._accumulate(batch[rank() :: n_processes()], divisor, seed)
        return sums

    def evaluate(self, rows: Sequence[TokenExample]) -> float:
        total = 0.0
        with torch.no_grad():
            for batch in micro_batches(range(len(rows)), self.valid_rows):
                pack, below = self._packed([rows[i] for i in batch])
                total += float(answer_loss(self.base, hidden_states(self.base, self.lora, pack, below=below), pack))
        return total / normaliser(rows)

    def arrays(self) -> Arrays:
        moments = {
            f"adam.{name}": value.cpu().numpy().copy()
            for name, value in self.optimiser.state.get(self.lora.flat, {}).items()
        }
        return {**self.lora.arrays(), **moments}

    def restore(self, arrays: Arrays) -> None:
        self.lora.restore(arrays)
        moments = {name.removeprefix("adam."): value for name, value in arrays.items() if name.startswith("adam.")}
        self.optimiser = self._optimiser()
        for name, value in moments.items():
            self.optimiser.state[self.lora.flat][name] = torch.from_numpy(value).to(self.device)

    def memory_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes on macOS, kilobytes on Linux

    def agree(self, value: float) -> float:
        if n_processes() == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def _optimiser(self) -> torch.optim.AdamW:
        """AdamW over the whole adapter as one tensor; the loop sets the rate of each step."""
        decay = self.settings.weight_decay
        return torch.optim.AdamW([self.lora.flat], lr=0.0, betas=_BETAS, eps=_EPS, weight_decay=decay, fused=True)

    def _packed(self, rows: Sequence[TokenExample]) -> tuple[Pack, torch.Tensor | None]:
        """The rows as one sequence, and what the layers below the adapter make of it, where that is kept."""
        pack = pack_rows(rows, self.n_prefix, self.device, self.n_together)
        return pack, None if self.below is None else self.below.of(rows)

    def _accumulate(self, rows: Sequence[TokenExample], divisor: float, seed: int) -> torch.Tensor:
        """Add these rows' share of the gradient; returns their share of the loss and the tokens computed."""
        if not rows:
            return torch.zeros(2, device=self.device)
        pack, below = self._packed(rows)
        hidden = hidden_states(self.base, self.lora, pack, Pass(seed, self.recompute), below)
        loss = answer_loss(self.base, hidden, pack) / divisor
        loss.backward()
        return torch.stack((loss.detach(), loss.new_tensor(pack.n_tokens)))


def rank() -> int:
    """This process's number, 0 where it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def n_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_processes(*tensors: torch.Tensor) -> None:
    if n_processes() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def give_back_memory(base: LoadedBase) -> None:
    """Return what steps leave to the system, for the parity gate wants as much: freed memory, and the file's pages."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if base.map is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.map.madvise(mmap.MADV_DONTNEED)
