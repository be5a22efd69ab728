"""Generator and trainer on MLX: Apple's GPUs on a Mac, the CPU elsewhere.

Reads any dense llama GGUF through our own loader, speaks llama.cpp's tokens (llama-cpp-python does the tokenising), and
leaves an adapter GGUF. On Linux an installed OpenBLAS is put under MLX before it is first imported.

Proven on the CPU wheel only. Never run on Metal: quantised weights on the GPU, recomputed activations there, memory
limits, and survival of a real Metal out-of-memory error. Each of these is tested on the CPU as far as a CPU can.
Grammars are llama.cpp's own, over the vocabulary that it tokenises with.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends import EngineSettings, Generator
from sg_local.backends.mlx.blas import prefer_openblas
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.backends.mlx.trainer import MlxTrainer


def open_generator(model: Path, settings: EngineSettings) -> Generator:
    """Load a model for writing and scoring. Raises SgError for an unfit file, or without llama-cpp-python."""
    _prepare()
    from sg_local.backends.mlx.generator import MlxGenerator

    return MlxGenerator(model, settings)


def open_trainer(model: Path) -> MlxTrainer:
    """A trainer bound to one base GGUF. Raises SgError for an unfit file, or without llama-cpp-python."""
    _prepare()
    from sg_local.backends.mlx.trainer import MlxTrainer

    return MlxTrainer(model)


def _prepare() -> None:
    """What must be so before MLX is imported."""
    if find_spec("llama_cpp") is None:
        message = "The MLX backend needs llama-cpp-python for tokens and the parity gate, which is not installed."
        raise SgError(message, "Install it with: pip install 'sg-local[llama,mlx]'")
    prefer_openblas()
