"""Single answers of a finished evaluation: what went wrong, and what tuning changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sg_local.fields import likeness
from sg_local.records import Answer, SgError
from sg_local.report.file import read_report
from sg_local.report.records import TUNED, Report
from sg_local.run import ANSWERS, Run
from sg_local.schemas import misfit

SHOW: Mapping[str, Callable[[float, float], bool]] = {
    "wrong": lambda score, base: score < 100,
    "right": lambda score, base: score >= 100,
    "better": lambda score, base: score > base,
    "worse": lambda score, base: score < base,
    "all": lambda score, base: True,
}


@dataclass(frozen=True)
class Judged:
    """One test row with its right outputs, one system's answer, its base's (`against`), both scores in percent.

    `wrong` names the answer's wrong fields, or says why it is no JSON that fits; for tasks with a schema.
    """

    index: int
    input: str
    wanted: tuple[str, ...]
    answer: str
    base: str
    score: float
    base_score: float
    wrong: tuple[str, ...] = ()


def judged_rows(run: Run, show: str = "wrong", system: str = TUNED) -> list[Judged]:
    """The rows that `show` asks for, lowest score first: wrong, right, all; better or worse than the base.

    `system` is a system's name, or its title as the card shows it. Raises SgError (usage) for a system that did not
    answer and for another word.
    """
    report = read_report(run)
    if show not in SHOW:
        raise SgError(f"There is nothing to show as {show!r}.", f"Show one of: {', '.join(SHOW)}.", exit_code=2)
    system = system_named(report, system)
    base, schema = report.systems[system].against, run.settings["task"].get("schema", "")
    texts = {(row.system, row.index): row.text for row in run.read(ANSWERS, Answer)}
    for row in report.rows:
        lacking = next((name for name in (system, base) if (name, row.index) not in texts), None)
        if lacking is not None:
            hint = f"Run `eval {run.typed}` with `redo`: the report is of other answers."
            raise SgError(f"{run.path(ANSWERS)} has no answer of {lacking} to test row {row.index + 1}.", hint)
    rows = [
        Judged(
            index=row.index,
            input=row.input,
            wanted=row.outputs,
            answer=texts[system, row.index],
            base=texts[base, row.index],
            score=row.scores[system],
            base_score=row.scores[base],
            wrong=wrong_fields(schema, texts[system, row.index], row.outputs) if schema else (),
        )
        for row in report.rows
    ]
    return sorted((row for row in rows if SHOW[show](row.score, row.base_score)), key=lambda row: row.score)


def system_named(report: Report, called: str) -> str:
    """The name of the system with this name or title; SgError (usage) where none of the report's is called so."""
    for name, found in report.systems.items():
        if called in (name, found.title):
            return name
    known = "; ".join(f"{name} ({found.title})" for name, found in report.systems.items())
    raise SgError(f"No system named {called!r} answered.", f"These did: {known}.", exit_code=2)


def wrong_fields(schema: str, text: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """The fields in which an answer differs from the output that it is most like; first of all, why it does not fit."""
    found = max((likeness(text, output) for output in outputs), key=lambda one: (one.f1, one.exact))
    reason = misfit(schema, text)
    if reason.startswith("not JSON"):
        return (reason,)
    return tuple(filter(None, (reason, *(path for path, is_right in found.fields.items() if not is_right))))
