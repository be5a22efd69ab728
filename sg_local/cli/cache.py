"""`sg-local cache`: what fills the folder of caches, and its removal."""

from __future__ import annotations

import dataclasses
import sys

import click

from sg_local import cache
from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.config import Environment
from sg_local.cli.options import json_option
from sg_local.cli.output import Column
from sg_local.records import SgError
from sg_local.words import did_you_mean, size


@click.group("cache", cls=CommandGroup, examples=("sg-local cache ls", "sg-local cache clear"))
def cache_command() -> None:
    """Show or clear cached files."""


@cache_command.command("ls", examples=("sg-local cache ls", "sg-local cache ls --json"))
@json_option
@click.pass_obj
def ls(environment: Environment, as_json: bool) -> None:
    """Show what is in the cache, by model. All of it can be rebuilt."""
    lines = lines_of(environment)
    if as_json:
        output.show_json([dataclasses.asdict(line) for line in lines])
        return
    if not lines:
        output.say(f"The cache in {environment.data} is empty.", err=True)
        return
    columns = [Column("what"), Column("model"), Column("files", True), Column("size", True)]
    rows = [(line.kind, line.model, str(len(line.paths)), size(line.size_bytes)) for line in lines]
    output.show_table(f"Cache in {environment.data}", columns, rows)


@cache_command.command("clear", examples=("sg-local cache clear", "sg-local cache clear smollm2-135m-instruct --yes"))
@click.argument("model", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def clear(environment: Environment, model: str | None, yes: bool) -> None:
    """Delete the cache, or only the faster copies of one MODEL. Runs and models stay."""
    kept = lines_of(environment)
    lines = [line for line in kept if model in (None, line.model)]
    if model is not None and not lines:
        known = sorted({line.model for line in kept} - {""})
        raise SgError(f"Nothing is cached for {model}.", did_you_mean(model, known) or "See `cache ls`.", exit_code=2)
    n_bytes = sum(line.size_bytes for line in lines)
    if not yes and lines:
        if not sys.stdin.isatty():
            raise SgError(
                "The cache was not cleared: not a terminal, so cannot ask for confirmation.", "Add --yes.", exit_code=2
            )
        click.confirm(f"Delete {size(n_bytes)} of cached files?", abort=True, err=True)
    output.say(f"{size(cache.clear(lines))} freed", err=True)


def lines_of(environment: Environment) -> list[cache.Cached]:
    """What fills the cache, the models by their names here."""
    from sg_local import models

    digests = cache.digests_by_path(environment.data)
    named = {entry.path: entry.name for entry in models.list_models(environment.models) if entry.path is not None}
    names = {digest[:16]: named[path] for path, digest in digests.items() if path in named}
    return cache.cached(environment.data, names)
