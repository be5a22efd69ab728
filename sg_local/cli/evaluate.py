"""The evaluation stage on the command line: what it is given, its events, and the scores told to the exported files."""

from __future__ import annotations

from typing import Any

from sg_local.cli.job import SCRIPTED, Job, check_base
from sg_local.cli.narration import Narrator
from sg_local.cli.train import train_examples
from sg_local.cli.work import export_job, needs, pairs_of
from sg_local.console.views import Progress
from sg_local.run import ADAPTER, TRAIN, VALID


def evaluate(job: Job, narrate: Narrator) -> str:
    """The test rows, by every system."""
    from sg_local import evaluate as room
    from sg_local import filters

    check_base(job)
    needs(job, ADAPTER, "train")
    settings = job.plan["eval"]
    gate = filters.OutputGate(job.task, job.plan["filter"])
    examples_adapter = train_examples(job, narrate) if settings.tuned_examples else None
    work = room.Evaluation(
        run=job.run,
        task=job.task,
        form=job.form,
        forms=job.forms,
        generator=job.generator,
        settings=settings,
        pairs=pairs_of(job, TRAIN) + pairs_of(job, VALID),
        accept=gate,
        gate=gate.digest,
        examples_adapter=examples_adapter,
    )
    report = room.evaluate(work, lambda event: narrate.progress(_eval_progress(event)))
    _tell_the_files(job)
    return f"base {report['base']['score']:.1f}, tuned {report['tuned']['score']:.1f}"


def _tell_the_files(job: Job) -> None:
    """The scores go into the exported files and their card."""
    if job.trainer != SCRIPTED:
        from sg_local import export as room

        room.add_scores(export_job(job))


def _eval_progress(event: Any) -> Progress:
    return Progress(doing(event.system), event.done, event.wanted, "answers", latest=event.latest)


def doing(asked: str) -> str:
    """What is being answered, in words: a system on the test rows, or on the rows that choose, calibrate or retain."""
    from sg_local.evaluate import title_of

    kind, _, rest = asked.partition("_")
    if kind == "dev":
        return f"choosing the prompt: {title_of(f'base_{rest}')}"
    if kind == "retain":
        return f"texts outside the task: {rest.rpartition('_')[2]}"
    if kind == "calibration":
        return f"calibrating: {title_of(rest if rest.startswith('tuned') else f'base_{rest}')}"
    return title_of(asked.removesuffix("_raw"))
