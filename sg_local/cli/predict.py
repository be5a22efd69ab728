"""`sg-local predict`: the run's answer to a text, to lines of standard input, or to every row of a file.

Answers go to stdout, or with --out to a file that goes on after a kill; what could not be answered is told on stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.asking import asked_argument, base_options, chosen_labels, labels_options, open_asked
from sg_local.cli.complete import row_names
from sg_local.cli.config import Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.narration import telling
from sg_local.cli.notify import notify_option
from sg_local.cli.options import (
    Decorated,
    abstain_option,
    endpoint_options,
    json_option,
    runs_option,
    set_option,
)
from sg_local.cli.show import note_stale
from sg_local.cli.waiting import waiting
from sg_local.job import lines as streams
from sg_local.job import predict as files
from sg_local.job.answering import Asking, check_asking, temperature_of
from sg_local.job.job import OpenRun
from sg_local.job.options import Options
from sg_local.job.sheet import Sheet
from sg_local.records import SgError
from sg_local.tables import Columns, Table, parse_columns, read_table, write_rows
from sg_local.words import counted, shown

if TYPE_CHECKING:
    from sg_local.serve import RowAnswer

PASSED_OVER = 4
"""The exit code that says: the answers are there, but for rows that could not be answered."""


@dataclass(frozen=True)
class Wanted:
    """What is to be answered and how the answers are given: everything but the run and its settings."""

    text: str | None
    out: Path | None
    is_text: bool
    jsonl: bool
    columns: Columns
    as_json: bool
    redo: bool
    asking: Asking

    @classmethod
    def of(cls, base: bool, labels: str | None, columns: str | None, free: bool = False, **more: Any) -> Wanted:
        """From the options as they are typed."""
        probabilities, abstain = more.pop("probabilities"), more.pop("abstain") or 0.0
        votes = more.pop("votes", None) or 0
        asking = Asking(base, chosen_labels(labels, free=free), votes, probabilities, abstain)
        return cls(asking=asking, columns=parse_columns(columns) if columns else Columns(), **more)


def rows_options(command: Decorated) -> Decorated:
    """What is answered and where the answers go: the options that predict and label share."""
    jsonl = "Read one JSON object per line from standard input, and write one per line."
    is_text = "Treat TEXT as text, even if a file has that name."
    for option in (
        click.option("--redo", is_flag=True, help="Overwrite the file given by --out."),
        click.option("--text", "is_text", is_flag=True, help=is_text),
        click.option("--jsonl", is_flag=True, help=jsonl),
        abstain_option,
        click.option(
            "--probabilities",
            is_flag=True,
            help="Also give probabilities: of every label in files and JSON, else of the answer.",
        ),
        click.option(
            "--columns", metavar="input=NAME", help="Which column holds the inputs.  [default: recognised by name]"
        ),
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write the answers to this file; for a file of rows.",
        ),
    ):
        command = option(command)
    return command


@click.command(
    "predict",
    cls=Command,
    examples=(
        "sg-local predict RUN 'Where is my parcel?'",
        "sg-local predict RUN mails.csv --out answers.csv --probabilities",
        "sg-local predict RUN mails.xlsx --columns input=Body --votes 5 > answers.csv",
        "sg-local predict RUN - < inputs.txt > outputs.txt",
        "sg-local predict RUN - --jsonl < inputs.jsonl > answers.jsonl",
        "sg-local predict RUN --base 'Where is my parcel?'",
        "sg-local predict support_routing --base --model qwen3-0.6b 'Where is my parcel?'",
    ),
)
@asked_argument
@click.argument("text", required=False, shell_complete=row_names)
@rows_options
@click.option(
    "--votes", type=click.IntRange(2), metavar="N", help="Sample N answers and take the majority; also gives its share."
)
@labels_options
@base_options
@endpoint_options
@set_option
@runs_option
@notify_option
@json_option
@job_options()
@click.pass_obj
def predict_command(environment: Environment, /, run: str, options: Options, **typed: Any) -> None:
    """Run the tuned model on a text, on lines of standard input, or on a file.

    TEXT is a file of rows (CSV, TSV, XLSX, JSON lines, plain lines), or else the text itself. Without it, or with -,
    each line of standard input is one input, and each line of output its answer. With --base the untuned model answers
    (any architecture that llama.cpp runs), and RUN may be a task without a run.

    A row that cannot be answered is skipped, and its line says why. Exit codes: 0 every row was answered; 4 some rows
    could not be answered (counted on stderr); 1 failure; 2 wrong command or file; 130 interrupted. With --out, run the
    same command again to continue.
    """
    wanted = Wanted.of(redo=options.redo, **typed)
    source = source_of(wanted)
    with open_asked(run, options, environment, base=wanted.asking.base) as job:
        check_asking(wanted.asking, job.task)
        if not (wanted.asking.base or job.alone):
            note_stale(job.run, ("train",))
        answer(job, source, wanted)


def answer(job: OpenRun, source: Path | str | None, wanted: Wanted) -> None:
    """Answer a file, a text or (None) standard input; ends the command with 4 where rows could not be answered."""
    if isinstance(source, Path):
        n, n_failed = _file(job, source, wanted)
    elif source is None:
        n, n_failed = _lines(job, wanted)
    else:
        n, n_failed = _text(job, source, wanted)
    if n_failed:
        output.note(f"{n_failed} of {counted(n, 'row')} could not be answered.")
        click.get_current_context().exit(PASSED_OVER)


def source_of(wanted: Wanted) -> Path | str | None:
    """The file or the text to answer; None for standard input. Raises SgError (usage) where that is not clear."""
    found: Path | str | None = None
    if wanted.text not in (None, "-"):
        found = _file_or_text(str(wanted.text), wanted.is_text)
        if wanted.jsonl:
            raise SgError("--jsonl is for standard input.", "Leave TEXT out, and pipe the lines in.", exit_code=2)
    elif wanted.text is None and sys.stdin.isatty():
        hint = "Give it in quotes, name a file of rows, or pipe lines into the command."
        raise SgError("There is no text to answer.", hint, exit_code=2)
    if wanted.out is not None and not isinstance(found, Path):
        hint = "Other answers go to standard output: save them with > FILE."
        raise SgError("--out needs a file of rows.", hint, exit_code=2)
    return found


def _file_or_text(text: str, is_text: bool) -> Path | str:
    """The file that a text names, or the text. Asks on a terminal where a text looks like a file that is not there."""
    path = None if is_text else streams.file_named(text)
    if path is not None:
        return path
    if not is_text and streams.looks_like_a_file(text):
        missing = f"There is no file {text}."
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        if not (asked and click.confirm(f"{missing} Treat it as text?", err=True)):
            raise SgError(missing, "Check the path, or add --text to treat it as text.", exit_code=2)
    return text


def _text(job: OpenRun, text: str, wanted: Wanted) -> tuple[int, int]:
    """One text, which fails alone."""
    with waiting(f"asking {job.base.name}"):
        temperature = temperature_of(job, wanted.asking)
        found = list(streams.answer_stream(job, wanted.asking, streams.text_rows([text])))
    for _, answer in found:
        if answer.failed is not None:
            raise answer.failed
        output.say(_line(job, answer, wanted, temperature))
    return 1, 0


def _lines(job: OpenRun, wanted: Wanted) -> tuple[int, int]:
    """Standard input, line by line: an answer for each as soon as it is known."""
    lines = (line.decode("utf-8", "replace").rstrip("\r\n") for line in sys.stdin.buffer)
    n = n_failed = 0
    temperature = temperature_of(job, wanted.asking)
    rows = streams.json_rows(lines, wanted.columns) if wanted.jsonl else streams.text_rows(lines)
    for row, answer in streams.answer_stream(job, wanted.asking, rows):
        n, n_failed = n + 1, n_failed + (answer.failed is not None)
        if answer.failed is not None:
            output.note(f"Line {row.line}: {answer.failed.message}")
        if wanted.jsonl:
            sheet = Sheet.beside((*row.cells, *row.values), wanted.asking, job.task, temperature)
            output.say(json.dumps(sheet.row(row, answer), ensure_ascii=False))
        else:
            output.say(_line(job, answer, wanted, temperature))
    return n, n_failed


def _line(job: OpenRun, answer: RowAnswer, wanted: Wanted, temperature: float) -> str:
    """An answer as one line: its text and, where asked for, a tab and its probability or its share of the votes."""
    cells = Sheet.beside((), wanted.asking, job.task, temperature).cells(answer)
    labels = [label for label in job.task.labels if f"p({label})" in cells]
    said = str(cells["answer"])
    if wanted.as_json:
        found: dict[str, object] = {"output": said}
        found |= {"probabilities": {label: cells[f"p({label})"] for label in labels}} if labels else {}
        found |= {"share": cells["share"]} if "share" in cells else {}
        found |= {"error": answer.failed.message} if answer.failed is not None else {}
        return json.dumps(found, ensure_ascii=False)
    sure = cells.get("share", cells.get(f"p({answer.text})"))
    return " ".join(said.split("\n")) + ("" if sure is None or answer.failed else f"\t{sure}")


def _file(job: OpenRun, source: Path, wanted: Wanted) -> tuple[int, int]:
    """A file of rows, to another file or to standard output."""
    if wanted.out is None:
        return _to_stdout(job, read_table(source, wanted.columns, lenient=True), wanted)
    file = files.FileToAnswer(source, wanted.out, wanted.columns, wanted.redo)
    with telling(("predict",), f"{job.run.name}: {source} to {wanted.out}") as tell:
        done = files.predict_file(job, file, wanted.asking, tell)
    output.say(done.path)
    return done.n, done.n_failed


def _to_stdout(job: OpenRun, table: Table, wanted: Wanted) -> tuple[int, int]:
    """The rows of a table with their answers, in the table's own form as far as a stream can have it."""
    output.note(table.told)
    sheet = Sheet.beside(table.columns, wanted.asking, job.task, temperature_of(job, wanted.asking))
    error = sheet.names["error"]
    form = "jsonl" if wanted.as_json or "json" in table.form else "tsv" if table.form == "tsv" else "csv"
    n_failed = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal n_failed
        for row, answer in streams.answer_stream(job, wanted.asking, table.rows):
            cells = sheet.row(row, answer)
            n_failed += bool(cells[error])
            yield cells
            sys.stdout.flush()

    write_rows(Screen(), (*table.columns, *sheet.names.values()), rows(), form)
    return len(table.rows), n_failed


class Screen:
    """Standard output for rows: on a terminal nothing in them can steer it."""

    def write(self, text: str, /) -> None:
        """Pass the text on."""
        sys.stdout.write(shown(text) if sys.stdout.isatty() else text)
