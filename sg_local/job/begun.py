"""How a job is opened: an existing run goes on as it was made, or a new one is begun. Nothing is written.

An option given again must agree with the run's own where it decides the rows, and replaces it where it does not.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from sg_local import __version__, prompts, tasks
from sg_local.backends import choose_generator, choose_trainer
from sg_local.files import file_digest
from sg_local.job import presets
from sg_local.job.base import Base, find_base
from sg_local.job.engine import begin_alike
from sg_local.job.job import OpenRun
from sg_local.job.layouts import as_recorded, begun_with
from sg_local.job.made import begin_task, meet, tests_record
from sg_local.job.options import Budget, Home, Options, kept_budget, with_budget
from sg_local.job.own import OwnData, read_own, stored, with_own
from sg_local.job.plan import layers_of, plan_of
from sg_local.records import SgError, Task
from sg_local.run import RUN, Run, check_name, list_runs, open_run, usual_run

logger = logging.getLogger(__name__)


def job_for_task(task: Task, options: Options, home: Home, ahead: Collection[str] = ()) -> OpenRun:
    """The job of a task: an existing run of the same name goes on, else a new one is begun, to do the stages `ahead`.

    Raises SgError when the run was made from another task, model, seed or form, and (usage) before any work when a new
    run of this task would not work or mislead.
    """
    base = find_base(options.model, options.backend, home) if options.model or not options.name else None
    if options.name:
        run = Run(options.runs / check_name(options.name))
    else:
        run = usual_run(options.runs, task.name, (base or find_base(None, options.backend, home)).name)
    if run.exists():
        return checked(job_for_run(run.name, options, home, task=task), options, base)
    return begin(run, task, base or find_base(None, options.backend, home), options, home, ahead)


def job_for_run(name: str, options: Options, home: Home, task: Task | None = None) -> OpenRun:
    """The job of an existing run; `task` is the task file read anew."""
    run = open_run(options.runs, name)
    data = run.settings
    for key in ("task", "model", "form", "seed", "preset", "task_digest"):
        if key not in data:
            raise SgError(f"{run.path(RUN)} has no {key}.", "Make the run again.")
    found = run.task()
    kept = {key: getattr(options, key) if key in options.given else data.get(key) for key in ("backend", "trainer")}
    own = data.get("set", {})
    preset = options.preset if "preset" in options.given else presets.kept_preset(data["preset"], run.path(RUN))
    layers = layers_of(task or found, preset, home, options.settings, (str(run.path(RUN)), own))
    job = OpenRun(
        run=run,
        task=found,
        base=Base(data["model"]["name"], Path(data["model"]["path"]), data["model"].get("template")),
        backend=kept["backend"] or "auto",
        trainer=kept["trainer"] or "auto",
        seed=data["seed"],
        form_name=data["form"],
        plan=as_recorded(plan_of(layers, data["seed"], home), data, anew="preset" in options.given),
        record={**data, **kept, "set": presets.merged(own, options.settings), **with_budget(data, options.budget)},
        found=data,
        redo=options.redo,
        own=stored(run, data),
        budget=options.budget if options.budget != Budget() else kept_budget(data),
        reach=options.reach,
    )
    return job if task is None else meet(job, task, options)


def begin(
    run: Run, task: Task, base: Base, options: Options, home: Home, ahead: Collection[str] = (), *, alone: bool = False
) -> OpenRun:
    """The job of a run that is not there yet; nothing is written. Raises SgError for what could not be worked on."""
    plan = plan_of(layers_of(task, options.preset, home, options.settings), options.seed, home)
    own = read_own(options, task, OwnData(), plan["own"], options.seed)
    tasks.check_task(with_own(task, own))
    backend = choose_generator(options.backend)
    trainer = choose_trainer(options.trainer, options.backend)
    job = OpenRun(run, task, base, backend, trainer, options.seed, options.form, plan, {}, None, options.redo, alone)
    job.own, job.budget, job.reach = own, options.budget, options.reach
    job.record = {"set": dict(options.settings), **with_budget({}, options.budget)}
    if "seed" in options.given and not alone:
        begin_alike(job, list_runs(options.runs))
    if options.form == "auto":
        job.form_name = prompts.PLAIN.name
    job.look_ahead(ahead)
    form = job.form
    begin_task(job, own, options.preset)
    logger.info("run %s begins: %s, %s, form %s (asked: %s)", run.name, backend, trainer, job.form_name, options.form)
    job.record |= {
        "model": {
            "name": base.name,
            "path": str(base.path),
            "digest": file_digest(base.path, plan["engine"].cache) or job.generator.info.digest,
            "template": base.template,
        },
        "form": form.name,
        "turn_end": form.end or form.eos,
        **begun_with(plan),
        "seed": options.seed,
        "preset": options.preset,
        "backend": backend,
        "trainer": trainer,
        "version": __version__,
        **tests_record(options.tests),
    }
    return job


def checked(job: OpenRun, options: Options, base: Base | None) -> OpenRun:
    """The job, when the options given anew agree with what made its rows."""
    data = job.record
    asked = {"seed": options.seed, "form": options.form, "preset": options.preset}
    wrong = [
        f"{key} {data[key]} (now {asked[key]})"
        for key in asked
        if key in options.given and asked[key] not in (data[key], "auto")
    ]
    if base is not None and "model" in options.given and str(base.path) != data["model"]["path"]:
        wrong.append(f"model {data['model']['name']} (now {base.name})")
    if wrong:
        hint = "Use another `name` for a new run."
        raise SgError(f"Run {job.run.name} was made with {', '.join(wrong)}.", hint)
    return job
