"""Will training fit: bytes of memory that it takes, estimated from the model's shape and the rows before it starts.

The torch trainer has several ways of holding a base (`holding`); the fastest that fits well is chosen here.
The estimate follows what the trainers allocate, term by term, and is compared with measured peaks in the tests. It is
for refusing what cannot work, with numbers, instead of being ended by the system hours later; allocators and
libraries move the truth by ten percent or so, and a refusal allows for that. What a step holds and what that takes
stand in one module, long as it is: each term of the need names what the load counts.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sg_local.backends import TrainSettings
from sg_local.backends.training.holding import WHOLE, Stored, Way, stored
from sg_local.backends.training.lora import adapted_layers, n_answer, shared_prefix
from sg_local.gguf import HEAD_NORMS, ModelConfig, read_config
from sg_local.records import SgError, TokenExample

logger = logging.getLogger(__name__)

Rows = Sequence[TokenExample]

LOGIT_ROWS = 256  # answer positions whose logits exist at a time, of fewer where the vocabulary is large:
LOGIT_BYTES = 48 << 20  # that many of a vocabulary of 49k in float32; Gemma's is five times as large
# Rows attend in groups of about so many tokens: a group's mask holds (group tokens) x (prefix + group tokens) cells, of
# which other rows' cells are wasted work. Smaller groups waste less, but each keeps a copy of what the prefix gives, so
# they are for small models on a CPU.
GROUP_TOKENS, SMALL_GROUP_TOKENS = 256, 96
PROGRAM_BYTES = 450 << 20  # Python, torch, transformers, peft and llama.cpp themselves, measured on Linux
CUDA_BYTES = 1 << 30  # the CUDA context and its matrix libraries' workspaces
FULL_COPY_BYTES = 1 << 30  # up to here the parity gate's float32 copy of the base is a whole one (backends.parity)
OVERHEAD = 1.3  # what allocators hold beyond what is kept, measured with glibc
MARGIN = 1.15  # a need is refused beyond this many times what is free
BELOW_BYTES = 512 << 20  # the most that stays of the layers below the adapter,
BELOW_SHARE = 1 / 8  # and of the base's own size in float32
COMFORT = 0.85  # a way that needs at most this share of what is free is taken before one that needs less


@dataclass(frozen=True)
class Load:
    """What a step of so many rows holds at once: tokens (a shared prefix once, padding counted), how many are prefix.

    `n_answers` counts positions that go through the whole last layer, `n_logits` rows of float32 logits at a time;
    `n_layers` the layers with an adapter; `halves`: bf16 on a CPU.
    `n_below` counts the tokens of all rows, where what the layers below the adapter make of them stays.
    """

    n_rows: int
    n_tokens: int
    n_prefix: int
    n_answers: int
    n_logits: int
    rank: int
    n_layers: int
    on_cuda: bool = False
    halves: bool = False
    n_below: int = 0

    @property
    def width(self) -> int:
        """Bytes of a number of the base, and of what goes into a product with it."""
        return 2 if self.on_cuda or self.halves else 4

    @property
    def flow(self) -> int:
        """Bytes of a number between two products."""
        return 2 if self.on_cuda else 4


@dataclass(frozen=True)
class Place:
    """Where a trainer computes, and the bytes that are free there, None where nobody knows.

    `pads`: rows are padded to the longest and all answers' logits are made at once, which is how the MLX trainer works.
    `blocks` is what the base takes as blocks, None where it is whole. `halves`: a CPU computes in bfloat16.
    """

    free_bytes: int | None
    on_cuda: bool = False
    pads: bool = False
    blocks: Stored | None = None
    halves: bool = False

    def ways(self, shape: ModelConfig, n_layers: int) -> list[Way]:
        """How a base with adapters in so many layers can be held there, the fastest way first, the smallest last.

        The last layer is always kept: it is the first whose gradient is wanted. On a CPU, decoding costs a few
        hundredths of the time, a tenth where matrices are narrow; there they are whole.
        """
        if self.pads:
            return [WHOLE] if self.blocks is None else [Way(blocks=True, recomputed=max(0, n_layers - 1))]
        blocks = self.blocks is not None
        whole_too = blocks and (self.on_cuda or 4 * parameters(shape) <= FULL_COPY_BYTES)
        return [WHOLE] * whole_too + [Way(blocks, n) for n in range(max(1, n_layers))]


@dataclass(frozen=True)
class RowLengths:
    """Tokens of a usual row, where none is there yet: what all share, its own, and those of its answer among these.

    `n_rows` of them are expected.
    """

    n_prefix: int
    n_own: int
    n_answer: int
    n_rows: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes by purpose. `weights` holds base, adapter and optimiser; `tokens` what a step keeps or the gate needs."""

    weights: int
    tokens: int
    programs: int

    @property
    def total(self) -> int:
        return self.weights + self.tokens + self.programs


