"""A job: one run folder with its task, model and settings, and the engine that is opened when first needed.

A run remembers the options that made it (run.json); an option given again by flag or environment must agree where
it decides the rows, and replaces the remembered one where it does not.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from sg_local import __version__, prompts
from sg_local.backends import Generator, choose_generator, choose_trainer, open_generator
from sg_local.cli.config import Environment
from sg_local.cli.options import Options
from sg_local.cli.settings import Plan, parse_sets, plan, preset_layer
from sg_local.prompts import Form
from sg_local.records import SgError, Task, from_dict
from sg_local.run import Run, check_name, file_digest, open_run

SCRIPTED = "scripted"


@dataclass(frozen=True)
class Base:
    """The base model of a run. `template` replaces the file's own chat template where it is not None."""

    name: str
    path: Path
    template: str | None = None


@dataclass
class Job:
    """What every stage needs. Close it to let go of the engine."""

    run: Run
    task: Task
    base: Base
    backend: str
    trainer: str
    seed: int
    form_name: str
    plan: Plan
    redo: bool = False
    opened: list[Generator] = field(default_factory=list)

    @property
    def generator(self) -> Generator:
        """The engine, loaded on first use."""
        if not self.opened:
            self.opened.append(open_generator(self.backend, self.base.path, self.plan["engine"]))
        return self.opened[0]

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Every form the base can answer in."""
        info = self.generator.info
        template = info.chat_template if self.base.template is None else self.base.template
        return prompts.forms(template, info.bos, info.eos)

    @cached_property
    def form(self) -> Form:
        """The form that synthesis, training and serving use."""
        return prompts.form_named(self.forms, self.form_name)

    def close(self) -> None:
        """Let go of the engine."""
        while self.opened:
            self.opened.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def job_for_task(task: Task, options: Options, environment: Environment) -> Job:
    """The job of `run TASK` and `synth TASK`: an existing run of the same name goes on, else one is begun.

    Raises SgError when the run was made from another task, model, seed or form.
    """
    base = find_base(options.model, options.backend, environment) if options.model or not options.name else None
    name = options.name or default_name(task.name, (base or find_base(None, options.backend, environment)).name)
    run = Run(options.runs / check_name(name))
    if run.exists():
        return _checked(job_for_run(name, options, environment, task=task), options, base)
    return _begin(run, task, base or find_base(None, options.backend, environment), options, environment)


def job_for_run(
    name: str, options: Options, environment: Environment, stage: str | None = None, task: Task | None = None
) -> Job:
    """The job of an existing run. `stage` lets `--set` leave its own name out; `task` is the task file read anew."""
    run = open_run(options.runs, name)
    data = run.settings
    for key in ("task", "model", "form"):
        if key not in data:
            raise SgError(f"{run.path('run.json')} has no {key}.", "Make the run again.")
    found = from_dict(Task, data["task"]) if task is None else task
    if found.digest != data["task_digest"]:
        hint = "Use `--name` for a new run, or go back to the task as it was."
        raise SgError(f"Run {run.name} was made from another version of task {found.name}.", hint)
    kept = {key: getattr(options, key) if key in options.given else data.get(key) for key in ("backend", "trainer")}
    sets = _merged(data.get("set", {}), parse_sets(options.sets, stage))
    layers = _layers(found, data["preset"] if "preset" not in options.given else options.preset, environment, sets)
    job = Job(
        run=run,
        task=found,
        base=Base(data["model"]["name"], Path(data["model"]["path"]), data["model"].get("template")),
        backend=kept["backend"] or "auto",
        trainer=kept["trainer"] or "auto",
        seed=data["seed"],
        form_name=data["form"],
        plan=seeded(plan(layers), data["seed"]),
        redo=options.redo,
    )
    _remember(job, {**data, **kept, "set": sets, "task": dataclasses.asdict(found)}, data)
    return job


def find_base(name: str | None, backend: str, environment: Environment) -> Base:
    """The model file that a name stands for, with the card's chat template."""
    if backend == SCRIPTED and name is None:
        return Base(SCRIPTED, Path(SCRIPTED))
    from sg_local import models

    model = models.find_model(name or models.DEFAULT, environment.data)
    return Base(model.name, Path(model.path), model.chat_template)


def default_name(task: str, model: str) -> str:
    """The run's name where none is given: task and model."""
    text = f"{task}-{model}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")[:100] or "run"


def engine_names(options: Options) -> tuple[str, str]:
    """Generator and trainer with `auto` decided; the scripted generator brings the scripted trainer."""
    backend = choose_generator(options.backend)
    trainer = SCRIPTED if backend == SCRIPTED and options.trainer == "auto" else choose_trainer(options.trainer)
    return backend, trainer


def seeded(settings: Plan, seed: int) -> Plan:
    """The plan with the run's seed in every stage that draws, unless it was set."""
    stages = {
        stage: dataclasses.replace(own, seed=seed)
        if hasattr(own, "seed") and settings.source(f"{stage}.seed") == "default"
        else own
        for stage, own in settings.stages.items()
    }
    return Plan(stages, settings.layers)


def _begin(run: Run, task: Task, base: Base, options: Options, environment: Environment) -> Job:
    sets = parse_sets(options.sets)
    settings = plan(_layers(task, options.preset, environment, sets))
    backend, trainer = engine_names(options)
    job = Job(run, task, base, backend, trainer, options.seed, options.form, seeded(settings, options.seed))
    if options.form == "auto":
        job.form_name = job.forms[-1].name
    data = {
        "task": dataclasses.asdict(task),
        "task_digest": task.digest,
        "model": {
            "name": base.name,
            "path": str(base.path),
            "digest": file_digest(base.path) or job.generator.info.digest,
            "template": base.template,
        },
        "form": job.form.name,
        "seed": options.seed,
        "preset": options.preset,
        "backend": backend,
        "trainer": trainer,
        "set": sets,
        "version": __version__,
    }
    run.write_json("run.json", data)
    return job


def _checked(job: Job, options: Options, base: Base | None) -> Job:
    """The job, when the options given anew agree with what made its rows."""
    data = job.run.settings
    asked = {"seed": options.seed, "form": options.form, "preset": options.preset}
    wrong = [
        f"{key} {data[key]} (now {asked[key]})" for key in asked if key in options.given and asked[key] != data[key]
    ]
    if base is not None and "model" in options.given and str(base.path) != data["model"]["path"]:
        wrong.append(f"model {data['model']['name']} (now {base.name})")
    if wrong:
        hint = "Use `--name` for a new run."
        raise SgError(f"Run {job.run.name} was made with {', '.join(wrong)}.", hint)
    return job


def check_base(job: Job) -> None:
    """Raises SgError when the base model's file is gone or has changed since the run began."""
    if job.backend == SCRIPTED:
        return
    found = file_digest(job.base.path)
    if found is None:
        hint = "Put it back, or see `sg-local models ls`."
        raise SgError(f"The base model {job.base.path} of run {job.run.name} is gone.", hint)
    if found != job.run.settings["model"]["digest"]:
        hint = "Put the file back, or use `--name` for a new run."
        raise SgError(f"The base model {job.base.path} has changed since run {job.run.name} began.", hint)


def _remember(job: Job, data: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Write run.json where an option has changed it. The journals' own stamps guard what was made with the old one."""
    if data != before:
        job.run.write_json("run.json", data)


def _layers(task: Task, preset: str, environment: Environment, sets: Mapping[str, Any]) -> list:
    return [
        preset_layer(preset, task.kind),
        (f"file {environment.config_path}", environment.tables),
        ("--set", sets),
    ]


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    from sg_local import presets

    return presets.merged(first, second)
