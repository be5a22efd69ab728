"""The answers to the test rows before and after tuning, in groups: better, worse, not right yet, right all along.

Before is the model as it comes, after is what predict and serve answer: no other system's answers stand on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sg_local.records import Answer
from sg_local.report.differing import Piece, compare
from sg_local.report.records import BASE, Report, ScoredRow
from sg_local.run import ANSWERS, Run

BETTER, WORSE, OPEN, RIGHT = "Better than before", "Worse than before", "Not right, and no better", "Right all along"
FIRST, MORE = {BETTER: 4, WORSE: 4, OPEN: 4, RIGHT: 2}, 40
"""How many answers of a group are in sight, and how many more it can unfold."""
WHOLE = 100.0


@dataclass(frozen=True)
class AnswerLine:
    """A test row with both answers, what differs marked, and their scores in percent."""

    row: ScoredRow
    before: Sequence[Piece]
    after: Sequence[Piece]
    scores: tuple[float, float]


@dataclass(frozen=True)
class Group:
    """`n` rows that fared alike, those that changed most first: a few in sight, and more that unfold."""

    name: str
    n: int
    first: tuple[AnswerLine, ...]
    more: tuple[AnswerLine, ...]

    @property
    def left_out(self) -> int:
        """How many rows of the group are not on the page."""
        return self.n - len(self.first) - len(self.more)


def groups(run: Run, report: Report) -> list[Group]:
    """The groups that have rows, in the order in which they matter."""
    texts = {(a.system, a.index): a.text for a in run.read(ANSWERS, Answer) if a.system in (BASE, report.served)}
    sorted_in: dict[str, list[ScoredRow]] = {name: [] for name in FIRST}
    for row in report.rows:
        sorted_in[_group(*_scores(row, report))].append(row)
    found = []
    for name, rows in sorted_in.items():
        rows.sort(key=lambda row: -abs(row.scores[report.served] - row.scores[BASE]))
        lines = tuple(_line(row, report, texts) for row in rows[: FIRST[name] + MORE])
        found += [Group(name, len(rows), lines[: FIRST[name]], lines[FIRST[name] :])] if rows else []
    return found


def _group(before: float, after: float) -> str:
    if after != before:
        return BETTER if after > before else WORSE
    return RIGHT if after >= WHOLE else OPEN


def _line(row: ScoredRow, report: Report, texts: dict[tuple[str, int], str]) -> AnswerLine:
    before, after = (texts.get((system, row.index), "") for system in (BASE, report.served))
    if report.kind == "classification":  # two labels differ as wholes
        return AnswerLine(row, [Piece(before, False)], [Piece(after, False)], _scores(row, report))
    return AnswerLine(row, *compare(before, after), _scores(row, report))


def _scores(row: ScoredRow, report: Report) -> tuple[float, float]:
    return row.scores[BASE], row.scores[report.served]
