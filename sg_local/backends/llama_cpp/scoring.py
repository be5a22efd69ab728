"""log P(continuation | prompt) for many prompts: one decode holds prompts and all their continuations.

A prompt's tokens belong to the sequences of all its continuations, so they are computed once; the first token of
every continuation is read from the prompt's last logits, so a continuation of one token costs nothing more. The
last token of a continuation is never computed: nothing follows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from sg_local.backends.llama_cpp.context import MAX_SEQUENCES, Context
from sg_local.backends.llama_cpp.kept import FIRST, Kept
from sg_local.backends.llama_cpp.prefix import Prefix
from sg_local.backends.llama_cpp.rows import told
from sg_local.backends.llama_cpp.sampling import log_normaliser
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.session import Token

WINDOW = 64  # prompts looked at together for what they share
MAX_ROWS = 128  # rows of logits kept from one decode: 25 MB for a vocabulary of 49,152


@dataclass
class ScoreRequest:
    """A prompt's tokens and its continuations' tokens (at least one each); `settled` as in ScoredPrompt.

    `n_shared` counts the tokens that the prompts of its task begin with, as its heads tell it (0: nothing is known).
    """

    id: str
    tokens: list[int]
    continuations: list[list[int]]
    settled: bool = False
    n_shared: int = 0


@dataclass
class Part:
    """As many of a question's continuations as one decode holds; `rows` and `sequences` follow `indices`."""

    question: ScoreRequest
    indices: list[int]
    sequences: list[int] = field(default_factory=list)
    last_row: int = 0
    rows: list[list[int]] = field(default_factory=list)

    @property
    def inner(self) -> list[list[int]]:
        """The tokens of each continuation that must be computed."""
        return [self.question.continuations[i][:-1] for i in self.indices]

    @property
    def n_sequences(self) -> int:
        """One for every continuation that is computed at all, and one for the prompt where there is none."""
        return max(1, sum(bool(tokens) for tokens in self.inner))

    @property
    def n_rows(self) -> int:
        return 1 + sum(map(len, self.inner))


class NoCells(Exception):
    """The pool has no room for a batch beside what runs."""


