"""Near ties, decided by numbers that do not depend on what else is computed.

Kernels sum in another order for a batch of another size, and attention for other places in the pool, so that logits of
the very same tokens differ a little with the rows beside them. (llama.cpp's attention has one kernel for batches of 64
tokens or more and another below, and both sum over a sequence's cells in the order of their places.) Where two
candidates are nearer than that, who runs beside a request would decide its answer. So such a tie is computed once more,
alone, always in the same steps from an empty pool: offline and behind a server the same tokens get the same numbers, to
the bit.

Steps that two questions have in common are computed once. One of them ends where the prompts of a task begin to differ,
as far as the question tells that, so that of a task's next question nothing but its own tokens is computed, in one
decode. A question that nobody else waits beside may so be asked here at once (`is_ready_for`): its answer is the same,
and a near tie takes no longer than others.

It has a context of its own, opened when first of use, since the other pool is in use, and no larger than the longest
question so far. A machine without memory for it leaves near ties as they fell.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol

import numpy as np

from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.copies import WIDE
from sg_local.backends.llama_cpp.prefix import Prefix
from sg_local.backends.llama_cpp.sampling import is_near
from sg_local.backends.llama_cpp.scoring import Scorer, ScoreRequest
from sg_local.records import SgError

NEAR_LABELS, NEAR_LABELS_QUANTISED = 0.25, 0.6
"""Nats between the best two labels below which they are nearly a tie, by the weights' format: beside other rows two of
them moved against each other by 0.13 at most in BF16, two tokens by 0.49 where activations are rounded to 8 bits."""
STEP = 32  # tokens computed at a time of what other prompts may begin with, too
ROOM = 256  # tokens of one decode: a step and a question's continuations; cells grow by as many
OWN_STEP = ROOM // 2  # tokens computed at a time of what is a question's own; continuations have the other half

logger = logging.getLogger(__name__)


class Owner(Protocol):
    """Whose model it is: it tells the adapter in use."""

    in_use: object | None

    def adopt(self, context: Context) -> None:
        """Let a context compute with the adapter in use."""
        ...


def step_ends(n_tokens: int, n_shared: int) -> list[int]:
    """Where steps end, in tokens from the first, in a prompt that begins with so many of its task's.

    Two tokens at least are left to the question, and to each step: a batch of one is computed in a way of its own.
    """
    most = max(0, n_tokens - 2)
    shared = min(n_shared, most)
    if shared < 2:
        return list(range(STEP, most + 1, STEP))
    return [*range(STEP, shared - 1, STEP), shared, *range(shared + OWN_STEP, most + 1, OWN_STEP)]


class SteppedPrefix(Prefix):
    """The beginning of the last question, in steps that are the same for any two questions that begin alike."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ends: list[int] = []

    def n_kept(self, tokens: Sequence[int], n_shared: int) -> int:
        """How many of these tokens have been computed in their steps already."""
        return max((end for end, _ in self._alike(tokens, step_ends(len(tokens), n_shared))), default=0)

    def step_through(self, tokens: Sequence[int], n_shared: int = 0) -> None:
        """Keep the steps that these tokens begin with, too, and compute their others."""
        ends = step_ends(len(tokens), n_shared)
        kept = len(list(self._alike(tokens, ends)))
        self._ends = ends[:kept]
        self._tokens = self._tokens[: self._ends[-1] if kept else 0]
        self._context.forget(self.sequence, len(self._tokens))
        for end in ends[kept:]:
            self._extend(tokens[:end])
            if len(self._tokens) < end:
                return
            self._ends.append(end)

    def _alike(self, tokens: Sequence[int], ends: list[int]) -> Iterator[tuple[int, int]]:
        """The ends of the first steps that are those of these tokens, twice each."""
        common = self.common(tokens)
        return takewhile(lambda pair: pair[0] == pair[1] <= common, zip(self._ends, ends, strict=False))


