"""`sg-local completion SHELL`: Click's completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sg_local.cli.app import Command
from sg_local.cli.options import Choice
from sg_local.cli.output import say

PLACES = {
    "bash": "sg-local completion bash >> ~/.bashrc",
    "zsh": "sg-local completion zsh >> ~/.zshrc",
    "fish": "sg-local completion fish > ~/.config/fish/completions/sg-local.fish",
}


@click.command("completion", cls=Command, examples=tuple(PLACES.values()))
@click.argument("shell", type=Choice(tuple(PLACES)))
def completion_command(shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    The Tab key then completes commands, options, and the names of runs, tasks and models. The next shell
    has it. In zsh it must come after compinit.
    """
    from sg_local.cli.app import app

    made = get_completion_class(shell)
    assert made is not None
    say(made(app, {}, "sg-local", "_SG_LOCAL_COMPLETE").source())
