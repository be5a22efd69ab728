"""Calls of a generator that belong together, because they ask the same prompts in other ways."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from sg_local.backends import Generator


def together(generator: Generator) -> AbstractContextManager[None]:
    """While it runs, prompts that one call has read need not be read again by the next, where the engine can do that.

    Numbers then depend on the calls before, as far as the engine's arithmetic does: whoever asks again asks all.
    """
    found = getattr(generator, "together", None)
    if found is None:
        return contextlib.nullcontext()
    opened: AbstractContextManager[None] = found()
    return opened