class Referee:
    """Decides near ties of one model, one at a time. `vocab_size` counts its tokens, `engine` is the engine's pool.

    `format` is that of its weights (copies.weight_format).
    """

    def __init__(self, model: object, vocab_size: int, engine: Context, owner: Owner, format: str) -> None:
        self._model, self._vocab_size, self._engine, self._owner = model, vocab_size, engine, owner
        self._near = NEAR_LABELS if format in WIDE else NEAR_LABELS_QUANTISED
        self._context: Context | None = None
        self._prefix: SteppedPrefix | None = None
        self._adapter: object | None = None
        self._fails = False

    def is_ready_for(self, question: ScoreRequest, *, begins: bool = False) -> bool:
        """Whether a question costs no more here than elsewhere, since what its task's prompts begin with is there.

        `begins`: no other task's prompts are about, so that it may be computed where there is nothing yet.
        """
        if question.n_shared < STEP or not question.settled or self._fails:
            return False
        prefix = self._prefix if self._adapter is self._owner.in_use else None
        if prefix is None or not len(prefix):
            return begins and self._ready(len(question.tokens))
        is_there = prefix.n_kept(question.tokens, question.n_shared) >= min(question.n_shared, len(question.tokens) - 2)
        return is_there and self._ready(len(question.tokens))

    def settled(self, question: ScoreRequest, scores: tuple[float, ...]) -> tuple[float, ...]:
        """The scores that decide: those given or, of a question that wants it and is nearly a tie, those made alone."""
        if not question.settled or not is_near(scores, self._near):
            return scores
        return self.scores(question) if self._ready(len(question.tokens)) else scores

    def scores(self, question: ScoreRequest) -> tuple[float, ...]:
        """The scores of a question that this `is_ready_for`, made alone."""
        assert self._context is not None and self._prefix is not None
        scorer = Scorer(self._context, self._prefix, self._vocab_size)
        found = {id(question): [0.0] * len(question.continuations)}
        self._prefix.step_through(question.tokens, question.n_shared)
        for part in scorer.parts(question):
            scorer.score([part], found)
        return tuple(found[id(question)])

    def logits(self, tokens: list[int]) -> np.ndarray | None:
        """Logits (vocabulary,) behind these tokens, a view; None where there is no memory for them."""
        if not self._ready(len(tokens)):
            return None
        assert self._context is not None and self._prefix is not None
        self._prefix.step_through(tokens)
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

    def leave(self, adapter: object) -> None:
        """An adapter is about to be freed: nothing that was computed with it counts any more."""
        if self._adapter is adapter:
            self.close()

    def interrupt(self, *, wanted: bool = True) -> None:
        """End what is being computed, from another thread: it raises SgError."""
        context = self._context  # the engine's own thread may close it meanwhile
        if context is not None:
            context.interrupt(wanted=wanted)

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        if self._context is not None:
            self._context.close()
        self._context = self._prefix = self._adapter = None

    def _ready(self, n_tokens: int) -> bool:
        """A pool that holds so many tokens and computes with the adapter in use; False where none can be had."""
        if self._fails:
            return False
        if self._context is None or self._context.plan.n_ctx < n_tokens:
            self._open(-(-n_tokens // ROOM) * ROOM)
        if self._context is not None and (self._prefix is None or self._adapter is not self._owner.in_use):
            self._owner.adopt(self._context)
            self._context.clear()
            self._prefix, self._adapter = SteppedPrefix(self._context), self._owner.in_use
        return self._context is not None

    def _open(self, n_ctx: int) -> None:
        self.close()
        try:
            plan = replace(self._engine.plan, n_ctx=n_ctx, n_parallel=1, n_batch=ROOM, on_node=None)
            self._context = Context(self._model, self._vocab_size, plan, beside=self._engine)
        except SgError as error:
            self._fails = True
            logger.warning("near ties fall as they may: %s", error.message)
