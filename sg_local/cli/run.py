"""`sg-local run`: the stages of a job one after the other, the review between them, the verdict at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import task_argument
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import telling
from sg_local.cli.notify import notify_option
from sg_local.cli.options import (
    budget_options,
    json_option,
    model_options,
    name_option,
    own_rows_options,
    redo_option,
    runs_option,
    set_option,
)
from sg_local.cli.show import show_forecast, show_verdict
from sg_local.cli.waiting import OPENING, waiting
from sg_local.job.begun import job_for_task
from sg_local.job.evaluate import UNMEASURED
from sg_local.job.job import OpenRun
from sg_local.job.options import TASK, Options, Tests
from sg_local.job.prospect import prospect
from sg_local.job.stages import AFTER_REVIEW, ALL, BEFORE_REVIEW, foreseen, look_ahead, perform_all, to_come
from sg_local.records import SgError, Task
from sg_local.report import plain, read_report
from sg_local.tables import parse_columns


class TestRows(click.ParamType[Any]):
    """A number of test rows, a file that holds them, or with `own` the word task for the task's own."""

    __test__ = False

    def __init__(self, *, own: bool = False) -> None:
        self.own = own
        self.name = "N|FILE|task" if own else "N|FILE"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tests:
        if self.own and value == TASK:
            return TASK
        return int(value) if str(value).isdigit() else Path(value)


def read_task(name: str, tests: Tests, columns: str = "") -> Task:
    """The task with its test rows chosen; tells how a file of them was read. `columns` are those of a file."""
    from sg_local import tasks

    return tasks.load_task(name, None if tests == TASK else tests, parse_columns(columns), tell)


def tell(line: str) -> None:
    """A line for the person on stderr, broken between words on a terminal."""
    output.note(line)


@click.command(
    "run",
    cls=Command,
    examples=(
        "sg-local run support_routing --yes",
        "sg-local run my_task.toml --model vicuna-7b-v1.5 --seed 1",
        "sg-local run my_task.toml --set synth.n_inputs=400 --set train.epochs=3",
        "sg-local run my_task.toml --plan --ram 12G --disk 15G --time 45m",
        "sg-local run task1195.json --tests 100 --preset paper",
        "sg-local run my_task.toml --inputs mails.csv --rows labelled.xlsx --columns input=Body,output=Team",
    ),
)
@task_argument
@name_option
@model_options
@set_option
@budget_options
@runs_option
@click.option(
    "--tests",
    type=TestRows(own=True),
    metavar="N|FILE|task",
    help="Number of test rows to use, or a file of them; the run remembers it. `task` goes back to the task's own.",
)
@own_rows_options
@click.option("--plan", "only_plan", is_flag=True, help="Only estimate the memory, disk and time that it will take.")
@click.option("--yes", is_flag=True, help="Ask nothing, and skip the review.")
@click.option(
    "--tune-anyway", is_flag=True, help="Train without asking, even if the rows suggest that it will not help."
)
@redo_option
@notify_option
@json_option
@job_options()
@click.pass_obj
def run_command(
    environment: Environment,
    /,
    task: str,
    only_plan: bool,
    yes: bool,
    tune_anyway: bool,
    as_json: bool,
    options: Options,
) -> None:
    """Train a model for a task: every stage, continuing where an earlier run stopped.

    TASK is a .toml file, a Super-NaturalInstructions .json file, or the name of a task that comes with sg-local. On a
    terminal it stops once, so that you can review the generated pairs, unless --yes is given. Run the same command
    again to continue; --redo repeats the stages that were made with other settings.

    Before training it says whether the rows show that the model knows the task. If they do not, it asks on a terminal
    whether to train (no: exit code 0, and what to do instead), unless --tune-anyway is given; with --yes or without a
    terminal it says so and trains.
    """
    found = read_task(task, options.tests, options.own_columns)
    with waiting(OPENING):
        opened = job_for_task(found, options, environment.home(), ALL)
    if only_plan:
        show_plan(opened, as_json)
        return
    with opened as job, job.lock():
        with waiting("looking ahead"):
            look_ahead(job)
        refused = go(job, environment, ask=_asks(yes), tune_anyway=tune_anyway)
        unmeasured = "" if job.task.tests else UNMEASURED
        if as_json:
            report = {"run": job.run.name, "unmeasured": unmeasured} if unmeasured else plain(read_report(job.run))
            output.show_json(report)
        else:
            show_verdict(job.run, unmeasured)
        if refused is not None:
            raise refused


def show_plan(opened: OpenRun, as_json: bool) -> None:
    """What the job will take, and what is to be said before it works."""
    with opened as job:
        with waiting("looking ahead"):
            found = foreseen(job)
        while job.said:
            tell(job.said.pop(0))
        show_forecast(found, as_json)


def _asks(yes: bool) -> bool:
    """Whether there is somebody to ask, who would be asked."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def go(job: OpenRun, environment: Environment, *, ask: bool, tune_anyway: bool = False) -> SgError | None:
    """All stages of a job. With `ask` the person is asked in between: whether to train, and to review the rows.

    Returns what the export said where a fused file did not pass its gate: the adapter is evaluated all the same. Ends
    the command with exit code 0 where the person would rather not train.
    """
    title = f"{job.run.name}: {job.task.name} on {job.base.name}"
    with telling(ALL, title) as tell:
        refused = perform_all(job, tell, BEFORE_REVIEW if ask else ALL)
    if not ask:
        return refused
    if not _trains(job, tune_anyway):
        click.get_current_context().exit()
    if not _review(job, environment):
        raise click.Abort
    with telling(AFTER_REVIEW, title) as tell:
        return perform_all(job, tell, AFTER_REVIEW)


def _trains(job: OpenRun, tune_anyway: bool) -> bool:
    """Say what the rows tell, and ask whether to train where they doubt that it pays; a no is told what else to do."""
    from sg_local.views.prospect import prospect_lines, untuned_commands

    found = prospect(job) if "train" in to_come(job, ("train",)) else None
    if found is None:
        return True
    for line in prospect_lines(found):
        tell(line)
    if tune_anyway or not found.is_doubtful:
        return True
    if click.confirm("Continue with the review and the training?", default=True, err=True):
        return True
    for line, what in untuned_commands(job.run.typed, found):
        output.say(f"Next: {line}   # {what}")
    return False


def _review(job: OpenRun, environment: Environment) -> bool:
    """Offer the review unless it was done before; False when the user wants to stop here."""
    from sg_local.cli.review import review_before_training

    return review_before_training(job, environment)
