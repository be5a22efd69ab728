"""`sg-local review`: the command, its ways without a screen (export, import, merge), and the stop inside `run`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sg_local import review
from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import run_argument
from sg_local.cli.config import OPTIONS, Environment
from sg_local.cli.gathering import job_options
from sg_local.cli.options import backend_option, json_option, runs_option
from sg_local.cli.output import Column
from sg_local.job.begun import job_for_run
from sg_local.job.job import OpenRun
from sg_local.job.options import Options
from sg_local.job.required import needs
from sg_local.job.stale import is_trained, training_line
from sg_local.records import SgError
from sg_local.review import ReviewState
from sg_local.run import CANDIDATES
from sg_local.views.review_end import agreement_lines, end_sentence, sample_sentence
from sg_local.words import brief, counted

if TYPE_CHECKING:
    from sg_local.job.review_files import ConflictRow

NOT_A_TERMINAL = SgError(
    "The review needs an interactive terminal.",
    "Use `--export FILE.csv` and `--import FILE.csv` to judge the rows in a spreadsheet.",
    exit_code=2,
)


@click.command(
    "review",
    cls=Command,
    examples=(
        "sg-local review RUN",
        "sg-local review RUN --sample 40",
        "sg-local review RUN --export rows.csv      # to judge them in a spreadsheet",
        "sg-local review RUN --import rows.csv",
        "sg-local review RUN --merge ../their/runs/RUN",
        "sg-local review RUN --json                 # what was decided, without a screen",
    ),
)
@run_argument
@click.option(
    "--judge",
    envvar=OPTIONS["judge"],
    show_envvar=True,
    metavar="NAME",
    help="Reviewer's name, saved with each judgement.  [default: your user name]",
)
@click.option(
    "--sample", type=click.IntRange(min=1), help="Review this many random rows and estimate the share of bad ones."
)
@click.option(
    "--export",
    "to",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the rows as .csv, .tsv, .xlsx or .jsonl.",
)
@click.option("--import", "source", type=click.Path(path_type=Path), help="Read judgements from such a file.")
@click.option(
    "--merge",
    "other",
    type=click.Path(path_type=Path),
    help="Merge another reviewer's judgements and notes, and show how well you agree: a copy of the run, or its "
    "verdicts.jsonl.",
)
@json_option
@backend_option
@runs_option
@job_options()
@click.pass_obj
def review_command(
    environment: Environment,
    run: str,
    judge: str | None,
    sample: int | None,
    to: Path | None,
    source: Path | None,
    other: Path | None,
    as_json: bool,
    options: Options,
) -> None:
    """Review the generated pairs yourself, one key each.

    Every judgement is saved at once: quit whenever you like, and the next review continues at the same card. Your
    judgements override the filters, even when those run again.
    """
    from sg_local.job import review as job_review
    from sg_local.job import review_files

    _check_ways(to, source, other, as_json=as_json)
    name = job_review.check_judge(judge or environment.user)
    with job_for_run(run, options, environment.home()) as job:
        needs(job, CANDIDATES, "synth")
        if to is not None:
            return export_to(job, name, to)
        if as_json and source is None and other is None:
            return output.show_json(dataclasses.asdict(review_files.reviewed(job, name)))
        with job.lock():
            if source is not None:
                return import_from(job, name, source, as_json=as_json)
            if other is not None:
                return merge_from(job, other, as_json=as_json)
            state = review_on_screen(job, environment, name, sample)
            if sample is None and not job_review.n_open(state):
                job_review.finish(job, state)
            say_next(job)
    return None


def _check_ways(to: Path | None, source: Path | None, other: Path | None, *, as_json: bool) -> None:
    """Raise SgError (usage) for options of which one would be ignored."""
    ways = {"--export": to, "--import": source, "--merge": other}
    given = [name for name, path in ways.items() if path is not None]
    if as_json and to is not None:
        given = ["--export", "--json"]
    if len(given) > 1:
        raise SgError(f"{given[0]} and {given[1]} contradict each other.", "Give one of them.", exit_code=2)


def say_next(job: OpenRun) -> None:
    """The command that trains on what was judged, on stderr; nothing where no pair is left, or nothing changed."""
    line = training_line(job.run)
    if line is not None:
        output.next_commands(f"sg-local {line}")


def review_on_screen(job: OpenRun, environment: Environment, judge: str, sample: int | None = None) -> ReviewState:
    """The interactive review, and how it ended. Raises SgError (usage) where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NOT_A_TERMINAL
    from sg_local.cli.review_loop import Session
    from sg_local.console.review import ReviewScreen
    from sg_local.job import review as job_review

    if not ReviewScreen().is_usable:
        raise NOT_A_TERMINAL
    started = time.monotonic()
    state = job_review.open_state(job, judge)
    if sample is not None:
        state = job_review.with_sample(state, sample, job.seed)
    session = Session(job, environment, state)
    try:
        state = session.play()
    finally:
        job_review.note_time(job, time.monotonic() - started)
    output.note(end_sentence(state))
    if sample is not None:
        output.tell(sample_sentence(state))
    return state


