"""What commands share that ask a model: a run's, or with --base the untuned model alone, where no run need be."""

from __future__ import annotations

import dataclasses
from typing import cast

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from sg_local.cli.complete import run_names, task_names
from sg_local.cli.config import Environment
from sg_local.cli.options import Choice, Decorated, form_option, model_option
from sg_local.cli.waiting import OPENING, waiting
from sg_local.job.answering import LABELS, Asking, Labels
from sg_local.job.asking import job_for_asking
from sg_local.job.job import OpenRun
from sg_local.job.options import Options
from sg_local.records import SgError

BASE_ONLY = ("model", "form")
"""Options of a base alone: a run has its own."""


def asked_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs, and with --base tasks too."""
    tasks = task_names(ctx, param, incomplete) if ctx.params.get("base") else []
    return [*run_names(ctx, param, incomplete), *tasks]


asked_argument = click.argument("run", shell_complete=asked_names)


def labels_options(command: Decorated) -> Decorated:
    """--labels and --free: how an answer is chosen."""
    free = "Do not restrict answers to labels, or to JSON that fits the schema."
    command = click.option("--free", is_flag=True, help=free)(command)
    return click.option("--labels", type=Choice(LABELS), help="How a label is chosen.  [default: likeliest]")(command)


def chosen_labels(labels: str | None, *, free: bool) -> Labels:
    """How an answer is chosen. Raises SgError (usage) where the two options contradict each other."""
    if free and labels not in (None, "free"):
        raise SgError("--free and --labels contradict each other.", "Give one of them.", exit_code=2)
    return cast(Labels, "free" if free else labels or Asking.labels)


def base_options(command: Decorated) -> Decorated:
    """--base, and what a base alone is asked with: --model, --form."""
    help = "Use the untuned model; RUN may then be a task without a run."
    return click.option("--base", is_flag=True, help=help)(model_option(form_option(command)))


def open_asked(name: str, options: Options, environment: Environment, *, base: bool) -> OpenRun:
    """The job that answers. Raises SgError (usage) for options that only go with --base."""
    ctx = click.get_current_context()
    typed = {one for one in BASE_ONLY if ctx.get_parameter_source(one) is ParameterSource.COMMANDLINE}
    if typed and not base:
        raise SgError(f"--{min(typed)} needs --base: a run has its own.", "Leave it out.", exit_code=2)
    given = options.given - (set(BASE_ONLY) - typed)
    with waiting(OPENING):
        return job_for_asking(name, dataclasses.replace(options, given=given), environment.home(), base=base)
