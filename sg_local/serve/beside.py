"""What a server asks of its own engine beside the requests: first prompts, and the rows that calibrate a run.

They go through the worker as requests do, so that nobody waits for them longer than for another client.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from sg_local.backends import Generator
from sg_local.backends.session import Ask, Ended, Lane
from sg_local.records import Completion, Prompt, Sampling, Score, ScoredPrompt, Segment, Segments
from sg_local.serve.answers import ServeSettings, Service, task_ask
from sg_local.serve.ensemble import AT_ONCE
from sg_local.serve.worker import Order, Result, Ticket, Worker

MOST_WARM = 16
"""Models that are met beforehand; with more adapters the engine would forget the first ones again."""


def warm(worker: Worker, services: Iterable[Service], settings: ServeSettings) -> None:
    """Let the engine load each model's adapter and compute what its prompts begin with, before anybody asks.

    Nothing is waited for. What is wrong with a model is told to the first who asks it.
    """
    for service in islice(services, MOST_WARM):
        worker.submit(Order(functools.partial(_first, service, settings), service.lane))


def _built(ask: Ask, generator: Generator) -> Ask:
    return ask


def _first(service: Service, settings: ServeSettings, generator: Generator) -> Ask:
    shortest = Sampling(max_tokens=1)
    if service.task is None or service.form is None:
        return Prompt("", (Segment("a", trusted=False),), shortest)
    return task_ask(generator, service.task, service.form, "a", service.settings or settings, sampling=shortest)


class ThroughWorker:
    """A generator whose asks are computed beside a worker's requests; `use_adapter` is for its own asks alone.

    Any thread may ask, but for the engine's own. Raises SgError once the worker has closed.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lane = Lane(None)
        self.info = worker.generator.info

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        """Token ids, as the engine's own."""
        return self._worker.generator.tokenize(segments, bos=bos)

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        """One completion per prompt, in order."""
        for prompt, found in self._results(prompt for prompt in prompts if prompt is not None):
            assert isinstance(found, Ended)
            yield dataclasses.replace(found.completion, prompt_id=prompt.id)

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        """One score per prompt, in order."""
        for prompt, found in self._results(prompts):
            assert isinstance(found, Score)
            yield Score(prompt.id, found.logprobs)

    def use_adapter(self, path: Path | None) -> None:
        """Ask under this adapter from now on; None: the base."""
        self._lane = Lane(None) if path is None else Lane(path, str(path.stat().st_mtime_ns))

    def close(self) -> None:
        """The engine is the worker's."""

    def _results(self, asks: Iterable[Ask]) -> Iterator[tuple[Ask, Result]]:
        source, under_way = iter(asks), deque[tuple[Ask, Ticket]]()
        try:
            while True:
                for ask in islice(source, AT_ONCE - len(under_way)):
                    under_way.append((ask, self._worker.submit(Order(functools.partial(_built, ask), self._lane))))
                if not under_way:
                    return
                ask, ticket = under_way.popleft()
                yield ask, ticket.result()
        finally:
            for _, ticket in under_way:
                self._worker.cancel(ticket)
