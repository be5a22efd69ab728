"""Help and the version by a word, where others type `sg-local help run`, `sg-local runs help`, `sg-local version`."""

from __future__ import annotations

import click

from sg_local import __version__
from sg_local.cli.output import say


@click.command("help", hidden=True)
@click.argument("words", nargs=-1)
@click.pass_context
def help_word(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    at = ctx.parent
    assert at is not None
    for word in words:
        if not isinstance(at.command, click.Group):
            break
        found = at.command.resolve_command(at, [word])[1]
        assert found is not None
        at = click.Context(found, parent=at, info_name=word)
    say(at.get_help())


@click.command("version", hidden=True)
def version_word() -> None:
    """Print the version."""
    say(f"sg-local {__version__}")


WORDS = {"help": help_word, "version": version_word}
"""Commands that stand in no list."""