class Scorer:
    """Scores the questions of one iterator in the order they come. `sequences` are free for it."""

    def __init__(
        self,
        context: Context,
        prefix: Prefix,
        vocab_size: int,
        sequences: range = range(1, MAX_SEQUENCES),
        kept: Kept | None = None,
    ) -> None:
        self._context = context
        self._prefix = prefix
        self._kept = kept if kept is not None and kept.is_open else None
        self._sequences = sequences if self._kept is None else range(1, FIRST)
        self._scratch = np.empty(vocab_size, np.float32)

    def run(
        self, questions: Iterable[ScoreRequest], *, begins: bool = True
    ) -> Iterator[tuple[ScoreRequest, tuple[float, ...]]]:
        """Each question with its scores, near ties as they fell. However it is left, the pool keeps the prefix alone.

        Unless it `begins` a call, what the prefix holds is this call's own.
        """
        source = iter(questions)
        if begins:
            self._prefix.begin()
        while window := list(islice(source, WINDOW)):
            self._prefix.cover([question.tokens for question in window])
            results = {id(q): [0.0] * len(q.continuations) for q in window}
            parts = [part for question in window for part in self.parts(question)]
            while parts:
                batch = self.batch(parts)
                self._score_with_room(batch, results)
                parts = parts[len(batch) :]
            for question in window:
                yield question, tuple(results[id(question)])

    def _score_with_room(self, batch: list[Part], results: dict[int, list[float]]) -> None:
        """Prompts that are kept give way, as many as it takes, where they leave no room."""
        while True:
            try:
                return self.score(batch, results)
            except NoCells:
                if self._kept is None or not self._kept.give_up():
                    raise

    def parts(self, question: ScoreRequest) -> Iterator[Part]:
        """The question's continuations in portions that leave half a batch to the prompt."""
        portion = Part(question, [])
        for i in range(len(question.continuations)):
            grown = Part(question, [*portion.indices, i])
            too_much = grown.n_rows > self._most_rows or grown.n_sequences > len(self._sequences)
            if too_much and portion.indices:
                yield portion
                grown = Part(question, [i])
            portion = grown
        yield portion

    @property
    def _most_rows(self) -> int:
        return min(MAX_ROWS, self._context.n_batch // 2)

    def cover(self, parts: Sequence[Part]) -> None:
        """Let the prefix hold what the parts' prompts begin with."""
        self._prefix.cover([part.question.tokens for part in parts])

    def batch(self, parts: Sequence[Part]) -> list[Part]:
        """The first parts, as many as fit one decode; a part with a long prompt stands alone."""
        batch = [parts[0]]
        for part in parts[1:]:
            if not self._fits([*batch, part]):
                break
            batch.append(part)
        return batch

    def _fits(self, parts: list[Part]) -> bool:
        n_tokens = sum(len(p.question.tokens) - self._start(p) + p.n_rows - 1 for p in parts)
        n_sequences, n_rows = sum(p.n_sequences for p in parts), sum(p.n_rows for p in parts)
        return n_tokens <= self._context.n_batch and n_sequences <= len(self._sequences) and n_rows <= MAX_ROWS

    def _start(self, part: Part) -> int:
        tokens = part.question.tokens
        return min(len(tokens) - 1, self._prefix.common(tokens))

    def score(self, parts: list[Part], results: dict[int, list[float]]) -> None:
        """Add the parts' scores to the results, by id of question. Raises NoCells where other rows leave no room."""
        try:
            self._assign(parts)
            if parts[0].n_rows > self._most_rows:  # one long continuation, alone
                self._score_long(parts[0], results[id(parts[0].question)])
                return
            for part in parts:
                self._put(part)
            self._decode()
            logits = self._context.logits()
            for part in parts:
                self._read(part, logits, results[id(part.question)])
                if self._kept is not None:
                    self._kept.keep(part.question.tokens, part.sequences[0])
        finally:
            self._context.discard()
            for sequence in [sequence for part in parts for sequence in part.sequences]:
                self._context.forget(sequence)

    def _assign(self, parts: list[Part]) -> None:
        free = iter(self._sequences)
        for part in parts:
            part.sequences = list(islice(free, part.n_sequences))

    def _put(self, part: Part) -> None:
        """The prompt for all sequences, then each continuation's inner tokens for its own."""
        tokens, start = part.question.tokens, self._start(part)
        for sequence in part.sequences if start else ():
            self._context.share(self._prefix.sequence, sequence, start)
        inner = part.inner
        room = self._context.n_batch - sum(map(len, inner))
        while len(tokens) - start > room:  # alone in its batch: compute the beginning first
            self._context.put(tokens[start : start + room], start, part.sequences, wants_logits=False)
            self._decode()
            start += room
        part.rows.clear()
        part.last_row = self._ask(tokens[start:], start, part.sequences)
        own = iter(part.sequences)
        for continuation in inner:
            sequence = next(own) if continuation else 0
            at = len(tokens)
            part.rows.append([self._ask([token], at + i, [sequence]) for i, token in enumerate(continuation)])

    def _score_long(self, part: Part, scores: list[float]) -> None:
        """A continuation of more rows than are kept from one decode, in several."""
        [index], question = part.indices, part.question
        wanted, start = question.continuations[index], self._start(part)
        for sequence in part.sequences if start else ():
            self._context.share(self._prefix.sequence, sequence, start)
        behind = self._behind(question.tokens + wanted[:-1], start, len(question.tokens) - 1, part.sequences)
        scores[index] = sum(
            float(logits[token]) - log_normaliser(logits, self._scratch)
            for token, logits in zip(wanted, behind, strict=True)
        )

    def _behind(self, tokens: list[int], start: int, first: int, sequences: list[int]) -> Iterator[np.ndarray]:
        """Logits (vocabulary,) behind each token from the `first` on: views, each gone with the next.

        The tokens before `start` are there.
        """
        while start < len(tokens):
            end = min(len(tokens), start + self._most_rows)
            if start < first:
                self._context.put(tokens[start : min(first, end)], start, sequences, wants_logits=False)
            rows = [self._ask([tokens[i]], i, sequences) for i in range(max(start, first), end)]
            self._decode()
            yield from (self._context.logits()[row] for row in rows)
            start = end

    def read(self, vocab: Vocab, tokens: list[int], n_top: int) -> list[Token]:
        """Every token of a prompt, with `n_top` likeliest in its place. Raises NoCells where there is no room."""
        sequence = self._sequences[0]
        found = [Token(vocab.piece(tokens[0]), math.nan)]
        try:
            for token, logits in zip(tokens[1:], self._behind(tokens[:-1], 0, 0, [sequence]), strict=True):
                found.append(told(vocab, token, logits, log_normaliser(logits, self._scratch), n_top))
        finally:
            self._context.discard()
            self._context.forget(sequence)
        return found

    def _decode(self) -> None:
        if not self._context.decode():
            raise NoCells("the pool is full")

    def _ask(self, tokens: list[int], start: int, sequences: list[int]) -> int:
        """Put tokens whose last one's logits are wanted; their row."""
        row = self._context.put(tokens, start, sequences, wants_logits=True)
        assert row is not None, "logits were asked for"
        return row

    def _read(self, part: Part, logits: np.ndarray, scores: list[float]) -> None:
        normalisers: dict[int, float] = {}
        for index, rows in zip(part.indices, part.rows, strict=True):
            for row, token in zip([part.last_row, *rows], part.question.continuations[index], strict=True):
                if row not in normalisers:
                    normalisers[row] = log_normaliser(logits[row], self._scratch)
                scores[index] += float(logits[row, token]) - normalisers[row]
