"""`sg-local tune-settings`: search temperature and epochs over dev tasks, and write the winner as a preset file.

The search's folder holds search.json (what every trial was made with), trials.jsonl, preset.toml and one run for each
task and temperature, in which training and evaluation are made again for each number of epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sg_local.cli.app import Command
from sg_local.cli.complete import task_names
from sg_local.cli.config import Environment
from sg_local.cli.narration import narrator
from sg_local.cli.options import (
    Options,
    job_options,
    json_option,
    model_options,
    name_option,
    redo_option,
    runs_option,
    set_option,
)
from sg_local.cli.run import read_task
from sg_local.job.job import Job, find_base, job_for_task
from sg_local.job.plan import parse_sets
from sg_local.job.preset_file import show_outcome, write_preset
from sg_local.job.search import TRIALS, Search, SearchSettings, Setting, Trial, grid, search
from sg_local.job.stages import perform
from sg_local.records import NoRows, SgError, Task, digest
from sg_local.run import REPORT, Run, check_name, differences, read_json, remove
from sg_local.views.verdict import served

STAGES = ("synth", "filter", "train", "eval")
FACTS, PRESET, NAME = "search.json", "preset.toml", "tune-settings"


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


class Numbers(click.ParamType):
    """Numbers with commas between, each above zero."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.6,0.8", param, ctx)
        if any(not 0 < number < math.inf for number in numbers):
            self.fail(f"{value!r} holds a number that is not above zero", param, ctx)
        return numbers


@dataclasses.dataclass(frozen=True)
class Desk:
    """Where the search works: its folder, the dev tasks by name, the options of every trial."""

    run: Run
    tasks: Mapping[str, Task]
    options: Options
    environment: Environment


