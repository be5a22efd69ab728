"""A row on its way through the engine: its tokens, its sampler, its text so far, and when it ends."""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from sg_local.backends.llama_cpp.sampling import Sampler, Tools, best, log_normaliser
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.session import Token, Watch
from sg_local.records import Completion, Prompt

Finish = Literal["stop", "length", "context"]


@dataclass
class Row:
    """One prompt being completed. `tokens` are the prompt's and, as they are drawn, the new ones."""

    prompt: Prompt
    tokens: list[int]
    n_prompt: int
    sampler: Sampler
    data: bytearray = field(default_factory=bytearray)
    logprob: float = 0.0
    finish: Finish | None = None
    sequence: int = 0
    watch: Watch | None = None
    told: list[Token] = field(default_factory=list)
    error: Exception | None = None

    @classmethod
    def of(cls, prompt: Prompt, tokens: list[int], tools: Tools, watch: Watch | None = None) -> Row:
        """A row that has drawn nothing yet."""
        sampler = Sampler(tools, prompt.sampling, prompt.seed)
        return cls(prompt, list(tokens), len(tokens), sampler, watch=watch)

    @property
    def n_new(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def n_top(self) -> int:
        """The likeliest tokens that are told beside each."""
        return 0 if self.watch is None else self.watch.n_top or 0

    def completion(self) -> Completion:
        """The finished row as a record. Bytes of a character that was cut off at the end are dropped."""
        assert self.finish is not None
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self.data))
        return Completion(self.prompt.id, text, self.finish, self.n_prompt, self.n_new, self.logprob)


class Logits(Protocol):
    """Who computes a near tie once more, alone."""

    def logits(self, tokens: list[int]) -> np.ndarray | None:
        """Logits (vocabulary,) behind these tokens; None where they cannot be had."""
        ...


class Writer:
    """Draws a row's next token, adds it to the row's text, and decides whether the row has ended."""

    def __init__(self, tools: Tools, n_ctx: int, referee: Logits) -> None:
        self._vocab = tools.vocab
        self._n_ctx = n_ctx
        self._referee = referee
        self._scratch = np.empty(tools.vocab.size, np.float32)

    def write(self, rows: list[Row], logits: np.ndarray) -> None:
        """Draw for rows that stand at the same logits (vocabulary,): samples of one prompt."""
        normaliser: float | None = None
        for row in rows:
            normaliser = self._write(row, logits, normaliser)

    def _write(self, row: Row, logits: np.ndarray, normaliser: float | None) -> float | None:
        """Draw for one row; the logits' normaliser, where it is known by now."""
        if row.prompt.settled and row.sampler.is_near(logits):
            alone = self._referee.logits(row.tokens)
            if alone is not None:
                self._draw(row, alone, None)
                return normaliser
        return self._draw(row, logits, normaliser)

    def _draw(self, row: Row, logits: np.ndarray, normaliser: float | None) -> float | None:
        token = row.sampler.draw(logits)
        if token is None or token in self._vocab.ends:
            row.finish = "stop"
            return normaliser
        if normaliser is None:
            normaliser = log_normaliser(logits, self._scratch)
        row.logprob += float(logits[token]) - normaliser
        if row.watch is not None and row.watch.n_top is not None:
            row.told.append(told(self._vocab, token, logits, normaliser, row.watch.n_top))
        self._append(row, token)
        return normaliser

    def _append(self, row: Row, token: int) -> None:
        row.tokens.append(token)
        piece = self._vocab.piece(token)
        row.data += piece
        cut = first_stop(row.data, len(piece), row.prompt.sampling.stop)
        if cut is not None:
            del row.data[cut:]
            row.finish = "stop"
        elif row.n_new >= row.prompt.sampling.max_tokens:
            row.finish = "length"
        elif len(row.tokens) >= self._n_ctx:
            row.finish = "context"


def told(vocab: Vocab, token: int, logits: np.ndarray, normaliser: float, n_top: int) -> Token:
    """A token in the place that these logits (vocabulary,) are for."""
    ids = best(logits, n_top) if n_top else np.empty(0, np.int64)
    ids = ids[np.argsort(-logits[ids], kind="stable")][:n_top]
    top = tuple((vocab.piece(int(id)), float(logits[id]) - normaliser) for id in ids)
    return Token(vocab.piece(token), float(logits[token]) - normaliser, top)


class PatientWriter(Writer):
    """A writer for rows of many owners: what one row raises ends that row alone, with its `error`."""

    def _write(self, row: Row, logits: np.ndarray, normaliser: float | None) -> float | None:
        try:
            return super()._write(row, logits, normaliser)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            row.error, row.finish = error, "stop"
            return normaliser


def first_stop(data: bytearray, n_fresh: int, stops: tuple[str, ...]) -> int | None:
    """Where the first stop string begins, given that it is not within all but the last `n_fresh` bytes."""
    found = math.inf
    for stop in stops:
        needle = stop.encode("utf-8", "surrogatepass")  # half a character is never written
        at = data.find(needle, max(0, len(data) - n_fresh - len(needle) + 1)) if needle else -1
        found = min(found, at) if at >= 0 else found
    return None if found == math.inf else int(found)
