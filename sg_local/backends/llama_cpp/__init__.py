"""Generator over GGUF files by llama.cpp: batched, shared prefixes, grammars, adapters, log-probabilities.

Works on any decoder-only GGUF that llama.cpp loads and whose sequences can share cells (no recurrent models). The
method is continuous batching over one context with a unified cell pool; nothing here is approximate.
"""

from __future__ import annotations

import os
from pathlib import Path

import llama_cpp as lib

from sg_local.backends import EngineSettings
from sg_local.backends.llama_cpp.context import Context, ContextPlan
from sg_local.backends.llama_cpp.engine import LlamaGenerator, Parts
from sg_local.backends.llama_cpp.machine import physical_cores
from sg_local.backends.llama_cpp.model import check_file, describe, file_digest, load
from sg_local.backends.llama_cpp.vocab import Vocab

N_PARALLEL = 32

__all__ = ["LlamaGenerator", "open_generator"]


def open_generator(model: Path, settings: EngineSettings) -> LlamaGenerator:
    """Load a GGUF. Raises SgError for a file that is missing, damaged, or no text-writing model."""
    facts = check_file(model)
    digest = file_digest(model, cache_folder())
    loaded = load(model, settings.gpu_layers)
    try:
        vocab = Vocab(loaded)
        plan = ContextPlan(
            n_ctx=settings.n_ctx,
            n_parallel=settings.n_parallel or N_PARALLEL,
            n_threads=settings.n_threads or physical_cores(),
        )
        context = Context(loaded, vocab.size, plan)
    except BaseException:
        lib.llama_model_free(loaded)
        raise
    info = describe(model, facts, vocab, loaded, digest)
    return LlamaGenerator(Parts(info, loaded, vocab, context))


def cache_folder() -> Path:
    """The user's cache folder for sg-local (XDG base directories)."""
    return Path(os.path.expanduser("~/.cache")) / "sg-local"
