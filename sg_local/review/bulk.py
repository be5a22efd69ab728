"""Many rows judged at once: which ones, shown first, then yes or no."""

from __future__ import annotations

from collections.abc import Sequence

from sg_local.personal import kinds
from sg_local.review.judging import judged, misfit_of, onward, verdict_on
from sg_local.review.moving import PAGE, scrolled
from sg_local.review.rows import ReviewRow, n_rows
from sg_local.review.state import ReviewState, describe, is_judged, text_of, visible

SCROLLING = {"up": -1, "k": -1, "down": 1, "j": 1, "page_up": -PAGE, "page_down": PAGE, "space": PAGE}


def ask_all(state: ReviewState, keep: bool) -> ReviewState:
    """Ask about all open rows of the view; rows that may not be accepted stay open."""
    rows = [row for row in _open_rows(state) if not (keep and misfit_of(state, row))]
    if not rows:
        return state.but(message="No open row in this view.")
    verb = "Accept" if keep else "Reject"
    where = f" ({describe(state.view)})" if describe(state.view) else ""
    return _ask(
        state, keep, rows, f"{verb} {'all ' if len(rows) > 1 else ''}{n_rows(len(rows), 'open')}{where}? y or n"
    )


def ask_surest(state: ReviewState) -> ReviewState:
    """Ask about the open rows of the view that nothing speaks against, the surest first.

    A sample is judged row by row: what it says of the other rows would not hold otherwise.
    """
    if state.sample:
        return state.but(message="The rows of a sample are judged one by one.")
    rows = sorted((row for row in _open_rows(state) if _is_sure(state, row)), key=lambda row: row.signals.doubt)
    if not rows:
        return state.but(message="No open row of this view is beyond doubt.")
    return _ask(state, True, rows, f"Accept the {n_rows(len(rows), 'surest')}? y or n")


def confirmed(state: ReviewState, key: str) -> ReviewState:
    """One key at the question: y judges, scrolling looks through the rows, anything else means no."""
    if key in SCROLLING:
        return scrolled(state, SCROLLING[key]).but(message=state.question)
    keep, ids = state.bulk
    if key != "y":
        return state.but(mode="cards", scroll=0, message="Nothing changed.")
    chosen = set(ids)
    reason = f"all that match {describe(state.view)}".strip() if not keep else ""
    verdicts = [verdict_on(state, row, keep, reason) for row in state.rows if row.id in chosen]
    after = onward(state, judged(state, verdicts))
    verb = "Accepted" if keep else "Rejected"
    return after.but(mode="cards", scroll=0, message=f"{verb} {n_rows(len(verdicts))}; u takes that back.")


def _ask(state: ReviewState, keep: bool, rows: Sequence[ReviewRow], question: str) -> ReviewState:
    ids = tuple(row.id for row in rows)
    return state.but(mode="confirm", bulk=(keep, ids), question=question, message=question, scroll=0)


def _open_rows(state: ReviewState) -> list[ReviewRow]:
    return [row for row in visible(state) if not is_judged(state, row)]


def _is_sure(state: ReviewState, row: ReviewRow) -> bool:
    """True where the filters, the votes and the row's text give no reason to look."""
    texts = text_of(state, row)
    return row.kept and row.is_sure and not misfit_of(state, row) and not kinds(*texts) and not state.notes.get(row.id)
