"""Results on stdout: tables on a terminal, aligned plain columns elsewhere, JSON where asked."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from sg_local.words import shown


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether its cells are numbers, set to the right."""

    heading: str
    number: bool = False


def say(text: object = "", *, err: bool = False) -> None:
    """A line on stdout or stderr. On a terminal nothing in it can steer the terminal; a pipe gets it as it is."""
    is_shown = err or sys.stdout.isatty()
    click.echo(shown(str(text)) if is_shown else text, err=err)


def tell(text: str) -> None:
    """A sentence on stdout, broken between words on a terminal; a pipe gets it as one line. For no path or command."""
    if sys.stdout.isatty():
        from sg_local.console import tables

        tables.tell(text)
    else:
        say(text)


def show_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table for reading. Cells are data: no markup."""
    if sys.stdout.isatty():
        from sg_local.console import tables

        tables.show(title, [(c.heading, c.number) for c in columns], rows)
        return
    cells = [[shown(cell) for cell in row] for row in ([c.heading for c in columns], *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        parts = [
            cell.rjust(width) if c.number else cell.ljust(width)
            for cell, width, c in zip(row, widths, columns, strict=True)
        ]
        say("  ".join(parts).rstrip())


def show_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    show_table(title, [Column(""), Column("")], pairs) if sys.stdout.isatty() else _plain_pairs(pairs)


def _plain_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(f"{name.ljust(width)}  {shown(value)}".rstrip())


def note(text: str) -> None:
    """A line of narration on stderr, broken between words on a terminal."""
    width = shutil.get_terminal_size().columns
    say(_broken(text, width) if sys.stderr.isatty() else text, err=True)


def next_commands(*commands: str) -> None:
    """What to run now, on stderr: in one line or, on a terminal that has no room for it, a line for each command."""
    line = f"Next: {', or '.join(commands)}"
    fits = not sys.stderr.isatty() or len(line) <= shutil.get_terminal_size().columns
    say(line if fits else "Next: " + "\n  or: ".join(commands), err=True)


def _broken(text: str, width: int) -> str:
    """The text in lines that end between words: paths and commands stay whole, so that they can be copied."""
    return textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def show_json(data: Any) -> None:
    """Data as indented JSON."""
    say(json.dumps(data, indent=2, ensure_ascii=False, default=str))
