"""`sg-local label`: the instant mode. The untuned model labels a text, lines or a file's rows; nothing is trained.

Readers, writers and exit codes are those of `predict`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sg_local.cli.app import Command
from sg_local.cli.asking import open_asked
from sg_local.cli.complete import row_names, run_names, task_names
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import PlainNarrator, listener
from sg_local.cli.notify import notify_option
from sg_local.cli.options import (
    Choice,
    endpoint_options,
    form_option,
    json_option,
    model_option,
    runs_option,
    set_option,
)
from sg_local.cli.predict import Wanted, answer, rows_options, source_of
from sg_local.job.answering import LABELS
from sg_local.job.known import AGAINST, Against
from sg_local.job.labelling import INSTANT, ask_instantly, check_instant, instant
from sg_local.job.options import Options
from sg_local.job.predict import FileToAnswer
from sg_local.tables import read_table


def labelled_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tasks, and runs, whose task is meant."""
    return [*task_names(ctx, param, incomplete), *run_names(ctx, param, incomplete)]


@click.command(
    "label",
    cls=Command,
    examples=(
        "sg-local label support_routing mails.csv --out labelled.csv --probabilities",
        "sg-local label support_routing mails.xlsx --columns input=Body --labels ensemble > labelled.csv",
        "sg-local label my_task.toml 'Where is my parcel?' --model qwen3-0.6b",
        "sg-local label my_task.toml - < inputs.txt > labels.txt",
    ),
)
@click.argument("task", shell_complete=labelled_names)
@click.argument("text", required=False, shell_complete=row_names)
@rows_options
@click.option(
    "--labels",
    type=Choice(tuple(way for way in LABELS if way != "free")),
    help="How a label is chosen.  [default: ensemble, or calibrated if too few inputs are known]",
)
@click.option(
    "--against",
    type=Choice(AGAINST),
    default=INSTANT.against,
    show_default=True,
    help="Which inputs to calibrate the labels with.",
)
@model_option
@form_option
@endpoint_options
@set_option
@runs_option
@notify_option
@json_option
@job_options()
@click.pass_obj
def label_command(environment: Environment, /, task: str, against: Against, options: Options, **typed: Any) -> None:
    """Label a text, lines or a file with the untuned model, without training.

    TASK is a task with labels, or a run, whose task and model are then used; no run is created. TEXT is a file of rows
    (CSV, TSV, XLSX, JSON lines, plain lines), or else the text itself. Without it, or with -, each line of standard
    input is one input.

    Labels are chosen by ensemble: how likely each label is for the input, and the input for each label. They are
    calibrated first: each label's mean score over some inputs is subtracted, so that a label that the model prefers
    anyway does not always win. These are the inputs of the task's run or, without one, 64 that the model
    writes once for each task. --against rows uses the file's own rows instead: faster, and accurate if no label is
    much more common than the others. With --out, run the same command again to continue. Exit codes as for predict.
    """
    wanted = Wanted.of(base=True, redo=options.redo, **typed)
    source = source_of(wanted)
    rows = _rows(source, wanted)
    asked = wanted.asking
    how = instant(typed["labels"], against, probabilities=asked.probabilities, abstain=asked.abstain)
    with open_asked(task, options, environment, base=True) as job:
        check_instant(how, job.task)
        asking = ask_instantly(job, rows, how, listener(PlainNarrator()))
        answer(job, source, replace(wanted, asking=asking))


def _rows(source: Path | str | None, wanted: Wanted) -> list[str]:
    """The inputs of a file; raises SgError where it cannot be read, or must not be answered to --out."""
    if not isinstance(source, Path):
        return []
    if wanted.out is not None:
        FileToAnswer(source, wanted.out, wanted.columns, wanted.redo).check()
    return [row.input for row in read_table(source, wanted.columns, lenient=True).rows]
