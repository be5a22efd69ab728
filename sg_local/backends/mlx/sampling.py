"""Draws one row's tokens inside mlx-lm's BatchGenerator, from the row's own random key.

The order is llama.cpp's: penalties, top-k, top-p, min-p, temperature, draw; temperature 0 takes the best. The same
seed draws the same numbers whatever rows run beside it, but not the numbers that llama.cpp would draw. The penalties
look at the row's own last 64 new tokens, as in the llama.cpp backend. A grammar comes first: llama.cpp's own, which
needs no more of a model than its vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import llama_cpp as lib
import mlx.core as mx

from sg_local.backends.llama_cpp.sampling import PENALTY_WINDOW, Grammars
from sg_local.records import Sampling


class RowGrammar:
    """What a grammar allows one row, token by token. Close it when the row ends."""

    def __init__(self, grammars: Grammars, gbnf: str, ends: frozenset[int]) -> None:
        self._grammars, self._gbnf, self._ends = grammars, gbnf, ends
        self._sampler: object | None = grammars.open(gbnf)
        self._tokens: list[int] = []

    def constrain(self, logits: mx.array) -> mx.array:
        """Logits (1, vocabulary) with all but the allowed tokens at minus infinity."""
        if self._is_over:
            return logits
        allowed = self._grammars.allowed(self._gbnf, self._tokens, self._sampler)
        ids = mx.array(allowed if allowed.size else sorted(self._ends), mx.int32)[None]
        kept = mx.take_along_axis(logits, ids, axis=-1)
        return mx.put_along_axis(mx.full(logits.shape, -mx.inf, logits.dtype), ids, kept, axis=-1)

    def accept(self, token: int) -> None:
        """Go on to what may follow this token, which `constrain` allowed."""
        if self._is_over:
            return
        self._tokens.append(token)
        if token not in self._ends:
            lib.llama_sampler_accept(self._sampler, token)

    @property
    def _is_over(self) -> bool:
        """Whether the row has ended: mlx-lm computes one step more, which nobody reads."""
        return self._sampler is None or bool(self._tokens) and self._tokens[-1] in self._ends

    def close(self) -> None:
        """Free what llama.cpp holds for this row. Closing twice is fine."""
        if self._sampler is not None:
            lib.llama_sampler_free(self._sampler)
            self._sampler = None


class RowSampler:
    """A sampler for `BatchGenerator.insert`, and a logits processor where a penalty or a grammar is asked for.

    `logprobs` queues each drawn token's log-probability at temperature 1 without either, in the order drawn.
    """

    def __init__(self, sampling: Sampling, seed: int, grammar: RowGrammar | None = None) -> None:
        self.sampling = sampling
        self.grammar = grammar
        self.logprobs: deque[mx.array] = deque()
        self._key = mx.random.key(seed)
        self._drawn: deque[mx.array] = deque(maxlen=PENALTY_WINDOW)
        self._plain: mx.array | None = None

    @property
    def processors(self) -> list[Callable[[mx.array, mx.array], mx.array]]:
        """What `BatchGenerator.insert` takes as this row's logits processors."""
        return [self.process] if self.sampling.penalises or self.grammar is not None else []

    def process(self, _tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits (1, vocabulary) as they are drawn from; the plain ones are kept for `logprobs`."""
        self._plain = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        if self.grammar is not None:
            logits = self.grammar.constrain(logits)
        return self._penalised(logits) if self._drawn and self.sampling.penalises else logits

    def close(self) -> None:
        """Free what the row's grammar holds."""
        if self.grammar is not None:
            self.grammar.close()

    def _penalised(self, logits: mx.array) -> mx.array:
        """The row's recent tokens pushed down."""
        recent = mx.concatenate(list(self._drawn))
        picked, penalty = logits[:, recent], self.sampling.repeat_penalty
        pushed = mx.where(picked > 0, picked / penalty, picked * penalty)
        counts = (recent[:, None] == recent[None]).sum(axis=1)
        pushed = pushed - counts * self.sampling.frequency_penalty - self.sampling.presence_penalty
        return mx.put_along_axis(logits, recent[None], pushed, axis=-1)

    def __call__(self, logprobs: mx.array) -> mx.array:
        """The next token, shape (1,), from normalised log-probabilities (1, vocabulary)."""
        token = self._draw(logprobs)
        plain = logprobs if self._plain is None else self._plain
        self.logprobs.append(plain[0, token[0]])
        if self.sampling.penalises:
            self._drawn.append(token)
        if self.grammar is not None:
            self.grammar.accept(int(token))
        return token

    def _draw(self, logprobs: mx.array) -> mx.array:
        if self.sampling.temperature <= 0:
            return mx.argmax(logprobs, axis=-1)
        ids, kept = candidates(logprobs[0], self.sampling)
        self._key, key = mx.random.split(self._key)
        chosen = mx.random.categorical(kept / self.sampling.temperature, key=key)
        return (chosen if ids is None else ids[chosen])[None]


def candidates(logprobs: mx.array, sampling: Sampling) -> tuple[mx.array | None, mx.array]:
    """What top-k, top-p and min-p leave of (vocabulary,): token ids (None: all, in order) and log-probabilities.

    A token that top-p or min-p strikes out keeps its place with minus infinity.
    """
    ids, kept = None, logprobs
    if 0 < sampling.top_k < logprobs.shape[0]:
        ids = mx.argpartition(-logprobs, kth=sampling.top_k - 1)[: sampling.top_k]
        kept = logprobs[ids]
    if sampling.top_p < 1:
        order = mx.argsort(-kept)
        ids, kept = order if ids is None else ids[order], kept[order]
        shares = mx.softmax(kept)
        kept = mx.where(mx.cumsum(shares) - shares < sampling.top_p, kept, -mx.inf)
    if sampling.min_p > 0:
        kept = mx.where(kept >= kept.max() + math.log(sampling.min_p), kept, -mx.inf)
    return ids, kept
