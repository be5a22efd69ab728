"""`sg-local doctor`: shows what `sg_local.doctor` finds, and says whether the main job can run here."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sg_local.cli import output
from sg_local.cli.app import COMMANDS, Command
from sg_local.cli.config import Environment
from sg_local.cli.hints import on_the_command_line
from sg_local.cli.options import json_option, model_option
from sg_local.cli.output import Column
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.doctor import Finding
    from sg_local.views.records import FindingView

STATUS = {"ok": "ok", "warn": "warning", "fail": "missing"}
OLD_FIX = "mend"
"""The key of `fix` in 0.1.0: printed beside it in one more version (docs/upgrading.md)."""


@click.command("doctor", cls=Command, heals=True, examples=("sg-local doctor", "sg-local doctor --json"))
@model_option
@json_option
@click.pass_obj
def doctor_command(environment: Environment, model: str | None, as_json: bool) -> None:
    """Check this machine, and say how to fix problems.

    Exit code 1: this machine cannot run a job yet.
    """
    from sg_local import doctor

    found = doctor.examine(environment.data, Path.cwd(), model=model, places=environment.models)
    checks = [
        dataclasses.replace(check, fix=on_the_command_line(check.fix, COMMANDS))
        for check in (*found, _config(environment))
    ]
    if as_json:
        output.show_json([{**dataclasses.asdict(check), OLD_FIX: check.fix} for check in checks])
    else:
        _show(checks)
    if doctor.worst(checks) == "fail":
        click.get_current_context().exit(1)


def _at_home(text: str) -> str:
    """The text with the user's own folder as ~ in its paths."""
    home = str(Path.home())
    return re.sub(rf"(?<![\w/]){re.escape(home)}(?=/|$)", "~", text) if home != "/" else text


def _config(environment: Environment) -> Finding:
    """Where settings come from, and what is wrong with them: every command that works would refuse it."""
    from sg_local.doctor import Finding
    from sg_local.job.plan import make_plan

    place = str(environment.config_path)
    try:
        environment.refuse_broken()
        make_plan(environment.home().layers)
    except SgError as error:
        return Finding("settings", "config file", "fail", place, error.message, error.hint)
    there = environment.config_path.is_file()
    return Finding("settings", "config file", "ok", place, "" if there else "does not exist: defaults apply")


def _show(checks: Sequence[Finding]) -> None:
    if sys.stdout.isatty():
        from sg_local.console import cards

        cards.show_findings(views_of(checks), verdict_of(checks))
        return
    columns = [Column("status"), Column("what"), Column("found"), Column("fix")]
    rows = [(STATUS[c.status], f"{c.topic}: {c.name}", _found(c), c.fix) for c in checks]
    output.show_table("Doctor", columns, rows)
    output.say(verdict_of(checks))


def _found(check: Finding) -> str:
    return f"{check.value}: {check.why}" if check.why else check.value


def views_of(checks: Sequence[Finding]) -> list[FindingView]:
    """The findings as the console shows them."""
    from sg_local.views.records import FindingView

    return [FindingView(c.topic, c.name, STATUS[c.status], _at_home(c.value), _at_home(c.why), c.fix) for c in checks]


def verdict_of(checks: Sequence[Finding]) -> str:
    """Whether the main job can run here, in a sentence."""
    lacks = [check.name for check in checks if check.status == "fail"]
    if not lacks:
        return "This machine is ready. Try: sg-local run support_routing --yes"
    return f"This machine is not ready yet: {', '.join(lacks)}."
