"""`sg-local runs`: list, show, compare, tag, rename and delete runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.complete import run_argument, run_names
from sg_local.cli.options import json_option, runs_option
from sg_local.cli.output import Column
from sg_local.cli.show import note_stale, show_funnel
from sg_local.files import remove, shred
from sg_local.records import SgError
from sg_local.run import INPUTS, STAGES, Run, list_runs, open_run


@click.group(
    "runs",
    cls=CommandGroup,
    examples=("sg-local runs ls", "sg-local runs show RUN", "sg-local runs compare RUN OTHER", "sg-local runs rm RUN"),
)
def runs_command() -> None:
    """List, show, compare, tag, rename and delete runs."""


@runs_command.command("ls", examples=("sg-local runs ls", "sg-local runs ls --tag paper", "sg-local runs ls --json"))
@click.option("--tag", metavar="TAG", help="Only runs with this tag.")
@runs_option
@json_option
def ls(tag: str | None, runs: Path, as_json: bool) -> None:
    """List the runs in the folder."""
    from sg_local.views.runs import run_cells, run_facts_or_fault

    rows = [run_facts_or_fault(run) for run in list_runs(runs)]
    rows = [row for row in rows if tag is None or tag in row["tags"]]
    if as_json:
        output.show_json(rows)
        return
    if not rows:
        output.say(f"No runs in {runs} yet. Start one with: sg-local run TASK", err=True)
        return
    columns = [Column("run"), Column("stage"), Column("base", True), Column("served", True), Column("size", True)]
    cells = [run_cells(row) for row in rows]
    if any(source for *_, source in cells):
        columns.append(Column("made from"))
    if any(row["tags"] for row in rows):
        cells = [(*line[: len(columns)], ", ".join(row["tags"])) for line, row in zip(cells, rows, strict=True)]
        columns.append(Column("tags"))
    output.show_table("Runs", columns, [row[: len(columns)] for row in cells])


@runs_command.command("show", examples=("sg-local runs show RUN", "sg-local runs show RUN --json"))
@run_argument
@runs_option
@json_option
def show(run: str, runs: Path, as_json: bool) -> None:
    """Show a run's origin, stages, files and funnel."""
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
        *((("tags", ", ".join(data["tags"])),) if data.get("tags") else ()),
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


@runs_command.command(
    "compare", examples=("sg-local runs compare RUN OTHER", "sg-local runs compare RUN OTHER THIRD --json")
)
@click.argument("names", metavar="RUN OTHER...", nargs=-1, required=True, shell_complete=run_names)
@runs_option
@json_option
def compare(names: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Compare the scores, gains and settings of runs.

    Each run is compared with the first one, on the test rows that both have.
    """
    from sg_local import evaluate
    from sg_local.views.comparison import difference_sentence, run_columns, run_rows, setting_rows

    found = [open_run(runs, name) for name in names]
    if len(found) < 2:
        raise SgError("One run alone cannot be compared.", "Name two runs or more.", exit_code=2)
    told = evaluate.compare(found)
    for run in found:
        note_stale(run)
    if as_json:
        output.show_json(dataclasses.asdict(told))
        return
    output.show_table("Runs", [Column(name, number) for name, number in run_columns()], run_rows(told))
    for run in found[1:]:
        output.tell(difference_sentence(told, run.name, found[0].name))
    if told.settings:
        columns = [Column("setting"), *(Column(run.name) for run in found)]
        output.show_table("Settings that differ", columns, setting_rows(told))
    else:
        output.tell("All settings are the same.")


@runs_command.command("tag", examples=("sg-local runs tag RUN paper", "sg-local runs tag RUN paper --remove"))
@run_argument
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Remove the tags.")
@runs_option
def tag(run: str, tags: tuple[str, ...], remove: bool, runs: Path) -> None:
    """Tag a run, so that `runs ls --tag` finds it."""
    from sg_local.job import naming

    found = open_run(runs, run)
    now = naming.tag(found, remove=tags) if remove else naming.tag(found, tags)
    output.say(f"{found.name}: {', '.join(now) or 'no tags'}", err=True)


@runs_command.command("rename", examples=("sg-local runs rename RUN mails-v2",))
@run_argument
@click.argument("name")
@runs_option
def rename(run: str, name: str, runs: Path) -> None:
    """Rename a run; serving and reports use the new name.

    Files outside its folder keep the old name: export a llama-server folder again.
    """
    from sg_local.job import naming

    found = open_run(runs, run)
    new = naming.rename(found, name)
    output.say(f"{found.name} is now {new.name}. To continue it: sg-local run TASK --name {new.name}", err=True)


@runs_command.command("rm", examples=("sg-local runs rm RUN", "sg-local runs rm RUN --yes"))
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--shred", "shreds", is_flag=True, help="Overwrite its files first (of little use on SSDs and copy-on-write disks)."
)
@runs_option
def rm(run: str, yes: bool, shreds: bool, runs: Path) -> None:
    """Delete a run and everything in it."""
    found = open_run(runs, run)
    if not yes:
        if not sys.stdin.isatty():
            raise SgError(
                f"Run {found.name} was not deleted: not a terminal, so cannot ask for confirmation.",
                "Add --yes.",
                exit_code=2,
            )
        click.confirm(f"Delete {found.root} and everything in it?", abort=True, err=True)
    elif Path(run).name != found.name:
        message = f"Run {found.name} was not deleted: with --yes, give its full name."
        raise SgError(message, f"Type it: `runs rm {found.name} --yes`.", exit_code=2)
    with found.lock():
        (shred if shreds else remove)(found.root)
    output.say(f"Deleted {found.root}", err=True)
