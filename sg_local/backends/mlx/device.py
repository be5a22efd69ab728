"""What MLX runs on, and what follows from it: threads, memory limits, and which errors mean that memory ran out.

On a Mac with an Apple chip weights stay quantised, activations are recomputed for the gradient, and MLX is told the
working set that the system recommends. Elsewhere the CPU computes in dense float32. The Metal branch has never run:
this code was written and tested on the CPU wheel alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx

from sg_local.backends.mlx import blas
from sg_local.backends.training.loop import OutOfMemory

# What MLX says when memory is short: its allocators (mlx/backend/*/allocator.cpp) and Metal's command buffers.
_MEMORY_ERRORS = ("Unable to allocate", "Attempting to allocate", "Insufficient Memory", "OutOfMemory")


@dataclass(frozen=True)
class Device:
    """Where the arithmetic happens. `note` names device and BLAS for people; `memory_limit` is in bytes."""

    is_metal: bool
    note: str
    memory_limit: int | None = None


def prepare_device(n_threads: int | None = None) -> Device:
    """Choose and set up the device. MLX's limits hold for the process; calling it again changes nothing."""
    if not mx.metal.is_available():
        note = blas.prefer_openblas()
        blas.set_threads(n_threads)
        return Device(False, f"CPU, float32, {note}")
    info = mx.device_info()
    limit = int(info["max_recommended_working_set_size"])
    mx.set_wired_limit(limit)
    mx.set_memory_limit(limit)
    mx.set_cache_limit(limit // 8)
    return Device(True, f"Metal ({info.get('device_name', 'GPU')})", limit)


def is_memory_error(text: str) -> bool:
    """Whether MLX's message says that memory ran out."""
    return any(sign in text for sign in _MEMORY_ERRORS)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn MLX's ways of saying that memory ran out into OutOfMemory; every other error passes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not is_memory_error(str(error)):
            raise
        mx.clear_cache()
        raise OutOfMemory(str(error)) from error
