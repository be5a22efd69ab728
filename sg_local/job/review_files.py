"""A review without a screen: rows to a file and judgements back, another reviewer's journals, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sg_local import review
from sg_local.job import review as job_review
from sg_local.job.job import OpenRun
from sg_local.records import Candidate, SgError, Verdict
from sg_local.review import Agreement, LabelScore, Merge, Note, ReviewState
from sg_local.run import CANDIDATES, NOTES, VERDICTS, Run
from sg_local.tables import read_grid, write_table


@dataclass(frozen=True)
class Imported:
    """What a file changed: the verdicts that are new, and the notes by row id."""

    verdicts: tuple[Verdict, ...]
    notes: dict[str, str]


@dataclass(frozen=True)
class Merged:
    """What a merge did, how many notes it took over, and how far the reviewers agree."""

    merge: Merge
    n_notes: int
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True)
class ConflictRow:
    """A row that two people judged differently, with both judgements in words."""

    row: int
    id: str
    input: str
    here: str
    there: str


@dataclass(frozen=True)
class MergeSummary:
    """What a merge came to, for programs: `taken`, `alike`, `known` and `unknown` count verdicts."""

    taken: int
    alike: int
    known: int
    unknown: int
    notes: int
    conflicts: tuple[ConflictRow, ...]
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True)
class ReviewedRow:
    """A row with what people decided: `judged` is open, accepted, rejected or conflict; `notes` are texts by judge.

    `scores` are the labels as the untuned model scored them, the likeliest first, as the screen shows them; empty where
    it did not.
    """

    row: int
    id: str
    input: str
    output: str
    judged: str
    judge: str
    reason: str
    edited: bool
    notes: dict[str, str]
    filters: bool
    rule: str
    scores: tuple[LabelScore, ...] = ()


@dataclass(frozen=True)
class Reviewed:
    """How far a review is. `open` rows are past the filters and not judged; `kept` would be trained on."""

    run: str
    open: int
    accepted: int
    rejected: int
    kept: int
    seconds: float
    rows: tuple[ReviewedRow, ...]


def export_rows(job: OpenRun, judge: str, path: Path) -> None:
    """Write every row to a file, in the form of its name. The run is only read."""
    write_table(path, review.COLUMNS, review.export_rows(job_review.open_state(job, judge)))


def import_rows(job: OpenRun, judge: str, path: Path) -> Imported:
    """Take over the judgements and notes of a file, all of them or none; what is new of them. Hold the lock."""
    grid = read_grid(path)
    state = job_review.open_state(job, judge)
    verdicts = tuple(review.import_rows(state, grid))
    notes = review.import_notes(state, grid)
    if verdicts or notes:
        job_review.keep(job, review.judged(state, verdicts, notes))
    return Imported(verdicts, notes)


def merge_from(job: OpenRun, other: Path) -> Merged:
    """Take over another reviewer's verdicts and notes, from a copy of the run or its verdicts.jsonl. Hold the lock."""
    folder = other if other.is_dir() else other.parent
    name = VERDICTS if other.is_dir() else other.name
    if not (folder / name).is_file():
        hint = "Give another copy of the run folder, or its verdicts.jsonl."
        raise SgError(f"There are no verdicts at {other}.", hint, exit_code=2)
    ids = {row.id for row in job.run.read(CANDIDATES, Candidate)}
    mine, theirs = job.run.read(VERDICTS, Verdict), Run(folder).read(name, Verdict)
    found = review.merge(mine, theirs, ids)
    notes = review.missing_notes(job.run.read(NOTES, Note), Run(folder).read(NOTES, Note), ids)
    job.run.append(VERDICTS, found.rows)
    job.run.append(NOTES, notes)
    return Merged(found, len(notes), review.agreements(mine, theirs, ids, job.task.labels))


def conflict_rows(job: OpenRun, found: Merge) -> tuple[ConflictRow, ...]:
    """The conflicts of a merge as people read them."""
    rows = {row.id: (number, row) for number, row in enumerate(job.run.read(CANDIDATES, Candidate), 1)}
    return tuple(
        ConflictRow(rows[c.id][0], c.id, rows[c.id][1].input, review.opinion(c.mine), review.opinion(c.theirs))
        for c in found.conflicts
    )


def merge_summary(done: Merged, conflicts: tuple[ConflictRow, ...]) -> MergeSummary:
    """A merge with its conflicts, for programs."""
    found = done.merge
    return MergeSummary(found.taken, found.agreed, found.known, found.unknown, done.n_notes, conflicts, done.agreements)


def reviewed(job: OpenRun, judge: str) -> Reviewed:
    """How far the review is, and every row of it. The run is only read."""
    state = job_review.open_state(job, judge)
    rows = tuple(_row(state, row) for row in state.rows)
    judged = [row for row in state.rows if review.is_judged(state, row)]
    accepted = sum(review.is_kept(state, row) for row in judged)
    return Reviewed(
        run=job.run.name,
        open=job_review.n_open(state),
        accepted=accepted,
        rejected=len(judged) - accepted,
        kept=sum(review.is_kept(state, row) for row in state.rows),
        seconds=job_review.seconds(job),
        rows=rows,
    )


def _row(state: ReviewState, row: review.ReviewRow) -> ReviewedRow:
    verdict = state.verdicts.get(row.id)
    text = review.text_of(state, row)
    return ReviewedRow(
        row=row.number,
        id=row.id,
        input=text[0],
        output=text[1],
        judged=review.decision(state, row),
        judge="" if verdict is None else verdict.judge,
        reason="" if verdict is None else verdict.reason,
        edited=review.is_edited(state, row),
        notes=dict(state.notes.get(row.id, {})),
        filters=row.kept,
        rule=row.rule,
        scores=row.scores,
    )
