"""A second opinion that training made: rows labelled anew by the scores of a tuned model, and whether to train on them.

The tuned model labels every accepted input, those among them that the policies of its own training threw away. Each
label's mean score is taken off, and the other rules judge as before. Where the labels before took every row (policy
`ensemble` or `calibrated`), so do the new ones; else the surer half of every label stays. What people have judged, and
rows that they labelled, stay as they are.

Nobody knows the right labels, so what speaks for the new ones is how they agree with the labels that the inputs were
written for, beyond chance: a generation whose agreement is below that of the one before has learned something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sg_local.filters import Kept, judge
from sg_local.filters.labels import calibrated, choose, kappa
from sg_local.filters.policies import judged_rows
from sg_local.filters.settings import FilterSettings
from sg_local.records import LABELLED, Candidate, Task
from sg_local.run import CANDIDATES, Run

EVERY_ROW = ("ensemble", "calibrated")
"""The policies that give every row a label, by scores."""

Scores = Mapping[str, Sequence[float]]
"""log P(label | input) in nats, one for each label of the task, by the candidate's id."""


@dataclass(frozen=True)
class Relabelled:
    """The rows to train on next, and Cohen's kappa of all new labels with the asked ones (None: none were asked)."""

    rows: tuple[Kept, ...]
    kappa: float | None


def unlabelled(run: Run) -> list[Candidate]:
    """The candidates that a model may label anew: those whose label no person gave."""
    return [row for row in run.read(CANDIDATES, Candidate) if row.source != LABELLED]


def is_asked(run: Run) -> bool:
    """Whether any input was written for a label, which new labels can be compared with."""
    return any(row.label_asked for row in unlabelled(run))


def relabelled(run: Run, task: Task, settings: FilterSettings, scores: Scores) -> Relabelled:
    """The rows of a run with the labels that these scores give; candidates without scores are left out."""
    candidates = [row for row in run.read(CANDIDATES, Candidate) if row.id in scores or row.source == LABELLED]
    scored = [replace(row, label_scores=tuple(scores[row.id])) for row in candidates if row.id in scores]
    best = calibrated(scored, task.labels)
    first = choose(
        [row for row in candidates if row.source != LABELLED], task.labels, settings.policy, settings.evidence
    )
    policy = "calibrated" if first.policy in EVERY_ROW else "ranked"
    anew = [row if row.source == LABELLED else _labelled(row, best[row.id], scores[row.id]) for row in candidates]
    verdicts, _ = judge(anew, task, replace(settings, policy=policy, evidence="direct"))
    return Relabelled(tuple(judged_rows(run, anew, verdicts)), agreement(candidates, best))


def agreement(candidates: Sequence[Candidate], labels: Mapping[str, str]) -> float | None:
    """Cohen's kappa of labels with those that inputs were written for; None where none was asked for."""
    asked: dict[str, str | None] = {row.id: row.label_asked for row in candidates if row.id in labels}
    if not any(asked.values()):
        return None
    return round(kappa(asked, dict(labels)).kappa, 4)


def first_agreement(run: Run, task: Task) -> float | None:
    """That of the untuned model's calibrated labels, where rows were scored when they were written."""
    candidates = unlabelled(run)
    best = calibrated(candidates, task.labels)
    return agreement(candidates, best) if best else None


def _labelled(row: Candidate, label: str, scores: Sequence[float]) -> Candidate:
    """A candidate as if it had been written for this label and all votes were for it.

    Its channel scores are of the model before, and go.
    """
    votes = {label: row.n_samples}
    anew = replace(row, label_scores=tuple(scores), channel_scores=())
    return replace(anew, label_asked=label, output=label, votes=votes, vote_share=1.0)
