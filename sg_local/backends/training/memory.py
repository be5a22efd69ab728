"""Will training fit: bytes of memory that it takes, estimated from the model's shape and the rows before it starts.

The estimate follows what the trainers allocate, term by term, and is compared with measured peaks in the tests. It is
for refusing what cannot work, with numbers, instead of being ended by the system hours later; allocators and
libraries move the truth by ten percent or so, and a refusal allows for that.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import TrainSettings
from sg_local.backends.training.lora import adapted_layers, n_answer, shared_prefix
from sg_local.gguf import HEAD_NORMS, ModelConfig, read_config
from sg_local.records import SgError, TokenExample

logger = logging.getLogger(__name__)

LOGIT_ROWS = 256  # answer positions whose logits exist at a time, of fewer where the vocabulary is large:
LOGIT_BYTES = 48 << 20  # that many of a vocabulary of 49k in float32; Gemma's is five times as large
# Rows attend in groups of about so many tokens: a group's mask holds (group tokens) x (prefix + group tokens) cells, of
# which other rows' cells are wasted work, small beside the matrix products.
GROUP_TOKENS = 256
PROGRAM_BYTES = 450 << 20  # Python, torch, transformers, peft and llama.cpp themselves, measured on Linux
CUDA_BYTES = 1 << 30  # the CUDA context and its matrix libraries' workspaces
FULL_COPY_BYTES = 1 << 30  # up to here the parity gate's float32 copy of the base is a whole one (backends.parity)
OVERHEAD = 1.3  # what allocators hold beyond what is kept, measured with glibc
MARGIN = 1.15  # a need is refused beyond this many times what is free


@dataclass(frozen=True)
class Load:
    """What a step holds at once: tokens (a shared prefix once, padding counted), and how many are prefix.

    `n_logits` counts rows of float32 logits in memory at a time; `n_layers` the layers with an adapter.
    """

    n_tokens: int
    n_prefix: int
    n_logits: int
    rank: int
    n_layers: int
    on_cuda: bool = False


@dataclass(frozen=True)
class Place:
    """Where a trainer computes, and the bytes that are free there, None where nobody knows.

    `pads`: rows are padded to the longest and all answers' logits are made at once, which is how the MLX trainer works.
    """

    free_bytes: int | None
    on_cuda: bool = False
    pads: bool = False


@dataclass(frozen=True)
class RowLengths:
    """Tokens of a usual row, where none is there yet: what all share, its own, and those of its answer among these."""

    n_prefix: int
    n_own: int
    n_answer: int


@dataclass(frozen=True)
class Need:
    """Bytes by purpose. `weights` holds base, adapter and optimiser; `tokens` what a step keeps or the gate needs."""

    weights: int
    tokens: int
    programs: int

    @property
    def total(self) -> int:
        return self.weights + self.tokens + self.programs


def load_of(rows: Sequence[TokenExample], settings: TrainSettings, shape: ModelConfig, place: Place) -> Load:
    """The load of the largest step: that of the longest rows, which the batch plan lets meet."""
    n_prefix = shared_prefix(rows) if settings.share_prefix else 0
    longest = sorted(rows, key=lambda row: -len(row.tokens))[: settings.batch_size]
    own = [len(row.tokens) - n_prefix for row in longest]
    n_answers = sum(map(n_answer, longest))
    return Load(
        n_tokens=n_prefix + (len(own) * own[0] if place.pads else sum(own)),
        n_prefix=n_prefix,
        n_logits=3 * n_answers if place.pads else _logits_at_once(shape, n_answers),
        rank=settings.rank,
        n_layers=len(adapted_layers(shape.layers, settings.n_layers)),
        on_cuda=place.on_cuda,
    )


def expected_load(lengths: RowLengths, settings: TrainSettings, shape: ModelConfig, place: Place) -> Load:
    """The load of a step of rows of usual lengths, before there are rows."""
    size, shared = settings.batch_size, lengths.n_prefix if settings.share_prefix else 0
    own = lengths.n_own + lengths.n_prefix - shared
    n_answers = size * lengths.n_answer
    n_layers = len(adapted_layers(shape.layers, settings.n_layers))
    n_logits = 3 * n_answers if place.pads else 2 * min(LOGIT_ROWS, n_answers)
    return Load(shared + size * own, shared, n_logits, settings.rank, n_layers, place.on_cuda)


def usual_load(shape: ModelConfig, *, on_cuda: bool) -> Load:
    """The load where no rows are at hand: default settings, rows that share 256 tokens and have 64 of their own."""
    settings = TrainSettings()
    n_tokens = 256 + 64 * settings.batch_size
    return Load(n_tokens, 256, _logits_at_once(shape, LOGIT_ROWS), settings.rank, shape.layers, on_cuda)


def logit_rows(n_vocab: int) -> int:
    """How many answer positions have logits at a time in the torch trainer."""
    return min(LOGIT_ROWS, max(16, LOGIT_BYTES // (4 * n_vocab)))


def _logits_at_once(shape: ModelConfig, n_answers: int) -> int:
    """Rows as long as the vocabulary: logits and their gradient, with a cap its slope."""
    return (3 if shape.logit_cap else 2) * min(logit_rows(shape.vocab), n_answers)


def parameters(shape: ModelConfig) -> int:
    """Weights of the base: embeddings, a head of its own where it has one, and the matrices of every layer."""
    layer = sum(rows * columns for rows, columns in map(shape.shape_of, shape.row.targets))
    return shape.vocab * shape.hidden * (1 if shape.tied else 2) + shape.layers * layer


def recomputes(shape: ModelConfig, *, on_cuda: bool) -> bool:
    """Whether the torch trainer keeps a layer's input alone and computes the rest again: large models on a GPU."""
    return on_cuda and shape.layers * shape.hidden > 2**16


