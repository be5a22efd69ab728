"""What the engine of a run runs, kept in run.json: the format of the weights and the number of sequences.

Both are chosen by a trial that goes by the clock, and each writes other rows from the same seed here and there. So a
run goes on with what it began with, also on another machine, where its settings do not say otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sg_local.backends import EngineSettings, Generator, asks_server, needs_model

KEY = "engine"


def engine_beside(backend: str, settings: EngineSettings) -> EngineSettings:
    """The settings of the engine on this machine: where a server is asked, `n_parallel` counts its requests."""
    return dataclasses.replace(settings, endpoint="", n_parallel=None) if asks_server(backend) else settings


def held_engine(backend: str, settings: EngineSettings, record: dict[str, Any]) -> EngineSettings:
    """The settings of the engine on this machine with what the run began with, where they leave it open."""
    settings = engine_beside(backend, settings)
    kept = record.get(KEY)
    if not kept or not settings.fast_copy or settings.format is not None:
        return settings
    return dataclasses.replace(
        settings, format=kept["format"], n_parallel=settings.n_parallel or int(kept["n_parallel"])
    )


def loading(name: str, backend: str, asked: EngineSettings) -> str:
    """What is waited for while an engine with this model opens."""
    is_here = needs_model(backend) and not asks_server(backend)
    is_tried = is_here and asked.fast_copy and asked.format is None
    return f"loading {name}" + (" (a new one is tested for about ten seconds)" if is_tried else "")


def with_engine(
    record: dict[str, Any], generator: Generator, asked: EngineSettings
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The record with what this engine runs, and what is to be said where that is not what was asked for."""
    choice = getattr(generator, "choice", None)
    if choice is None:
        return record, ()
    said: tuple[str, ...] = ()
    if asked.format is not None and choice.format != asked.format:
        said = (
            f"The run's rows were written in {asked.format}; here {choice.format} writes: rows may come out otherwise.",
        )
    return {**record, KEY: {"format": choice.format, "n_parallel": choice.n_parallel}}, said
