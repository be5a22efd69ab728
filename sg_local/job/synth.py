"""The synthesis stage of a job."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local.job.endpoint import tell_endpoint
from sg_local.job.events import Listener, Moved, Said
from sg_local.job.job import OpenRun
from sg_local.records import EARLIER, LABELLED, OWN, Candidate, InputRow
from sg_local.words import counted, size

if TYPE_CHECKING:
    from sg_local.synth import Given, SynthEvent


def synth_settings(job: OpenRun) -> dict[str, Any]:
    """What the stamp of the synthesis holds."""
    own = dataclasses.asdict(job.plan["synth"])
    given = {"own rows": job.own.digest} if job.own.rows else {}
    task = {"task": job.task.digest} if job.record.get("remade") else {}
    return {**own, "seed": job.seed, "form": job.form_name, "backend": job.backend, **given, **task}


def synth(job: OpenRun, tell: Listener) -> str:
    """Given rows, inputs, then outputs."""
    from sg_local import filters
    from sg_local import synth as room

    tell_engine(job, tell)
    gate = filters.input_gate(job.task, job.plan["filter"])
    settings, n_ctx = job.plan["synth"], job.plan["engine"].n_ctx
    work = room.Synthesis(job.run, job.task, job.form, job.generator, settings, gate, job.seed, n_ctx)
    last: list[SynthEvent] = []

    def on_event(event: SynthEvent) -> None:
        last[:] = [event]
        tell(Moved("synth", event))

    given = given_rows(job)
    if given.rows:
        tell(Said(f"  {told(room.write_given(work, given))}"))
    room.synthesise(work, on_event, given)
    return counted(last[0].done if last else 0, "pair")


SOURCES = {"row": LABELLED, "input": OWN, "earlier": EARLIER}


def given_rows(job: OpenRun) -> Given:
    """The rows that stand before stage A, with the filters' say on them."""
    from sg_local import filters
    from sg_local import synth as room

    settings = job.plan["filter"]
    gate = filters.given_gate(job.task, settings, job.plan["eval"].leak_threshold)

    def answers(candidates: Sequence[Candidate]) -> dict[str, str]:
        rows = {row.id: row for row in candidates}
        verdicts, _ = filters.judge(candidates, job.task, settings)
        return {v.id: rows[v.id].output if v.output is None else v.output for v in verdicts if v.keep}

    rows = tuple(room.GivenRow(row.input, row.output, SOURCES[row.part]) for row in job.own.rows if row.part in SOURCES)
    return room.Given(rows, lambda row, accepted: gate(row.input, row.source, accepted), answers)


def told(rows: Sequence[InputRow]) -> str:
    """What became of given rows, by their source and the rules that refused some."""
    words = []
    for source, name in {LABELLED: "labelled row", OWN: "own input", EARLIER: "earlier input"}.items():
        mine = [row for row in rows if row.source == source]
        lost = Counter(row.rejected.partition(":")[0] for row in mine if row.rejected)
        if mine:
            why = f" ({', '.join(f'{rule} {n}' for rule, n in lost.most_common())})" if lost else ""
            words.append(f"{len(mine) - lost.total()} of {counted(len(mine), name)} taken{why}")
    return ", ".join(words)


def tell_engine(job: OpenRun, tell: Listener) -> None:
    """Say what the engine chose to run, where it chooses, or what server it asks."""
    tell_endpoint(job.generator, tell)
    choice = getattr(job.generator, "choice", None)
    if choice is not None:
        told = f"{choice.format}, {counted(choice.n_parallel, 'sequence')}, {counted(choice.n_threads, 'thread')}"
        tell(Said(f"  engine: {told}{'' if choice.path == str(job.base.path) else _copied(Path(choice.path))}"))


def _copied(path: Path) -> str:
    """What a faster copy is, and the disk that it takes."""
    disk = f", {size(path.stat().st_size)} on disk" if path.exists() else ""
    return f" (a faster copy of the same weights{disk}; engine.fast_copy=false turns it off)"
