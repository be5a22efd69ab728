"""The synthesis stage of a job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.words import counted, size

if TYPE_CHECKING:
    from sg_local.synth import SynthEvent


def synth_settings(job: OpenRun) -> dict[str, Any]:
    """What the stamp of the synthesis holds."""
    own = dataclasses.asdict(job.plan["synth"])
    return {**own, "seed": job.seed, "form": job.form_name, "backend": job.backend}


def synth(job: OpenRun, tell: Listener) -> str:
    """Inputs, then outputs."""
    from sg_local import filters
    from sg_local import synth as room

    tell_engine(job, tell)
    gate = filters.input_gate(job.task, job.plan["filter"])
    work = room.Synthesis(job.run, job.task, job.form, job.generator, job.plan["synth"], gate, job.seed)
    last: list[SynthEvent] = []

    def on_event(event: SynthEvent) -> None:
        last[:] = [event]
        tell(Moved("synth", event))

    room.synthesise(work, on_event)
    return counted(last[0].done if last else 0, "pair")


def tell_engine(job: OpenRun, tell: Listener) -> None:
    """Say what the engine chose to run, where it chooses."""
    choice = getattr(job.generator, "choice", None)
    if choice is not None:
        told = f"{choice.format}, {counted(choice.n_parallel, 'sequence')}, {counted(choice.n_threads, 'thread')}"
        tell(Said(f"  engine: {told}{'' if choice.path == str(job.base.path) else _copied(Path(choice.path))}"))


def _copied(path: Path) -> str:
    """What a faster copy is, and the disk that it takes."""
    n_bytes = size(path.stat().st_size)
    return f" (a faster copy of the same weights, {n_bytes} on disk; engine.fast_copy=false turns it off)"
