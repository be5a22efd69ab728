"""Tables on the terminal. Cells are data, never markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from sg_local.console.text import Text


def show(title: str, columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; `columns` are (heading, is a number).

    Where it is too wide, numbers and the first column stay whole and the other texts give way.
    """
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_header=any(h for h, _ in columns))
    for i, (heading, number) in enumerate(columns):
        keeps = number or (i == 0 and len(columns) > 2)
        table.add_column(heading, justify="right" if number else "left", no_wrap=keeps, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if title:
        console.print(Text(f"\n {title}", "bold"))
    console.print(table)


def tell(text: str) -> None:
    """Print a sentence on stdout, broken between words."""
    Console(highlight=False).print(Text(text))