def load_of(rows: Rows, settings: TrainSettings, shape: ModelConfig, place: Place, valid: Rows = ()) -> Load:
    """The load of the largest step: that of the longest rows, which the batch plan lets meet.

    `valid` rows count where something stays of each row.
    """
    n_prefix = shared_prefix(rows) if settings.share_prefix else 0
    longest = sorted(rows, key=lambda row: -len(row.tokens))[: settings.batch_size]
    own = [len(row.tokens) - n_prefix for row in longest]
    n_answers = sum(map(n_answer, longest))
    n_tokens = n_prefix + (len(own) * own[0] if place.pads else sum(own))
    return Load(
        n_rows=len(own),
        n_tokens=n_tokens,
        n_prefix=n_prefix,
        n_answers=n_tokens if place.pads else n_answers,
        n_logits=3 * n_answers if place.pads else _logits_at_once(shape, n_answers),
        rank=settings.rank,
        n_layers=len(adapted_layers(shape.layers, settings)),
        on_cuda=place.on_cuda,
        halves=place.halves,
        n_below=0 if place.pads else tokens_below([*rows, *valid], settings, shape),
    )


def expected_load(lengths: RowLengths, settings: TrainSettings, shape: ModelConfig, place: Place) -> Load:
    """The load of a step of rows of usual lengths, before there are rows."""
    size, shared = settings.batch_size, lengths.n_prefix if settings.share_prefix else 0
    own = lengths.n_own + lengths.n_prefix - shared
    n_answers = size * lengths.n_answer
    n_layers = len(adapted_layers(shape.layers, settings))
    n_logits = 3 * n_answers if place.pads else 2 * min(LOGIT_ROWS, n_answers)
    n_below = 0 if place.pads else _holdable(shared + lengths.n_rows * own, settings, shape)
    n_tokens = shared + size * own
    n_answers = n_tokens if place.pads else n_answers
    return Load(
        size, n_tokens, shared, n_answers, n_logits, settings.rank, n_layers, place.on_cuda, place.halves, n_below
    )


def tokens_below(rows: Rows, settings: TrainSettings, shape: ModelConfig) -> int:
    """Tokens for which the torch trainer keeps what the layers below the adapter make of them, over all epochs: those
    of all rows, or none. It does not depend on what is free, so a resumed training computes what it would have.
    """
    n_prefix = shared_prefix(rows) if settings.share_prefix else 0
    return _holdable(n_prefix + sum(len(row.tokens) - n_prefix for row in rows), settings, shape)


def _holdable(n_tokens: int, settings: TrainSettings, shape: ModelConfig) -> int:
    n_below = shape.layers - len(adapted_layers(shape.layers, settings))
    most = min(BELOW_BYTES, 4 * parameters(shape) * BELOW_SHARE)
    return n_tokens if n_below and settings.epochs > 1 and 4 * shape.hidden * n_tokens <= most else 0


def usual_load(shape: ModelConfig, *, on_cuda: bool) -> Load:
    """The load where no rows are at hand: default settings, rows that share 256 tokens and have 64 of their own."""
    settings = TrainSettings()
    n_tokens = 256 + 64 * settings.batch_size
    n_logits = _logits_at_once(shape, LOGIT_ROWS)
    return Load(settings.batch_size, n_tokens, 256, LOGIT_ROWS, n_logits, settings.rank, shape.layers, on_cuda)


