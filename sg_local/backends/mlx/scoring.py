"""log P(continuation | prompt): the prompt is computed once, and all its continuations attend to it together."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from sg_local.backends.mlx.forward import KeysValues, run_layers
from sg_local.backends.mlx.model import Model, head
from sg_local.backends.mlx.prefix import MlxPrefix


def score_continuations(
    model: Model, prefix: MlxPrefix, prompt: Sequence[int], continuations: Sequence[Sequence[int]]
) -> tuple[float, ...]:
    """Summed log-probability of each continuation (at least one token), in nats."""
    start = prefix.common(prompt)
    past = prefix.past(start)
    hidden, made = run_layers(model, mx.array([prompt[start:]]), past)
    first = _log_softmax(model, hidden[:, -1])[0]
    scores = np.array(first[mx.array([tokens[0] for tokens in continuations])], np.float64)
    width = max(map(len, continuations)) - 1
    if width:
        scores += _rest(model, [_joined(*pair) for pair in zip(past, made, strict=True)], continuations, width)
    return tuple(scores.tolist())


def _rest(
    model: Model, past: Sequence[KeysValues | None], continuations: Sequence[Sequence[int]], width: int
) -> np.ndarray:
    """The share of every token after the first. Padding stands on the right, where nothing attends to it."""
    inputs, targets = (np.zeros((len(continuations), width), np.int32) for _ in range(2))
    counts = np.zeros((len(continuations), width), np.float32)
    for i, tokens in enumerate(continuations):
        n = len(tokens) - 1
        inputs[i, :n], targets[i, :n], counts[i, :n] = tokens[:-1], tokens[1:], 1.0
    hidden, _ = run_layers(model, mx.array(inputs), past)
    logprobs = mx.take_along_axis(_log_softmax(model, hidden), mx.array(targets)[..., None], axis=-1)[..., 0]
    return np.array((logprobs * mx.array(counts)).sum(axis=-1), np.float64)


def _log_softmax(model: Model, hidden: mx.array) -> mx.array:
    logits = head(model, model.model.norm(hidden))
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _joined(old: KeysValues | None, new: KeysValues) -> KeysValues:
    if old is None:
        return new
    return mx.concatenate([old[0], new[0]], axis=2), mx.concatenate([old[1], new[1]], axis=2)
