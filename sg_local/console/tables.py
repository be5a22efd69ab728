"""Tables on the terminal. Cells are data, never markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(title: str, columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; `columns` are (heading, is a number)."""
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=None)
    for i, (heading, number) in enumerate(columns):
        last = i == len(columns) - 1
        table.add_column(
            heading,
            justify="right" if number else "left",
            overflow="fold" if last or len(columns) == 2 else "ellipsis",
            no_wrap=not last and len(columns) > 2,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
