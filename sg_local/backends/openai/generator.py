"""The Generator over an endpoint: many requests at a time, each answered there or, where that would lie, here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sg_local.backends import Beside, EngineSettings, Generator
from sg_local.backends.openai.address import Access, Address, check_reach
from sg_local.backends.openai.asks import (
    Echoed,
    Misread,
    Sent,
    choice_of,
    clean,
    echo_body,
    logprobs_of,
    read_written,
    written_body,
)
from sg_local.backends.openai.calls import Caller, Refused
from sg_local.backends.openai.offer import Offer, Probe, find_offer
from sg_local.backends.openai.speech import Speech
from sg_local.backends.openai.vocabulary import Vocabulary
from sg_local.home import cache_folder
from sg_local.records import Completion, Prompt, Score, ScoredPrompt, Segment, Segments, SgError
from sg_local.words import shown

logger = logging.getLogger(__name__)

N_AT_ONCE = 16
NO_ROOM = "Shorten the task's instruction or examples, or raise `engine.n_ctx`."

R = TypeVar("R")


@dataclass(frozen=True)
class Scored:
    """A prompt that is scored at the endpoint: what is sent for each continuation, and where that one lies in it."""

    prompt: ScoredPrompt
    sent: tuple[Sent, ...]
    places: tuple[tuple[int, int], ...]


class EndpointGenerator:
    """Writes and scores at an endpoint with the base; `address` is where. Close it when done.

    Tokens are those of the base's own GGUF, which also answers here what the endpoint cannot: under an adapter, held to
    a grammar, with penalties, or behind a prompt that the endpoint would read as other tokens.
    """

    def __init__(
        self, model: Path, settings: EngineSettings, address: Address, access: Access, beside: Beside | None = None
    ) -> None:
        self._model, self._settings, self._access = model, settings, access
        self._beside = beside or Beside(replace(settings, endpoint="", n_parallel=None))
        self.address = address
        self._vocabulary = Vocabulary(model, cache_folder(settings.cache))
        self.info = self._vocabulary.info
        self._caller = Caller(address, access.key, settings.endpoint_timeout_s)
        self._adapter: Path | None = None
        self._here: Generator | None = None

    @cached_property
    def _speech(self) -> Speech:
        """How it is asked. Raises SgError for an endpoint that may not be."""
        check_reach(self.address, self._access.reach)
        return Speech.with_endpoint(self._caller, self._settings.n_ctx)

    @cached_property
    def offer(self) -> Offer:
        """What the endpoint offers, asked for the first time. Raises SgError for one that cannot or may not be used."""
        found = find_offer(Probe(self._speech, self._vocabulary, self._model.stem), self._settings.endpoint_model)
        if found.n_ctx is not None and found.n_ctx < self._settings.n_ctx:
            message = f"The endpoint's context holds {found.n_ctx} tokens, and {self._settings.n_ctx} are to be had."
            raise SgError(message, f"Set it: `engine.n_ctx={found.n_ctx}`.", exit_code=2)
        return found

    @property
    def scores_there(self) -> bool:
        """Whether the endpoint scores."""
        return self.offer.skipped is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What people are told before it works: who writes, and what it lacks."""
        counts = f", {self.offer.counts} agrees on tokens" if self.offer.counts else ""
        who = f"endpoint: {self.address}, model {shown(self.offer.model)}, {self._n_at_once} requests at a time{counts}"
        return (who, *self.offer.lacks)

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """Token ids of the base's vocabulary; special strings count only in trusted segments."""
        return tuple(self._vocabulary.tokenize(segments, bos=bos))

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """One completion per prompt, as each one ends. Raises SgError for a prompt that leaves no room."""
        if self._adapter is not None:
            yield from self.here.generate(prompts)
            return
        left: list[Prompt] = []

        def calls() -> Iterator[Callable[[], Completion] | None]:
            for prompt in prompts:
                if prompt is None:
                    yield None
                    continue
                call = self._written(prompt)
                if call is None:
                    left.append(prompt)
                else:
                    yield call

        yield from self._together(calls())
        if left:
            logger.info("%d prompts are answered on this machine", len(left))
            yield from self.here.generate(left)

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """One score per prompt. Raises SgError for a prompt beyond the context and for an empty continuation."""
        if self._adapter is not None or not self.scores_there:
            yield from self.here.score(prompts)
            return
        left: list[ScoredPrompt] = []

        def calls() -> Iterator[Callable[[], Score]]:
            for prompt in prompts:
                found = self._scored(prompt)
                if found is None:
                    left.append(prompt)
                else:
                    yield lambda found=found: self._score(found)  # type: ignore[misc]

        yield from self._together(calls())
        if left:
            logger.info("%d prompts are scored on this machine", len(left))
            yield from self.here.score(left)

    def use_adapter(self, path: Path | None) -> None:
        """Answer with this adapter from now on, on this machine; None: the base, at the endpoint."""
        if path is not None or self._here is not None:
            self.here.use_adapter(path)
        self._adapter = path

    @property
    def here(self) -> Generator:
        """llama.cpp with the base's file on this machine, loaded on first use."""
        if self._here is None:
            from sg_local.backends import llama_cpp

            self._here = llama_cpp.open_generator(self._model, self._beside.settings)
            self._beside.opened()
        return self._here

    @property
    def choice(self) -> Any:
        """What llama.cpp on this machine runs; None before it is needed."""
        return getattr(self._here, "choice", None)

    @property
    def n_replicas(self) -> int:
        """In how many contexts llama.cpp on this machine computes."""
        n: int = getattr(self._here, "n_replicas", 1)
        return n

    def session(self) -> Any:
        """A server's session: on this machine alone."""
        from sg_local.backends.llama_cpp import LlamaGenerator

        assert isinstance(self.here, LlamaGenerator)
        return self.here.session()

    def close(self) -> None:
        """Let go of everything. Closing twice is fine."""
        self._caller.stop()
        self._vocabulary.close()
        if self._here is not None:
            self._here.close()
            self._here = None

    # Requests

    @property
    def _n_at_once(self) -> int:
        return self._settings.n_parallel or N_AT_ONCE

    def _together(self, calls: Iterator[Callable[[], R] | None]) -> Iterator[R]:
        """The results as they come, with so many calls under way; None among them: no more for now."""
        pool = ThreadPoolExecutor(self._n_at_once, "endpoint")
        running: set[Future[R]] = set()
        is_over = False
        try:
            while running or not is_over:
                while not is_over and len(running) < self._n_at_once:
                    try:
                        call = next(calls)
                    except StopIteration:
                        is_over = True
                        break
                    if call is None:
                        break
                    running.add(pool.submit(call))
                done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), running)
                for one in done:
                    yield one.result()
        except BaseException:
            self._caller.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._caller.resume()

    def _written(self, prompt: Prompt) -> Callable[[], Completion] | None:
        """The call that asks for a completion; None for a prompt that must be answered here."""
        ids, sampling = self._vocabulary.prompt(prompt.segments), prompt.sampling
        self._check_length(prompt.id, len(ids) + 1)
        room = self._settings.n_ctx - len(ids)
        sent = self._sent(prompt.segments, ids)
        unlike = sampling.grammar or sampling.schema or sampling.penalises or sampling.min_p
        if sent is None or unlike:
            return None
        cut = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        offer = self.offer
        body = written_body(offer.model, sent, cut, prompt.seed, offer.fields, self._vocabulary.ends)
        return lambda: self._read(body, lambda reply: read_written(reply, prompt, len(ids)))

    def _scored(self, prompt: ScoredPrompt) -> Scored | None:
        """What is sent for a scored prompt; None where a continuation must be scored here."""
        ids = self._vocabulary.prompt(prompt.segments)
        continuations = self._vocabulary.continuations(prompt, ids)
        if not all(continuations):
            raise SgError(f"Prompt {prompt.id}: a continuation without text has no probability of its own.")
        longest = len(ids) + max(map(len, continuations), default=0)
        self._check_length(prompt.id, longest - 1)
        if longest + 1 > self._settings.n_ctx:  # an echo takes the last token too, and one more that is written
            return None
        ending = self._vocabulary.ending(prompt)
        sent = []
        for text, tokens in zip(prompt.continuations, continuations, strict=True):
            whole = (*prompt.segments, Segment(text, trusted=False), *((Segment(ending),) if ending else ()))
            one = self._sent(whole, [*ids, *tokens])
            if one is None:
                return None
            sent.append(one)
        return Scored(prompt, tuple(sent), tuple((len(ids), len(ids) + len(tokens)) for tokens in continuations))

    def _score(self, scored: Scored) -> Score:
        offer, found = self.offer, []
        for sent, (start, end) in zip(scored.sent, scored.places, strict=True):
            skipped = offer.skipped or 0

            def read(reply: dict[str, Any], start: int = start - skipped, end: int = end - skipped) -> float:
                return Echoed(logprobs_of(choice_of(reply))).of(start, end)

            found.append(self._read(echo_body(offer.model, sent), read))
        return Score(scored.prompt.id, tuple(found))

    def _sent(self, segments: Segments, ids: list[int]) -> Sent | None:
        """A prompt as the endpoint reads it as these ids; None where it would not."""
        if self.offer.takes_ids:
            return ids
        text = "".join(segment.text for segment in segments)
        read = self._vocabulary.prompt((Segment(text, trusted=self.offer.reads_specials),))
        return clean(text) if read == ids else None

    def _read(self, body: dict[str, Any], read: Callable[[dict[str, Any]], R]) -> R:
        """What one request brings. Raises SgError where the endpoint will not, or says what makes no sense."""
        try:
            return read(self._speech.complete(body))
        except Refused as error:
            hint = "Its log may say more. Finished rows are kept: run the same command again to continue."
            raise SgError(f"The endpoint {self.address} refused a request: {error}.", hint) from error
        except Misread as error:
            hint = "Finished rows are kept: run the same command again to continue."
            raise SgError(f"The endpoint {self.address} answered what cannot be used: {error}.", hint) from error

    def _check_length(self, id: str, n_tokens: int) -> None:
        if n_tokens > self._settings.n_ctx:
            raise SgError(f"Prompt {id} needs {n_tokens} tokens, the context holds {self._settings.n_ctx}.", NO_ROOM)
