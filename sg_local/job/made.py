"""The task as a run has it: which demonstrations it shows, the labels that its instruction names, what own rows add.

run.json keeps it as made, and as `written` the task file's own, by which a changed file is known. Runs of 0.1.0 lack
that: their task is one of a few forms of the file's (tasks.as_made). A changed task, or other own rows, stop the run
unless `redo` is given; then the inputs that the model wrote before are a pool for the new version, where what is asked
of them is of the same kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sg_local import prompts, tasks
from sg_local.job import presets
from sg_local.job.options import Options, Tests
from sg_local.job.own import OwnData, check_outputs, read_own, with_own
from sg_local.records import MadeOtherwise, Segment, SgError, Task, Verdict
from sg_local.run import VERDICTS
from sg_local.words import counted

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun


def begin_task(job: OpenRun, own: OwnData, preset: str) -> None:
    """Give a run that begins these own rows, and its task as it is to be shown."""
    job.said.extend(own.said)
    _make(job, job.task, own, preset)


def meet(job: OpenRun, task: Task, options: Options) -> OpenRun:
    """The job, its task file, and own rows where files of them are given, held against what the run was made from.

    Raises MadeOtherwise for other ones, unless `redo` is given: then the run is to be made anew from them.
    """
    own, task = job.own, _with_tests(job, task, options)
    if options.inputs is not None or options.rows is not None:
        own = read_own(options, task, job.own.by_people, job.plan["own"], job.seed)
    elif "tests" in options.settings.get("own", {}):
        raise SgError("own.tests is settled when a run begins.", "Give `rows` again with `redo`.", exit_code=2)
    check_outputs(task, own)
    different = ", ".join(_differences(job, task, own))
    if not different:
        job.task = dataclasses.replace(_same(job, task), tests=with_own(task, own).tests)
        job.record["task"] = dataclasses.asdict(job.task)
        return job
    again = _again(job, task)
    if not options.redo:
        hint = f"With `redo` {again}. Use another `name` for a new run, or go back to what it was made from."
        message = (
            f"Run {job.run.name} was made from another version of task {task.name} or other own rows: {different}."
        )
        raise MadeOtherwise(message, hint)
    job.said.append(f"{different[0].upper()}{different[1:]}: {again}.")
    job.said.extend(own.said)
    if _is_alike(job.task, task):  # a label stays one; an output in free text was written under the instruction
        holds = bool(task.labels) or _written(job, task).instruction == task.instruction
        own = own.by_people.with_earlier(job.run, with_outputs=holds)
    else:
        own = own.by_people
    _make(job, task, own, job.record["preset"])
    job.record["remade"] = True
    return job


def _with_tests(job: OpenRun, task: Task, options: Options) -> Task:
    """The task with the run's test rows: those given now, else those it was given before, else the task's own."""
    before = job.record.pop("tests", None)
    if "tests" in options.given or before is None:
        job.record |= tests_record(options.tests)
        return task
    job.record["tests"] = before
    kept = f"the rows of {before['file']}" if "file" in before else f"{before['n']} of the task's rows"
    job.said.append(f"Test rows: {kept}, as given before.")
    return dataclasses.replace(task, tests=job.task.tests)


def tests_record(tests: Tests) -> dict[str, Any]:
    """What run.json says of test rows that were chosen; nothing for the task's own."""
    if isinstance(tests, Path):
        return {"tests": {"file": str(tests)}}
    return {"tests": {"n": tests}} if isinstance(tests, int) else {}


def keep_tests(job: OpenRun, tests: Tests) -> None:
    """Let the run remember the test rows that its task has now, as if it had been begun with them."""
    job.record = {**job.record, "task": dataclasses.asdict(job.task), **tests_record(tests)}


def _same(job: OpenRun, task: Task) -> Task:
    return job.task if "written" in job.record else tasks.as_made(task, job.record["task_digest"])


def _make(job: OpenRun, written: Task, own: OwnData, preset: str) -> None:
    """Give a job these own rows and this task, and the record of both."""
    job.own, job.task = own, with_own(written, own)
    tasks.check_task(job.task)
    _show(job, published=preset == presets.AS_PUBLISHED)
    job.record |= {
        "task": dataclasses.asdict(job.task),
        "task_digest": job.task.digest,
        "written": dataclasses.asdict(dataclasses.replace(written, tests=())),
        **({"own": own.record} if own.rows else {}),
    }


def _show(job: OpenRun, *, published: bool) -> None:
    """Choose the demonstrations that are shown, and say how many are not; name all labels."""
    n_given = len(job.task.examples)
    if n_given > tasks.FEW:
        job.task = tasks.drawn(job.task, tasks.FEW if published else _n_fitting(job))
        if (n_left := n_given - len(job.task.examples)) > 0:
            why = "as published" if published else f"half of a context of {job.room} tokens"
            shown = counted(len(job.task.examples), "example", "are")
            job.said.append(f"{shown} shown in every prompt, {n_left} are not: {why} holds no more.")
    if not published:
        fewest = min((n for n in prompts.numbers(job.plan["train"].shown) if n is not None), default=None)
        job.task = tasks.with_labels_named(job.task, fewest)


def _n_fitting(job: OpenRun) -> int:
    def n_tokens(text: str) -> int:
        return len(job.generator.tokenize((Segment(text, trusted=False),), bos=False))

    return tasks.n_fitting(job.task, n_tokens, job.room)


def _differences(job: OpenRun, task: Task, own: OwnData) -> Iterator[str]:
    """What of the task or of the own rows differs from what the run was made from, in words."""
    before = _written(job, task)
    for name in ("name", "kind", "instruction", "labels", "schema"):
        if getattr(before, name) != getattr(task, name):
            yield f"another {name}" if name != "labels" else "other labels"
    if before.examples != task.examples:
        n_new = sum(pair not in before.examples for pair in task.examples)
        n_gone = sum(pair not in task.examples for pair in before.examples)
        yield f"examples changed ({n_new} new, {n_gone} gone)" if n_new or n_gone else "examples in another order"
    mine, earlier = own.by_people, job.own.by_people
    if mine.digest != earlier.digest:
        same = {(row.input, row.output) for row in mine.rows} == {(row.input, row.output) for row in earlier.rows}
        yield "own rows used for other things" if same else "other own rows"


def _written(job: OpenRun, task: Task) -> Task:
    """The task file that the run was made from, its tests left out."""
    if "written" in job.record:
        return job.run.task("written")
    digest = job.record["task_digest"]
    return task if tasks.as_made(task, digest).digest == digest else job.run.task()


def _is_alike(before: Task, task: Task) -> bool:
    """Whether an input that was written for one version of the task may be asked in the other."""
    return (before.kind, before.labels, before.schema) == (task.kind, task.labels, task.schema)


def _again(job: OpenRun, task: Task) -> str:
    """What is made again, and what of the earlier work is of use."""
    from sg_local import review

    n_judged = len(review.person_verdicts(job.run.read(VERDICTS, Verdict)))
    aside = f" ({counted(n_judged, 'judgement')} of the review put aside, in {VERDICTS}.before)" if n_judged else ""
    if not _is_alike(job.task, task):
        return f"everything is made again{aside}"
    n = len(OwnData().with_earlier(job.run).rows)
    kept = f"the {counted(n, 'input')} written before are checked and answered again, and " if n else ""
    return f"{kept}the later stages are made again{aside}"
