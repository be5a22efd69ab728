"""The single stages as commands: synth, filter, train, export. `eval` stands in evaluation.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import run_argument, task_argument, type_names
from sg_local.cli.config import Environment
from sg_local.cli.gates import show_gates
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import telling
from sg_local.cli.notify import notify_option
from sg_local.cli.options import (
    json_option,
    model_options,
    name_option,
    own_rows_options,
    redo_option,
    runs_option,
    set_option,
    time_option,
    trainer_option,
)
from sg_local.cli.run import read_task
from sg_local.cli.show import show_files, show_funnel
from sg_local.cli.waiting import OPENING, waiting
from sg_local.job import train
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.job import OpenRun
from sg_local.job.llama_server import WrittenPreset, write_preset
from sg_local.job.options import Options
from sg_local.job.stages import perform
from sg_local.job.stale import training_line
from sg_local.records import GATE_NOT_MET, SgError


def _stage(job: OpenRun, name: str, *, again: bool = False) -> None:
    """One stage of a job, told on stderr."""
    with job.lock(), telling((name,), f"{job.run.name}: {name}") as tell:
        perform(job, name, tell, again=again)


@click.command(
    "synth",
    cls=Command,
    examples=("sg-local synth support_routing", "sg-local synth my_task.toml --set synth.n_inputs=400 --name big"),
)
@task_argument
@name_option
@model_options
@own_rows_options
@set_option
@runs_option
@redo_option
@notify_option
@job_options()
@click.pass_obj
def synth_command(environment: Environment, task: str, options: Options) -> None:
    """Generate training pairs for a task with the model itself.

    Writes inputs.jsonl and candidates.jsonl into the run folder, row by row. Stop it whenever you like: run the same
    command again to continue.
    """
    with waiting(OPENING):
        opened = job_for_task(read_task(task, None), options, environment.home(), ("synth",))
    with opened as job:
        _stage(job, "synth", again=options.redo)
        output.say(job.run.path("candidates.jsonl"))
        output.next_commands(f"sg-local filter {job.run.typed}")


@click.command(
    "filter",
    cls=Command,
    examples=("sg-local filter RUN", "sg-local filter RUN --set near_duplicate.threshold=0.8 --set policy=asked"),
)
@run_argument
@set_option
@runs_option
@redo_option
@json_option
@job_options("filter")
@click.pass_obj
def filter_command(environment: Environment, run: str, as_json: bool, options: Options) -> None:
    """Filter the generated pairs by rules, and show what was rejected and why.

    Needs no model. Change settings and filter again as often as you like: people's judgements stay, and the run
    remembers the settings.
    """
    from sg_local import filters

    with job_for_run(run, options, environment.home()) as job:
        _stage(job, "filter", again=options.redo or bool(options.settings))
        found = filters.funnel(job.run, job.task)
        if as_json:
            output.show_json(dataclasses.asdict(found))
            return
        told = (job.run.stamp("filter") or {}).get("funnel", {})
        show_funnel(dataclasses.replace(found, policy=told.get("policy", ""), why=told.get("why", "")))
        if found.kept:
            train_line = training_line(job.run)
            again = [f"sg-local {train_line}"] if train_line else []
            output.next_commands(f"sg-local review {job.run.typed}", *again)


@click.command(
    "train",
    cls=Command,
    examples=(
        "sg-local train RUN",
        "sg-local train RUN --time 20m",
        "sg-local train RUN --set epochs=3 --trainer torch --redo",
        "sg-local train RUN --prepare",
    ),
)
@run_argument
@trainer_option
@set_option
@time_option
@click.option("--prepare", is_flag=True, help="Only write the training job to disk, for torchrun or mlx.launch.")
@runs_option
@redo_option
@notify_option
@job_options("train")
@click.pass_obj
def train_command(environment: Environment, run: str, prepare: bool, options: Options) -> None:
    """Finetune a LoRA adapter on the kept pairs.

    Stop it whenever you like: run the same command again to continue from the last checkpoint.
    """
    with job_for_run(run, options, environment.home()) as job:
        if prepare:
            with job.lock():
                folder = train.prepare(job)
            output.say(folder)
            output.next_commands(train.launch_line(job, folder))
            output.say(f"Then: sg-local train {job.run.typed}", err=True)
            return
        _stage(job, "train", again=options.redo)
        show_files(job.run)
        output.next_commands(f"sg-local eval {job.run.typed}", f"sg-local export {job.run.typed}")


@click.command(
    "export",
    cls=Command,
    examples=(
        "sg-local export RUN",
        "sg-local export RUN --type Q8_0 --type F16",
        "sg-local export RUN --may-lose 1",
        "sg-local export RUN --hf folder",
        "sg-local export RUN --llama-server folder",
    ),
)
@run_argument
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=type_names,
    help="auto, same, F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q5_K_M_imat, Q4_K_M_imat, IQ4_XS_imat or "
    "Q3_K_M_imat (_imat: weighted by importance); repeatable.",
)
@click.option(
    "--may-lose",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Accept only files that lose no more than this, with 95 % confidence, on the run's own rows.",
)
@click.option("--from-f16", metavar="FILE", help="Merge into this unquantised GGUF of the same model.")
@click.option("--mlx", metavar="DIR", help="Also write a folder for mlx-lm.")
@click.option("--hf", metavar="DIR", help="Also write a folder for transformers, and the adapter for peft.")
@click.option("--plain-template", is_flag=True, help="Keep the model's own chat template in the file.")
@click.option("--without-demonstrations", is_flag=True, help="Leave the task's examples out of every exported file.")
@click.option(
    "--llama-server",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Only write a folder for llama-server, with this run and the others of its base model.",
)
@set_option
@runs_option
@redo_option
@notify_option
@json_option
@job_options("export")
@click.pass_obj
def export_command(
    environment: Environment,
    /,
    run: str,
    types: tuple[str, ...],
    may_lose: float | None,
    plain_template: bool,
    without_demonstrations: bool,
    as_json: bool,
    llama_server: Path | None,
    options: Options,
    **places: str | None,
) -> None:
    """Write the GGUF files that other programs load.

    Each file is checked against base + adapter, and a table shows the results. A file that lost the tuning is refused,
    with exit code 3.
    """
    given: dict[str, Any] = {name: value for name, value in places.items() if value is not None}
    given |= {"types": types} if types else {}
    given |= {"may_lose": may_lose} if may_lose is not None else {}
    given |= {"plain_template": True} if plain_template else {}
    given |= {"without_demonstrations": True} if without_demonstrations else {}
    with job_for_run(run, options, environment.home()) as job:
        job.plan = job.plan.changed("export", given)
        if llama_server is not None:
            show_preset(write_preset(job, options, environment.home(), llama_server))
            return
        try:
            _stage(job, "export", again=options.redo or bool(given))
        except SgError as error:
            if error.exit_code == GATE_NOT_MET:
                show_gates(job.run, as_json)
            raise
        show_gates(job.run, as_json)
        if not as_json:
            show_files(job.run)
        output.next_commands(f"sg-local eval {job.run.typed}", f"sg-local serve {job.run.typed}")


def show_preset(written: WrittenPreset) -> None:
    """The preset, the line that starts the server, what it needs of labels, and what that server lacks."""
    from sg_local.export.llama_server import LACKS, command

    output.say(written.path)
    output.note(f"It serves: {', '.join(written.names)}. Start it with:")
    output.note(f"  {command(written.path)}")
    for line in written.said:
        output.note(line)
    output.note("What llama-server lacks of `sg-local serve`:")
    for one in LACKS:
        output.note(f"  {one}")
