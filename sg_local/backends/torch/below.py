"""What the layers below the adapter make of each row, computed once: nothing in them is trained, so it never changes.

A training of the last n layers then pays for the others in its first epoch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.forward import below_adapter
from sg_local.backends.torch.model import LoadedBase
from sg_local.backends.torch.packing import pack_rows, pack_tokens
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.backends.training.lora import micro_batches, plan_batches
from sg_local.records import TokenExample

Rows = Sequence[TokenExample]


class Below:
    """Inputs of the first layer with an adapter, (tokens, width) for each row's own part, by the row's tokens.

    A row is computed in the company that it has in the first epoch, so that a training that goes on after a stop
    computes what it had: sums over another company may round otherwise.
    """

    def __init__(
        self, base: LoadedBase, lora: TorchLora, job: TrainJob, n_prefix: int, valid_rows: int, n_together: int
    ) -> None:
        self._base, self._lora, self._n_prefix, self._n_together = base, lora, n_prefix, n_together
        self._company = {row.tokens: rows for rows in _companies(job, valid_rows) for row in rows}
        self._prefix: torch.Tensor | None = None
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    def of(self, rows: Rows) -> torch.Tensor:
        """What goes into the first layer with an adapter for these rows packed: the shared prefix once, then theirs."""
        for row in rows:
            if row.tokens not in self._known:
                self._compute(self._company[row.tokens])
        own = [self._known[row.tokens] for row in rows]
        return torch.cat([self._shared(rows[0]), *own] if self._n_prefix else own)

    def _shared(self, row: TokenExample) -> torch.Tensor:
        if self._prefix is None:
            pack = pack_tokens(row.tokens[: self._n_prefix], self._base.device)
            self._prefix = below_adapter(self._base, self._lora, pack)
        return self._prefix

    def _compute(self, rows: Rows) -> None:
        pack = pack_rows(rows, self._n_prefix, self._base.device, self._n_together)
        states = below_adapter(self._base, self._lora, pack)
        parts = states[self._n_prefix :].split([len(row.tokens) - self._n_prefix for row in rows])
        for row, part in zip(rows, parts, strict=True):
            if self._company[row.tokens] is rows:  # not that of an equal row, wherever this one was asked for first
                self._known[row.tokens] = part.clone()


def _companies(job: TrainJob, valid_rows: int) -> Iterator[Rows]:
    """The rows that are packed together: so many of validation, and those of training in the first epoch, which go
    before."""
    size = job.settings.batch_size
    yield from ([job.valid[i] for i in batch] for batch in micro_batches(range(len(job.valid)), valid_rows))
    plan = plan_batches(job.examples, job.settings)
    for step in range(plan.steps_per_epoch):
        for batch in micro_batches(plan.rows(step), size):
            yield [job.examples[i] for i in batch]
