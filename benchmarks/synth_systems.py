"""The systems that benchmarks/synth.py lets write: two llama-cpp-python loops, distilabel, our engine, its ceiling."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.machine import physical_cores
from sg_local.records import Prompt

N_CTX = 1024


@dataclass(frozen=True)
class Work:
    """What every system does: the prompts with their tokens, on one model file."""

    model: Path
    asked: tuple[Prompt, ...]
    tokens: tuple[tuple[int, ...], ...]
    cache: Path

    def part(self, n: int) -> Work:
        """The first n prompts, again and again where there are fewer."""
        pairs = list(islice(cycle(zip(self.asked, self.tokens, strict=True)), n))
        asked = tuple(Prompt(f"{i}", p.segments, p.sampling, i + 1) for i, (p, _) in enumerate(pairs))
        return Work(self.model, asked, tuple(tokens for _, tokens in pairs), self.cache)


@dataclass(frozen=True)
class Turn:
    """One turn of a system: rows and new tokens written, and the seconds that took."""

    rows: int
    tokens: int
    seconds: float


System = Callable[[Work], Turn]


def loop(work: Work, *, cached: bool) -> System:
    """The library's own way, one prompt after the other."""
    from llama_cpp import Llama

    n = physical_cores()
    llama = Llama(str(work.model), n_ctx=N_CTX, n_threads=n, n_threads_batch=n, n_gpu_layers=-1, verbose=False)

    def turn(work: Work) -> Turn:
        began, n_tokens = time.perf_counter(), 0
        llama.reset()
        for prompt, tokens in zip(work.asked, work.tokens, strict=True):
            if not cached:
                llama.reset()
            own = prompt.sampling
            done = llama.create_completion(
                list(tokens),
                max_tokens=own.max_tokens,
                temperature=own.temperature,
                top_k=own.top_k,
                top_p=own.top_p,
                min_p=0.0,
                repeat_penalty=1.0,
                stop=list(own.stop),
                seed=prompt.seed,
            )
            n_tokens += done["usage"]["completion_tokens"]
        return Turn(len(work.asked), n_tokens, time.perf_counter() - began)

    return turn


def distilabel(work: Work) -> System | None:
    """distilabel's LlamaCppLLM over the same texts as one user message each; None where it is not installed."""
    if find_spec("distilabel") is None:
        return None
    from distilabel.models import LlamaCppLLM

    n = physical_cores()
    llm = LlamaCppLLM(
        model_path=str(work.model), n_ctx=N_CTX, verbose=False, extra_kwargs={"n_threads": n, "n_threads_batch": n}
    )
    llm.load()

    def turn(work: Work) -> Turn:
        texts = ["".join(segment.text for segment in prompt.segments) for prompt in work.asked]
        own = work.asked[0].sampling
        began = time.perf_counter()
        done = llm.generate_outputs(
            inputs=[[{"role": "user", "content": text}] for text in texts],
            max_new_tokens=own.max_tokens,
            temperature=own.temperature,
            top_p=own.top_p,
            extra_generation_kwargs={"top_k": own.top_k, "stop": list(own.stop)},
        )
        seconds = time.perf_counter() - began
        n_tokens = sum(sum(one["statistics"]["output_tokens"]) for one in done)
        return Turn(len(work.asked), n_tokens, seconds)

    return turn


def open_given(model: Path, cache: Path, n_parallel: int | None = None, n_replicas: int | None = None):
    """Our engine on the file as given."""
    settings = EngineSettings(N_CTX, n_parallel, fast_copy=False, cache=cache, n_replicas=n_replicas)
    return open_generator("llama.cpp", model, settings)


def open_chosen(model: Path, cache: Path):
    """Our engine as it runs by default; the first opening makes its probe."""
    return open_generator("llama.cpp", model, EngineSettings(N_CTX, cache=cache))


def ours(generator) -> System:
    """Our engine over all prompts; what an earlier turn shared is forgotten first."""

    def turn(work: Work) -> Turn:
        generator.use_adapter(None)
        began = time.perf_counter()
        done = list(generator.generate(work.asked))
        return Turn(len(done), sum(one.n_tokens for one in done), time.perf_counter() - began)

    return turn


class Ceiling:
    """Notes what an engine asks of its context in one turn, and repeats the computing alone."""

    NOTED = ("put", "share", "forget", "clear", "decode")

    def __init__(self, generator) -> None:
        self.context = generator._context
        self.raw = {name: getattr(self.context, name) for name in self.NOTED}
        self.calls: list[tuple[str, tuple, dict]] = []
        self.written = Turn(0, 0, 0.0)

    def watch(self, turn: System) -> System:
        """The turn, with its calls noted."""

        def watched(work: Work) -> Turn:
            self.calls.clear()
            for name in self.NOTED:
                setattr(self.context, name, partial(self._note, name))
            try:
                self.written = turn(work)
            finally:
                for name in self.NOTED:
                    delattr(self.context, name)
            return self.written

        return watched

    def _note(self, name: str, *given, **named):
        copied = tuple(list(value) if isinstance(value, list) else value for value in given)
        self.calls.append((name, copied, named))
        return self.raw[name](*given, **named)

    def turn(self, work: Work) -> Turn:
        """The noted calls again; only the time within llama_decode counts."""
        self.context.clear()
        seconds = 0.0
        for name, given, named in self.calls:
            began = time.perf_counter()
            self.raw[name](*given, **named)
            seconds += time.perf_counter() - began if name == "decode" else 0.0
        self.context.clear()
        return Turn(self.written.rows, self.written.tokens, seconds)


def system(name: str, work: Work) -> System | None:
    """A system by name, loaded."""
    if name.startswith("loop"):
        return loop(work, cached=name == "loop_cached")
    if name == "distilabel":
        return distilabel(work)
    return ours(open_given(work.model, work.cache) if name == "ours_given" else open_chosen(work.model, work.cache))
