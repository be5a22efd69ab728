"""Single answers of a finished evaluation: what went wrong, and what tuning changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sg_local.records import Answer, SgError
from sg_local.report.file import read_report
from sg_local.report.records import TUNED
from sg_local.run import ANSWERS, Run

SHOW: Mapping[str, Callable[[float, float], bool]] = {
    "wrong": lambda score, base: score < 100,
    "right": lambda score, base: score >= 100,
    "better": lambda score, base: score > base,
    "worse": lambda score, base: score < base,
    "all": lambda score, base: True,
}


@dataclass(frozen=True)
class Judged:
    """One test row with its right outputs, one system's answer, its base's (`against`), both scores in percent."""

    index: int
    input: str
    wanted: tuple[str, ...]
    answer: str
    base: str
    score: float
    base_score: float


def judged_rows(run: Run, show: str = "wrong", system: str = TUNED) -> list[Judged]:
    """The rows that `show` asks for, lowest score first: wrong, right, all; better or worse than the base.

    Raises SgError (usage) for a system that did not answer and for another word.
    """
    report = read_report(run)
    if show not in SHOW:
        raise SgError(f"There is nothing to show as {show!r}.", f"Show one of: {', '.join(SHOW)}.", exit_code=2)
    if system not in report.systems:
        known = ", ".join(report.systems)
        raise SgError(f"No system named {system!r} answered.", f"It was: {known}.", exit_code=2)
    base = report.systems[system].against
    texts = {(row.system, row.index): row.text for row in run.read(ANSWERS, Answer)}
    rows = [
        Judged(
            index=row.index,
            input=row.input,
            wanted=row.outputs,
            answer=texts[system, row.index],
            base=texts[base, row.index],
            score=row.scores[system],
            base_score=row.scores[base],
        )
        for row in report.rows
    ]
    return sorted((row for row in rows if SHOW[show](row.score, row.base_score)), key=lambda row: row.score)
