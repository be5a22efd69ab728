"""The stages of a job, each one call into its room, with its stamp, its time and one line of result.

A stage that is finished with the same settings and inputs is skipped; finished with others, it stops with what
differs, or is made again where `--redo` says so.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sg_local.cli.job import Job, check_base
from sg_local.cli.narration import Narrator
from sg_local.cli.words import size
from sg_local.console.views import Progress
from sg_local.records import SgError
from sg_local.run import ADAPTER, ANSWERS, CANDIDATES, INPUTS, REPORT, TRAIN, VALID, VERDICTS, remove

Work = Callable[[Job, Narrator], str]


@dataclass(frozen=True)
class Stage:
    """How a stage is run: its work, what `--redo` puts away, the settings and files that its stamp holds.

    `work` returns one clause about what came out. With `settings` None the room keeps its own stamp, and is called
    to say whether anything is left to do.
    """

    work: Work
    makes: tuple[str, ...] = ()
    settings: Callable[[Job], Mapping[str, Any]] | None = None
    reads: tuple[str, ...] = ()


def perform(job: Job, name: str, narrate: Narrator, *, again: bool = False) -> None:
    """Run one stage unless it is finished. `again` makes it once more in any case."""
    if again:
        put_away(job, name)
    try:
        _perform(job, name, narrate)
    except SgError:
        if again or not job.redo or not _differs(job, name):
            raise
        put_away(job, name)
        _perform(job, name, narrate)


def _perform(job: Job, name: str, narrate: Narrator) -> None:
    stage, before = STAGES[name], job.run.stamp(name)
    if stage.settings is not None and job.run.is_done(name, stage.settings(job), stage.reads):
        narrate.skip(name, "finished before")
        return
    narrate.begin(name)
    started = time.monotonic()
    note = stage.work(job, narrate)
    seconds = time.monotonic() - started
    if before is not None and job.run.stamp(name) == before:
        narrate.skip(name, "finished before")
        return
    if stage.settings is not None and job.run.stamp(name) is None:
        job.run.write_stamp(name, stage.settings(job), stage.reads, seconds=round(seconds, 1), note=note)
    narrate.end(name, seconds, note)


def _differs(job: Job, name: str) -> bool:
    """True when the stage was finished once: what stopped it now is that it was made otherwise."""
    return job.run.stamp(name) is not None


def put_away(job: Job, name: str) -> None:
    """Forget a finished stage; what it made stays beside as NAME.before until the next time."""
    job.run.clear_stage(name)
    for file in STAGES[name].makes:
        path = job.run.path(file)
        if path.exists():
            before = path.with_name(f"{path.name}.before")
            remove(before)
            path.rename(before)


# Synthesis


def _synth_settings(job: Job) -> dict[str, Any]:
    own = dataclasses.asdict(job.plan["synth"])
    return {**own, "seed": job.seed, "form": job.form_name, "backend": job.backend}


def _synth(job: Job, narrate: Narrator) -> str:
    from sg_local import filters, synth

    check_base(job)
    gate = filters.input_gate(job.task, job.plan["filter"])
    work = synth.Synthesis(job.run, job.task, job.form, job.generator, job.plan["synth"], gate, job.seed)
    last: list[Any] = []

    def on_event(event: Any) -> None:
        last[:] = [event]
        narrate.progress(_synth_progress(event))

    synth.synthesise(work, on_event)
    return f"{last[0].done if last else 0} pairs"


def _synth_progress(event: Any) -> Progress:
    accepted = event.asked - sum(event.rejected.values())
    facts = {"tokens": f"{event.n_tokens:,}"}
    if event.phase == "inputs" and event.asked:
        facts = {"yield": f"{accepted / event.asked:.0%} of {event.asked}", **facts}
    worst = max(event.rejected, key=event.rejected.get, default=None)
    if worst is not None:
        facts["most rejected by"] = f"{worst} ({event.rejected[worst]})"
    return Progress(f"{event.phase}", event.done, event.wanted, "rows", facts, event.latest)


# Filters


def _filter_settings(job: Job) -> dict[str, Any]:
    return dataclasses.asdict(job.plan["filter"])


def _filter(job: Job, narrate: Narrator) -> str:
    needs(job, CANDIDATES, "synth")
    return _apply_filters(job, time.monotonic())


def _apply_filters(job: Job, started: float) -> str:
    from sg_local import filters

    found = filters.apply(job.run, job.task, job.plan["filter"])
    seconds = round(time.monotonic() - started, 1)
    facts = {"seconds": seconds, "funnel": dataclasses.asdict(found)}
    job.run.write_stamp("filter", _filter_settings(job), (CANDIDATES,), **facts)
    return f"{found.kept} of {found.accepted} pairs kept, labels by {found.policy}"


def refilter(job: Job, tables: Mapping[str, Any]) -> None:
    """Filter again with these changed settings; the run remembers them as if they were given with `--set`."""
    from sg_local import presets

    started = time.monotonic()
    job.plan = job.plan.changed("filter", tables)
    data = job.run.settings
    job.run.write_json("run.json", {**data, "set": presets.merged(data.get("set", {}), {"filter": tables})})
    _apply_filters(job, started)


# Training


def _train(job: Job, narrate: Narrator) -> str:
    from sg_local import filters, training
    from sg_local.backends import open_trainer

    check_base(job)
    needs(job, CANDIDATES, "synth")
    kept = filters.kept_rows(job.run)
    rows = tuple(training.Row(row.id, row.pair.input, row.pair.output) for row in kept)
    trainer = open_trainer(job.trainer, job.base.path)
    work = training.Training(job.run, job.task, job.form, job.generator, trainer, rows, job.plan["train"], job.seed)
    done = training.train(work, lambda step: narrate.progress(_train_progress(step)))
    for warning in done.warnings:
        narrate.say(f"Warning: {warning}")
    loss = done.adapter.loss if done.adapter.valid_loss is None else done.adapter.valid_loss
    return f"{done.n_train} rows, {done.adapter.n_steps} steps, validation loss {loss:.3f}"


def _train_progress(step: Any) -> Progress:
    facts = {"loss": f"{step.loss:.3f}"}
    if step.valid_loss is not None:
        facts["validation"] = f"{step.valid_loss:.3f}"
    if step.tokens_per_s:
        facts["tokens/s"] = f"{step.tokens_per_s:.0f}"
    if step.memory_bytes:
        facts["memory"] = size(step.memory_bytes)
    return Progress("training", step.step, step.n_steps, "steps", facts)


# Evaluation


def evaluation(job: Job) -> Any:
    """The evaluation that a job asks for."""
    from sg_local import evaluate

    return evaluate.Evaluation(
        run=job.run,
        task=job.task,
        form=job.form,
        forms=job.forms,
        generator=job.generator,
        settings=job.plan["eval"],
        pairs=trained_pairs(job),
    )


def trained_pairs(job: Job) -> tuple[Any, ...]:
    """The pairs that the adapter was trained and validated on."""
    from sg_local import filters

    return tuple(row.pair for row in filters.kept_rows(job.run))


def _evaluate(job: Job, narrate: Narrator) -> str:
    from sg_local import evaluate

    needs(job, ADAPTER, "train")
    report = evaluate.evaluate(evaluation(job), lambda event: narrate.progress(_eval_progress(event)))
    base, tuned = report["base"], report["tuned"]
    return f"base {base['score']:.1f}, tuned {tuned['score']:.1f}"


def _eval_progress(event: Any) -> Progress:
    return Progress(event.system, event.done, event.wanted, "answers", latest=event.latest)


def needs(job: Job, name: str, stage: str) -> None:
    """Raises SgError when the file that an earlier stage makes is not there."""
    if not job.run.path(name).exists():
        hint = f"Run `sg-local {stage} {job.task.name if stage == 'synth' else job.run.name}` first."
        raise SgError(f"Run {job.run.name} has no {name} yet.", hint)


STAGES: dict[str, Stage] = {
    "synth": Stage(_synth, (INPUTS, CANDIDATES, VERDICTS), _synth_settings),
    "filter": Stage(_filter, (), _filter_settings, (CANDIDATES,)),
    "train": Stage(_train, ("adapter", ADAPTER, TRAIN, VALID)),
    "eval": Stage(_evaluate, (REPORT, ANSWERS)),
}
