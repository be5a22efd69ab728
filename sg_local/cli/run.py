"""`sg-local run`: the stages of a job one after the other, the review between them, the verdict at the end."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import task_argument
from sg_local.cli.config import Environment
from sg_local.cli.gates import GATE_NOT_MET
from sg_local.cli.narration import Narrator, narrator
from sg_local.cli.options import (
    Options,
    job_options,
    json_option,
    model_options,
    name_option,
    redo_option,
    runs_option,
    set_option,
    time_option,
)
from sg_local.job.job import SCRIPTED, Job, job_for_task
from sg_local.job.stages import perform
from sg_local.records import SgError, Task, TestRow
from sg_local.run import REPORT, read_json
from sg_local.views.verdict import show_verdict

BEFORE_REVIEW, AFTER_REVIEW = ("synth", "filter"), ("train", "export", "eval")


class Tests(click.ParamType):
    """A number of test rows, or a file that holds them."""

    name = "N|FILE"
    __test__ = False

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Path:
        return int(value) if str(value).isdigit() else Path(value)


def read_task(name: str, tests: int | Path | None) -> Task:
    """The task with its test rows chosen."""
    from sg_local import tasks

    if isinstance(tests, Path):
        task = tasks.load_task(name)
        return dataclasses.replace(task, tests=tests_of(task, tests))
    return tasks.load_task(name, tests)


def tests_of(task: Task, path: Path) -> tuple[TestRow, ...]:
    """The test rows of a file, outputs of a classification task in the spelling of its labels.

    Raises SgError (usage) where an output is none of the labels.
    """
    from sg_local import prompts, tasks

    rows = tasks.read_tests(path)
    if not task.labels:
        return rows
    known = {text: prompts.match_label(task.labels, text) for row in rows for text in row.outputs}
    for text, label in known.items():
        if label is None:
            message = f"{path}: the output {text!r} is no label of task {task.name}."
            raise SgError(message, f"The labels are: {', '.join(task.labels)}.", exit_code=2)
    return tuple(dataclasses.replace(row, outputs=tuple(known[text] for text in row.outputs)) for row in rows)


@click.command(
    "run",
    cls=Command,
    examples=(
        "sg-local run support_routing --yes",
        "sg-local run my_task.toml --model vicuna-7b-v1.5 --seed 1",
        "sg-local run my_task.toml --set synth.n_inputs=400 --set train.epochs=3",
        "sg-local run task1195.json --tests 100 --preset paper",
    ),
)
@task_argument
@name_option
@model_options
@set_option
@time_option
@runs_option
@click.option("--tests", type=Tests(), help="Use so many of the task's test rows, or the rows of a file.")
@click.option("--yes", is_flag=True, help="Ask nothing: do not stop for the review.")
@redo_option
@json_option
@job_options
@click.pass_obj
def run_command(
    environment: Environment, task: str, tests: int | Path | None, yes: bool, as_json: bool, options: Options
) -> None:
    """Make a model good at a task: all stages, going on where an earlier try stopped.

    TASK is a .toml file, a Super-NaturalInstructions .json file, or the name of a task that came with sg-local.
    On a terminal it stops for the review of the synthesised pairs, unless --yes. The same line again goes on where
    it stopped; --redo makes those stages again that were made with other settings.
    """
    with job_for_task(read_task(task, tests), options, environment) as job, job.run.lock():
        refused = go(job, environment, ask=not yes and sys.stdin.isatty() and sys.stderr.isatty())
        if as_json:
            output.show_json(read_json(job.run.path(REPORT)))
        else:
            show_verdict(job.run)
        if refused is not None:
            raise refused


def go(job: Job, environment: Environment, *, ask: bool) -> SgError | None:
    """All stages of a job. With `ask` the reviewer is called in between, who needs the screen.

    Returns what the export said where a fused file did not pass its gate: the adapter is evaluated all the same.
    """
    title, stages = f"{job.run.name}: {job.task.name} on {job.base.name}", (*BEFORE_REVIEW, *AFTER_REVIEW)
    with narrator(stages, title) as narrate:
        refused = _chain(job, narrate, BEFORE_REVIEW if ask else stages)
    if not ask:
        return refused
    if not _review(job, environment):
        raise click.Abort
    with narrator(AFTER_REVIEW, title) as narrate:
        return _chain(job, narrate, AFTER_REVIEW)


def _chain(job: Job, narrate: Narrator, stages: tuple[str, ...]) -> SgError | None:
    refused = None
    for stage in stages:
        if stage == "export" and job.trainer == SCRIPTED:
            narrate.skip(stage, "the scripted trainer makes no weights")
            continue
        try:
            perform(job, stage, narrate)
        except SgError as error:
            if stage != "export" or error.exit_code != GATE_NOT_MET:
                raise
            refused = error
            narrate.skip(stage, f"{error.message} The evaluation goes on with the adapter.")
    return refused


def _review(job: Job, environment: Environment) -> bool:
    """Offer the review unless it was done before; False when the user wants to stop here."""
    from sg_local.cli.review import review_before_training

    return review_before_training(job, environment)
