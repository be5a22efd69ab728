"""Tables on the terminal. Cells are data, never markup.

Numbers and the first column are always whole. Texts are broken between words; where one would get too narrow, it goes
below its row, and where even the numbers have no room beside each other, everything does. Nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console

from sg_local.console.text import Text, broken, flowing

GAP, TIGHT = 3, 2  # cells between columns: where there is room, and where there is little
LEAST = 24  # the cells that a column of text keeps, unless its texts are shorter
TYPICAL = 0.9  # of the rows: a column of short texts gets no wider for a few long ones
MARGIN = 1
INDENT = 4  # of what stands below a row

Columns = Sequence[tuple[str, bool]]
"""(heading, is a number) of each."""


@dataclass(frozen=True)
class Plan:
    """Where each column goes: the width of those side by side, the others below; and the cells between two."""

    widths: dict[int, int]
    below: tuple[int, ...]
    gap: int


def show(title: str, columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout."""
    console = Console(highlight=False)
    if title:
        console.print(Text(f"\n {title}", "bold"))
    console.print()
    for line in lines(columns, rows, console):
        console.print(line, soft_wrap=True)
    console.print()


def lines(columns: Columns, rows: Sequence[Sequence[str]], console: Console) -> Iterator[Text]:
    """The lines of a table, none longer than the console is wide, but for a word that is itself longer.

    Such a word, a path say, is left to the terminal to break, so that it is whole when it is copied.
    """
    plan = planned(columns, rows, console.width - 2 * MARGIN)
    drawing = _Drawing(console, columns, plan)
    if any(heading for heading, _ in columns) and len(plan.widths) > 1:
        yield from drawing.heading()
    for row in rows:
        yield from drawing.row(row)


def planned(columns: Columns, rows: Sequence[Sequence[str]], room: int) -> Plan:
    """Where the columns of these rows go in `room` cells."""
    headings = [heading for heading, _ in columns]
    long = {i: sorted(_longest(row[i]) for row in (headings, *rows)) for i in range(len(columns))}
    whole = {i: lengths[-1] for i, lengths in long.items()}
    if _taken(whole, GAP) <= room:
        return Plan(whole, (), GAP)
    texts = [i for i, (_, number) in enumerate(columns) if not number and i > 0]
    typical = int(TYPICAL * len(rows))
    widths = whole | {i: max(min(long[i][typical], LEAST), _longest_word(headings[i])) for i in texts}
    while _taken(widths, TIGHT) > room and (left := [i for i in texts if i in widths]):
        del widths[max(left, key=lambda i: (widths[i], whole[i], i))]
    if _taken(widths, TIGHT) > room:
        widths = {0: room}
    else:
        texts = [i for i in texts if i in widths]
        widths |= _grown({i: widths[i] for i in texts}, whole, room - _taken(widths, TIGHT))
    return Plan(widths, tuple(i for i in whole if i not in widths), TIGHT)


def _taken(widths: dict[int, int], gap: int) -> int:
    return sum(widths.values()) + gap * (len(widths) - 1)


def _longest(text: str) -> int:
    return max(map(cell_len, Text(text).plain.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(cell_len, Text(text).plain.split()), default=0)


def _grown(widths: dict[int, int], whole: dict[int, int], spare: int) -> dict[int, int]:
    """The widths with the spare cells shared out: those that want least first, so that none gets more than it needs."""
    grown = {}
    for n_left, i in zip(range(len(widths), 0, -1), sorted(widths, key=lambda i: whole[i] - widths[i]), strict=True):
        more = min(whole[i] - widths[i], spare // n_left)
        grown[i], spare = widths[i] + more, spare - more
    return grown


@dataclass(frozen=True)
class _Drawing:
    console: Console
    columns: Columns
    plan: Plan

    def heading(self) -> Iterator[Text]:
        """The headings over a line; where only the last column goes below, its heading does so here, too."""
        names = [heading for heading, _ in self.columns]
        for line in self._beside(names):
            line.stylize("bold")
            yield line
        if self._is_last_below:
            yield Text(" " * INDENT + names[self.plan.below[0]], "bold")
        yield Text(" " * MARGIN + "\u2500" * _taken(self.plan.widths, self.plan.gap))

    @property
    def _is_last_below(self) -> bool:
        return self.plan.below == (len(self.columns) - 1,) and len(self.plan.widths) > 1

    def row(self, row: Sequence[str]) -> Iterator[Text]:
        """The lines of one row. A word that is longer than its column is wide goes below with its cell."""
        long = [i for i, width in self.plan.widths.items() if i > 0 and _longest_word(row[i]) > width]
        yield from self._beside(["" if i in long else text for i, text in enumerate(row)])
        room = self.console.width - INDENT
        parts = [self._named(i, row[i]) for i in sorted((*self.plan.below, *long)) if row[i]]
        for line in (piece for part in flowing(parts, room) for piece in part.split("\n")):
            for piece in [line] if line.cell_len <= room else flowing(line.split(" "), room, 1):
                yield Text(" " * INDENT).append_text(piece)

    def _beside(self, row: Sequence[str]) -> Iterator[Text]:
        """The lines of the columns that stand beside each other."""
        widths = self.plan.widths
        cells = [broken(Text(row[i]), width, self.console) for i, width in widths.items()]
        for parts in zip_longest(*cells, fillvalue=Text()):
            line = Text(" " * MARGIN)
            for n, (part, (i, width)) in enumerate(zip(parts, widths.items(), strict=True)):
                blank = Text(" " * max(0, width - part.cell_len))
                line.append(" " * self.plan.gap if n else "")
                first, second = (blank, part) if self.columns[i][1] else (part, blank)
                line.append_text(first).append_text(second)
            line.rstrip()
            yield line

    def _named(self, i: int, text: str) -> Text:
        """A cell that stands below, after its heading, unless the heading of the table has it."""
        heading = "" if self._is_last_below and i in self.plan.below else self.columns[i][0]
        return Text.assemble((heading, "dim"), " " if heading else "", text)


def tell(text: str) -> None:
    """Print a sentence on stdout, broken between words."""
    Console(highlight=False).print(Text(text))
