"""What every LoRA trainer shares, in plain Python and NumPy: names, initial values, batches, schedule, normaliser.

Two trainers that take these from here see the same rows in the same order from the same starting point, so
their loss curves can be compared step by step. Nothing in this module imports an engine. The training loop
itself (checkpoints, validation, early stop) is in `sg_local.backends.training.loop`.

The adapter's canonical array names are those of an adapter GGUF: `blk.3.attn_q.weight.lora_a` with shape
(rank, n_in) and `blk.3.attn_q.weight.lora_b` with shape (n_out, rank), both float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sg_local.backends import TrainSettings
from sg_local.backends.training.precision import PRECISIONS
from sg_local.records import SgError, TokenExample

SCHEDULES = ("linear", "cosine")

# Own tokens of validation rows that the torch trainer computes at a time, unless a batch has more: enough that the
# shared prefix counts for little, and next to no memory, since nothing is kept of them.
VALID_TOKENS = 512
# Batches are sorted by length inside windows of this many steps: little padding, yet fresh company each epoch.
_WINDOW_STEPS = 8


def adapted_layers(n_model: int, settings: TrainSettings) -> range:
    """The layers of `n_model` that get an adapter: the last `n_layers`, where that is None a share of them."""
    n_layers = settings.n_layers
    if n_layers is None:
        return range(n_model - math.ceil(n_model * settings.layer_share), n_model)
    if not 1 <= n_layers <= n_model:
        raise SgError(f"Cannot adapt {n_layers} layers: the model has {n_model}.", "Leave the number out to adapt all.")
    return range(n_model - n_layers, n_model)


def init_a(name: str, rank: int, n_in: int, seed: int) -> np.ndarray:
    """The first value of `NAME.lora_a`: float32 (rank, n_in), uniform within 1/sqrt(n_in); lora_b starts at zero.

    The bound is peft's (Kaiming uniform with a = sqrt 5). The draw depends on the seed and the tensor's name
    alone, so it is the same in every engine and whichever layers are adapted.
    """
    bound = 1.0 / math.sqrt(n_in)
    return _generator("lora", seed, name).uniform(-bound, bound, (rank, n_in)).astype(np.float32)


def dropout_seed(seed: int, step: int, micro: int) -> int:
    """The seed in [0, 2**31) for a micro-batch's dropout: a function of the step, so a resumed run draws the same."""
    return int(_generator("dropout", seed, step, micro).integers(2**31))


def shared_prefix(examples: Sequence[TokenExample]) -> int:
    """How many leading tokens all rows have in common, short of the shortest prompt's last token.

    That last token stays in every row's own part because its logits predict the first answer token.
    """
    if not examples:
        return 0
    first, last = (pick(row.tokens for row in examples) for pick in (min, max))
    limit = min(row.n_prompt for row in examples) - 1
    return next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))


def valid_rows_at_a_time(n_own: float, settings: TrainSettings) -> int:
    """Validation rows that the torch trainer computes together, of so many own tokens each at most."""
    return max(settings.batch_size, int(VALID_TOKENS // max(1.0, n_own)))


def n_answer(example: TokenExample) -> int:
    """How many tokens of a row the loss is taken on."""
    return len(example.tokens) - example.n_prompt


def normaliser(examples: Sequence[TokenExample]) -> float:
    """What a step's summed weighted loss is divided by: the weighted number of answer tokens of all its rows.

    Loss of a step = sum over rows of weight * (sum of answer NLL) / normaliser(rows of the whole step), so that
    accumulating small batches gives the gradient of one large batch.
    """
    return sum(row.weight * n_answer(row) for row in examples)


@dataclass(frozen=True)
class BatchPlan:
    """Which rows make up each optimiser step: a pure function of the rows' lengths and the seed.

    A step takes `step_rows` rows (the last step of an epoch may take fewer; no row is dropped). Rows of like
    length meet: they are shuffled, sorted by length in windows, cut into steps, and the steps are shuffled.
    """

    lengths: tuple[int, ...]
    step_rows: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.lengths) / self.step_rows)

    def n_steps(self, epochs: float) -> int:
        """Optimiser steps in so many epochs, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))

    def rows(self, step: int) -> tuple[int, ...]:
        """Row indices of a step (counted from 0), longest first."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            self._epochs.clear()
            self._epochs[epoch] = self._order(epoch)
        return self._epochs[epoch][index]

    @cached_property
    def _epochs(self) -> dict[int, list[tuple[int, ...]]]:
        return {}

    def _order(self, epoch: int) -> list[tuple[int, ...]]:
        draw = _generator("order", self.seed, epoch)
        order = draw.permutation(len(self.lengths)).tolist()
        window = self.step_rows * _WINDOW_STEPS
        steps: list[tuple[int, ...]] = []
        for start in range(0, len(order), window):
            rows = sorted(order[start : start + window], key=lambda row: -self.lengths[row])
            steps += [tuple(rows[i : i + self.step_rows]) for i in range(0, len(rows), self.step_rows)]
        return [steps[i] for i in draw.permutation(len(steps))]


