"""Which job answers: that of a run, or the untuned base alone on a task that has none.

The base alone may be of any architecture that the engine runs, trainable or not, and nothing of its job is written.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sg_local import tasks
from sg_local.job.base import find_base
from sg_local.job.begun import begin, checked, job_for_run
from sg_local.job.job import OpenRun
from sg_local.job.options import Home, Options
from sg_local.records import SgError, Task
from sg_local.run import find_run, list_runs, usual_run


def job_for_asking(name: str, options: Options, home: Home, *, base: bool = False) -> OpenRun:
    """The job of the run with this name; with `base` also of a task, by its name or file, that has no run so called.

    With `base` the beginning of a run's name is no run where a task has that name, and a form that is given is the one
    in which the base is asked, whatever form the run was made in.

    Raises SgError (usage) where neither is there, and where a run was made from another model than was given.
    """
    is_task = tasks.is_shipped(name) or Path(name).is_file()
    is_begun = not (base and is_task) or any(run.name == name for run in list_runs(options.runs))
    is_run = is_begun and find_run(options.runs, name) is not None
    if not (base or is_run) and is_task:
        hint = f"Create one with `run {name}`, or use the untuned model with `base`."
        raise SgError(f"There is no run named {name!r} in {options.runs}; it is a task.", hint, exit_code=2)
    if not base or is_run:
        asked = find_base(options.model, options.backend, home) if "model" in options.given else None
        others = replace(options, given=options.given - {"form"}) if base else options
        job = checked(job_for_run(name, options, home), others, asked)
        return _in_form(job, options.form) if base and "form" in options.given else job
    return job_for_base(_task(name), options, home)


def _in_form(job: OpenRun, form: str) -> OpenRun:
    """The job of a run whose base is asked in this form; `auto` leaves the run's own. Nothing of it is written."""
    if form != "auto":
        job.form_name, job.record = form, {**job.record, "form": form}
    return job


def job_for_base(task: Task, options: Options, home: Home) -> OpenRun:
    """The job that asks the base alone, with the prompts that a new run of the task would have."""
    base = find_base(options.model, options.backend, home)
    run = usual_run(options.runs, task.name, base.name)
    return begin(run, task, base, options, home, alone=True)


def _task(name: str) -> Task:
    try:
        return tasks.load_task(name)
    except SgError as error:
        if not error.message.startswith("There is no task named"):
            raise
        raise SgError(f"There is neither a run nor a task named {name!r}.", error.hint, exit_code=2) from error