def training_need(shape: ModelConfig, load: Load) -> Need:
    """What LoRA training takes, with w = 4 bytes a number (CPU, float32) or 2 (CUDA, bfloat16).

    weights   w for each parameter of the base; 16 bytes (value, gradient, Adam's two moments, all float32) for each
              of the adapter's rank * (rows + columns) over the matrices of every adapted layer
    tokens    the larger of a step and the parity gate's copy. A step: the numbers that `_kept` counts, and logits. The
              gate: a float32 copy of the base, of few layers for a large one
    """
    width = 2 if load.on_cuda else 4
    sides = sum(map(sum, map(shape.shape_of, shape.row.targets)))
    weights = width * parameters(shape) + 16 * load.rank * load.n_layers * sides
    step = round(OVERHEAD * width * _kept(shape, load)) + 4 * shape.vocab * load.n_logits
    return Need(weights, max(step, _gate(shape, load)), CUDA_BYTES if load.on_cuda else PROGRAM_BYTES)


def needs_by_place(model: Path) -> dict[str, int]:
    """Bytes that training a model takes with rows of the usual length, by where it runs: CPU, CUDA."""
    shape = read_config(model)
    places = {"CPU": False, "CUDA": True}
    return {place: training_need(shape, usual_load(shape, on_cuda=cuda)).total for place, cuda in places.items()}


def check_fits(rows: Sequence[TokenExample], settings: TrainSettings, shape: ModelConfig, place: Place) -> None:
    """SgError with the numbers when training these rows needs clearly more than is free."""
    _check(lambda tried: load_of(rows, tried, shape, place), settings, shape, place)


def check_expected(model: Path, lengths: RowLengths, settings: TrainSettings, place: Place) -> None:
    """`check_fits` before there are rows: by the lengths that they will have."""
    shape = read_config(model)
    _check(lambda tried: expected_load(lengths, tried, shape, place), settings, shape, place)


