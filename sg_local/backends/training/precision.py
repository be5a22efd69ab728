"""In which numbers a trainer computes, and whether this machine can.

float32 on a CPU and bfloat16 on a GPU, unless bfloat16 is asked for on a CPU as well: the base's weights and what goes
through it then have 8 bits of mantissa; the adapter, its gradient and the optimiser stay in float32.
"""

from __future__ import annotations

from sg_local.backends import machine
from sg_local.records import SgError

AUTO, BF16 = "auto", "bf16"
PRECISIONS = (AUTO, BF16)
ASIDE = "Leave `train.precision` out"


def check_precision(precision: str, trainer: str) -> None:
    """Raise SgError (usage) where this trainer on this machine does not compute in these numbers."""
    if precision != BF16:
        return
    if trainer != "torch":
        message = f"train.precision=bf16 is for the torch trainer, and {trainer} trains here."
        raise SgError(message, f"{ASIDE}, or train with `trainer=torch`.", exit_code=2)
    if not machine.multiplies_bf16() and not _has_cuda():
        message = "This processor has neither AVX512-BF16 nor AMX: train.precision=bf16 would only make it slower."
        raise SgError(message, f"{ASIDE}.", exit_code=2)


def _has_cuda() -> bool:
    """Whether the torch trainer computes on a GPU, as its `placement` asks: a card alone does not make it."""
    import torch  # seconds, which only a processor that cannot do it itself costs

    return bool(torch.cuda.is_available())


def halves(precision: str) -> bool:
    """Whether a CPU holds the base in two bytes a number."""
    return precision == BF16
