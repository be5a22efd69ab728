"""`sg-local eval`: the test rows answered by every system, the verdict, gates, and single answers to browse."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sg_local import evaluate
from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.asking import asked_argument, base_options, open_asked
from sg_local.cli.complete import gate_names, system_names
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import telling
from sg_local.cli.notify import notify_option
from sg_local.cli.options import (
    Choice,
    endpoint_options,
    json_option,
    redo_option,
    runs_option,
    set_option,
    trainer_option,
)
from sg_local.cli.output import Column
from sg_local.cli.run import TestRows, tell
from sg_local.cli.show import note_stale, scores_columns, show_verdict
from sg_local.job.evaluate import evaluate_base
from sg_local.job.job import OpenRun
from sg_local.job.made import keep_tests
from sg_local.job.options import TASK, Options
from sg_local.job.shipping import asked_file, score_file
from sg_local.job.stages import forgotten, perform
from sg_local.records import MadeOtherwise, SgError
from sg_local.report import FileScore, Report, SystemResult, plain, read_report
from sg_local.report.records import METRICS
from sg_local.tables import parse_columns
from sg_local.views.verdict import file_notes, reliability_note
from sg_local.words import brief, counted, size


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What an evaluation is asked for besides its settings."""

    gates: tuple[str, ...]
    show: str | None
    system: str | None
    as_json: bool
    columns: str
    file: Path | None
    prompt: str


@click.command(
    "eval",
    cls=Command,
    examples=(
        "sg-local eval RUN",
        "sg-local eval RUN --show wrong",
        "sg-local eval RUN --tests more_tests.csv --columns input=Body,output=Team --retain",
        "sg-local eval RUN --gate 'tuned-base>=2' || echo 'not two points better'",
        "sg-local eval support_routing --base --model qwen3-0.6b",
        "sg-local eval RUN --set tuned_examples=true --gate 'tuned-tuned_examples.low>0'",
        "sg-local eval RUN --file quantised.gguf --gate 'file-tuned.low>-2'",
    ),
)
@asked_argument
@base_options
@click.option(
    "--tests",
    type=TestRows(),
    help="Number of test rows to use this time, or a file of test rows, which the run remembers.",
)
@click.option(
    "--columns",
    metavar="input=NAME,output=NAME",
    default="",
    help="Which columns of that file to use.  [default: recognised by name]",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="GATE",
    shell_complete=gate_names,
    help="Exit with code 3 unless this holds, such as tuned-base>=2 (points).",
)
@click.option(
    "--show", type=Choice(tuple(evaluate.SHOW)), help="List individual answers, beside those of the base model."
)
@click.option(
    "--system",
    metavar="SYSTEM",
    shell_complete=system_names,
    help="Whose answers to list.  [default: the system that predict and serve use]",
)
@click.option(
    "--abstain",
    type=click.FloatRange(0, 1),
    metavar="P",
    help='Also report what is left, and how much of it is right, if less probable labels become "unsure".',
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="GGUF",
    help="Score this GGUF file on the test rows, whoever made it, and compare it with the adapter.",
)
@click.option(
    "--prompt",
    type=Choice(evaluate.PROMPTS),
    default=evaluate.RUNS,
    show_default=True,
    help="Prompt the file as the run does, or with its own chat template.",
)
@click.option("--retain", is_flag=True, help="Also measure forgetting outside the task.")
@endpoint_options
@trainer_option
@set_option
@runs_option
@redo_option
@notify_option
@json_option
@job_options("eval")
@click.pass_obj
def eval_command(
    environment: Environment,
    /,
    run: str,
    base: bool,
    retain: bool,
    abstain: float | None,
    options: Options,
    **wanted: Any,
) -> None:
    """Measure the improvement over the base model, with confidence intervals.

    A gate compares a score or a gain with a number of points: `tuned>=80`, `tuned-base>=2`, `tuned-base.low>0`. Other
    test rows or settings need no --redo: answers that are still valid are reused. With --base only the untuned model
    is measured, nothing is written, and RUN may be a task without a run. With --file a GGUF file answers the same rows;
    gates call it `file` and `file_restricted`, as in `file-tuned.low>-2`.
    """
    from sg_local import tasks

    asked = Wanted(**wanted)
    gates = [evaluate.parse_gate(gate) for gate in asked.gates]
    options = _with_said(options, {"retain": retain or None, "abstain": abstain})
    if base and (retain or options.redo or asked.show or asked.system or asked.file):
        message = "--retain, --redo, --show, --system and --file need a run, but --base measures the untuned model."
        raise SgError(message, "Leave one of them out.", exit_code=2)
    with open_asked(run, options, environment, base=base) as job:
        chosen = None if options.tests == TASK else options.tests
        job.task = tasks.with_tests(job.task, chosen, parse_columns(asked.columns), tell)
        if base:
            go_base(job, gates, as_json=asked.as_json)
            return
        file = asked_file(job, asked.file, asked.prompt) if asked.file is not None else None
        if isinstance(chosen, Path):
            keep_tests(job, chosen)
        go(job, options, changed=chosen is not None or bool(options.settings))
        if file is not None:
            go_file(job, file, gates, as_json=asked.as_json)
            return
        show(job, asked)
        evaluate.require(read_report(job.run), gates)


