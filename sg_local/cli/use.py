"""What a finished run is for besides `predict` and `serve`: report; and inspect, for any GGUF file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from sg_local.cli import output
from sg_local.cli.app import Command
from sg_local.cli.complete import run_argument
from sg_local.cli.config import Environment
from sg_local.cli.options import json_option, runs_option
from sg_local.cli.show import note_stale, stale_note
from sg_local.run import open_run
from sg_local.views.models import fact_pair
from sg_local.words import brief


@click.command("inspect", cls=Command, examples=("sg-local inspect adapter.gguf", "sg-local inspect fused.gguf --json"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="Check that this is the base it was made from.")
@click.option("--adapter", type=click.Path(path_type=Path), help="Check that this is the adapter it was made from.")
@json_option
@click.pass_obj
def inspect_command(
    environment: Environment, file: Path, base: Path | None, adapter: Path | None, as_json: bool
) -> None:
    """Show what a GGUF file holds and where it came from.

    The base and the adapter that it was made from are compared by SHA-256 if they are given or found on this machine.
    Exit code 1: one of them is a different file.
    """
    from sg_local import export

    seen = export.inspect(file, base, adapter)
    if "base.sha256" in seen.provenance and "base" not in seen.verified:
        seen = export.inspect(file, _on_the_shelf(seen.provenance.get("base.name", ""), environment), adapter)
    found = dataclasses.asdict(seen)
    if as_json:
        output.show_json(found)
        return
    told = {key: value for key, value in found.items() if key not in ("provenance", "verified")}
    pairs = [fact_pair(key, value) for key, value in told.items() if value not in ("", None, {}, [])]
    pairs += [(f"sg-local: {key}", value) for key, value in found["provenance"].items()]
    pairs += [
        (f"{key} on this machine", "matches" if same else "DOES NOT MATCH") for key, same in found["verified"].items()
    ]
    output.show_pairs(str(file), [(name, brief(value)) for name, value in pairs if value])
    if not all(found["verified"].values()):
        click.get_current_context().exit(1)


def _on_the_shelf(name: str, environment: Environment) -> Path | None:
    """The file of a model by its name in a GGUF, which is never taken for a path."""
    from sg_local import models

    entries = {entry.name: entry.path for entry in models.list_models(environment.models)}
    return entries.get(name)


@click.command(
    "report", cls=Command, examples=("sg-local report RUN --open", "sg-local report RUN --json | jq .tuned.score")
)
@run_argument
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.  [default: RUN.html]")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@runs_option
@json_option
def report_command(run: str, out: Path | None, opens: bool, runs: Path, as_json: bool) -> None:
    """Write a run's report as one HTML page."""
    from sg_local import report

    found = open_run(runs, run)
    note_stale(found)
    if as_json:
        output.show_json(report.plain(report.read_report(found)))
        return
    path = report.write_page(found, out or Path(f"{found.name}.html"), stale_note(found))
    click.echo(path)
    if opens:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            output.note("No browser could be started: open the file yourself.")