def logit_rows(n_vocab: int) -> int:
    """How many answer positions have logits at a time in the torch trainer."""
    return min(LOGIT_ROWS, max(16, LOGIT_BYTES // (4 * n_vocab)))


def _logits_at_once(shape: ModelConfig, n_answers: int) -> int:
    """Rows as long as the vocabulary: logits and their gradient, with a cap its slope."""
    return (3 if shape.logit_cap else 2) * min(logit_rows(shape.vocab), n_answers)


def group_tokens(shape: ModelConfig, *, on_cuda: bool) -> int:
    """About how many tokens attend together in the torch trainer."""
    is_small = 4 * parameters(shape) <= FULL_COPY_BYTES
    return SMALL_GROUP_TOKENS if is_small and not on_cuda else GROUP_TOKENS


def parameters(shape: ModelConfig) -> int:
    """Weights of the base: embeddings, a head of its own where it has one, and the matrices of every layer."""
    layer = sum(rows * columns for rows, columns in map(shape.shape_of, shape.row.targets))
    return shape.vocab * shape.hidden * (1 if shape.tied else 2) + shape.layers * layer


def training_need(shape: ModelConfig, load: Load, way: Way = WHOLE, blocks: Stored | None = None) -> Need:
    """What LoRA training takes one way, with w = 4 bytes a number (float32) or 2 (bfloat16: CUDA, CPUs that have it).

    weights   w for each parameter of the base, or its `blocks` as they are in the file, w for each number that is none
              and for each of the largest matrix; 16 bytes (value, gradient, Adam's two moments, all float32) for each
              of the adapter's rank * (rows + columns) over the matrices of every adapted layer
    tokens    the larger of a step and the parity gate's copy. A step: the numbers that `_kept` counts, logits, and what
              stays of the layers below the adapter. The gate: a float32 copy of the base, of few layers for a large one
    """
    base = load.width * parameters(shape)
    if way.blocks and blocks is not None:
        base = blocks.n_bytes + load.width * (blocks.n_whole + blocks.scratch)
    sides = sum(map(sum, map(shape.shape_of, shape.row.targets)))
    weights = base + 16 * load.rank * load.n_layers * sides
    step = round(OVERHEAD * load.flow * _kept(shape, load, way)) + 4 * shape.vocab * load.n_logits
    step += load.flow * shape.hidden * load.n_below
    # Of mapped blocks the gate needs those of its few layers: the others' pages are given back before.
    spared = blocks.n_bytes if way.blocks and blocks is not None and len(_gate_layers(shape)) < shape.layers else 0
    again = 4 * blocks.n_whole if load.halves and blocks is not None else 0  # the gate wants it in float32
    return Need(
        weights, max(step, _gate(shape, load) + again - spared // 2), CUDA_BYTES if load.on_cuda else PROGRAM_BYTES
    )


def needs_by_place(model: Path) -> dict[str, int]:
    """Bytes that training a model takes at least with rows of the usual length, by where it runs: CPU, CUDA."""
    shape, found = read_config(model), {}
    for name, cuda in (("CPU", False), ("CUDA", True)):
        place = Place(None, cuda, blocks=stored(model, on_cuda=cuda))
        found[name] = _least(shape, usual_load(shape, on_cuda=cuda), place)[1].total
    return found


def check_fits(rows: Rows, settings: TrainSettings, shape: ModelConfig, place: Place, valid: Rows = ()) -> Way:
    """How to train these rows. SgError with the numbers when every way needs clearly more than is free."""
    return _check(lambda tried: load_of(rows, tried, shape, place, valid), settings, shape, place)


def check_expected(model: Path, lengths: RowLengths, settings: TrainSettings, place: Place) -> Way:
    """`check_fits` before there are rows: by the lengths that they will have, and the model's own blocks."""
    shape, place = read_config(model), _with_blocks(model, place)
    return _check(lambda tried: expected_load(lengths, tried, shape, place), settings, shape, place)


def expected_need(model: Path, lengths: RowLengths, settings: TrainSettings, place: Place) -> tuple[Way, Need]:
    """How rows of these lengths will be trained, and what that takes."""
    shape, place = read_config(model), _with_blocks(model, place)
    return _chosen(shape, expected_load(lengths, settings, shape, place), place)


def _with_blocks(model: Path, place: Place) -> Place:
    return place if place.pads else dataclasses.replace(place, blocks=stored(model, on_cuda=place.on_cuda))


def adapter_numbers(model: Path, settings: TrainSettings) -> int:
    """How many numbers an adapter of the model has."""
    shape = read_config(model)
    n_layers = len(adapted_layers(shape.layers, settings))
    return settings.rank * n_layers * sum(map(sum, map(shape.shape_of, shape.row.targets)))


def gate_bytes(model: Path) -> int:
    """The size of the parity gate's copy of the base, on the disk while it trains."""
    shape = read_config(model)
    return _gate(shape, usual_load(shape, on_cuda=False))


LoadOf = Callable[[TrainSettings], Load]


def _check(load_of: LoadOf, settings: TrainSettings, shape: ModelConfig, place: Place) -> Way:
    load = load_of(settings)
    way, need = _chosen(shape, load, place)
    free = "unknown" if place.free_bytes is None else _gb(place.free_bytes)
    logger.info("memory for %d tokens a step: %s, %s; free %s", load.n_tokens, _gb(need.total), way, free)
    if place.free_bytes is None or need.total <= MARGIN * place.free_bytes:
        return way
    parts = f"weights {_gb(need.weights)}, tokens {_gb(need.tokens)}, programs {_gb(need.programs)}"
    message = f"Training needs about {_gb(need.total)} of memory ({parts}), and {_gb(place.free_bytes)} is free."
    raise SgError(message, _hint(load_of, settings, shape, place))


def _chosen(shape: ModelConfig, load: Load, place: Place) -> tuple[Way, Need]:
    """The fastest way that fits well, else the smallest, and what it needs."""
    for way in place.ways(shape, load.n_layers):
        need = training_need(shape, load, way, place.blocks)
        if place.free_bytes is None or need.total <= COMFORT * place.free_bytes:
            return way, need
    return _least(shape, load, place)


def _least(shape: ModelConfig, load: Load, place: Place) -> tuple[Way, Need]:
    """The way that needs least, the fastest of several, and what it needs."""
    needs = [(way, training_need(shape, load, way, place.blocks)) for way in place.ways(shape, load.n_layers)]
    return min(needs, key=lambda pair: pair[1].total)


def _hint(load_of: LoadOf, settings: TrainSettings, shape: ModelConfig, place: Place) -> str:
    """The largest number of rows at a time that fits, or that none does."""
    size = settings.batch_size
    while size > 1:
        size //= 2
        smaller = load_of(dataclasses.replace(settings, batch_size=size))
        if place.free_bytes is not None and _least(shape, smaller, place)[1].total <= place.free_bytes:
            times = settings.grad_accumulation * -(-settings.batch_size // size)
            return f"Fewer rows at a time fit: `train.batch_size={size}` with `train.grad_accumulation={times}`."
    return "Use a smaller model, or a machine with more memory."


def _kept(shape: ModelConfig, load: Load, way: Way = WHOLE) -> int:
    """How many numbers the layers keep for the gradient, counted as the torch trainer's forward pass keeps them.

    token   inputs of the two pairs of products and of every norm (width); queries and keys rotated, values, attention's
            output and its copy (3 q + 2 kv), with norms of heads what these read, too; gate, up and their product
            (3 ffn); what each pair's A makes of its input (rank)
    last    of the last layer, behind its attention, the positions alone whose logits are wanted
    again   of a recomputed layer its input (width), and while its gradient is made all that one layer keeps
    rows    behind a prefix: keys and values of the prefix again for each group of rows; masks, which become floats
            (with capped scores they do not; there one group's scores are made again at a time)
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = [stem for stem in shape.row.norms if stem not in HEAD_NORMS]
    read = load.width / load.flow  # what a product reads is kept as it reads it
    attending = (read + norms.count("attn_norm")) * shape.hidden + 2 * q + 2 * kv + 3 * load.rank
    behind = (read + len(norms) - norms.count("attn_norm")) * shape.hidden + read * q + (2 + read) * shape.ffn
    behind += load.rank * (len(shape.row.targets) - 3)
    if len(norms) < len(shape.row.norms):
        attending += q + 2 * kv
    own = load.n_tokens - load.n_prefix
    together = max(1, load.n_rows * group_tokens(shape, on_cuda=load.on_cuda) // max(1, own))
    groups = -(-load.n_rows // together)
    seen = own * (load.n_prefix + own // groups)
    rows = 2 * kv * (own + groups * load.n_prefix) if load.n_prefix else 0
    scores = 4 * shape.heads * seen // groups if shape.score_cap else 0
    last = load.n_tokens * attending + load.n_answers * behind + rows + (0 if shape.score_cap else seen)
    layer = last + (load.n_tokens - load.n_answers) * behind
    inputs = way.recomputed * load.n_tokens * shape.hidden
    kept = (load.n_layers - 1 - way.recomputed) * layer + last
    return round(inputs + (max(kept, layer) if way.recomputed else kept) + scores)


def _gate(shape: ModelConfig, load: Load) -> int:
    """Bytes of the parity gate's copy. On CUDA it lies beside: in the host's memory."""
    if load.on_cuda:
        return 0
    return 4 * parameters(dataclasses.replace(shape, layers=len(_gate_layers(shape))))


def _gate_layers(shape: ModelConfig) -> Sequence[int]:
    return range(shape.layers) if 4 * parameters(shape) <= FULL_COPY_BYTES else shape.slice_layers()


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
