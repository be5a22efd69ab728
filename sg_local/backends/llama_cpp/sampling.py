"""Draws one row's tokens from logits: llama.cpp's sampler chain, fed with only the candidates that can matter.

The chain is penalties, top-k, top-p, min-p, temperature, then a draw with the row's own seed, as in llama.cpp's
common sampler; temperature 0 takes the best. A chain over a whole vocabulary costs most of its time in copying and
sorting, so with top-k on it gets only tokens that can be among the best k: exactly the same result. The
penalties look at the row's own last 64 new tokens, not at its prompt. A grammar comes first; what it allows depends
on the tokens so far alone and is remembered across rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp as lib
import numpy as np

from sg_local.backends.llama_cpp.library import captured_stderr
from sg_local.backends.llama_cpp.schema import grammar_of
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.records import Sampling, SgError

PENALTY_WINDOW = 64  # llama.cpp's default for penalty_last_n
STRIDE = 64
KEPT_STATES, KEPT_TOKENS = 4096, 2048
KEPT_GRAMMARS = 64
NEAR = 0.1
"""Nats between the two likeliest tokens below which they are nearly a tie. Beside other rows two tokens moved against
each other by 0.03 in the root mean square and 0.11 at most (embedded model, BF16); where activations are rounded to 8
bits, by 0.15 and 0.49. A wider bound would cost more than the text itself: most rows meet one."""
TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """Scratch memory in which llama.cpp's samplers work: (id, logit, probability) triples."""

    def __init__(self, vocab_size: int) -> None:
        self._data = np.zeros(vocab_size, TOKEN_DATA)
        self._all = np.arange(vocab_size, dtype=np.int32)
        self._pointer = ctypes.cast(self._data.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        self._array: Any = lib.llama_token_data_array()

    def choose(self, chain: object, row: np.ndarray, ids: np.ndarray | None) -> int:
        """Run the chain over these ids (None: all) with their logits; the chosen token."""
        self._run(chain, row, ids)
        return int(self._array.data[self._array.selected].id)

    def allowed(self, grammar: object) -> np.ndarray:
        """Ids that a grammar sampler lets pass."""
        self._run(grammar, np.zeros(self._all.size, np.float32), None)
        found: np.ndarray = self._all[np.isfinite(self._data["logit"])]
        return found

    def _run(self, sampler: object, row: np.ndarray, ids: np.ndarray | None) -> None:
        ids = self._all if ids is None else ids
        data = self._data[: ids.size]
        data["id"], data["logit"], data["p"] = ids, row[ids], 0.0
        self._array.data, self._array.size = self._pointer, ids.size
        self._array.selected, self._array.sorted = -1, False
        lib.llama_sampler_apply(sampler, ctypes.byref(self._array))


class Grammars:
    """GBNF grammars compiled once, and the tokens that each allows after some tokens."""

    def __init__(self, vocab: Vocab, candidates: Candidates) -> None:
        self._vocab = vocab
        self._candidates = candidates
        self._compiled: dict[str, object] = {}  # the last used is the last
        self._allowed: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def open(self, text: str) -> object:
        """A fresh grammar sampler, the caller's to free. Raises SgError for text that is no GBNF."""
        sampler = self._compiled.pop(text, None) or self._compile(text)
        self._compiled[text] = sampler
        if len(self._compiled) > KEPT_GRAMMARS:
            self._forget(next(iter(self._compiled)))
        return lib.llama_sampler_clone(sampler)

    def _forget(self, text: str) -> None:
        """Free a grammar and what it is known to allow: a server meets more of them than can be kept."""
        lib.llama_sampler_free(self._compiled.pop(text))
        self._allowed = {key: ids for key, ids in self._allowed.items() if key[0] != text}

    def allowed(self, text: str, tokens: list[int], sampler: object) -> np.ndarray:
        """Ids allowed next, where `sampler` has accepted `tokens`."""
        key = (text, tuple(tokens))
        found = self._allowed.get(key)
        if found is None:
            found = self._candidates.allowed(sampler)
            if found.size <= KEPT_TOKENS and len(self._allowed) < KEPT_STATES:
                self._allowed[key] = found
        return found

    def close(self) -> None:
        for sampler in self._compiled.values():
            lib.llama_sampler_free(sampler)
        self._compiled.clear()

    def _compile(self, text: str) -> object:
        with captured_stderr() as lines:
            sampler = lib.llama_sampler_init_grammar(self._vocab.pointer, text.encode(), b"root")
        if sampler:
            return sampler
        reason = next((line.rpartition("grammar: ")[2] for line in lines if "grammar: " in line), "it does not parse")
        raise SgError(f"The grammar cannot be used: {reason}.", "It must be GBNF with a rule named root.")


@dataclass(frozen=True)
class Tools:
    """What the samplers of one engine share."""

    vocab: Vocab
    candidates: Candidates
    grammars: Grammars


class Sampler:
    """Draws the tokens of one row. Close it when the row ends."""

    def __init__(self, tools: Tools, sampling: Sampling, seed: int) -> None:
        self._tools = tools
        self._sampling = sampling
        self._tokens: list[int] = []
        self._allowed: np.ndarray | None = None
        self._penalised = sampling.penalises
        self._gbnf = gbnf_of(sampling)
        self._grammar = None if self._gbnf is None else tools.grammars.open(self._gbnf)
        greedy = sampling.temperature <= 0 and not self._penalised
        self._chain = None if greedy else _chain(sampling, seed, tools.vocab.size)

    def draw(self, row: np.ndarray) -> int | None:
        """The next token from its logits (vocabulary,); None where the grammar allows nothing more."""
        ids = self._candidates(row)
        if ids is not None and ids.size == 0:
            return None
        if self._chain is None:
            token = int(row.argmax()) if ids is None else int(ids[row[ids].argmax()])
        else:
            token = self._tools.candidates.choose(self._chain, row, ids)
        self._accept(token)
        return token

    def is_near(self, row: np.ndarray) -> bool:
        """Whether the best token is taken and another one is nearly as likely."""
        if self._chain is not None:
            return False
        ids = self._candidates(row)
        among = row[best(row, 2)] if ids is None else row[ids]
        return is_near(np.partition(among, -2)[-2:].tolist(), NEAR) if among.size > 1 else False

    def close(self) -> None:
        """Free what llama.cpp holds for this row. Closing twice is fine."""
        for sampler in (self._chain, self._grammar):
            if sampler is not None:
                lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _candidates(self, row: np.ndarray) -> np.ndarray | None:
        """Ids among which the chain's choice must lie; None for all."""
        sampling = self._sampling
        if self._gbnf is not None:
            if self._allowed is None:
                self._allowed = self._tools.grammars.allowed(self._gbnf, self._tokens, self._grammar)
            return self._allowed
        if self._chain is None or sampling.top_k <= 0 and sampling.temperature > 0:
            return None
        wanted = max(1, sampling.top_k if sampling.temperature > 0 else 1)
        if not self._penalised:
            return best(row, wanted)
        # A penalty can push down at most PENALTY_WINDOW of the best, or lift recent tokens among them.
        recent = np.array(self._tokens[-PENALTY_WINDOW:], np.int64)
        return np.union1d(best(row, wanted + PENALTY_WINDOW), recent)

    def _accept(self, token: int) -> None:
        self._tokens.append(token)
        self._allowed = None
        if self._chain is not None:
            lib.llama_sampler_accept(self._chain, token)
        if self._grammar is not None:
            lib.llama_sampler_accept(self._grammar, token)


def gbnf_of(sampling: Sampling) -> str | None:
    """The grammar of a completion, its own or its schema's; None where it is free."""
    if sampling.grammar is not None or sampling.schema is None:
        return sampling.grammar
    return grammar_of(sampling.schema)


def is_near(scores: Sequence[float], bound: float) -> bool:
    """Whether the best two are nearer than that."""
    if len(scores) < 2:
        return False
    second, first = sorted(scores)[-2:]
    return first - second < bound


def best(row: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k largest logits and perhaps a few more, in rising order of id.

    The k-th largest of the maxima of disjoint groups is no greater than the k-th largest of all.
    """
    n_groups = row.size // STRIDE
    if k >= n_groups:
        return np.arange(row.size)
    peaks = row[: n_groups * STRIDE].reshape(STRIDE, n_groups).max(axis=0)
    threshold = np.partition(peaks, n_groups - k)[n_groups - k]
    return np.flatnonzero(row >= threshold)


def log_normaliser(row: np.ndarray, scratch: np.ndarray) -> float:
    """log of the sum of exp over a row of logits; `scratch` is overwritten and has the row's shape."""
    peak = row.max()
    np.subtract(row, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return float(peak) + float(np.log(scratch.sum()))


def _chain(sampling: Sampling, seed: int, vocab_size: int) -> object:
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in _steps(sampling, seed, vocab_size):
        lib.llama_sampler_chain_add(chain, sampler)
    return chain


def _steps(sampling: Sampling, seed: int, vocab_size: int) -> list[object]:
    steps = []
    if sampling.penalises:
        penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        steps.append(lib.llama_sampler_init_penalties(vocab_size, PENALTY_WINDOW, *penalties))
    if sampling.temperature <= 0:
        return [*steps, lib.llama_sampler_init_greedy()]
    if sampling.top_k > 0:
        steps.append(lib.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        steps.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
    # Seed 2**32 - 1 means "random" to llama.cpp.
    return [
        *steps,
        lib.llama_sampler_init_temp(sampling.temperature),
        lib.llama_sampler_init_dist(seed % (2**32 - 1)),
    ]
