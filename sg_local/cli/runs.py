"""`sg-local runs`: list, show and delete runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.complete import run_argument
from sg_local.cli.options import json_option, runs_option
from sg_local.cli.output import Column
from sg_local.cli.show import note_stale, show_funnel
from sg_local.files import remove, shred
from sg_local.records import SgError
from sg_local.run import INPUTS, STAGES, Run, list_runs, open_run


@click.group("runs", cls=CommandGroup, examples=("sg-local runs ls", "sg-local runs show RUN", "sg-local runs rm RUN"))
def runs_command() -> None:
    """List, show and delete runs."""


@runs_command.command("ls", examples=("sg-local runs ls", "sg-local runs ls --json"))
@runs_option
@json_option
def ls(runs: Path, as_json: bool) -> None:
    """List the runs in the folder."""
    from sg_local.views.runs import run_cells, run_facts_or_fault

    rows = [run_facts_or_fault(run) for run in list_runs(runs)]
    if as_json:
        output.show_json(rows)
        return
    if not rows:
        output.say(f"No runs in {runs} yet. Begin one with: sg-local run TASK", err=True)
        return
    columns = [Column("run"), Column("stage"), Column("base", True), Column("tuned", True), Column("size", True)]
    cells = [run_cells(row) for row in rows]
    if any(source for *_, source in cells):
        columns.append(Column("made from"))
    output.show_table("Runs", columns, [row[: len(columns)] for row in cells])


@runs_command.command("show", examples=("sg-local runs show RUN", "sg-local runs show RUN --json"))
@run_argument
@runs_option
@json_option
def show(run: str, runs: Path, as_json: bool) -> None:
    """Show what a run was made from, its stages, its files and its funnel."""
    from sg_local.job.stale import stale_stages
    from sg_local.views.runs import own_rows, run_facts, stage_costs
    from sg_local.views.verdict import artefacts

    found = open_run(runs, run)
    data, stale = found.settings, stale_stages(found)
    if as_json:
        stamps = {stage: found.stamp(stage) for stage in STAGES}
        funnel = funnel_of(found)
        told = None if funnel is None else dataclasses.asdict(funnel)
        marked = [dataclasses.asdict(one) for one in stale]
        output.show_json({**run_facts(found), "settings": data, "stamps": stamps, "stale": marked, "funnel": told})
        return
    why = {one.stage: f"; out of date: {one.why}" for one in stale}
    pairs = [
        ("task", f"{data['task']['name']} ({data['task']['kind']})"),
        ("model", f"{data['model']['name']}  {data['model']['digest'][:12]}"),
        ("engines", f"{data.get('backend', '')}, {data.get('trainer', '')}; prompts: {data['form']}"),
        ("seed", str(data["seed"])),
        ("preset", data["preset"]),
        *own_rows(found),
        *((f"stage {stage}", cost + why.get(stage, "")) for stage, cost in stage_costs(found)),
        *((Path(path).name, f"{size_text}  {digest}") for path, size_text, digest in artefacts(found)),
        ("folder", str(found.root)),
    ]
    output.show_pairs(found.name, pairs)
    funnel = funnel_of(found)
    if funnel is not None:
        show_funnel(funnel)
    note_stale(found)


def funnel_of(run: Run) -> Any:
    """The run's funnel as its journals tell it, up to where it stands; None before the first synthesised row."""
    from sg_local import filters

    if not run.path(INPUTS).exists():
        return None
    told = (run.stamp("filter") or {}).get("funnel", {})
    found = filters.funnel(run, run.task())
    return dataclasses.replace(found, policy=told.get("policy", ""), why=told.get("why", ""))


@runs_command.command("rm", examples=("sg-local runs rm RUN", "sg-local runs rm RUN --yes"))
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--shred", "shreds", is_flag=True, help="Overwrite its files first, where the disk lets that count.")
@runs_option
def rm(run: str, yes: bool, shreds: bool, runs: Path) -> None:
    """Delete a run and everything in it."""
    found = open_run(runs, run)
    if not yes:
        if not sys.stdin.isatty():
            raise SgError(f"Run {found.name} is not deleted: nobody can be asked.", "Add --yes.", exit_code=2)
        click.confirm(f"Delete {found.root} and everything in it?", abort=True, err=True)
    elif Path(run).name != found.name:
        message = f"Run {found.name} is not deleted: with --yes its whole name must be given."
        raise SgError(message, f"Type it: `runs rm {found.name} --yes`.", exit_code=2)
    with found.lock():
        (shred if shreds else remove)(found.root)
    output.say(f"Deleted {found.root}", err=True)
