"""The generator on MLX: mlx-lm's BatchGenerator, refilled as rows end, every row starting from the shared prefix.

A row's text does not depend on the rows beside it, except that matrix products of another batch size may round
differently. Stop strings are found in the text, so that a row may compute one token more than it keeps. Grammars are
llama.cpp's own, over the vocabulary that tokenises. Out of memory is not survived here.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from sg_local.backends import EngineSettings, available
from sg_local.backends.llama_cpp.rows import first_stop
from sg_local.backends.llama_cpp.sampling import Candidates, Grammars, gbnf_of
from sg_local.backends.mlx.adapter import apply_adapter, remove_adapter
from sg_local.backends.mlx.device import prepare_device
from sg_local.backends.mlx.prefix import MlxPrefix
from sg_local.backends.mlx.sampling import RowGrammar, RowSampler
from sg_local.backends.mlx.scoring import score_continuations
from sg_local.backends.mlx.tokens import Tokens
from sg_local.backends.mlx.weights import load_model
from sg_local.backends.session import Piece
from sg_local.backends.tails import Tail
from sg_local.gguf import GgufFile, check_adapter, read_adapter
from sg_local.records import Completion, Prompt, Score, ScoredPrompt, Segments, SgError

N_PARALLEL = 32
_PREFILL_ROWS = 8  # rows whose prompts are computed together; mlx-lm's own default
_SCORE_WINDOW = 64  # prompts looked at together for what they share


@dataclass
class MlxRow:
    """One prompt being completed. `limit` is the number of new tokens that the settings or the context allow."""

    prompt: Prompt
    tokens: list[int]
    limit: int
    sampler: RowSampler
    data: bytearray = field(default_factory=bytearray)
    n_new: int = 0
    logprob: float = 0.0
    finish: Literal["stop", "length", "context"] | None = None

    @cached_property
    def tail(self) -> Tail:
        """Its text as it is told."""
        return Tail(self)

    def completion(self) -> Completion:
        """The finished row as a record. Bytes of a character that was cut off at the end are dropped."""
        assert self.finish is not None
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self.data))
        return Completion(self.prompt.id, text, self.finish, len(self.tokens), self.n_new, self.logprob)


class MlxGenerator:
    """Writes and scores text with one GGUF on MLX. `device` says what it computes on."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.device = prepare_device(settings.n_threads)
        self._tokens = Tokens(path, settings.cache)
        self.info = self._tokens.info
        self._vocab = self._tokens.vocab
        self._grammars = Grammars(self._vocab, Candidates(self._vocab.size))
        self._n_ctx, self._n_parallel = settings.n_ctx, settings.n_parallel or N_PARALLEL
        self._model = load_model(path, keep_quantised=self.device.is_metal)
        self._prefix = MlxPrefix(self._model)

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """Token ids as llama.cpp gives them; special strings count only in trusted segments."""
        return tuple(self._vocab.tokenize(segments, bos=bos))

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """One completion per prompt, in the order they end; at most twice `n_parallel` prompts are read ahead.

        Raises SgError for a prompt that leaves no room in the context, and for a grammar that does not parse.
        """
        yield from (found for found in self.written(prompts) if isinstance(found, Completion))

    def written(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion | Piece]:
        """What `generate` gives, and each row's text as it is written."""
        source = (None if prompt is None else self._row(prompt) for prompt in prompts)
        queue: deque[MlxRow] = deque()
        running: dict[int, MlxRow] = {}
        batch = self._batch_generator()
        try:
            while True:
                if len(queue) <= self._n_parallel:
                    queue.extend(available(source, 2 * self._n_parallel - len(queue)))
                self._admit(batch, queue, running)
                if not running:
                    return
                yield from self._advance(batch, running)
        finally:
            batch.remove(list(running))
            batch.close()
            for row in (*running.values(), *queue):
                row.sampler.close()

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """One score per prompt, in the order asked. Raises SgError for a prompt beyond the context."""
        source = iter(prompts)
        while window := list(islice(source, _SCORE_WINDOW)):
            asked = [self._prompt_tokens(prompt.id, prompt.segments, 0) for prompt in window]
            self._prefix.cover(asked)
            for prompt, tokens in zip(window, asked, strict=True):
                continuations = self._continuations(prompt, tokens)
                yield Score(prompt.id, score_continuations(self._model, self._prefix, tokens, continuations))

    def use_adapter(self, path: Path | None) -> None:
        """Answer with this adapter from now on; None: the base. Raises SgError for an adapter of another base."""
        adapter = None if path is None else read_adapter(path)
        if adapter is not None:
            with GgufFile(Path(self.info.path)) as base:
                check_adapter(adapter, base, self.info.digest)
        remove_adapter(self._model)
        if adapter is not None:
            apply_adapter(self._model, adapter.pairs, adapter.alpha)
        self._prefix.clear()

    def close(self) -> None:
        """Free the model and the vocabulary. Closing twice is fine."""
        self._grammars.close()
        self._tokens.close()
        for name in ("_model", "_prefix"):  # the last hold on the arrays
            vars(self).pop(name, None)
        mx.clear_cache()

    def _batch_generator(self) -> BatchGenerator:
        return BatchGenerator(
            self._model,
            stop_tokens=[[token] for token in sorted(self._vocab.ends)],
            completion_batch_size=self._n_parallel,
            prefill_batch_size=min(_PREFILL_ROWS, self._n_parallel),
        )

    def _row(self, prompt: Prompt) -> MlxRow:
        tokens = self._prompt_tokens(prompt.id, prompt.segments, 1)
        limit = min(prompt.sampling.max_tokens, self._n_ctx - len(tokens))
        gbnf = gbnf_of(prompt.sampling)
        grammar = None if gbnf is None else RowGrammar(self._grammars, gbnf, self._vocab.ends)
        return MlxRow(prompt, tokens, limit, RowSampler(prompt.sampling, prompt.seed, grammar))

    def _prompt_tokens(self, id: str, segments: Segments, n_new: int) -> list[int]:
        tokens = self._vocab.tokenize(segments)
        if not tokens:
            # Nothing to stand on: the beginning, or the end of whatever came before.
            tokens = [self._vocab.bos if self._vocab.bos >= 0 else self._vocab.eos]
        self._check_length(id, len(tokens) + n_new)
        return tokens

    def _check_length(self, id: str, n_tokens: int) -> None:
        if n_tokens > self._n_ctx:
            message = f"Prompt {id} needs {n_tokens} tokens, the context holds {self._n_ctx}."
            raise SgError(message, "Shorten the task's instruction or examples, or raise `engine.n_ctx`.")

    def _continuations(self, prompt: ScoredPrompt, tokens: list[int]) -> list[list[int]]:
        end = [self._vocab.end(prompt.ending)] if prompt.end else []
        found = [self._vocab.continuation(prompt.segments, tokens, text) + end for text in prompt.continuations]
        if not all(found):
            raise SgError(f"Prompt {prompt.id}: a continuation without text has no probability of its own.")
        self._check_length(prompt.id, len(tokens) + max(map(len, found), default=0) - 1)
        return found

    def _admit(self, batch: BatchGenerator, queue: deque[MlxRow], running: dict[int, MlxRow]) -> None:
        """Start as many waiting rows as there is room for, each from as much of the prefix as it shares."""
        n = min(len(queue), self._n_parallel - len(running))
        if n <= 0:
            return
        self._prefix.cover([row.tokens for row in queue])
        rows = [queue.popleft() for _ in range(n)]
        starts = [self._prefix.common(row.tokens) for row in rows]
        uids = batch.insert(
            [row.tokens[start:] for row, start in zip(rows, starts, strict=True)],
            max_tokens=[row.limit for row in rows],
            caches=[self._prefix.caches(start) for start in starts],
            samplers=[row.sampler for row in rows],
            logits_processors=[row.sampler.processors for row in rows],
        )
        running.update(zip(uids, rows, strict=True))

    def _advance(self, batch: BatchGenerator, running: dict[int, MlxRow]) -> Iterator[Completion | Piece]:
        """One step of all running rows; those that end leave."""
        ended = []
        for response in batch.next_generated():
            row = running[response.uid]
            self._append(row, response.token)
            if text := row.tail.fresh():
                yield Piece(row.prompt.id, text)
            if row.finish is not None:
                ended.append(response.uid)
        batch.remove(ended)
        for uid in ended:
            row = running.pop(uid)
            row.sampler.close()
            yield row.completion()

    def _append(self, row: MlxRow, token: int) -> None:
        logprob = row.sampler.logprobs.popleft()
        if token in self._vocab.ends:
            row.finish = "stop"
            return
        row.n_new += 1
        row.logprob += float(logprob)
        piece = self._vocab.piece(token)
        row.data += piece
        cut = first_stop(row.data, len(piece), row.prompt.sampling.stop)
        if cut is not None:
            del row.data[cut:]
            row.finish = "stop"
        elif row.n_new >= row.limit:
            row.finish = "length" if row.n_new >= row.prompt.sampling.max_tokens else "context"
