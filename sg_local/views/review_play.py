"""Thresholds in play: what moving one of the filters' numbers would do to the rows."""

from __future__ import annotations

from sg_local.review import ReviewState
from sg_local.views.records import PlayView
from sg_local.views.review_words import MEANINGS, STALE


def play_view(state: ReviewState) -> PlayView:
    """What the screen shows while a threshold moves."""
    pairs = zip(state.thresholds, state.saved, strict=False)
    shown = tuple((now.name, f"{now.value:g}", f"{was.value:g}") for now, was in pairs)
    before = {row.id: row.kept for row in state.rows}
    now = before if state.play is None else {**before, **state.play.keep}
    beside = (state.play.below, state.play.above) if state.play is not None else ({}, {})
    return PlayView(
        thresholds=shown,
        selected=state.selected,
        kept_before=sum(before.values()),
        kept_now=None if state.play is None else sum(now.values()),
        kept_beside=(sum(beside[0].values()), sum(beside[1].values())) if all(beside) else None,
        meaning=MEANINGS.get(state.thresholds[state.selected].name, ""),
        labels=_balance(state, before, now),
        edge=_edge(state, before, now),
        note=STALE if now != before and state.thresholds == state.saved else "",
    )


def _balance(state: ReviewState, before: dict[str, bool], now: dict[str, bool]) -> tuple[tuple[str, int, int], ...]:
    """Rows past the filters for each label: before, and now."""
    ids = {label: [row.id for row in state.rows if row.output == label] for label in state.labels}
    return tuple((label, sum(before[id] for id in of), sum(now[id] for id in of)) for label, of in ids.items())


def _edge(state: ReviewState, before: dict[str, bool], now: dict[str, bool]) -> tuple[tuple[str, str], ...]:
    """The rows that change now, then those that one more step either way would change."""
    edge = [("+" if now[row.id] else "-", row) for row in state.rows if now[row.id] != before[row.id]]
    if state.play is not None:
        for row in state.rows:
            others = {step[row.id] for step in (state.play.below, state.play.above) if row.id in step}
            if now[row.id] == before[row.id] and (not now[row.id]) in others:
                edge.append((">" if now[row.id] else "<", row))
    return tuple((sign, f"#{row.number} {row.input} -> {row.output}") for sign, row in edge)
