"""What each stage does for a job: one call into its room, its events told to the narrator, one clause as the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from sg_local.cli.funnel import live_card
from sg_local.cli.job import Job, check_base
from sg_local.cli.narration import Narrator
from sg_local.cli.words import counted
from sg_local.console.views import Progress
from sg_local.records import Pair, SgError
from sg_local.run import ADAPTER, CANDIDATES, VALID


def needs(job: Job, name: str, stage: str) -> None:
    """Raises SgError when the file that an earlier stage makes is not there."""
    if not job.run.path(name).exists():
        hint = f"Run `sg-local {stage} {job.task.name if stage == 'synth' else job.run.name}` first."
        raise SgError(f"Run {job.run.name} has no {name} yet.", hint)


# Synthesis


def synth_settings(job: Job) -> dict[str, Any]:
    """What the stamp of the synthesis holds."""
    own = dataclasses.asdict(job.plan["synth"])
    return {**own, "seed": job.seed, "form": job.form_name, "backend": job.backend}


def synth(job: Job, narrate: Narrator) -> str:
    """Inputs, then outputs."""
    from sg_local import filters
    from sg_local import synth as room

    check_base(job)
    tell_engine(job, narrate)
    gate = filters.input_gate(job.task, job.plan["filter"])
    work = room.Synthesis(job.run, job.task, job.form, job.generator, job.plan["synth"], gate, job.seed)
    last: list[Any] = []

    def on_event(event: Any) -> None:
        last[:] = [event]
        narrate.progress(_synth_progress(event))

    room.synthesise(work, on_event)
    return counted(last[0].done if last else 0, "pair")


def _synth_progress(event: Any) -> Progress:
    accepted = event.asked - sum(event.rejected.values())
    facts = {"tokens": f"{event.n_tokens:,}"}
    if event.rejected:
        facts = {"yield": f"{accepted / event.asked:.0%} of {event.asked}", **facts}
        worst = max(event.rejected, key=event.rejected.get)
        facts["most rejected by"] = f"{worst} ({event.rejected[worst]})"
    return Progress(event.phase, event.done, event.wanted, "rows", facts, event.latest, funnel=live_card(event))


def tell_engine(job: Job, narrate: Narrator) -> None:
    """Say what the engine chose to run, where it chooses."""
    choice = getattr(job.generator, "choice", None)
    if choice is not None:
        told = f"{choice.format}, {counted(choice.n_parallel, 'sequence')}, {counted(choice.n_threads, 'thread')}"
        copied = " (a faster copy of the same weights; --no-fast-copy turns it off)"
        narrate.say(f"  engine: {told}{'' if choice.path == str(job.base.path) else copied}")


# Filters


def filter_settings(job: Job) -> dict[str, Any]:
    """What the stamp of the filters holds."""
    own = dataclasses.asdict(job.plan["filter"])
    if not job.task.schema:
        del own["schema"]  # it changes nothing then
    return own


def filter_rows(job: Job, narrate: Narrator) -> str:
    """The rules over every candidate."""
    needs(job, CANDIDATES, "synth")
    return _apply_filters(job)


def refilter(job: Job, tables: Mapping[str, Any]) -> None:
    """Filter again with these changed settings; the run remembers them as if they were given with `--set`."""
    from sg_local import presets

    job.plan = job.plan.changed("filter", tables)
    data = job.run.settings
    job.run.write_json("run.json", {**data, "set": presets.merged(data.get("set", {}), {"filter": tables})})
    _apply_filters(job)


def _apply_filters(job: Job) -> str:
    from sg_local import filters

    started = time.monotonic()
    found = filters.apply(job.run, job.task, job.plan["filter"])
    facts = {"seconds": round(time.monotonic() - started, 1), "funnel": dataclasses.asdict(found)}
    job.run.write_stamp("filter", filter_settings(job), (CANDIDATES,), **facts)
    labels = f", {'labels' if job.task.labels else 'outputs'} by policy {found.policy}"
    return f"{found.kept} of {found.accepted} pairs kept{labels}"


# Export


def export(job: Job, narrate: Narrator) -> str:
    """Adapter, fused files and papers. Lets go of the engine first: the export opens its own."""
    from sg_local import export as room

    check_base(job)
    needs(job, ADAPTER, "train")
    work = export_job(job)
    job.close()
    done = room.export(work, lambda event: narrate.progress(_export_progress(event)))
    return (
        ", ".join(f"{fused.file} keeps {fused.retained['mean']:.1%} of the delta" for fused in done.fused) or "adapter"
    )


def export_job(job: Job) -> Any:
    from sg_local import export as room

    return room.Export(
        run=job.run,
        task=job.task,
        form=job.form,
        base=job.base.path,
        base_digest=job.run.settings["model"]["digest"],
        adapter=job.run.path(ADAPTER),
        valid=pairs_of(job, VALID),
        settings=job.plan["export"],
        engine=job.backend,
        base_name=job.base.name,
        provenance=provenance(job),
    )


def pairs_of(job: Job, name: str) -> tuple[Pair, ...]:
    """The rows that trained or validated the adapter."""
    from sg_local import training

    return tuple(Pair(row.input, row.output) for row in job.run.read(name, training.Row))


def provenance(job: Job) -> dict[str, Any]:
    """What travels inside the adapter and the exported files: the stages' settings, and the funnel as it is now.

    The scores are not here: the export reads them from report.json.
    """
    from sg_local import filters

    stamps = {stage: (job.run.stamp(stage) or {}).get("settings", {}) for stage in ("synth", "filter", "train")}
    told = (job.run.stamp("filter") or {}).get("funnel", {})
    found = dataclasses.asdict(filters.funnel(job.run, job.task))
    chosen = {key: told.get(key, "") for key in ("policy", "why")}
    return {"settings": stamps, "funnel": {**found, **chosen, "people": filters.by_people(job.run, job.task)}}


EXPORT_PHASES = {
    "reference": "answers of base + adapter",
    "weigh": "would it fit:",
    "gate": "checking",
    "write": "writing",
}


def _export_progress(event: Any) -> Progress:
    if event.phase == "merge":
        return Progress(f"merging {event.file}", event.done, event.wanted, "bytes")
    if event.fused is not None:
        checks = {check.name: check.value for check in event.fused.checks}
        return Progress(f"{event.file} {'passed' if event.fused.passed else 'did not pass'}", 0, 0, facts=checks)
    return Progress(f"{EXPORT_PHASES.get(event.phase, event.phase)} {event.file}", event.done, event.wanted, "steps")
