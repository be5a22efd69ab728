"""`--notify`: a bell in the terminal and a notice on the desktop when a command ends, however it ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

import click

from sg_local.records import SgError
from sg_local.words import brief

PATIENCE_S = 5.0
MAX_SHOWN = 120
NOTICE = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")
"""A program for osascript: texts come as arguments, so that nothing in them is code."""


def note_the_end(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Give notice when the command is over."""
    if value:
        ctx.call_on_close(lambda: notify(ctx.command_path, ended(sys.exc_info()[1])))


def ended(error: BaseException | None) -> str:
    """How a command ended, in a few words."""
    if error is None or isinstance(error, click.exceptions.Exit):
        return "finished"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    return brief(error.message if isinstance(error, SgError) else str(error), MAX_SHOWN)


def notify(title: str, text: str) -> None:
    """Ring, and show a notice where the desktop has a program for it. Never raises."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            click.echo("\a", err=True, nl=False)
    command = notice(title, text)
    if command is None:
        return
    quiet = subprocess.DEVNULL
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=PATIENCE_S, check=False)


def notice(title: str, text: str) -> Sequence[str] | None:
    """The command that shows a notice on this desktop; None where there is none."""
    if shutil.which("notify-send"):
        return ("notify-send", "--app-name=sg-local", "--", title, text)
    if shutil.which("osascript"):
        return ("osascript", *(part for line in NOTICE for part in ("-e", line)), title, text)
    return None


notify_option = click.option(
    "--notify",
    is_flag=True,
    expose_value=False,
    callback=note_the_end,
    help="Ring the bell and show a desktop notification at the end.",
)
