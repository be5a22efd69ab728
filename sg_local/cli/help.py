"""Help: by a word too (`sg-local help run`, `sg-local version`), options in groups, the environment variables."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import click

from sg_local import __version__
from sg_local.cli import troubles
from sg_local.cli.config import VARIABLES
from sg_local.cli.output import say

ENVIRONMENT = "environment"
WIDTH = 100
GROUPS = {
    "Your own data": ("inputs", "rows", "own_columns"),
    "Limits": ("ram_bytes", "disk_bytes", "whole_s"),
    "Settings and engines": (
        "preset",
        "sets",
        "seed",
        "form",
        "backend",
        "endpoint",
        "ask_remote",
        "trainer",
        "no_fast_copy",
    ),
    "Output": ("runs", "notify", "as_json", "help"),
}
"""Options that stand under a heading of their own, in this order, by parameter name; all others come first."""
FEW = 8
"""So many options need no headings."""

Records = Sequence[tuple[str, tuple[str, str]]]
"""(parameter's name, its line in the help)."""


def write_options(formatter: click.HelpFormatter, records: Records) -> None:
    """A command's options: its own first, then those that many commands share, by group."""
    shared = {name for names in GROUPS.values() for name in names} if len(records) > FEW else set()
    groups = {"Options": [record for name, record in records if name not in shared]}
    told = dict(records)
    for heading, names in GROUPS.items() if shared else ():
        groups[heading] = [told[name] for name in names if name in told]
    for heading, found in groups.items():
        if found:
            with formatter.section(heading):
                formatter.write_dl(found)


def environment_help(ctx: click.Context) -> str:
    """The environment variables, as help shows them."""
    formatter = ctx.make_formatter()
    formatter.write_text("An option overrides its environment variable, which overrides the config file.")
    with formatter.section("Environment variables"):
        formatter.write_dl(list(VARIABLES.items()))
    return formatter.getvalue().rstrip("\n")


@click.command("help", hidden=True)
@click.argument("words", nargs=-1)
@click.pass_context
def help_word(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, or an entry of the page on troubles."""
    at = ctx.parent
    assert at is not None
    if words == (ENVIRONMENT,):
        say(environment_help(ctx))
        return
    if len(words) == 1 and at.parent is None and _is_trouble(words[0]):
        return
    for word in words:
        if not isinstance(at.command, click.Group):
            break
        found = at.command.resolve_command(at, [word])[1]
        assert found is not None
        at = click.Context(found, parent=at, info_name=word)
    say(at.get_help())


def _is_trouble(word: str) -> bool:
    """Show the entry of that name, or all names; False where the word is neither."""
    found = troubles.entries() if word == troubles.PAGE or "-" in word else {}
    if word in found:
        say(troubles.shown_entry(*found[word], min(shutil.get_terminal_size().columns, WIDTH)))
    elif found and word == troubles.PAGE:
        say(troubles.listed())
    return word in found or word == troubles.PAGE


@click.command("version", hidden=True)
def version_word() -> None:
    """Print the version."""
    say(f"sg-local {__version__}")


WORDS = {"help": help_word, "version": version_word}
"""Commands that stand in no list."""