def adapter_numbers(model: Path, settings: TrainSettings) -> int:
    """How many numbers an adapter of the model has."""
    shape = read_config(model)
    n_layers = len(adapted_layers(shape.layers, settings.n_layers))
    return settings.rank * n_layers * sum(map(sum, map(shape.shape_of, shape.row.targets)))


def gate_bytes(model: Path) -> int:
    """The size of the parity gate's copy of the base, on the disk while it trains."""
    shape = read_config(model)
    return _gate(shape, usual_load(shape, on_cuda=False))


LoadOf = Callable[[TrainSettings], Load]


def _check(load_of: LoadOf, settings: TrainSettings, shape: ModelConfig, place: Place) -> None:
    load = load_of(settings)
    need = training_need(shape, load)
    how = "computed again" if recomputes(shape, on_cuda=place.on_cuda) else "kept"
    free = "unknown" if place.free_bytes is None else _gb(place.free_bytes)
    logger.info("memory for %d tokens a step: %s, activations %s; free %s", load.n_tokens, _gb(need.total), how, free)
    if place.free_bytes is None or need.total <= MARGIN * place.free_bytes:
        return
    parts = f"weights {_gb(need.weights)}, tokens {_gb(need.tokens)}, programs {_gb(need.programs)}"
    message = f"Training needs about {_gb(need.total)} of memory ({parts}), and {_gb(place.free_bytes)} is free."
    raise SgError(message, _hint(load_of, settings, shape, place))


def _hint(load_of: LoadOf, settings: TrainSettings, shape: ModelConfig, place: Place) -> str:
    """The largest number of rows at a time that fits, or that none does."""
    size = settings.batch_size
    while size > 1:
        size //= 2
        smaller = load_of(dataclasses.replace(settings, batch_size=size))
        if place.free_bytes is not None and training_need(shape, smaller).total <= place.free_bytes:
            times = settings.grad_accumulation * -(-settings.batch_size // size)
            return f"Fewer rows at a time fit: `train.batch_size={size}` with `train.grad_accumulation={times}`."
    return "Use a smaller model, or a machine with more memory."


def _kept(shape: ModelConfig, load: Load) -> int:
    """How many numbers the layers keep for the gradient, counted as the torch trainer's forward pass keeps them.

    token   inputs of the two pairs of products and of every norm (width); queries and keys rotated, values, attention's
            output and its copy (3 q + 2 kv), with norms of heads what these read, too; gate, up and their product
            (3 ffn); what each pair's A makes of its input (rank)
    rows    behind a prefix: keys and values of the prefix again for each group of rows; masks, which become floats
            (with capped scores they do not; there one group's scores are made again at a time)
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = [stem for stem in shape.row.norms if stem not in HEAD_NORMS]
    token = (2 + len(norms)) * shape.hidden + 3 * q + 2 * kv + 3 * shape.ffn + load.rank * len(shape.row.targets)
    if len(norms) < len(shape.row.norms):
        token += q + 2 * kv
    own = load.n_tokens - load.n_prefix
    groups = 1 + own // GROUP_TOKENS
    seen = own * (load.n_prefix + own // groups)
    rows = 2 * kv * (own + groups * load.n_prefix) if load.n_prefix else 0
    scores = 4 * shape.heads * seen // groups if shape.score_cap else 0
    layer = load.n_tokens * token + rows + (0 if shape.score_cap else seen)
    if recomputes(shape, on_cuda=load.on_cuda):
        return load.n_layers * load.n_tokens * shape.hidden + layer + scores
    return load.n_layers * layer + scores


def _gate(shape: ModelConfig, load: Load) -> int:
    """Bytes of the parity gate's copy. On CUDA it lies beside: in the host's memory."""
    if load.on_cuda:
        return 0
    whole, few = 4 * parameters(shape), len(shape.slice_layers())
    return whole if whole <= FULL_COPY_BYTES else 4 * parameters(dataclasses.replace(shape, layers=few))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
