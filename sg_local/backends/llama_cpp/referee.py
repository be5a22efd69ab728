"""Near ties, decided by numbers that do not depend on what else is computed.

Kernels sum in another order for a batch of another size, and attention for other places in the pool, so that logits of
the very same tokens differ a little with the rows beside them. (llama.cpp's attention has one kernel for batches of 64
tokens or more and another below, and both sum over a sequence's cells in the order of their places.) Where two
candidates are nearer than that, who runs beside a request would decide its answer. So such a tie is computed once more,
alone, always in the same steps from an empty pool: offline and behind a server the same tokens get the same numbers, to
the bit.

It has a context of its own, opened at the first near tie, since the other pool is in use, and no larger than the
longest question so far. A machine without memory for it leaves near ties as they fell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sg_local.backends.llama_cpp.context import Context, ContextPlan
from sg_local.backends.llama_cpp.copies import WIDE
from sg_local.backends.llama_cpp.prefix import Prefix
from sg_local.backends.llama_cpp.sampling import is_near
from sg_local.backends.llama_cpp.scoring import Scorer, ScoreRequest
from sg_local.records import SgError

NEAR_LABELS, NEAR_LABELS_QUANTISED = 0.25, 0.6
"""Nats between the best two labels below which they are nearly a tie, by the weights' format: beside other rows two of
them moved against each other by 0.13 at most in BF16, two tokens by 0.49 where activations are rounded to 8 bits."""
STEP = 32  # tokens computed at a time
ROOM = 256  # tokens of one decode: a step and a question's continuations; cells grow by as many

logger = logging.getLogger(__name__)


class Owner(Protocol):
    """Whose model it is: it tells the adapter in use."""

    def adopt(self, context: Context) -> None:
        """Let a context compute with the adapter in use."""
        ...


class SteppedPrefix(Prefix):
    """The beginning of the last question, computed in steps that are the same for any two questions that begin alike.

    Two tokens at least are left to the question: a batch of one is computed in a way of its own.
    """

    def cover(self, prompts: Sequence[Sequence[int]]) -> None:
        """Keep what the first prompt begins with in whole steps, and compute the others."""
        wanted = prompts[0][: max(0, len(prompts[0]) - 2) // STEP * STEP]
        kept = self.common(wanted) // STEP * STEP
        self._context.forget(self.sequence, kept)
        self._tokens = self._tokens[:kept]
        for start in range(kept, len(wanted), STEP):
            self._extend(wanted[: start + STEP])


class Referee:
    """Decides near ties of one model, one at a time. `vocab_size` counts its tokens, `engine` is the engine's pool.

    `format` is that of its weights (copies.weight_format).
    """

    def __init__(self, model: object, vocab_size: int, engine: Context, owner: Owner, format: str) -> None:
        self._model, self._vocab_size, self._engine, self._owner = model, vocab_size, engine, owner
        self._near = NEAR_LABELS if format in WIDE else NEAR_LABELS_QUANTISED
        self._context: Context | None = None
        self._prefix: SteppedPrefix | None = None
        self._is_fresh = False
        self._fails = False

    def settled(self, question: ScoreRequest, scores: tuple[float, ...]) -> tuple[float, ...]:
        """The scores that decide: those given or, of a question that wants it and is nearly a tie, those made alone."""
        if not question.settled or not is_near(scores, self._near):
            return scores
        if not self._ready(len(question.tokens)):
            return scores
        assert self._context is not None and self._prefix is not None
        scorer = Scorer(self._context, self._prefix, self._vocab_size)
        found = {id(question): [0.0] * len(question.continuations)}
        for part in scorer.parts(question):
            scorer.cover([part])
            scorer.score([part], found)
        return tuple(found[id(question)])

    def logits(self, tokens: list[int]) -> np.ndarray | None:
        """Logits (vocabulary,) behind these tokens, a view; None where there is no memory for them."""
        if not self._ready(len(tokens)):
            return None
        assert self._context is not None and self._prefix is not None
        self._prefix.cover([tokens])
        start = len(self._prefix)
        try:
            self._context.share(self._prefix.sequence, 1, start)
            self._context.put(tokens[start:], start, [1], wants_logits=True)
            self._context.decode()
        finally:
            self._context.discard()
            self._context.forget(1)
        row: np.ndarray = self._context.logits()[0]
        return row

    def forget_adapter(self) -> None:
        """The adapter in use has changed: nothing that was computed counts any more."""
        self._is_fresh = False

    def interrupt(self, *, wanted: bool = True) -> None:
        """End what is being computed, from another thread: it raises SgError."""
        context = self._context  # the engine's own thread may close it meanwhile
        if context is not None:
            context.interrupt(wanted=wanted)

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        if self._context is not None:
            self._context.close()
        self._context = self._prefix = None

    def _ready(self, n_tokens: int) -> bool:
        """A pool that holds so many tokens and computes with the adapter in use; False where none can be had."""
        if self._fails:
            return False
        if self._context is None or self._context.plan.n_ctx < n_tokens:
            self._open(-(-n_tokens // ROOM) * ROOM)
        if self._context is not None and not self._is_fresh:
            self._owner.adopt(self._context)
            self._context.clear()
            self._prefix = SteppedPrefix(self._context)
            self._is_fresh = True
        return self._context is not None

    def _open(self, n_ctx: int) -> None:
        self.close()
        self._is_fresh = False
        try:
            plan = ContextPlan(n_ctx, 1, self._engine.plan.n_threads, n_batch=ROOM)
            self._context = Context(self._model, self._vocab_size, plan, beside=self._engine)
        except SgError as error:
            self._fails = True
            logger.warning("near ties fall as they may: %s", error.message)