def plan_batches(examples: Sequence[TokenExample], settings: TrainSettings) -> BatchPlan:
    """The plan for these rows: a step takes batch_size * grad_accumulation of them."""
    lengths = tuple(len(row.tokens) for row in examples)
    return BatchPlan(lengths, settings.batch_size * settings.grad_accumulation, settings.seed)


def micro_batches(rows: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """A step's rows in parts of at most `size`, whose gradients are summed."""
    return [tuple(rows[i : i + size]) for i in range(0, len(rows), size)]


def learning_rate(step: int, n_steps: int, settings: TrainSettings) -> float:
    """The rate of a step (counted from 0): a linear rise over the warm-up share, then the schedule down to zero."""
    n_warm = math.ceil(settings.warmup * n_steps)
    if step < n_warm:
        return settings.lr * (step + 1) / n_warm
    done = (step - n_warm) / max(1, n_steps - n_warm)
    left = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr * max(left, 0.0)


def check_settings(settings: TrainSettings) -> None:
    """Raises SgError for the first setting outside its range."""
    rules = (
        ("rank", settings.rank >= 1, "at least 1"),
        ("layer_share", 0 < settings.layer_share <= 1, "above 0 and at most 1"),
        ("alpha", settings.alpha > 0, "above 0"),
        ("dropout", 0 <= settings.dropout < 1, "from 0 up to, not including, 1"),
        ("lr", settings.lr > 0, "above 0"),
        ("epochs", settings.epochs > 0, "above 0"),
        ("batch_size", settings.batch_size >= 1, "at least 1"),
        ("grad_accumulation", settings.grad_accumulation >= 1, "at least 1"),
        ("schedule", settings.schedule in SCHEDULES, " or ".join(SCHEDULES)),
        ("warmup", 0 <= settings.warmup < 1, "from 0 up to, not including, 1"),
        ("max_grad_norm", settings.max_grad_norm > 0, "above 0"),
        ("valid_every", settings.valid_every >= 1, "at least 1"),
        ("checkpoint_every", settings.checkpoint_every >= 1, "at least 1"),
        ("generations", settings.generations >= 1, "at least 1"),
        ("soft", 0 <= settings.soft <= 1, "from 0 to 1"),
        ("n_seeds", settings.n_seeds >= 1, "at least 1"),
        ("patience", settings.patience >= 0, "0 (never stop early) or more"),
        ("precision", settings.precision in PRECISIONS, " or ".join(PRECISIONS)),
        ("time_s", settings.time_s is None or settings.time_s > 0, "above 0 seconds"),
    )
    for name, holds, range_text in rules:
        if not holds:
            value = getattr(settings, name)
            raise SgError(f"{name} = {value!r} is out of range.", f"It must be {range_text}.", exit_code=2)


def check_examples(examples: Sequence[TokenExample], n_vocab: int) -> None:
    """Raises SgError for an empty set, a row without prompt or answer, or a token the model does not have."""
    if not examples:
        raise SgError("There are no rows to train on.", "Keep some rows in review first.")
    for row in examples:
        if not 0 < row.n_prompt < len(row.tokens):
            what = "prompt" if row.n_prompt < 1 else "answer"
            raise SgError(f"Row {row.id} has no {what} to train on.", "Leave the row out.")
        if not 0 <= min(row.tokens) <= max(row.tokens) < n_vocab:
            raise SgError(f"Row {row.id} holds a token outside the model's vocabulary.", "Tokenise with the same base.")
        if not row.weight > 0:
            raise SgError(
                f"Row {row.id} has the weight {row.weight}.", "Weights are above 0; leave the row out instead."
            )


def _generator(*parts: object) -> np.random.Generator:
    """A local generator seeded by the parts' text."""
    data = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(data[:16], "big"))