@click.command(
    "tune-settings",
    cls=Command,
    examples=(
        "sg-local tune-settings support_routing order_line --tests 40",
        "sg-local tune-settings a.toml b.toml c.toml --temperatures 0.7,0.9 --epochs 2,3 --out mine.toml",
        "sg-local run another_task.toml --preset runs/tune-settings/preset.toml",
    ),
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...", shell_complete=task_names)
@click.option(
    "--temperatures",
    type=Numbers(),
    default=SearchSettings.temperatures,
    show_default=_listed(SearchSettings.temperatures),
    help="Temperatures to try for writing inputs.",
)
@click.option(
    "--epochs",
    type=Numbers(),
    default=SearchSettings.epochs,
    show_default=_listed(SearchSettings.epochs),
    help="Passes over the rows to try.",
)
@click.option("--tests", type=click.IntRange(1), metavar="N", help="Judge on so many of each task's test rows.")
@click.option("--all", "everything", is_flag=True, help="Try every setting on every task, even where it cannot win.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the preset here as well.")
@name_option
@model_options
@set_option
@runs_option
@redo_option
@json_option
@job_options
@click.pass_obj
def tune_settings_command(
    environment: Environment,
    tasks: tuple[str, ...],
    tests: int | None,
    out: Path | None,
    as_json: bool,
    options: Options,
    **axes: Any,
) -> None:
    """Search temperature and epochs over several tasks for a preset.

    Every setting is judged by the tuned model's score minus the base's on the TEST ROWS of the tasks named here, and
    the one wins whose worst gain is the highest (maximin, as in SELF-GUIDE). Those rows prove no gain any more:
    use the preset on other tasks. Stop it when you like, the same line goes on.
    """
    desk = _desk([read_task(name, tests) for name in tasks], options, environment)
    settings = SearchSettings(axes["temperatures"], axes["epochs"], axes["everything"])
    with desk.run.lock():
        _check_facts(desk)
        rows = ", ".join(f"{len(task.tests)} of {name}" for name, task in desk.tasks.items())
        click.echo(f"Settings are chosen on test rows: {rows}. They prove nothing on these tasks any more.", err=True)
        n_most = len(grid(settings)) * len(desk.tasks)
        found = search(
            Search(desk.run, tuple(desk.tasks), settings, lambda task, one: _attempt(desk, task, one, n_most))
        )
        paths = [desk.run.path(PRESET), *([out] if out is not None else [])]
        write_preset(found, tuple(desk.tasks), options, paths)
    show_outcome(found, tuple(desk.tasks), as_json)
    for path in paths:
        click.echo(path, err=as_json)
    click.echo(f"Next: sg-local run TASK --preset {paths[-1]}", err=True)


def _desk(tasks: Sequence[Task], options: Options, environment: Environment) -> Desk:
    """The search's folder and tasks; SgError (usage) for tasks that cannot be told apart or judged."""
    for task in tasks:
        if not task.tests:
            hint = "Add [[tests]]: settings are judged on them."
            raise SgError(f"Task {task.name} has no test rows.", hint, exit_code=2)
    by_name = {check_name(task.name): task for task in tasks}
    if len(by_name) < len(tasks):
        raise SgError("Two of the tasks have the same name.", "Name each task once.", exit_code=2)
    root = Run(options.runs / check_name(options.name or NAME))
    if root.exists():
        raise SgError(f"{root.name} is a run, not a search.", "Use another `--name`.", exit_code=2)
    return Desk(root, by_name, options, environment)


def _check_facts(desk: Desk) -> None:
    """Note what trials are made with, or hold it against what earlier ones were made with; `--redo` starts anew."""
    options = desk.options
    base = find_base(options.model, options.backend, desk.environment)
    facts = {key: getattr(options, key) for key in ("backend", "trainer", "form", "seed", "preset")}
    facts |= {"model": [base.name, str(base.path)], "set": parse_sets(options.sets)}
    facts |= {f"task {name}": digest(dataclasses.asdict(task)) for name, task in desk.tasks.items()}
    if options.redo:
        _clear(desk.run)
    path = desk.run.path(FACTS)
    old = read_json(path) if path.exists() else {}
    before, now = ({"settings": {key: one[key] for key in facts if key in old}, "reads": {}} for one in (old, facts))
    different = differences(before, now)
    if different:
        hint = "Use `--name` for a new search, or `--redo` to begin this one anew."
        raise SgError(f"Search {desk.run.name} was made with {different}.", hint)
    desk.run.write_json(FACTS, {**old, **facts})


def _clear(run: Run) -> None:
    """Take away everything that a search made, its lock excepted."""
    for path in run.root.iterdir() if run.root.is_dir() else ():
        if path.name != ".lock":
            remove(path)


def _attempt(desk: Desk, name: str, setting: Setting, n_most: int) -> Trial:
    """One trial: the stages in the run of this task and temperature. Too few rows count as a failed trial."""
    n_done = len(desk.run.read(TRIALS, Trial))
    drawn = f"temperature {setting.temperature:g}, epochs {setting.epochs:g}"
    title = f"trial {n_done + 1} of at most {n_most}: {name}, {drawn}"
    click.echo(title, err=True)
    facts = {"task": name, "temperature": setting.temperature, "epochs": setting.epochs}
    sets = (f"synth.temperature={setting.temperature}", f"train.epochs={setting.epochs}")
    options = dataclasses.replace(
        desk.options,
        runs=desk.run.root,
        name=f"{name}-t{setting.temperature:g}",
        sets=(*desk.options.sets, *sets),
        redo=True,
    )
    with job_for_task(desk.tasks[name], options, desk.environment) as job, job.run.lock():
        try:
            with narrator(STAGES, title) as narrate:
                job.run.clear_stage("eval")  # what the base has answered before stays in the journal of answers
                for stage in STAGES:
                    perform(job, stage, narrate)
        except NoRows as error:
            click.echo(f"This setting is out: {error.message}", err=True)
            return Trial(**facts, failed=error.message)
        return Trial(**facts, **_scores(job))


def _scores(job: Job) -> dict[str, Any]:
    """The served system's score and that of the strongest base of its family, as the report has them."""
    report = read_json(job.run.path(REPORT))
    tuned = served(report)
    base = next(verdict["base"] for verdict in report["verdicts"] if verdict["tuned"] == tuned)
    systems = report["systems"]
    return {
        "base": systems[base]["score"],
        "tuned": systems[tuned]["score"],
        "base_system": base,
        "tuned_system": tuned,
        "n_tests": report["n"],
        "n_rows": report["n_training"],
    }
