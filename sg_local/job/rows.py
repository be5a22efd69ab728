"""The synthesised rows of a run as whoever opens it sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sg_local.records import Candidate, Verdict
from sg_local.run import CANDIDATES, NOTES, Run


@dataclass(frozen=True)
class JobRow:
    """One synthesised pair with the last word on it.

    `input` and `output` are what trains: a person's edit where there is one, and the label that the filters' policy
    chose. `judge` is `filters` or a person's name, empty before the filters ran; `rule` and `reason` say why a row
    was rejected. `vote_share` lies in 0 to 1; `label_asked` is the label (or text) that the input was written for.
    `source` is empty for what the model wrote, `own` for an own input, `labelled` for an own row with its right output,
    `earlier` for an input that was written for an earlier version of the task. `notes` are the reviewers' by name.
    """

    id: str
    input: str
    output: str
    kept: bool
    judge: str
    rule: str
    reason: str
    vote_share: float
    label_asked: str | None
    source: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def rows_of(run: Run) -> tuple[JobRow, ...]:
    """Every synthesised pair with the last verdict on it, in the order of synthesis."""
    from sg_local import filters, review

    verdicts = filters.final_verdicts(run)
    notes = review.notes_of(run.read(NOTES, review.Note))
    return tuple(
        _row(candidate, verdicts.get(candidate.id), notes.get(candidate.id, {}))
        for candidate in run.read(CANDIDATES, Candidate)
    )


def _row(candidate: Candidate, verdict: Verdict | None, notes: Mapping[str, str]) -> JobRow:
    if verdict is None:
        last = Verdict(candidate.id, keep=False, judge="")
    else:
        last = verdict
    return JobRow(
        id=candidate.id,
        input=candidate.input if last.input is None else last.input,
        output=candidate.output if last.output is None else last.output,
        kept=last.keep,
        judge=last.judge,
        rule=last.rule,
        reason=last.reason,
        vote_share=candidate.vote_share,
        label_asked=candidate.label_asked,
        source=candidate.source,
        notes=notes,
    )
