"""`sg-local config`: the settings in force, what each one means, and where it came from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.complete import stage_names
from sg_local.cli.config import OPTIONS, Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.options import Choice, json_option, model_options, runs_option, set_option
from sg_local.cli.output import Column
from sg_local.job.meanings import meaning
from sg_local.job.options import Options
from sg_local.job.plan import flat, make_plan, preset_layer
from sg_local.records import KINDS


@dataclass(frozen=True)
class Row:
    """One setting: its value as it is (JSON keeps its type), the layer it came from, and what it means."""

    setting: str
    value: Any
    source: str
    meaning: str


SHOWN = ("model", "backend", "trainer", "form", "seed", "preset", "runs")


@click.group(
    "config", cls=CommandGroup, examples=("sg-local config show", "sg-local config show synth", "sg-local config path")
)
def config_command() -> None:
    """Show the current settings and where each one comes from."""


@config_command.command("path", heals=True, examples=("sg-local config path", "$EDITOR $(sg-local config path)"))
@click.pass_obj
def path(environment: Environment) -> None:
    """Print where the config file is looked for."""
    output.say(environment.config_path)


@config_command.command(
    "show",
    examples=("sg-local config show", "sg-local config show train --preset paper", "sg-local config show --json"),
)
@click.argument("stage", required=False, shell_complete=stage_names)
@click.option(
    "--kind", type=Choice(KINDS), default="classification", show_default=True, help="Presets differ by kind of task."
)
@model_options
@set_option
@runs_option
@json_option
@job_options()
@click.pass_obj
def show(environment: Environment, stage: str | None, kind: Any, as_json: bool, options: Options) -> None:
    """Show every setting with its value, where it came from, and what it means.

    Options and environment variables count as in any other command. STAGE shows the settings of one stage only.
    """
    layers = (*environment.home().layers, ("--set", options.settings))
    found = make_plan([preset_layer(options.preset, kind), *layers])
    rows = [] if stage else [_option_row(name, options, environment) for name in SHOWN]
    chosen = found.stages if stage is None else {name: own for name, own in found.stages.items() if name == stage}
    if not chosen:
        raise click.BadParameter(
            f"there is no stage {stage!r}; the stages are {', '.join(found.stages)}", param_hint="STAGE"
        )
    for name, settings in chosen.items():
        rows += [
            Row(dotted, value, found.source(dotted), meaning(dotted).replace("`", ""))
            for dotted, value in flat(settings, name)
        ]
    if as_json:
        output.show_json([dataclasses.asdict(row) for row in rows])
        return
    columns = [Column("setting"), Column("value"), Column("from"), Column("what it means")]
    output.show_table("Settings", columns, [(row.setting, shown(row.value), row.source, row.meaning) for row in rows])


def _option_row(name: str, options: Options, environment: Environment) -> Row:
    """An option of every job: its help is what it means."""
    context = click.get_current_context()
    helps = {param.name: getattr(param, "help", None) or "" for param in context.command.params}
    return Row(name, _value(options, name), _source(name, environment), helps[name].partition("  [")[0])


def _value(options: Options, name: str) -> Any:
    from sg_local import models

    value = getattr(options, name)
    return models.DEFAULT if name == "model" and value is None else value


def _source(name: str, environment: Environment) -> str:
    source = click.get_current_context().get_parameter_source(name)
    words = {
        ParameterSource.COMMANDLINE: f"flag --{name}",
        ParameterSource.ENVIRONMENT: f"environment {OPTIONS[name]}",
        ParameterSource.DEFAULT_MAP: f"file {environment.config_path}",
    }
    return words.get(source, "default") if source is not None else "default"


def shown(value: Any) -> str:
    """A field's value as `--set` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
