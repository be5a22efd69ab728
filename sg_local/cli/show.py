"""Cards and tables on stdout: the verdict, the files, the funnel."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING

from sg_local.cli import output
from sg_local.cli.app import COMMANDS
from sg_local.cli.hints import on_the_command_line
from sg_local.cli.output import Column
from sg_local.records import SgError
from sg_local.run import STAGES, Run
from sg_local.views.funnel import funnel_card
from sg_local.views.records import ConfusionView, VerdictCard

if TYPE_CHECKING:
    from sg_local.filters import Funnel
    from sg_local.job.events import Forecast


def show_verdict(run: Run, unmeasured: str = "") -> None:
    """The card at the end of a run on stdout; `unmeasured` says why there was no evaluation."""
    from sg_local.job.stale import out_of_date
    from sg_local.views.verdict import end_card

    card = end_card(run, unmeasured)
    if told := out_of_date(run):
        card = dataclasses.replace(card, notes=(on_the_command_line(told, COMMANDS), *card.notes))
    if sys.stdout.isatty():
        from sg_local.console import verdict

        verdict.show_verdict(card)
        return
    if card.headline:
        output.say(card.headline)
    if card.unmeasured:
        output.say(card.title)
    else:
        _plain_scores(card)
    for sentence in (*card.sentences, *card.notes):
        output.say(sentence)
    if card.confusion is not None:
        _plain_confusion(card.confusion)
    output.say("Time: " + ", ".join(f"{stage} {seconds}" for stage, seconds in card.stages))
    _plain_files(card.artefacts)
    for line, what in card.commands:
        output.say(f"Next: {line}   # {what}")


def note_stale(run: Run, stages: tuple[str, ...] = STAGES) -> None:
    """Say on stderr which of these stages of a run are out of date, where any is."""
    if told := stale_note(run, stages):
        output.note(told)


def stale_note(run: Run, stages: tuple[str, ...] = STAGES) -> str:
    """Which of these stages are out of date, as it is typed here, or nothing. Damaged rows are another's matter."""
    from sg_local.job.stale import out_of_date

    with contextlib.suppress(SgError):
        return on_the_command_line(out_of_date(run, stages), COMMANDS)
    return ""


def _plain_scores(card: VerdictCard) -> None:
    output.say(f"{card.title}: {card.metric} on {card.n} test rows, percent, with 95 % intervals")
    columns = scores_columns()
    rows = [(s.name, *(f"{n:.1f}" for n in (s.score, s.low, s.high, s.irrelevant)), s.typed) for s in card.systems]
    output.show_table("", columns, rows)


def scores_columns() -> list[Column]:
    """A system's title, its figures, and its name as --gate and --system take it."""
    figures = [Column(name, True) for name in ("score", "low", "high", "irrelevant")]
    return [Column("system"), *figures, Column("name")]


def _plain_confusion(view: ConfusionView) -> None:
    columns = [Column(f"right \\ {view.title}"), *(Column(label, True) for label in (*view.labels, "no label"))]
    rows = [(label, *map(str, row)) for label, row in zip(view.labels, view.rows, strict=True)]
    output.show_table("", columns, rows)


def show_forecast(found: Forecast | None, as_json: bool) -> None:
    """What the stages to come will take, on stdout."""
    from sg_local.views.forecast import HEADINGS, assumed, cells

    if as_json:
        output.show_json(None if found is None else dataclasses.asdict(found))
    elif found is None or not found.stages:
        output.tell(
            "Every stage is finished." if found is not None else "Without a model there is nothing to estimate."
        )
    else:
        columns = [Column(name, name in ("memory", "disk", "time")) for name in HEADINGS]
        output.show_table("What the run will take", columns, cells(found))
        output.tell(f"Assuming {assumed(found.rows)}.")


def show_files(run: Run) -> None:
    """The files a run has made so far, on stdout."""
    from sg_local.views.verdict import artefacts

    _plain_files(artefacts(run))


def _plain_files(files: tuple[tuple[str, str, str], ...]) -> None:
    if files:
        output.show_table("", [Column("file"), Column("size", True), Column("sha256")], files)


def show_funnel(found: Funnel) -> None:
    """The funnel on stdout."""
    card = funnel_card(found)
    if sys.stdout.isatty():
        from sg_local.console import cards

        cards.show_funnel(card)
        return
    output.show_table("", [Column("step"), Column("rows", True)], [(name, str(n)) for name, n in card.steps])
    if card.rules:
        rows = [
            ("" if i else rule, "" if i else str(n), " ".join(example.split())[:90])
            for rule, n, examples in card.rules
            for i, example in enumerate(examples or ("",))
        ]
        output.show_table("", [Column("rule"), Column("rejected", True), Column("such as")], rows)
    if card.labels:
        rows = [(label, str(asked), str(kept)) for label, asked, kept in card.labels]
        output.show_table("", [Column("label"), Column("asked", True), Column("kept", True)], rows)
    if card.note:
        sys.stdout.write(card.note + "\n")