def _with_said(options: Options, said: Mapping[str, Any]) -> Options:
    """The options with settings of the evaluation that were typed by names of their own; None: not typed."""
    from sg_local.job import presets

    typed = {name: value for name, value in said.items() if value is not None}
    if not typed:
        return options
    return dataclasses.replace(options, settings=presets.merged(options.settings, {"eval": typed}))


def go(job: OpenRun, options: Options, *, changed: bool) -> None:
    """Evaluate. Where something was `changed`, the report is made anew from the answers that still count."""
    with job.lock(), telling(("eval",), f"{job.run.name}: eval") as tell:
        try:
            with forgotten(job, "eval") if changed and not options.redo else contextlib.nullcontext():
                perform(job, "eval", tell, again=options.redo)
        except MadeOtherwise:  # with test rows or settings that were given once
            with forgotten(job, "eval"):
                perform(job, "eval", tell)


def go_file(job: OpenRun, file: evaluate.AskedFile, gates: Sequence[evaluate.Gate], *, as_json: bool) -> None:
    """Let a file answer the rows of the report, and show what it scored beside the adapter."""
    with job.lock(), telling(("eval",), f"{job.run.name}: eval of {file.name}") as tell:
        found = score_file(job, file, tell)
    report = read_report(job.run)
    if as_json:
        output.show_json(dataclasses.asdict(found))
    else:
        show_file(report, found)
    evaluate.require(evaluate.FileFigures(report, found), gates)


def show_file(report: Report, found: FileScore) -> None:
    """What a file scores, and the adapter and base on the same rows, on stdout."""
    metric = METRICS.get(report.metric, report.metric)
    output.tell(f"{found.file}, {found.type}, {size(found.size_bytes)}: {metric} on {report.n} test rows, percent")
    others = {name: report.systems[name] for pair in found.gains for name in [pair.partition("-")[2]]}
    _show_scores({**found.systems, **others})
    for note in file_notes(found):
        output.tell(note)


def _show_scores(systems: Mapping[str, SystemResult]) -> None:
    """Systems under their titles, with the names that gates take."""
    rows = [
        (one.title, *(f"{n:.1f}" for n in (one.score, one.low, one.high, one.irrelevant)), name)
        for name, one in systems.items()
    ]
    output.show_table("", scores_columns(), rows)


def go_base(job: OpenRun, gates: Sequence[evaluate.Gate], *, as_json: bool) -> None:
    """Measure the untuned model alone, and show it."""
    with telling(("eval",), f"{job.task.name}: eval of {job.base.name}, untuned") as tell:
        found = evaluate_base(job, tell)
    if as_json:
        output.show_json(dataclasses.asdict(found))
    else:
        show_base(found, job.base.name)
    evaluate.require(found, gates)


def show_base(found: evaluate.BaseScores, model: str) -> None:
    """What an untuned model scores, on stdout."""
    metric = METRICS.get(found.metric, found.metric)
    output.tell(f"{found.task} on {model}, untuned: {metric} on {found.n} test rows, percent, with 95 % intervals")
    card = evaluate.on_the_card(found.systems)
    _show_scores({name: one for name, one in found.systems.items() if name in card or one.family == "free"})
    for one in card.values():
        if one.reliability is not None:
            output.tell(f"{one.title}: {reliability_note(one.reliability)}")
    output.tell(f"Prompt format: {found.chosen['base']}, chosen on the examples, never on test rows.")
    if n_out := len(found.excluded.examples) + len(found.excluded.training):
        output.tell(f"{counted(n_out, 'test row', 'were')} left out: too similar to an example or a training row.")


def show(job: OpenRun, asked: Wanted) -> None:
    """The verdict, or the single answers, as a table or as JSON."""
    report = read_report(job.run)
    if asked.show is not None or asked.as_json:
        note_stale(job.run)
    if asked.show is not None:
        show_answers(job, report, asked.show, asked.system or report.served, asked.as_json)
    elif asked.as_json:
        output.show_json(plain(report))
    else:
        show_verdict(job.run)


def show_answers(job: OpenRun, report: Report, which: str, system: str, as_json: bool) -> None:
    """Single answers of one system beside those of its base, lowest score first."""
    system = evaluate.system_named(report, system)
    rows = evaluate.judged_rows(job.run, which, system)
    if as_json:
        output.show_json([dataclasses.asdict(row) for row in rows])
        return
    names = (report.systems[system].against, system)
    titles = report.titles(*names)
    columns = [Column("row", True), Column("input"), Column("right"), *map(Column, titles)]
    columns += [Column("score", True)]
    cells = [_cells(row) for row in rows]
    if any(row.wrong for row in rows):
        columns.append(Column("wrong fields"))
        cells = [[*line, brief(", ".join(row.wrong), 60)] for line, row in zip(cells, rows, strict=True)]
    output.show_table("", columns, cells)
    said = [f"\u201c{title}\u201d ({name})" for title, name in zip(titles, names, strict=True)]
    output.tell(f"{which}: {len(rows)} of {report.n} test rows, {said[1]} against {said[0]}")


def _cells(row: evaluate.Judged) -> Sequence[str]:
    texts = (row.input, " / ".join(row.wanted), row.base, row.answer)
    score = f"{row.base_score:.0f} \u2192 {row.score:.0f}"
    return [str(row.index + 1), *(brief(text, 60) for text in texts), score]
