"""Generator over GGUF files by llama.cpp: batched, shared prefixes, grammars, adapters, log-probabilities.

Works on any decoder-only GGUF that llama.cpp loads and whose sequences can share cells (no recurrent models). The
method is continuous batching over one context with a unified pool of cells, on the file as given or on a copy that
keeps its weights and is computed faster here.
"""

from __future__ import annotations

import logging
from pathlib import Path

import llama_cpp as lib

from sg_local.backends import EngineSettings
from sg_local.backends.llama_cpp.context import Context, ContextPlan
from sg_local.backends.llama_cpp.engine import LlamaGenerator, Parts
from sg_local.backends.llama_cpp.model import Facts, check_file, describe, load
from sg_local.backends.llama_cpp.probe import EngineChoice, ProbeRequest, SpeedTrial, choose, held, unprobed
from sg_local.backends.llama_cpp.trial import Trial, check_survives
from sg_local.backends.llama_cpp.vocab import Vocab
from sg_local.backends.machine import physical_cores
from sg_local.files import file_digest

__all__ = ["EngineChoice", "LlamaGenerator", "SpeedTrial", "open_generator", "opened_as_given"]

logger = logging.getLogger(__name__)


def open_generator(model: Path, settings: EngineSettings) -> LlamaGenerator:
    """Load a GGUF. Raises SgError for a file that is missing, damaged, or no text-writing model.

    With `fast_copy` the first opening of a model on a machine takes some ten seconds: the format and, where
    `n_parallel` is None, the number of sequences are chosen by trial. Without it the file runs as given. A file that
    was never seen here is first opened in a process of its own (`trial`).
    """
    facts = check_file(model)
    question = _question(model, settings)
    check_survives(Trial(model, question.cache, settings.gpu_layers))
    if settings.format is not None:
        choice = held(question)
    else:
        choice = choose(question) if settings.fast_copy else unprobed(question)
    return _open(question, facts, choice, settings)


def opened_as_given(model: Path, settings: EngineSettings) -> LlamaGenerator:
    """Load a GGUF without a trial, in a process that may end."""
    facts = check_file(model)
    question = _question(model, settings)
    return _open(question, facts, unprobed(question), settings, is_tried=False)


def _question(model: Path, settings: EngineSettings) -> ProbeRequest:
    cache = settings.cache or Path.home() / ".cache" / "sg-local"
    return ProbeRequest(
        model=model,
        digest=file_digest(model, cache) or "",
        n_threads=settings.n_threads or physical_cores(),
        n_parallel=settings.n_parallel,
        gpu_layers=settings.gpu_layers,
        cache=cache,
        format=settings.format,
    )


def _open(
    question: ProbeRequest, facts: Facts, choice: EngineChoice, settings: EngineSettings, *, is_tried: bool = True
) -> LlamaGenerator:
    what = (choice.format, choice.n_parallel, choice.n_threads, settings.n_ctx)
    logger.info("weights %s, %d sequences, %d threads, %d tokens of context each", *what)
    loaded = load(Path(choice.path), settings.gpu_layers)
    try:
        vocab = Vocab(loaded)
        follows = settings.n_threads is None and not lib.llama_supports_gpu_offload()
        plan = ContextPlan(settings.n_ctx, choice.n_parallel, choice.n_threads, follows)
        context = Context(loaded, vocab.size, plan)
    except BaseException:
        lib.llama_model_free(loaded)
        raise
    info = describe(question.model, facts, vocab, loaded, question.digest)
    trial = Trial(question.model, question.cache, settings.gpu_layers) if is_tried else None
    return LlamaGenerator(Parts(info, loaded, vocab, context, choice, trial))
