"""What a review comes to, in words: how far it is, and what a random sample says of all rows."""

from __future__ import annotations

from sg_local import review
from sg_local.review import ReviewState
from sg_local.words import counted


def end_sentence(state: ReviewState) -> str:
    """How far the review is."""
    judged = [row for row in state.rows if review.is_judged(state, row)]
    accepted = sum(review.is_kept(state, row) for row in judged)
    kept = sum(review.is_kept(state, row) for row in state.rows)
    return (
        f"{review.n_rows(len(judged))} judged: {accepted} accepted, {len(judged) - accepted} rejected. "
        f"{review.n_rows(kept)} would be trained on."
    )


def sample_sentence(state: ReviewState) -> str:
    """What the sample says; nothing of a bound while rows of it are open: they may be the bad ones."""
    result = sample_of(state)
    n_open = len(state.sample) - (0 if result is None else result.n)
    if result is None or n_open:
        return f"{counted(n_open, 'row', 'are')} still open in the sample: the bound is stated once all are judged."
    return f"{result.bad} of {result.n} sampled rows {'was' if result.bad == 1 else 'were'} bad. {_meaning(result)}"


def _meaning(result: review.SampleResult) -> str:
    """What a judged sample says about the rows outside it."""
    if not result.rest:
        return "That was every row that passed the filters."
    return (
        f"With 95 % confidence at most {result.bound:.1%} of all {result.n + result.rest} rows that passed the filters "
        f"are bad: of the {result.rest} outside the sample, at most {result.at_most}."
    )


def sample_lines(state: ReviewState) -> tuple[str, ...]:
    """Where the sample stands, and what it says so far."""
    result = sample_of(state) if state.sample else None
    if result is None:
        return ()
    lines = (f"{result.bad} bad of {result.n} judged", f"at most {result.bound:.1%} bad (95%)")
    return lines if result.n == len(state.sample) else (*lines[:1], "bound: at the end")


def sample_of(state: ReviewState) -> review.SampleResult | None:
    """The sample so far: a row is bad unless it was accepted as it stood. None before the first judgement."""
    chosen = set(state.sample)
    judged = [row for row in state.rows if row.id in chosen and review.is_judged(state, row)]
    if not judged:
        return None
    bad = sum(not review.is_kept(state, row) or review.is_edited(state, row) for row in judged)
    rest = sum(row.kept for row in state.rows) - len(state.sample)
    return review.sample_result(len(judged), bad, max(0, rest))
