"""Prompts and completions as lines of the log `sg_local.texts`, for those who asked; an engine's answers stay the same.

The log is shut until its own level is set: DEBUG for all of `sg_local` does not open it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sg_local.backends import Generator
from sg_local.records import Completion, Prompt, Score, ScoredPrompt, Segments

TEXTS = "sg_local.texts"

logger = logging.getLogger(TEXTS)


def is_open() -> bool:
    """True where somebody asked to see the texts."""
    return logging.NOTSET < logger.level <= logging.DEBUG


class Wire:
    """A generator that tells what goes in and what comes out."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.info = generator.info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def tokenize(self, segments: Segments, *, bos: bool = True) -> tuple[int, ...]:
        return self.generator.tokenize(segments, bos=bos)

    def generate(self, prompts: Iterable[Prompt | None]) -> Iterator[Completion]:
        for completion in self.generator.generate(map(_told, prompts)):
            tell_result(completion)
            yield completion

    def score(self, prompts: Iterable[ScoredPrompt]) -> Iterator[Score]:
        for score in self.generator.score(map(_told_scored, prompts)):
            tell_result(score)
            yield score

    def use_adapter(self, path: Path | None) -> None:
        self.generator.use_adapter(path)

    def close(self) -> None:
        self.generator.close()


def tell_prompt(ask: Prompt | ScoredPrompt) -> None:
    """An ask as a line of the log."""
    scored = f", scored: {ask.continuations!r}" if isinstance(ask, ScoredPrompt) else ""
    logger.debug("prompt %s: %r%s", ask.id, _text(ask.segments), scored)


def tell_result(result: Completion | Score) -> None:
    """An answer as a line of the log."""
    if isinstance(result, Completion):
        logger.debug("completion %s (%s): %r", result.prompt_id, result.finish, result.text)
    else:
        logger.debug("scores %s: %s", result.prompt_id, result.logprobs)


def _told(prompt: Prompt | None) -> Prompt | None:
    if prompt is not None:
        tell_prompt(prompt)
    return prompt


def _told_scored(prompt: ScoredPrompt) -> ScoredPrompt:
    tell_prompt(prompt)
    return prompt


def _text(segments: Segments) -> str:
    return "".join(segment.text for segment in segments)
