"""`sg-local tasks`: list, show, write and check task files."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.complete import task_argument
from sg_local.cli.config import Environment
from sg_local.cli.options import backend_option, form_option, json_option, model_option
from sg_local.cli.output import Column
from sg_local.cli.task_new import grammar_check, new
from sg_local.tasks.draft import prompt_text
from sg_local.tasks.listing import list_tasks
from sg_local.tasks.toml import task_toml


@click.group(
    "tasks",
    cls=CommandGroup,
    examples=("sg-local tasks ls", "sg-local tasks new my_task.toml", "sg-local tasks check my_task.toml"),
)
def tasks_command() -> None:
    """List, show, create and check task files."""


@tasks_command.command("ls", examples=("sg-local tasks ls", "sg-local tasks ls my_tasks --json"))
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def ls(folder: Path | None, as_json: bool) -> None:
    """List the tasks that come with sg-local, or those in a folder."""
    from sg_local import tasks

    paths = sorted([*folder.glob("*.toml"), *folder.glob("*.json")]) if folder else tasks.shipped_tasks()
    rows = list_tasks(paths)
    if as_json:
        output.show_json([dataclasses.asdict(row) for row in rows])
        return
    columns = [Column("task"), Column("kind"), Column("tests", True), Column("what it does")]
    cells = [(row.name, row.kind or "broken", str(row.tests), _brief(row.fault or row.summary)) for row in rows]
    output.show_table("Tasks", columns, cells)
    for row in rows:
        if row.fault:
            output.note(f"Skipped: {row.fault}")


def _brief(text: str, length: int = 100) -> str:
    """The text on one line, cut between words."""
    return textwrap.shorten(text, length, placeholder="\u2026")


@tasks_command.command(
    "show",
    examples=("sg-local tasks show support_routing", "sg-local tasks show support_routing --toml > my_task.toml"),
)
@task_argument
@json_option
@click.option("--toml", "as_toml", is_flag=True, help="Print it as a task file, including its test rows.")
def show(task: str, as_json: bool, as_toml: bool) -> None:
    """Show a task and its prompt."""
    from sg_local import tasks

    found = tasks.load_task(task)
    if as_toml:
        output.say(task_toml(found).rstrip("\n"))
        return
    if as_json:
        output.show_json(dataclasses.asdict(found))
        return
    pairs = [("name", found.name), ("kind", found.kind), ("metric", found.metric)]
    pairs += [("labels", ", ".join(found.labels))] if found.labels else []
    pairs += [("schema", found.schema)] if found.schema else []
    pairs += [("tests", str(len(found.tests))), ("instruction", found.instruction)]
    pairs += [(f"example {i}", f"{pair.input} -> {pair.output}") for i, pair in enumerate(found.examples, 1)]
    output.show_pairs(found.name, pairs)
    output.say("\nThe prompt:\n")
    output.tell(prompt_text(found))


@tasks_command.command(
    "check",
    examples=("sg-local tasks check my_task.toml", "sg-local tasks check my_task.toml --model vicuna-7b-v1.5 --json"),
)
@task_argument
@form_option
@backend_option
@model_option
@json_option
@click.pass_obj
def check(environment: Environment, /, task: str, as_json: bool, **given: Any) -> None:
    """Check a task file for errors and weaknesses, with advice.

    With --model, also check that inputs and examples fit the model's context. Exit code 1: something would make the
    results misleading.
    """
    from sg_local import tasks
    from sg_local.job.advice import advise
    from sg_local.job.options import Options

    found = tasks.read_placed_task(tasks.find_task(task))
    for line in found.told:
        output.note(line)
    advice = advise(found, Options(**given), environment.home(), grammar_check())
    if as_json:
        output.show_json([dataclasses.asdict(item) for item in advice])
    elif advice:
        columns = [Column("level"), Column("where"), Column("finding"), Column("advice")]
        output.show_table(found.task.name, columns, [(a.level, a.place, a.finding, a.advice) for a in advice])
    else:
        output.tell(f"{found.task.name}: no problems found.")
    if any(item.level == "error" for item in advice):
        click.get_current_context().exit(1)


tasks_command.add_command(new)
