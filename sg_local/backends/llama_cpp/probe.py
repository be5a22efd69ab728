"""Chooses, by trial on this machine, the weight format and the number of sequences; remembers the choice.

Formats race against the given file step by step in turns, so that a busy moment hits both; the shape is that of real
work: sequences that share a prefix, get a short suffix each and then write. A copy is used when it wins by 20 % or
more. The choice is kept in the cache folder for this model, processor, thread count and llama.cpp build; one that was
made beside busy neighbours is tried again later. A large model is tried on its first layers, and copied whole only when
the copy has won. Race and memory of it stand together, which makes the module long: what is kept is what was raced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as lib

from sg_local.backends.llama_cpp.amx import built_with_amx
from sg_local.backends.llama_cpp.context import Context, ContextPlan
from sg_local.backends.llama_cpp.copies import BITS, affordable, candidates, read_source, write_copy, write_slice
from sg_local.backends.llama_cpp.model import load
from sg_local.backends.llama_cpp.neighbours import Watch, holds
from sg_local.backends.machine import cpu_name
from sg_local.cache import sweep
from sg_local.files import make_folder, write_cache
from sg_local.reading import read_record
from sg_local.records import SgError

logger = logging.getLogger(__name__)

GIVEN = "as given"
WORTH = 1.2  # a copy must be this much faster than the given file,
BETTER = 1.1  # and a less exact copy this much faster than a more exact one
HOPELESS = 0.8  # of what is needed, after one turn
NEAR_BEST = 0.95  # of the best rate: fewer sequences are preferred, as they hold fewer unfinished rows
BUDGET_S = 10.0
PARALLEL = (16, 32, 64)
N_PARALLEL = 32
N_RACING = 16  # sequences in a race of formats: enough to be bound by arithmetic, as real work is
N_PREFIX, N_SUFFIX, N_WRITTEN, ROUNDS = 96, 4, 3, 2
TOO_SMALL_BYTES = 32 << 20  # such a model is at full speed before a probe could end
VERSION = 2  # of what is measured and how; a new one makes old choices void


@dataclass(frozen=True)
class SpeedTrial:
    """New tokens a second that one format reached with so many sequences."""

    format: str
    n_parallel: int
    tokens_per_s: float


@dataclass(frozen=True)
class EngineChoice:
    """What the engine runs: `path` in `format` with `n_parallel` sequences, and the trials that led there.

    `got` is the share of the processors' time that the threads had meanwhile, in the quietest of `n_tries`.
    """

    format: str
    path: str
    n_parallel: int
    n_threads: int
    trials: tuple[SpeedTrial, ...] = ()
    got: float = 1.0
    n_tries: int = 1


@dataclass(frozen=True)
class ProbeRequest:
    """The model to choose for, and what is already decided. `n_parallel` and `format` None: to be chosen."""

    model: Path
    digest: str
    n_threads: int
    n_parallel: int | None
    gpu_layers: int
    cache: Path
    format: str | None = None


def unprobed(question: ProbeRequest) -> EngineChoice:
    """The given file and the usual number of sequences, without a trial."""
    n_parallel = question.n_parallel or N_PARALLEL
    return EngineChoice(GIVEN, str(question.model), n_parallel, question.n_threads)


def choose(question: ProbeRequest) -> EngineChoice:
    """The remembered choice, or a new one after at most about ten seconds of trials."""
    if question.model.stat().st_size < TOO_SMALL_BYTES:
        return unprobed(question)
    entry = question.cache / "choices" / f"{_key(question)}.json"
    known = _remembered(entry, question)
    if known is not None and holds(entry, known.got, known.n_tries):
        logger.info("the choice of an earlier trial is used: %s", entry.name)
        return known
    try:
        make_folder(question.cache)
        sweep(question.cache)
        choice = _quieter(known, _Probe(question).run())
    except (OSError, SgError) as error:  # no room for copies, or no leave to write them: run what was given
        logger.info("no trial of faster copies: %s", error)
        if known is None:
            return unprobed(question)
        choice = dataclasses.replace(known, n_tries=known.n_tries + 1)  # else every later start would try again
    write_cache(entry, dataclasses.asdict(choice))
    return choice


def held(question: ProbeRequest) -> EngineChoice:
    """The format that is asked for, its copy made where it is missing; without room for one, what a trial chooses.

    Raises SgError (usage) for a format that no copy has.
    """
    usual, format = unprobed(question), question.format
    if format in (None, GIVEN):
        return usual
    if format not in BITS:
        hint = f"It is one of: {GIVEN}, {', '.join(BITS)}."
        raise SgError(f"engine.format: there is no copy in {format!r}.", hint, exit_code=2)
    path = _copy_path(question, format)
    if not path.is_file():
        source = read_source(question.model)
        try:
            make_folder(path.parent)
            if source.sizes[format] > affordable(question.cache):
                raise SgError(f"no room for a copy of {source.sizes[format]} bytes")
            write_copy(source, path, format, question.n_threads, whole=True)
        except (OSError, SgError) as error:
            logger.warning("the format %s cannot be held: %s", format, error)
            return choose(question)
    return dataclasses.replace(usual, format=format, path=str(path))


def _copy_path(question: ProbeRequest, format: str) -> Path:
    return question.cache / "models" / f"{question.digest[:16]}-{format}.gguf"


def _key(question: ProbeRequest) -> str:
    build = f"{lib.__version__} {(lib.llama_print_system_info() or b'').decode()}"
    facts = (VERSION, question.digest, cpu_name(), build, question.n_threads, question.gpu_layers, question.n_parallel)
    return hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()[:32]


def _remembered(entry: Path, question: ProbeRequest) -> EngineChoice | None:
    """The choice on disk, if it is one of ours and its file is still there. The given file may have moved since."""
    try:
        choice = read_record(entry, EngineChoice)
    except SgError:
        return None
    possible = (question.n_parallel,) if question.n_parallel is not None else PARALLEL
    if choice.n_parallel not in possible or choice.n_threads != question.n_threads:
        return None
    if choice.format == GIVEN:
        return dataclasses.replace(choice, path=str(question.model))
    return choice if os.path.isfile(choice.path) else None


def _quieter(known: EngineChoice | None, tried: EngineChoice) -> EngineChoice:
    """The choice of the quieter moment, which counts all tries."""
    if known is None:
        return tried
    logger.info("tried again: the trial before got %.2f of the processors, this one %.2f", known.got, tried.got)
    return dataclasses.replace(known if known.got > tried.got else tried, n_tries=known.n_tries + 1)


class _Probe:
    """One series of trials."""

    def __init__(self, question: ProbeRequest) -> None:
        self._question = question
        self._deadline = time.monotonic() + BUDGET_S
        self._trials: list[SpeedTrial] = []
        self._source = read_source(question.model)
        self._cache = question.cache
        self._watch = Watch(question.n_threads)
        self._on_gpu = bool(lib.llama_supports_gpu_offload()) and question.gpu_layers != 0

    def run(self) -> EngineChoice:
        with contextlib.ExitStack() as files:
            given = self._given(files)
            winner, file = self._race_formats(given, files)
            n_parallel = self._choose_parallel(given if file is None else file, winner)
            path = str(self._question.model) if file is None else str(self._keep(winner, file))
        got = 1.0 if self._on_gpu else self._watch.got
        return EngineChoice(winner, path, n_parallel, self._question.n_threads, tuple(self._trials), got)

    def _given(self, files: contextlib.ExitStack) -> Path:
        if self._source.whole:
            return self._question.model
        path = self._trial_path("given", files)
        write_slice(self._source, path, self._question.n_threads)
        return path

    def _race_formats(self, given: Path, files: contextlib.ExitStack) -> tuple[str, Path | None]:
        """The format that won and its trial file; GIVEN and None when no copy is worth it."""
        needed, winner, winner_file = WORTH, GIVEN, None
        with self._opened(given) as base:
            for format in [] if self._on_gpu else candidates(self._source, self._cache):
                if time.monotonic() > self._deadline or (winner == "BF16" and not built_with_amx()):
                    break  # without AMX the processor multiplies 8 bits no faster: 0.7 to 0.8 times as fast on Zen 4
                file = self._trial_path(format, files)
                write_copy(self._source, file, format, self._question.n_threads, whole=False)
                with self._opened(file) as copy:
                    ratio = self._race(base, copy, format, needed)
                if ratio >= needed:
                    needed, winner, winner_file = BETTER * ratio, format, file
        return winner, winner_file

    def _race(self, base: Context, copy: Context, format: str, needed: float) -> float:
        """How many times faster the copy is, by the best of turns; one that is far from what is needed has one turn."""
        base_s, copy_s = [], []
        for _ in range(ROUNDS):
            copy_s.append(self._measured(copy, N_RACING))
            base_s.append(self._measured(base, N_RACING))
            if base_s[0] < HOPELESS * needed * copy_s[0]:
                break
        self._note(GIVEN, N_RACING, min(base_s))
        self._note(format, N_RACING, min(copy_s))
        return min(base_s) / min(copy_s)

    def _choose_parallel(self, file: Path, format: str) -> int:
        """The fewest sequences that come near the best rate."""
        if self._question.n_parallel is not None:
            return self._question.n_parallel
        raced = {t.n_parallel: t.n_parallel * N_WRITTEN / t.tokens_per_s for t in self._trials if t.format == format}
        with self._opened(file) as context:
            seconds = {n: raced.get(n) or self._measured(context, n) for n in PARALLEL}
        for n in PARALLEL:
            self._note(format, n, seconds[n])
        rates = {n: n / seconds[n] for n in PARALLEL}
        return min(n for n in PARALLEL if rates[n] >= NEAR_BEST * max(rates.values()))

    def _measured(self, context: Context, n_parallel: int) -> float:
        with self._watch.measuring():
            return measure(context, n_parallel)

    def _note(self, format: str, n_parallel: int, seconds: float) -> None:
        """Keep the better of two trials of the same."""
        trial = SpeedTrial(format, n_parallel, round(n_parallel * N_WRITTEN / seconds, 1))
        same = [t for t in self._trials if (t.format, t.n_parallel) == (format, n_parallel)]
        self._trials = [t for t in self._trials if t not in same]
        logger.info("tried %s with %d sequences: %.1f tokens a second", format, n_parallel, trial.tokens_per_s)
        self._trials.append(max([trial, *same], key=lambda t: t.tokens_per_s))

    def _keep(self, format: str, trial: Path) -> Path:
        """The winning copy, whole, under its own name."""
        path = _copy_path(self._question, format)
        make_folder(path.parent)
        if path.is_file():  # an earlier try's: the name holds the model's digest
            return path
        if self._source.whole:
            trial.replace(path)
        else:
            write_copy(self._source, path, format, self._question.n_threads, whole=True)
        return path

    def _trial_path(self, name: str, files: contextlib.ExitStack) -> Path:
        # Two processes may try at the same time; what a killed one leaves is known by its number, and swept.
        path = self._cache / f"trial-{self._question.digest[:16]}-{name}.{os.getpid()}.gguf"
        files.callback(path.unlink, missing_ok=True)
        return path

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[Context]:
        model = load(path, self._question.gpu_layers)
        try:
            n_tokens = N_PREFIX + N_SUFFIX + N_WRITTEN
            plan = ContextPlan(n_tokens, max(PARALLEL), self._question.n_threads)
            context = Context(model, lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)), plan)
            try:
                context.put(list(range(300, 300 + N_PREFIX)), 0, [0], wants_logits=False)
                assert context.decode()
                yield context
            finally:
                context.close()
        finally:
            lib.llama_model_free(model)


def measure(context: Context, n_parallel: int) -> float:
    """Seconds in which so many sequences after the prefix on sequence 0 read a short suffix and write some tokens."""
    sequences = range(1, n_parallel + 1)
    start = time.perf_counter()
    for sequence in sequences:
        context.share(0, sequence, N_PREFIX)
        context.put(list(range(400, 400 + N_SUFFIX)), N_PREFIX, [sequence], wants_logits=True)
    assert context.decode()
    for i in range(N_WRITTEN):
        for sequence in sequences:
            context.put([500 + i], N_PREFIX + N_SUFFIX + i, [sequence], wants_logits=True)
        assert context.decode()
    seconds = time.perf_counter() - start
    for sequence in sequences:
        context.forget(sequence)
    return seconds
