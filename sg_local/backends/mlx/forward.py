"""The training loss of a micro-batch: the tokens that its rows share are computed once, and only answers get logits.

The shared prefix runs as a batch of one; every row then attends to its keys and values, through which gradients flow.
The result is that of full rows (tested to 1e-4 relative on the gradient in float32), except that dropout draws one mask
for the prefix instead of one per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import create_attention_mask

from sg_local.backends.mlx.model import Model, embedded, head, mask_of
from sg_local.backends.training.lora import shared_prefix
from sg_local.records import TokenExample

KeysValues = tuple[mx.array, mx.array]


@dataclass(frozen=True)
class Batch:
    """Rows as arrays. `prefix` is (1, P); `inputs` (rows, S), padded on the right with 0.

    `places` (n,) are positions in the flattened inputs whose next token is an answer token; `targets` (n,) are those
    tokens and `weights` (n,) their rows' weights. `n_tokens` counts computed tokens without padding.
    """

    prefix: mx.array
    inputs: mx.array
    places: mx.array
    targets: mx.array
    weights: mx.array
    n_tokens: int


def make_batch(rows: Sequence[TokenExample], *, share_prefix: bool) -> Batch:
    """The rows with their common prefix apart; alone, or with `share_prefix` off, a row keeps it to itself."""
    n_shared = shared_prefix(rows) if share_prefix and len(rows) > 1 else 0
    width = max(len(row.tokens) for row in rows) - 1 - n_shared
    inputs = np.zeros((len(rows), width), np.int32)
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for i, row in enumerate(rows):
        own = row.tokens[n_shared:-1]
        inputs[i, : len(own)] = own
        places += range(i * width + row.n_prompt - 1 - n_shared, i * width + len(own))
        targets += row.tokens[row.n_prompt :]
        weights += [row.weight] * (len(row.tokens) - row.n_prompt)
    return Batch(
        prefix=mx.array([rows[0].tokens[:n_shared]], mx.int32),
        inputs=mx.array(inputs),
        places=mx.array(places),
        targets=mx.array(targets),
        weights=mx.array(weights, mx.float32),
        n_tokens=n_shared + sum(len(row.tokens) - 1 - n_shared for row in rows),
    )


def summed_loss(model: Model, batch: Batch, *, recompute: bool = False) -> mx.array:
    """The weighted sum of the answers' negative log-likelihoods, a float32 scalar.

    `recompute` keeps no activations inside the layers and computes them again for the gradient: less memory, more work.
    """
    past: Sequence[KeysValues | None] = [None] * len(model.layers)
    if batch.prefix.size:
        _, past = run_layers(model, batch.prefix, past, recompute=recompute)
    hidden, _ = run_layers(model, batch.inputs, past, recompute=recompute)
    answers = hidden.reshape(-1, hidden.shape[-1])[batch.places]
    losses = nn.losses.cross_entropy(head(model, model.model.norm(answers)), batch.targets)
    return (losses * batch.weights).sum()


def logits(model: Model, tokens: Sequence[int], layers: Sequence[int]) -> np.ndarray:
    """Float32 logits (tokens, vocabulary) of the model reduced to these layers."""
    hidden = embedded(model, mx.array([tokens]))
    for layer in layers:
        hidden, _ = _run(model, layer, hidden, None)
    return np.array(head(model, model.model.norm(hidden))[0])


def run_layers(
    model: Model, tokens: mx.array, past: Sequence[KeysValues | None], *, recompute: bool = False
) -> tuple[mx.array, list[KeysValues]]:
    """The last layer's hidden states (rows, tokens, width) before the norm, and each layer's own keys and values.

    `past` holds each layer's keys and values of what all rows follow (batch of one or of `rows`), or None.
    """
    hidden = embedded(model, tokens)
    made = []
    for index, old in enumerate(past):
        run = _recomputed if recompute and model.layers[index].trainable_parameters() else _run
        hidden, new = run(model, index, hidden, old)
        made.append(new)
    return hidden, made


class _Past:
    """A prefix's keys and values as the cache that mlx-lm's attention takes: read only, remembering what it made."""

    def __init__(self, past: KeysValues | None) -> None:
        self.past = past
        self.offset = 0 if past is None else past[0].shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        self.made = keys, values
        if self.past is None:
            return keys, values
        rows = keys.shape[0]
        old = [mx.broadcast_to(array, (rows, *array.shape[1:])) for array in self.past]
        return mx.concatenate([old[0], keys], axis=2), mx.concatenate([old[1], values], axis=2)

    def make_mask(self, n_tokens: int, *, return_array: bool, window_size: int | None) -> Any:
        return create_attention_mask(n_tokens, self.offset, return_array, window_size)


def _run(model: Model, index: int, hidden: mx.array, past: KeysValues | None) -> tuple[mx.array, KeysValues]:
    cache: Any = _Past(past)
    return model.layers[index](hidden, mask=mask_of(model.shape, index, hidden, cache), cache=cache), cache.made


def _recomputed(model: Model, index: int, hidden: mx.array, past: KeysValues | None) -> tuple[mx.array, KeysValues]:
    """`_run` under MLX's checkpointing, which sees gradients only for what comes in as an argument."""
    layer = model.layers[index]

    def inner(parameters: dict[str, Any], hidden: mx.array, past: KeysValues | None) -> tuple[mx.array, KeysValues]:
        layer.update(parameters)
        return _run(model, index, hidden, past)

    return mx.checkpoint(inner)(layer.trainable_parameters(), hidden, past)
