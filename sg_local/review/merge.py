"""Two reviewers' journals into one: what only the other judged is taken over, what both judged alike is counted,
and where they differ the own verdict stays in force and is marked as a conflict until somebody decides again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from sg_local.records import Verdict
from sg_local.review.history import FILTERS, WITHDRAWN, Note, notes_of, person_verdicts
from sg_local.review.state import MERGED


@dataclass(frozen=True)
class Conflict:
    """A row that two people judged differently."""

    id: str
    mine: Verdict
    theirs: Verdict


@dataclass(frozen=True)
class Merge:
    """What a merge does: rows to append, and the counts that tell of it. `unknown` rows are not in this run."""

    rows: tuple[Verdict, ...]
    taken: int
    agreed: int
    known: int
    unknown: int
    conflicts: tuple[Conflict, ...]


def merge(mine: Iterable[Verdict], theirs: Iterable[Verdict], ids: Collection[str]) -> Merge:
    """Merge another journal into this one. Merging the same journal again changes nothing."""
    mine = list(mine)
    have = {_opinion(row) for row in mine if row.judge != FILTERS}
    own, other = person_verdicts(mine), person_verdicts(theirs)
    fresh = {id: row for id, row in other.items() if id in ids and _opinion(row) not in have}
    new = {id: row for id, row in fresh.items() if id not in own}
    both = {id: row for id, row in fresh.items() if id in own}
    conflicts = tuple(Conflict(id, own[id], row) for id, row in both.items() if _content(own[id]) != _content(row))
    rows = [replace(row, step=0) for row in new.values()]
    for conflict in conflicts:
        rows += [replace(conflict.theirs, step=0), _marked(conflict)]
    return Merge(
        rows=tuple(rows),
        taken=len(new),
        agreed=len(both) - len(conflicts),
        known=sum(id in ids for id in other) - len(fresh),
        unknown=sum(id not in ids for id in other),
        conflicts=conflicts,
    )


def missing_notes(mine: Iterable[Note], theirs: Iterable[Note], ids: Collection[str]) -> tuple[Note, ...]:
    """Each person's last note of another journal, on rows of this one, where it never stood here; an empty one where
    they took theirs away. So a note that was changed or deleted here does not come back from an older copy."""
    mine = list(mine)
    have, here = {(note.id, note.judge, note.text) for note in mine}, notes_of(mine)
    last = {(note.id, note.judge): note.text for note in theirs}
    return tuple(
        Note(id, judge, text)
        for (id, judge), text in last.items()
        if id in ids and (id, judge, text) not in have and text != here.get(id, {}).get(judge, "")
    )


def conflicts(verdicts: dict[str, Verdict]) -> tuple[str, ...]:
    """Ids in conflict that nobody has decided since."""
    return tuple(id for id, verdict in verdicts.items() if verdict.rule == MERGED)


def opinion(verdict: Verdict) -> str:
    """A verdict in a few words."""
    reason = f" ({verdict.reason})" if verdict.reason else ""
    if not verdict.keep:
        return f"{verdict.judge} rejected it{reason}"
    output = "" if verdict.output is None else f" as {' '.join(verdict.output.split())[:30]}"
    edited = " with another input" if verdict.input is not None else ""
    return f"{verdict.judge} kept it{output}{edited}{reason}"


def _marked(conflict: Conflict) -> Verdict:
    return replace(conflict.mine, rule=MERGED, reason=opinion(conflict.theirs), step=0)


def _content(verdict: Verdict) -> tuple[object, ...]:
    return verdict.keep, verdict.input, verdict.output


def _opinion(verdict: Verdict) -> tuple[object, ...]:
    return verdict.judge, verdict.id, verdict.rule == WITHDRAWN, *_content(verdict)
