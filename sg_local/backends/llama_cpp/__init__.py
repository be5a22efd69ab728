"""Generator over GGUF files by llama.cpp: batched, shared prefixes, grammars, adapters, log-probabilities.

Works on any decoder-only GGUF that llama.cpp loads and whose sequences can share cells (no recurrent models). The
method is continuous batching over one context with a unified pool of cells, on the file as given or on a copy that
keeps its weights and is computed faster here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp as lib

from sg_local.backends import EngineSettings
from sg_local.backends.footprint import replicas_of
from sg_local.backends.llama_cpp.context import Context, ContextPlan, cell_bytes
from sg_local.backends.llama_cpp.engine import LlamaGenerator, Parts
from sg_local.backends.llama_cpp.importance import InputSquares
from sg_local.backends.llama_cpp.model import Facts, check_file, describe, load
from sg_local.backends.llama_cpp.probe import EngineChoice, ProbeRequest, SpeedTrial, choose, held, unprobed
from sg_local.backends.llama_cpp.trial import Trial, check_survives
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.machine import physical_cores
from sg_local.files import file_digest
from sg_local.home import cache_folder

__all__ = [
    "EngineChoice",
    "LlamaGenerator",
    "SpeedTrial",
    "open_generator",
    "open_watched",
    "opened_for_trial",
    "opened_untried",
    "trial_of",
]

logger = logging.getLogger(__name__)


def open_generator(model: Path, settings: EngineSettings) -> LlamaGenerator:
    """Load a GGUF. Raises SgError for a file that is missing, damaged, or no text-writing model.

    With `fast_copy` the first opening of a model on a machine takes some ten seconds: the format and, where
    `n_parallel` is None, the number of sequences are chosen by trial. Without it the file runs as given. A file that
    was never seen here is first opened in a process of its own (`trial`).
    """
    facts = check_file(model)
    question = _question(model, settings)
    check_survives(trial_of(model, settings))
    if settings.format is not None:
        choice = held(question)
    else:
        choice = choose(question) if settings.fast_copy else unprobed(question)
    what = (choice.format, choice.n_parallel, choice.n_threads, settings.n_ctx)
    logger.info("weights %s, %d sequences, %d threads, %d tokens of context each", *what)
    loaded = load(Path(choice.path), settings.gpu_layers)
    parts = _parts(loaded, question, facts, choice, settings)
    return LlamaGenerator(replace(parts, trial=Trial(model, question.cache)))


def trial_of(model: Path, settings: EngineSettings) -> Trial:
    """How a model is tried before it is opened."""
    return Trial(model, _cache(settings), settings.gpu_layers)


def opened_untried(model: Path, settings: EngineSettings) -> LlamaGenerator:
    """Load a GGUF as given, in a process that it may end."""
    return opened_for_trial(model, settings, is_second=False)


def opened_for_trial(model: Path, settings: EngineSettings, *, is_second: bool) -> LlamaGenerator:
    """Load a GGUF as given, in a process that may end.

    Where it `is_second`, another process holds the same model: its file is mapped, and no weights are copied.
    """
    return LlamaGenerator(_as_given(model, settings, copies=not is_second))


def open_watched(model: Path, settings: EngineSettings) -> tuple[LlamaGenerator, InputSquares]:
    """A generator on the file as given, and what flows into its matrices from now on (importance.py)."""
    watched = InputSquares()
    check_survives(trial_of(model, settings))
    parts = _as_given(model, settings, on_node=watched.callback)
    return LlamaGenerator(replace(parts, trial=Trial(model, _cache(settings)))), watched


def _as_given(model: Path, settings: EngineSettings, *, copies: bool = True, on_node: Any = None) -> Parts:
    """The engine's parts around the file itself; no faster copy is looked for."""
    facts = check_file(model)
    question = _question(model, settings)
    loaded = load(model, settings.gpu_layers, copies=copies)
    return _parts(loaded, question, facts, unprobed(question), settings, on_node)


def _question(model: Path, settings: EngineSettings) -> ProbeRequest:
    cache = _cache(settings)
    return ProbeRequest(
        model=model,
        digest=file_digest(model, cache) or "",
        n_threads=settings.n_threads or physical_cores(),
        n_parallel=settings.n_parallel,
        gpu_layers=settings.gpu_layers,
        cache=cache,
        format=settings.format,
    )


def _cache(settings: EngineSettings) -> Path:
    return cache_folder(settings.cache)


def _parts(
    loaded: object,
    question: ProbeRequest,
    facts: Facts,
    choice: EngineChoice,
    settings: EngineSettings,
    on_node: Any = None,
) -> Parts:
    """The engine's parts around a loaded model, which is freed where they cannot be made."""
    try:
        vocab = Vocab(loaded)
        on_cpu = not lib.llama_supports_gpu_offload()
        follows = settings.n_threads is None and on_cpu
        plan = ContextPlan(settings.n_ctx, choice.n_parallel, choice.n_threads, follows, on_node=on_node)
        context = Context(loaded, vocab.size, plan)
        is_dealt = on_cpu and on_node is None
        n_replicas = replicas_of(settings, choice.n_threads, choice.n_parallel, cell_bytes(loaded)) if is_dealt else 1
    except BaseException:
        lib.llama_model_free(loaded)
        raise
    info = describe(question.model, facts, vocab, loaded, question.digest)
    return Parts(info, loaded, vocab, context, choice, n_replicas=n_replicas)
