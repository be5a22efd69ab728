"""`sg-local tune-settings`: search temperature and epochs over dev tasks, and write the winner as a preset file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import task_names
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import telling
from sg_local.cli.notify import notify_option
from sg_local.cli.options import json_option, model_options, redo_option, runs_option, set_option
from sg_local.cli.output import Column
from sg_local.cli.run import read_task
from sg_local.job.options import Options
from sg_local.job.search import SearchOutcome, SearchSettings


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


class Numbers(click.ParamType[Any]):
    """Numbers with commas between, each above zero."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 0.6,0.8", param, ctx)
        if any(not 0 < number < math.inf for number in numbers):
            self.fail(f"{value!r} contains a number that is not above zero", param, ctx)
        return numbers


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
    help=f"Temperatures to try for writing inputs.  [default: {_listed(SearchSettings.temperatures)}]",
)
@click.option(
    "--epochs",
    type=Numbers(),
    default=SearchSettings.epochs,
    help=f"Numbers of epochs to try.  [default: {_listed(SearchSettings.epochs)}]",
)
@click.option("--tests", "n_tests", type=click.IntRange(1), metavar="N", help="Number of each task's test rows to use.")
@click.option(
    "--all", "everything", is_flag=True, help="Try every setting on every task, even if it can no longer win."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the preset here.")
@notify_option
@click.option("--name", metavar="RUN", help="Name of the run.  [default: tune-settings]")
@model_options
@set_option
@runs_option
@redo_option
@json_option
@job_options()
@click.pass_obj
def tune_settings_command(
    environment: Environment,
    /,
    tasks: tuple[str, ...],
    n_tests: int | None,
    out: Path | None,
    as_json: bool,
    options: Options,
    **axes: Any,
) -> None:
    """Find the best temperature and epochs over several tasks, and save a preset.

    Each setting is judged by its gain over the base on the TEST ROWS of the tasks given here; the setting whose worst
    gain is highest wins (maximin, as in SELF-GUIDE). Those rows can no longer prove a gain: use the preset on other
    tasks. Stop it whenever you like: run the same command again to continue.
    """
    from sg_local.job import trials
    from sg_local.job.preset_file import write_preset

    read = [read_task(name, n_tests) for name in tasks]
    at = trials.bench(read, options, environment.home(), lambda title: telling(trials.STAGES, title), output.note)
    settings = SearchSettings(axes["temperatures"], axes["epochs"], axes["everything"])
    with at.run.lock():
        found = trials.try_all(at, settings)
        paths = [at.run.path(trials.PRESET), *([out] if out is not None else [])]
        write_preset(found, tuple(at.tasks), options, paths)
    show_outcome(found, tuple(at.tasks), as_json)
    for path in paths:
        output.say(path, err=as_json)
    output.next_commands(f"sg-local run TASK --preset {paths[-1]}")


def show_outcome(found: SearchOutcome, tasks: Sequence[str], as_json: bool) -> None:
    """The table of settings, or everything as JSON, on stdout."""
    from sg_local.job.preset_file import outcome_data, outcome_rows

    if as_json:
        output.show_json(outcome_data(found))
        return
    columns = [Column("temperature", True), Column("epochs", True), *(Column(task, True) for task in tasks)]
    output.show_table("Gains over the base", [*columns, Column("worst", True), Column("")], outcome_rows(found, tasks))
