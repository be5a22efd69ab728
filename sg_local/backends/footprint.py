"""What generating takes from a machine, told from a model's header: memory, and the disk of a faster copy.

No engine is imported, so that a job can be refused with numbers before anything is loaded. The pool of keys and values
is reckoned here for the engine too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.backends import EngineSettings
from sg_local.backends.machine import physical_cores
from sg_local.gguf import GgufFile

N_BATCH = 512  # tokens decoded together: on a CPU nothing is gained beyond
KV_BYTES = 512 << 20  # what the pool may take before it is worth less than the memory
N_PARALLEL = 32  # sequences where nobody has chosen
NEAR_TIE_CELLS = 512  # of the pool in which near ties are decided alone; longer prompts take more
PROGRAM_BYTES = 150 << 20  # Python, NumPy and llama.cpp themselves, measured on Linux
LOGIT_ROWS = 256  # rows of logits in memory at a time: those of a decode, and as many again on their way there
REPACKED = ("Q4_0", "Q4_K", "IQ4_NL")  # of which llama.cpp keeps a second copy, in the order in which it computes
WIDE_BITS = 12.0  # a base of more bits a weight is not copied in 16


@dataclass(frozen=True)
class EngineNeed:
    """Bytes of memory by purpose: the weights as they lie in the file, keys and values, logits, near ties and programs.

    `spare` are pages of the file that lie in memory besides and that the system takes back when it needs them.
    """

    weights: int
    pool: int
    rest: int
    spare: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.pool + self.rest

    @property
    def resident(self) -> int:
        """What is in memory where nobody else wants it."""
        return self.total + self.spare


def engine_need(model: Path, settings: EngineSettings) -> EngineNeed:
    """What generating with a model takes, on the file as given."""
    with GgufFile(model) as file:
        vocab = file.fields["tokenizer.ggml.tokens"].count
        n_parallel, cell = settings.n_parallel or N_PARALLEL, _cell_bytes(file)
        n = replicas_of(settings, settings.n_threads or physical_cores(), n_parallel, cell)
        cells = pool_cells(settings.n_ctx, n_parallel, cell)
        cells += (n - 1) * pool_cells(settings.n_ctx, -(-n_parallel // n), cell, n_pools=n)
        spare = sum(tensor.n_bytes for tensor in file.tensors.values() if tensor.type in REPACKED)
        rest = PROGRAM_BYTES + n * (4 * LOGIT_ROWS * vocab + NEAR_TIE_CELLS * cell)
        return EngineNeed(file.size, cells * cell, rest, spare)


def replicas_of(settings: EngineSettings, n_threads: int, n_parallel: int, cell_bytes: int) -> int:
    """How many contexts compute side by side on a CPU: as many as is said, or two on two processors.

    With more processors less is lost to a neighbour (llama_cpp.threads), and every context reads all weights. One where
    a second pool would be large.
    """
    is_small = cell_bytes * (settings.n_ctx + N_BATCH) <= KV_BYTES // 2
    usual = 2 if n_threads == 2 and is_small else 1
    return max(1, min(settings.n_replicas or usual, n_parallel, n_threads))


def copy_bytes(model: Path) -> int:
    """The size of a copy of the weights in 16 bits; 0 where they have about as many already."""
    with GgufFile(model) as file:
        tensors = list(file.tensors.values())
    matrices = [tensor for tensor in tensors if len(tensor.shape) > 1]
    n_weights = sum(tensor.rows * tensor.columns for tensor in matrices)
    bits = 8 * sum(tensor.n_bytes for tensor in matrices) / max(1, n_weights)
    vectors = sum(tensor.n_bytes for tensor in tensors if len(tensor.shape) == 1)
    return 2 * n_weights + vectors if bits < WIDE_BITS else 0


def pool_cells(n_ctx: int, n_parallel: int, cell_bytes: int, n_batch: int = N_BATCH, n_pools: int = 1) -> int:
    """Cells in one of so many pools: every sequence at full length if that fits KV_BYTES, at least one and a batch.

    Rows seldom grow to full length and mostly share their prefix; when they do not, the scheduler makes room.
    """
    affordable = KV_BYTES // n_pools // max(1, cell_bytes)
    return -(-max(n_ctx + n_batch, min(n_ctx * n_parallel, affordable)) // 256) * 256


def _cell_bytes(file: GgufFile) -> int:
    """Bytes of one token's keys and values over all layers, in F16."""
    own = file.value("general.architecture", "")

    def numbers(key: str, default: int) -> Sequence[int]:
        value: Any = file.value(f"{own}.{key}", default)
        return [value] * n_layers if isinstance(value, int) else [int(one) for one in value]

    n_layers = int(file.value(f"{own}.block_count", 0))
    heads = numbers("attention.head_count", 1)
    kv_heads = sum(numbers("attention.head_count_kv", 0)) or sum(heads)
    usual = int(file.value(f"{own}.embedding_length", 0)) // max(1, *heads)
    widths = (file.value(f"{own}.attention.{name}_length", usual) for name in ("key", "value"))
    return 2 * kv_heads * sum(width if isinstance(width, int) else max(width) for width in widths)
