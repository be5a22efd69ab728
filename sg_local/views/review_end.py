"""What a review comes to, in words: how far it is, how long the rest takes, a sample's bound, how far people agree."""

from __future__ import annotations

from sg_local import review
from sg_local.review import Agreement, Pace, ReviewState
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


def pace_lines(pace: Pace | None, n_open: int) -> tuple[str, ...]:
    """How long a row takes, and about how long the open ones will; nothing before it can be told."""
    seconds = None if pace is None else pace.seconds
    if seconds is None:
        return ()
    shown = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return (f"{shown} s a row", f"{_about(seconds * n_open)} left") if n_open else (f"{shown} s a row",)


def _about(seconds: float) -> str:
    """A time to come, no finer than it can be known: <1 min, 14 min, 1 h 10 min."""
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min" if minutes else "<1 min"
    hours, rest = divmod(round(minutes, -1), 60)
    return f"{hours} h {rest:02d} min"


def agreement_lines(agreements: tuple[Agreement, ...]) -> tuple[str, ...]:
    """How far reviewers agree, a sentence for each two."""
    return tuple(map(_agreement, agreements)) or (
        "No row was judged by two people on their own, so agreement cannot be computed.",
    )


def _agreement(found: Agreement) -> str:
    one, other = found.judges
    alike = f"{one} and {other} both judged {review.n_rows(found.n)} on their own, {found.alike} alike"
    alike += f" ({found.alike / found.n:.0%})."
    if found.kappa is None:
        return f"{alike} Cohen's kappa needs rows of more than one outcome."
    return (
        f"{alike} Cohen's kappa {found.kappa:.2f} (95 % interval {found.low:.2f} to {found.high:.2f}): "
        "1 is full agreement, 0 is chance."
    )
