"""In which numbers the torch trainer multiplies, and whether this machine can.

A GPU computes in bfloat16. A CPU that multiplies bfloat16 by itself does so, too, unless float32 is asked for: the
base's weights and what goes into a product with them then have 8 bits of mantissa. What goes from one product to the
next, the adapter, its gradient and the optimiser stay in float32, so losses stay within a hundredth
(docs/training.md). Other CPUs, and the MLX trainer there, compute in float32 throughout.
"""

from __future__ import annotations

from sg_local.backends import machine
from sg_local.records import SgError

AUTO, F32, BF16 = "auto", "f32", "bf16"
PRECISIONS = (AUTO, F32, BF16)
TORCH = "torch"
ASIDE = "Leave `train.precision` out"


def check_precision(precision: str, trainer: str) -> None:
    """Raise SgError (usage) where this trainer on this machine does not compute in these numbers."""
    if precision != BF16:
        return
    if trainer != TORCH:
        message = f"train.precision=bf16 is for the torch trainer, and {trainer} trains here."
        raise SgError(message, f"{ASIDE}, or train with `trainer=torch`.", exit_code=2)
    if not machine.multiplies_bf16() and not _has_cuda():
        message = "This processor has neither AVX512-BF16 nor AMX: train.precision=bf16 would only make it slower."
        raise SgError(message, f"{ASIDE}.", exit_code=2)


def _has_cuda() -> bool:
    """Whether the torch trainer computes on a GPU, as its `placement` asks: a card alone does not make it."""
    import torch  # seconds, which only a processor that cannot do it itself costs

    return bool(torch.cuda.is_available())


def halves(precision: str, trainer: str = TORCH) -> bool:
    """Whether this trainer multiplies in bfloat16 on a CPU, and holds the base in two bytes a number there."""
    return trainer == TORCH and (precision == BF16 or (precision == AUTO and machine.multiplies_bf16()))


def numbers_of(precision: str, trainer: str) -> str:
    """The numbers that the torch trainer computes in, as a clause; other trainers' notes say it themselves."""
    if trainer != TORCH:
        return ""
    if _has_cuda():
        return ", bfloat16"
    return ", products in bfloat16" if halves(precision) else ", float32"


def told_apart(precision: str, trainer: str) -> str | None:
    """What a training's checkpoint says of its precision: nothing in float32, nor where a GPU decides it."""
    return BF16 if precision == BF16 or (halves(precision, trainer) and not _has_cuda()) else None
