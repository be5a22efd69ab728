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


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether its cells are numbers, set to the right."""

    heading: str
    number: bool = False


def show_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table for reading. Cells are data: no markup."""
    if sys.stdout.isatty():
        from sg_local.console import tables

        tables.show(title, [(c.heading, c.number) for c in columns], rows)
        return
    cells = [[c.heading for c in columns], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        parts = [
            cell.rjust(width) if c.number else cell.ljust(width)
            for cell, width, c in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def show_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    show_table(title, [Column(""), Column("")], pairs) if sys.stdout.isatty() else _plain_pairs(pairs)


def _plain_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def note(text: str) -> None:
    """A line of narration on stderr, broken between words on a terminal."""
    width = shutil.get_terminal_size().columns
    click.echo(textwrap.fill(text, width, subsequent_indent="  ") if sys.stderr.isatty() else text, err=True)


def show_json(data: Any) -> None:
    """Data as indented JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
