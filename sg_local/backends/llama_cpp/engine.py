"""The Generator over llama.cpp's low-level interface: one model, one adapter at a time, one context or several.

The module is longer than most: all of it acts on the same model, contexts and adapter, and what may not be done while
another part is at work can only be seen side by side.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import llama_cpp as lib

from sg_local.backends.llama_cpp.context import Context, Crew
from sg_local.backends.llama_cpp.copies import weight_format
from sg_local.backends.llama_cpp.kept import Kept
from sg_local.backends.llama_cpp.library import log
from sg_local.backends.llama_cpp.prefix import Prefix, shared_length
from sg_local.backends.llama_cpp.probe import GIVEN, EngineChoice
from sg_local.backends.llama_cpp.referee import Referee
from sg_local.backends.llama_cpp.replicas import FEWEST, Work, in_turn
from sg_local.backends.llama_cpp.rows import Row, Writer
from sg_local.backends.llama_cpp.sampling import Candidates, Grammars, Tools
from sg_local.backends.llama_cpp.scheduler import Scheduler, Share
from sg_local.backends.llama_cpp.scoring import Scorer, ScoreRequest
from sg_local.backends.llama_cpp.session import LlamaSession
from sg_local.backends.llama_cpp.trial import Trial, check_survives
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.session import Watch
from sg_local.gguf import GgufFile
from sg_local.gguf.adapter import check_adapter, read_adapter
from sg_local.records import Completion, ModelInfo, Prompt, Score, ScoredPrompt, Segments, SgError

logger = logging.getLogger(__name__)

Scored = tuple[ScoreRequest, tuple[float, ...]]


@dataclass(frozen=True)
class Parts:
    """What an engine is made of; it owns the model and the context from then on.

    `trial` is how adapters are tried in a process of their own before they are loaded here; None: they are not.
    `n_replicas` contexts compute side by side where there is enough to do (replicas.py).
    """

    info: ModelInfo
    model: object
    vocab: Vocab
    context: Context
    choice: EngineChoice
    trial: Trial | None = None
    n_replicas: int = 1


class LlamaGenerator:
    """Writes and scores text with one model. One `generate` or `score` at a time; close it when done.

    A completion's `logprob` and `n_tokens` count the tokens drawn before the end of sequence, the tokens of a stop
    string among them. The text is free of special tokens, but for marks of thinking. `choice` says which format runs
    and why; how far a row's text is independent of the rows around it stands in sg_local.backends.llama_cpp.scheduler.
    `reads_ids`: a prompt may be given as token ids.
    """

    reads_ids = True

    def __init__(self, parts: Parts, *, owns_model: bool = True) -> None:
        self._owns_model = owns_model
        self.info = parts.info
        self.choice = parts.choice
        self.parts = parts
        self._model, self._vocab, self._context = parts.model, parts.vocab, parts.context
        self._trial = parts.trial
        candidates = Candidates(parts.vocab.size)
        self.tools = Tools(parts.vocab, candidates, Grammars(parts.vocab, candidates))
        self._prefix = Prefix(parts.context)
        self._kept = Kept(parts.context)
        format = weight_format(Path(parts.choice.path)) if parts.choice.format == GIVEN else parts.choice.format
        self.referee = Referee(parts.model, parts.vocab.size, parts.context, self, format)
        self.adapter: object | None = None
        self.in_use: object | None = None
        self.n_replicas = parts.n_replicas
        self._replicas: list[LlamaGenerator] = [self]
        self._work: Work[Any, Any] | None = None
        self._adapter_path: Path | None = None
        self._busy = False
        self._heads: tuple[Segments, ...] = ()
        self._n_head_tokens = 0

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """Token ids as llama.cpp gives them; special strings count only in trusted segments."""
        return tuple(self._vocab.tokenize(segments, bos=bos))

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """One completion per prompt, in the order they end; at most twice `n_parallel` prompts are read ahead.

        A list of many is dealt out to the replicas, which go on while nobody reads. Raises SgError for a prompt that
        leaves no room in the context and for a grammar that does not parse.
        """
        with self._alone():
            if not self._is_worth_dealing(prompts):
                yield from self._written(prompts, self._context.plan.n_parallel)
                return
            replicas = self._begun_alike(prompts)
            n_parallel = -(-self._context.plan.n_parallel // len(replicas))
            work: Work[Prompt, Completion] = Work(
                replicas, prompts, partial(LlamaGenerator._written, n_parallel=n_parallel, begins=False)
            )
            with self._at(work):
                for _, one in work.results():
                    yield one

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """One score per prompt, in the order asked. Raises SgError for a prompt beyond the context."""
        with self._alone():
            if not self._is_worth_dealing(prompts):
                yield from map(self._settled, self._scored(prompts))
                return
            replicas = self._begun_alike(prompts)
            work: Work[ScoredPrompt, Scored] = Work(replicas, prompts, partial(LlamaGenerator._scored, begins=False))
            with self._at(work):
                yield from map(self._settled, in_turn(work.results(), work.order))

    def _written(
        self, prompts: Iterable[Prompt | None], n_parallel: int, *, begins: bool = True
    ) -> Iterator[Completion]:
        writer = Writer(self.tools, self._context.plan.n_ctx, self.referee)
        share = Share(list(range(n_parallel, 0, -1)), self._kept.give_up, self._kept)
        scheduler = Scheduler(self._context, self._prefix, writer, self._rows(prompts), share, n_parallel)
        return scheduler.run(begins=begins)

    def _scored(self, prompts: Iterable[ScoredPrompt], *, begins: bool = True) -> Iterator[Scored]:
        scorer = Scorer(self._context, self._prefix, self._vocab.size, kept=self._kept)
        return scorer.run((self.question(prompt) for prompt in prompts), begins=begins)

    def _settled(self, found: Scored) -> Score:
        question, scores = found
        return Score(question.id, self.referee.settled(question, scores))

    def _is_worth_dealing(self, prompts: object) -> TypeGuard[Sequence[Any]]:
        """Whether replicas share these prompts: a list of enough of them. One alone reads what comes bit by bit."""
        return self.n_replicas > 1 and isinstance(prompts, Sequence) and len(prompts) >= FEWEST and self._has_replicas()

    @contextmanager
    def _at(self, work: Work[Any, Any]) -> Iterator[None]:
        """While replicas are at work, so that they have ended before anything else is done to a context."""
        self._work = work
        try:
            yield
        finally:
            self._end_work()

    def _end_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.end()

    def use_adapter(self, path: Path | None) -> None:
        """Answer with this adapter from now on; None: the base. Raises SgError for an adapter of another base."""
        self._end_work()
        adapter = None if path is None else self.load_adapter(path)
        for one in self._replicas[1:]:
            one.use_adapter(path)
        self._adapter_path = path
        self.set_adapter(adapter)
        if self.adapter is not None:
            self.free_adapter(self.adapter)
        self.adapter = adapter
        self._kept.clear()
        self._prefix.clear()
        self._context.clear()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Calls that ask the same prompts: what one has read, the next need not read (backends.together)."""
        for one in self._replicas:
            one._kept.open()
        try:
            yield
        finally:
            self._end_work()
            for one in self._replicas:
                one._kept.close()

    def session(self) -> LlamaSession:
        """A session; the generator does nothing else until `release`."""
        assert self._model is not None and not self._busy, "one generate, score or session at a time"
        self._busy = True
        self._prefix.clear()
        return LlamaSession(self)

    def release(self) -> None:
        """A session has ended."""
        self._busy = False

    def try_adapter(self, path: Path) -> None:
        """Raise SgError for an adapter that cannot be loaded. It takes a while at first; any thread may call it."""
        if not path.exists():
            raise SgError(f"There is no adapter at {path}.", "Training writes RUN/adapter/adapter.gguf.")
        with GgufFile(Path(self.info.path)) as base:
            check_adapter(read_adapter(path), base, self.info.digest)
        if self._trial is not None:
            check_survives(replace(self._trial, adapter=path, gpu_layers=0))

    def load_adapter(self, path: Path) -> object:
        """An adapter that llama.cpp has loaded, the caller's to free. Raises as `try_adapter`."""
        self.try_adapter(path)
        log().clear()
        adapter: object = lib.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise SgError(f"llama.cpp cannot load the adapter {path}: {log().cause()}.")
        return adapter

    def set_adapter(self, adapter: Any) -> None:
        """Compute with a loaded adapter from now on, or without any. What was computed before stays as it is."""
        self.in_use = adapter
        self.adopt(self._context)

    def adopt(self, context: Context) -> None:
        """Let a context compute with the adapter in use."""
        adapter: Any = self.in_use
        n = 0 if adapter is None else 1
        pointers: Any = (lib.llama_adapter_lora_p_ctypes * 1)(adapter) if n else None
        scales = (ctypes.c_float * 1)(1.0) if n else None
        log().clear()
        if lib.llama_set_adapters_lora(context.pointer, pointers, n, scales):
            raise SgError(f"llama.cpp refused an adapter: {log().cause()}.")

    def free_adapter(self, adapter: object) -> None:
        """Let go of a loaded adapter that is not in use."""
        self.referee.leave(adapter)
        lib.llama_adapter_lora_free(adapter)

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        if self._model is None:
            return
        self._end_work()
        for one in self._replicas[1:]:
            one.close()
        self.tools.grammars.close()
        self.referee.close()
        self._context.close()
        if self._owns_model:
            lib.llama_model_free(self._model)
        elif self.adapter is not None:
            lib.llama_adapter_lora_free(self.adapter)
        self._model = self.adapter = None

    @property
    def n_threads(self) -> int:
        """The most threads that compute."""
        return self._context.plan.n_threads

    def limited(self, n_threads: int | None) -> None:
        """Compute with so many threads at most from the next decode on; None: with all."""
        self._context.crew.limit = n_threads

    def interrupt(self, *, wanted: bool = True) -> None:
        """End what is being computed, or else the next decode, from another thread: it raises SgError."""
        self._context.interrupt(wanted=wanted)
        self.referee.interrupt(wanted=wanted)

    def _begun_alike(self, prompts: Sequence[Prompt] | Sequence[ScoredPrompt]) -> list[LlamaGenerator]:
        """All replicas, each with what the prompts begin with, which is computed once."""
        self._prefix.begin()
        first = prompts[: 2 * self._context.plan.n_parallel]
        self._prefix.cover([self._prompt_tokens(one.id, one.segments, 0) for one in first])
        for one in self._replicas[1:]:
            one._prefix.take_over(self._prefix)
        return self._replicas

    def _has_replicas(self) -> bool:
        """All replicas are there, made when first of use; False where there is no memory for them."""
        try:
            while len(self._replicas) < self.n_replicas:
                self._replicas.append(self._replica())
        except SgError as error:
            logger.warning("one context computes alone: %s", error.message)
            self.n_replicas = len(self._replicas)
        return len(self._replicas) > 1

    def _replica(self) -> LlamaGenerator:
        """Another context of the model that computes what this one does."""
        plan, n = self._context.plan, self.n_replicas
        smaller = replace(plan, n_parallel=-(-plan.n_parallel // n), n_pools=n)
        context = Context(self._model, self._vocab.size, smaller, crew=Crew(plan.n_threads, self._context.crew))
        one = LlamaGenerator(replace(self.parts, context=context, n_replicas=1), owns_model=False)
        try:
            one.use_adapter(self._adapter_path)
        except BaseException:
            one.close()
            raise
        if self._kept.is_open:
            one._kept.open()
        return one

    def _rows(self, prompts: Iterable[Prompt | None]) -> Iterator[Row | None]:
        """Prompts as rows; samples of one prompt are tokenised once."""
        segments: Segments | None = None
        tokens: list[int] = []
        for prompt in prompts:
            if prompt is None:
                yield None
                continue
            if prompt.segments != segments:
                segments, tokens = prompt.segments, self._prompt_tokens(prompt.id, prompt.segments, 1)
            yield Row.of(prompt, tokens, self.tools)

    def row(self, prompt: Prompt, watch: Watch | None = None) -> Row:
        """A prompt as a row. Raises SgError for one that leaves no room, and for a grammar that does not parse."""
        return Row.of(prompt, self._prompt_tokens(prompt.id, prompt.segments, 1), self.tools, watch)

    def question(self, prompt: ScoredPrompt) -> ScoreRequest:
        """A scored prompt in tokens. Raises SgError for one beyond the context and for an empty continuation."""
        tokens = self._prompt_tokens(prompt.id, prompt.segments, 0)
        end = [self._vocab.end(prompt.ending)] if prompt.end else []
        continuations = [self._vocab.continuation(prompt.segments, tokens, text) + end for text in prompt.continuations]
        if not all(continuations):
            raise SgError(f"Prompt {prompt.id}: a continuation without text has no probability of its own.")
        self._check_length(prompt.id, len(tokens) + max(map(len, continuations), default=0) - 1)
        return ScoreRequest(prompt.id, tokens, continuations, prompt.settled, self._n_shared(prompt.heads))

    def _n_shared(self, heads: tuple[Segments, ...]) -> int:
        """How many tokens these prompts begin with alike; the last ones are remembered."""
        if heads != self._heads:
            self._heads, self._n_head_tokens = heads, len(self.beginning(heads))
        return self._n_head_tokens

    def beginning(self, heads: tuple[Segments, ...]) -> list[int]:
        """The tokens that several prompts begin with, each less its last; none of fewer than two."""
        tokens = [self._vocab.tokenize(head) for head in heads]
        return tokens[0][: shared_length(tokens)] if len(heads) > 1 else []

    def _prompt_tokens(self, id: str, segments: Segments, n_new: int) -> list[int]:
        tokens = self._vocab.tokenize(segments)
        if not tokens:
            # Nothing to stand on: the beginning, or the end of whatever came before.
            tokens = [self._vocab.bos if self._vocab.bos >= 0 else self._vocab.eos]
        self._check_length(id, len(tokens) + n_new)
        return tokens

    def _check_length(self, id: str, n_tokens: int) -> None:
        if n_tokens > self._context.plan.n_ctx:
            message = f"Prompt {id} needs {n_tokens} tokens, the context holds {self._context.plan.n_ctx}."
            raise SgError(message, "Shorten the task's instruction or examples, or raise `engine.n_ctx`.")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        assert self._model is not None, "the engine is closed"
        assert not self._busy, "one generate or score at a time: they share the pool"
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
