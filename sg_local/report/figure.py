"""The page's first figure, and the small marks beside the figures of its tables: SVG that we draw ourselves.

Places along a line are percentages of the drawing's width, all else is in pixels: a drawing fills the room it has, and
its text keeps its size on a telephone and on paper. The first figure carries a title and a description in words; marks
are hidden from screen readers, because the figures that they show stand beside them.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sg_local.report.records import BASE, METRICS, Report, Role, SystemResult
from sg_local.words import shown

LINE, NAME, FOOT = 48, 16, 24
"""Pixels: the height of a system's place with its mark, of each line of its name, and of the scale under all."""
WIDE = 46
"""Characters of a name that a telephone has room for in one line."""
MARK, BAR = 16, 9
"""Pixels: the height of a mark beside a table's figures, and of one bar."""
SHAPES: dict[Role, str] = {
    "base": '<circle r="5.5"/>',
    "tuned": '<path d="M0-7.5 7.5 0 0 7.5-7.5 0z"/>',
    "trivial": '<path d="M-5-5 5 5M-5 5 5-5" fill="none" stroke-width="2.5"/>',
}
"""Each role's point, around 0,0: told apart without colour."""


@dataclass(frozen=True)
class Line:
    """A system's place in the first figure: what it is to the reader, and its result."""

    words: str
    system: SystemResult

    @property
    def names(self) -> list[str]:
        """Its name for people, in lines that are short enough."""
        return textwrap.wrap(_safe(self.system.title), WIDE)

    @property
    def height(self) -> int:
        """Pixels that it takes."""
        return LINE + NAME * len(self.names)


def lines(report: Report) -> list[Line]:
    """The model as it comes first, the served one last; between them the rivals that the verdict names."""
    served, reached = report.systems[report.served], report.main.reached_by if report.main is not None else ()
    rivals = {report.rival: report.rival_words} | dict.fromkeys(reached, "a trivial baseline")
    between = [
        Line(words[0].upper() + words[1:], report.systems[name]) for name, words in rivals.items() if name != BASE
    ]
    return [Line("Before", report.base), *between, Line("After", served)]


def before_after(report: Report) -> Markup:
    """The score before and after tuning with the intervals, on one scale from 0 to 100, and the way between them."""
    drawn = lines(report)
    tops = [sum(line.height for line in drawn[:i]) for i in range(len(drawn) + 1)]
    parts = [_gained(report, tops[-1]), *_scale(tops[-1])]
    parts += [part for line, top in zip(drawn, tops, strict=False) for part in _line(line, top)]
    title = f"{METRICS[report.metric]} before and after tuning"
    said = "; ".join(
        f"{line.words}, {line.system.title}: {line.system.score:.1f} percent, 95 % interval {line.system.low:.1f} to "
        f"{line.system.high:.1f}"
        for line in drawn
    )
    head = (
        f'<svg class="first" role="img" aria-labelledby="first-title first-desc" width="100%" '
        f'height="{tops[-1] + FOOT}">'
        f'<title id="first-title">{_safe(title)}</title><desc id="first-desc">{_safe(said)}.</desc>'
    )
    return Markup(head + "".join(parts) + "</svg>")


def interval(low: float, score: float, high: float, role: Role, span: Sequence[float] = (0, 100)) -> Markup:
    """A score as its role's point on the line of its interval, on a scale that is `span` wide."""
    start, end = span
    left, middle, right = (100 * (value - start) / (end - start) for value in (low, score, high))
    zero = "" if start >= 0 else _upright("none", 100 * -start / (end - start), 0, MARK)
    return _mark(MARK, zero + _spread(left, middle, right, role, MARK / 2))


def bars(counts: Sequence[int], most: int, names: Sequence[str] = ("base",)) -> Markup:
    """Counts as bars one below the other, the longest of the table as wide as there is room; `names` colour them."""
    drawn = "".join(
        f'<rect class="{name}" y="{2 + i * (BAR + 2)}" height="{BAR}" width="{_at(100 * count / max(most, 1))}"/>'
        for i, (count, name) in enumerate(zip(counts, names, strict=True))
    )
    return _mark(len(counts) * (BAR + 2) + 2, drawn)


def _line(line: Line, top: int) -> list[str]:
    found, middle = line.system, top + line.height - 15
    return [
        f'<text class="strong" x="0" y="{top + 16}">{_safe(line.words)}</text>',
        *(f'<text class="small" x="0" y="{top + 16 + NAME * i}">{name}</text>' for i, name in enumerate(line.names, 1)),
        f'<text class="strong" x="100%" y="{top + 16}" text-anchor="end">{found.score:.1f}</text>',
        _spread(found.low, found.score, found.high, found.role, middle),
    ]


def _gained(report: Report, height: int) -> str:
    """The band between the score before and the score after."""
    before, after = report.base.score, report.systems[report.served].score
    better = "better" if after >= before else "worse"
    left, width = min(before, after), abs(after - before)
    return f'<rect class="band {better}" x="{_at(left)}" y="0" width="{_at(width)}" height="{height}"/>'


def _scale(height: int) -> list[str]:
    """Upright lines and their percentages below."""
    anchors = {0: "start", 100: "end"}
    return [
        _upright("grid", value, 0, height)
        + f'<text class="small" x="{value}%" y="{height + 16}" text-anchor="{anchors.get(value, "middle")}">{value}'
        f"{' %' if value == 100 else ''}</text>"
        for value in (0, 25, 50, 75, 100)
    ]


def _spread(low: float, score: float, high: float, role: Role, y: float) -> str:
    return (
        f'<g class="{role}"><line x1="{_at(low)}" x2="{_at(high)}" y1="{y:g}" y2="{y:g}"/>'
        f'<svg x="{_at(score)}" y="{y:g}" overflow="visible">{SHAPES[role]}</svg></g>'
    )


def _mark(height: int, inside: str) -> Markup:
    return Markup(f'<svg class="mark" aria-hidden="true" width="100%" height="{height}">{inside}</svg>')


def _upright(name: str, percent: float, top: float, bottom: float) -> str:
    return f'<line class="{name}" x1="{_at(percent)}" x2="{_at(percent)}" y1="{top:g}" y2="{bottom:g}"/>'


def _at(percent: float) -> str:
    return f"{percent:.4g}%"


def _safe(text: str) -> str:
    return html.escape(shown(text))