def review_before_training(job: OpenRun, environment: Environment) -> bool:
    """The stop inside `run`: offer the review until somebody says to train; False when the user wants to stop here."""
    from sg_local.job import review as job_review

    if job_review.is_finished(job) or is_trained(job.run):
        return True
    state = job_review.open_state(job, job_review.check_judge(environment.user))
    kept = sum(review.is_kept(state, row) for row in state.rows)
    output.say(f"\n{counted(kept, 'pair')} would be trained on.", err=True)
    if job_review.n_open(state):
        if not click.confirm("Look through them now? (q ends the review at any card)", default=True, err=True):
            return True
        state = review_on_screen(job, environment, state.judge)
    if not click.confirm("Train on the kept pairs now?", default=True, err=True):
        return False
    job_review.finish(job, state)
    return True


# Without a screen


def export_to(job: OpenRun, judge: str, path: Path) -> None:
    """Write every row to a file."""
    from sg_local.job import review_files

    review_files.export_rows(job, judge, path)
    output.say(path)
    command = f"sg-local review {job.run.typed} --import {shlex.quote(str(path))}"
    output.say(f"Next: fill in the column keep with yes or no, then {command}", err=True)


def import_from(job: OpenRun, judge: str, path: Path, *, as_json: bool = False) -> None:
    """Take over the judgements and notes of a file, all of them or none."""
    from sg_local.job import review_files

    found = review_files.import_rows(job, judge, path)
    if as_json:
        return output.show_json(dataclasses.asdict(review_files.reviewed(job, judge)))
    kept = sum(verdict.keep for verdict in found.verdicts)
    done = f"{review.n_rows(kept)} accepted, {len(found.verdicts) - kept} rejected"
    noted = f", {counted(len(found.notes), 'note')} changed" if found.notes else ""
    output.tell(
        f"{done}{noted}; the other lines changed nothing."
        if found.verdicts or found.notes
        else "Nothing changed: every line says what was known."
    )
    return say_next(job)


def merge_from(job: OpenRun, other: Path, *, as_json: bool = False) -> None:
    """Take over another reviewer's verdicts and notes, show where the two differ, and how far they agree."""
    from sg_local.job import review_files

    done = review_files.merge_from(job, other)
    found, conflicts = done.merge, review_files.conflict_rows(job, done.merge)
    if as_json:
        return output.show_json(dataclasses.asdict(review_files.merge_summary(done, conflicts)))
    output.tell(
        f"{counted(found.taken, 'verdict')} taken over, {found.agreed} alike, {len(found.conflicts)} in conflict, "
        f"{found.known} known before, {found.unknown} for rows that this run does not have."
    )
    if done.n_notes:
        output.tell(f"{counted(done.n_notes, 'note')} taken over.")
    for line in agreement_lines(done.agreements):
        output.tell(line)
    if conflicts:
        _show_conflicts(job, conflicts)
    return None


def _show_conflicts(job: OpenRun, conflicts: Sequence[ConflictRow]) -> None:
    columns = [Column("row", True), Column("input"), Column("here"), Column("there")]
    cells = [(str(row.row), brief(row.input, 40), row.here, row.there) for row in conflicts]
    output.show_table("Conflicts", columns, cells)
    hint = (
        f"The verdicts here are kept. Decide with `sg-local review {job.run.typed}`: f, then j until it says conflicts."
    )
    output.note(hint)
