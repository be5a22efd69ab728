"""What the engine of a run runs, kept in run.json: the format of the weights, and how many rows are computed together.

Formats and sequences are chosen by a trial that goes by the clock, replicas by the processors, and each writes other
rows from the same seed here and there. So a run goes on with what it began with, also on another machine, where its
settings do not say otherwise; and a new run that is given its seed begins as a run of the same seed has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sg_local.backends import EngineSettings, Generator, asks_server, needs_model
from sg_local.files import file_digest
from sg_local.records import SgError
from sg_local.run import Run
from sg_local.words import counted

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun

KEY = "engine"


def engine_beside(backend: str, settings: EngineSettings) -> EngineSettings:
    """The settings of the engine on this machine: where a server is asked, `n_parallel` counts its requests."""
    return dataclasses.replace(settings, endpoint="", n_parallel=None) if asks_server(backend) else settings


def held_engine(backend: str, settings: EngineSettings, record: dict[str, Any]) -> EngineSettings:
    """The settings of the engine on this machine with what the run began with, where they leave it open."""
    settings = engine_beside(backend, settings)
    kept = record.get(KEY)
    if not kept:
        return settings
    settings = dataclasses.replace(settings, n_replicas=settings.n_replicas or int(kept.get("n_replicas", 1)))
    if not settings.fast_copy or settings.format is not None:
        return settings
    return dataclasses.replace(
        settings, format=kept["format"], n_parallel=settings.n_parallel or int(kept["n_parallel"])
    )


def begin_alike(job: OpenRun, runs: Iterable[Run]) -> None:
    """Let a new job run its engine as the first of these runs with its task, model and seed does, and say so."""
    written, settings = dataclasses.replace(job.task, tests=()), job.plan["engine"]
    if not settings.fast_copy or settings.format is not None:
        return
    for run in runs:
        with contextlib.suppress(SgError, KeyError):
            found = run.settings
            if found["seed"] != job.seed or run.task("written") != written:
                continue
            if found["model"]["digest"] != file_digest(job.base.path, settings.cache):
                continue
            kept = {KEY: found[KEY]}
            if held_engine(job.backend, settings, kept) != engine_beside(job.backend, settings):
                told = f"weights {found[KEY]['format']}, {found[KEY]['n_parallel']} sequences at a time"
                told += f" in {counted(kept[KEY].get('n_replicas', 1), 'context')}"
                job.said.append(f"Engine as in run {run.name}, which has the same task, model and seed: {told}.")
                job.record |= kept
            return


def loading(name: str, backend: str, asked: EngineSettings) -> str:
    """What is waited for while an engine with this model opens."""
    is_here = needs_model(backend) and not asks_server(backend)
    is_tried = is_here and asked.fast_copy and asked.format is None
    return f"loading {name}" + (" (10 s longer the first time)" if is_tried else "")


def with_engine(
    record: dict[str, Any], generator: Generator, asked: EngineSettings
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The record with what this engine runs, and what is to be said where that is not what was asked for."""
    choice = getattr(generator, "choice", None)
    if choice is None:
        return record, ()
    found = {"format": choice.format, "n_parallel": choice.n_parallel}
    n_replicas = getattr(generator, "n_replicas", 1)
    said = []
    if asked.format is not None and choice.format != asked.format:
        said.append(
            f"The run's rows were written in {asked.format}; here {choice.format} writes: rows may come out otherwise."
        )
    if KEY in record and asked.n_replicas not in (None, n_replicas):
        was, now = counted(asked.n_replicas, "context"), "one writes" if n_replicas == 1 else f"{n_replicas} write"
        said.append(f"The run's rows were written in {was}; here {now}: rows may come out otherwise.")
    return {**record, KEY: found if n_replicas == 1 else {**found, "n_replicas": n_replicas}}, tuple(said)
