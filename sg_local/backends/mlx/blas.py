"""Gives MLX a fast matrix product on Linux: an installed OpenBLAS is loaded before MLX looks its BLAS up.

MLX's CPU wheel for Linux brings the reference BLAS. A library that was opened earlier with RTLD_GLOBAL is found first
by the dynamic linker, so opening OpenBLAS is enough: 24 to 40 times the float32 rate where we measured it. On macOS
MLX uses Accelerate and nothing is done.

Its reach is the whole process. Where torch was imported before, torch keeps the BLAS that it has bound; a torch
imported afterwards computes with OpenBLAS as well: as right, but measured two to three times slower on small products.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

# Debian's and the generic name, Fedora's threaded build, and the name without a version, as conda has it.
NAMES = ("libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so")


def prefer_openblas() -> str:
    """Load OpenBLAS if the machine has one; says which BLAS serves MLX, for people. Calling it again is harmless."""
    if platform.system() != "Linux":
        return "Accelerate"
    if _library() is not None:
        return "OpenBLAS"
    if "mlx.core" in sys.modules:
        return "reference BLAS (slow: MLX was imported before an OpenBLAS could be loaded)"
    for name in _candidates():
        if _load(name):
            return f"OpenBLAS ({Path(name).name})"
    return "reference BLAS (slow: no OpenBLAS library found; on Debian or Ubuntu: apt install libopenblas0)"


def is_slow() -> bool:
    """Whether MLX computes with the reference BLAS, tens of times more slowly than with OpenBLAS."""
    return prefer_openblas().startswith("reference")


def set_threads(n_threads: int | None) -> None:
    """Let OpenBLAS use this many threads; None leaves its own choice. Without OpenBLAS nothing happens."""
    library = _library()
    if library is not None and n_threads is not None:
        library.openblas_set_num_threads(ctypes.c_int(n_threads))


def _library() -> ctypes.CDLL | None:
    """The process's global symbols if an OpenBLAS is among them."""
    process = ctypes.CDLL(None)
    return process if hasattr(process, "openblas_set_num_threads") else None


def _candidates() -> Iterator[str]:
    yield from (str(Path(sys.prefix, "lib", name)) for name in NAMES if Path(sys.prefix, "lib", name).is_file())
    yield from NAMES


def _load(name: str) -> bool:
    """Open a library for all, once it has shown that it has C entry points with 32-bit sizes, as MLX calls them."""
    try:
        library = ctypes.CDLL(name)
        library.openblas_get_config.restype = ctypes.c_char_p
        if b"USE64BITINT" in library.openblas_get_config() or not hasattr(library, "cblas_sgemm"):
            return False
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    except (OSError, AttributeError):
        return False
    return True
