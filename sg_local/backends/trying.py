"""Files that an engine would try in a process of its own before it opens them, where that need not be.

A process that a file may end, and no other, is a trial by itself; and a file that gets other metadata while its weights
stay is no new one. For engines that try nothing first these do what their names say, and no more.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from sg_local.backends import (
    GENERATORS,
    EngineSettings,
    Generator,
    choose_generator,
    find_backend,
    open_generator,
)
from sg_local.records import Prompt, ScoredPrompt, SgError

TRIES = "trial_of"
"""What the module of an engine that tries files has: (model, settings) -> their trial."""


def answer_in_child(name: str, model: Path, settings: EngineSettings, prompt: Prompt) -> str:
    """What a model answers in a process that it may end; one that has computed numbers need not be tried again.

    Raises SgError for one that computes none.
    """
    module = _module(name)
    tries = hasattr(module, TRIES)
    generator: Generator = module.opened_untried(model, settings) if tries else open_generator(name, model, settings)
    try:
        score = next(iter(generator.score([ScoredPrompt(prompt.id, prompt.segments, (" 2",))])))
        if math.isnan(score.logprobs[0]):
            raise SgError(f"{model} computes no numbers: its weights or its settings hold NaN.", "Export it again.")
        text = next(iter(generator.generate([prompt]))).text
    finally:
        generator.close()
    if tries:
        module.trial_of(model, settings).remember()
    return text


@contextmanager
def rewritten(name: str, model: Path, settings: EngineSettings) -> Iterator[None]:
    """A file gets other metadata meanwhile: where it had come through a trial before, so has it afterwards."""
    module = _module(name)
    came_through = hasattr(module, TRIES) and module.trial_of(model, settings).came_through()
    yield
    if came_through:
        module.trial_of(model, settings).remember()


def _module(name: str) -> ModuleType:
    return importlib.import_module(find_backend(GENERATORS, choose_generator(name), "backend").module)
