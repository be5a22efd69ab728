"""From the state of a review to what its screen shows: words and numbers, no drawing."""

from __future__ import annotations

import math
from collections import Counter

from sg_local import personal, review
from sg_local.records import LABELLED, Candidate
from sg_local.review import Pace, ReviewRow, ReviewState
from sg_local.views.records import CardView, ReviewView
from sg_local.views.review_end import pace_lines, sample_lines
from sg_local.views.review_play import play_view
from sg_local.views.review_words import HELP, KEYS, LEGEND, PROMPTS, SOURCES
from sg_local.words import brief, counted

PREVIEWED = 200
N_EXAMPLES = 5


def view_of(
    state: ReviewState, title: str, funnel: tuple[tuple[str, int], ...], pace: Pace | None = None
) -> ReviewView:
    """The screen for a state. `funnel` holds the counts from before the review; `pace` is that of this sitting.

    Progress, funnel and labels count the whole review, or the whole sample; the position alone is one in the view.
    """
    rows = review.visible(state)
    at = next((i for i, row in enumerate(rows, 1) if row.id == state.cursor), 0)
    kept = [row for row in state.rows if review.is_kept(state, row)]
    counts = Counter(review.text_of(state, row)[1] for row in kept)
    conditions = review.describe(state.view) if not state.sample else "sample"
    order = "" if state.view.order == "file" else review.ORDER_WORDS[state.view.order]
    scope = review.counted_rows(state)
    judged = sum(review.is_judged(state, row) for row in scope)
    return ReviewView(
        title=title,
        position=f"{at or chr(0x2013)} of {len(rows)}",
        conditions=" | ".join(filter(None, (conditions, order))),
        card=_card(state) if rows else None,
        progress=_progress(state, scope),
        judged=(judged, len(scope)),
        pace=pace_lines(pace, len(scope) - judged),
        funnel=(*funnel, ("kept now", len(kept))),
        labels=tuple((label, counts[label]) for label in state.labels),
        mode=state.mode,
        keys=_keys(state),
        message=state.message,
        prompt=PROMPTS.get(state.mode, ""),
        buffer=state.buffer,
        caret=state.caret,
        edits=state.edits,
        scroll=state.scroll,
        find=state.view.text,
        menu=_menu(state),
        heading=_heading(state),
        page=_page(state),
        play=play_view(state) if state.mode == "thresholds" else None,
        sample=sample_lines(state),
    )


def _keys(state: ReviewState) -> tuple[tuple[str, str], ...]:
    """The keys of the mode; over cards with labels, the digits too."""
    keys = KEYS[state.mode]
    if state.mode != "cards" or not state.labels:
        return keys
    n = min(9, len(state.labels))
    return (*keys[:2], (f"1-{n}", "label"), *keys[2:])


def _progress(state: ReviewState, scope: list[ReviewRow]) -> tuple[tuple[str, int], ...]:
    judged = [row for row in scope if review.is_judged(state, row)]
    accepted = sum(review.is_kept(state, row) for row in judged)
    counts = [("accepted", accepted), ("rejected", len(judged) - accepted)]
    counts.append(("edited", sum(review.is_edited(state, row) for row in judged)))
    conflicts = sum(review.in_conflict(state, row) for row in judged)
    return tuple([*counts, ("in conflict", conflicts)] if conflicts else counts)


def _card(state: ReviewState) -> CardView | None:
    row = review.current(state)
    if row is None:
        return None
    candidate = row.candidate
    texts = review.text_of(state, row)
    is_labelled = candidate.source == LABELLED
    return CardView(
        number=row.number,
        id=row.id,
        decision=review.decision(state, row),
        who=_who(state, row),
        input=texts[0],
        output=texts[1],
        edited=tuple(
            name
            for name, now, before in zip(("input", "output"), texts, (row.input, row.output), strict=True)
            if now != before
        ),
        votes=tuple(sorted(candidate.votes.items(), key=lambda item: -item[1])) if not is_labelled else (),
        n_samples=candidate.n_samples,
        labels=_labels(row) if state.labels and not is_labelled else (),
        scores=tuple((one.label, one.share, one.ways) for one in row.scores),
        asked=_asked(row) if not state.labels else "",
        rule=row.rule,
        reason="" if row.kept or row.filters is None else row.filters.reason,
        neighbour=_neighbour(state, row),
        doubts=row.signals.words(),
        facts=_facts(candidate) if not is_labelled else ("input and output as given",),
        notes=tuple(state.notes.get(row.id, {}).items()),
        source=SOURCES.get(candidate.source, ""),
        personal=tuple(dict.fromkeys((one.kind, one.text) for text in texts for one in personal.found(text))),
    )


def _facts(candidate: Candidate) -> tuple[str, ...]:
    """How long the model's answer is, and how sure it was, where its engine told."""
    if not candidate.n_tokens:
        return ()
    sure = math.exp(min(0.0, candidate.logprob / candidate.n_tokens))
    told = (f"{sure:.0%} sure of each, on average",) if candidate.logprob else ()
    return (counted(candidate.n_tokens, "token"), *told)


def _who(state: ReviewState, row: ReviewRow) -> str:
    verdict = state.verdicts.get(row.id)
    if verdict is None:
        return "the filters keep it" if row.kept else "the filters reject it"
    if review.in_conflict(state, row):
        did = "kept" if verdict.keep else "rejected"
        return f"{verdict.judge} {did} it, {verdict.reason}"
    return f"by {verdict.judge}" + (f": {verdict.reason}" if verdict.reason else "")


def _labels(row: ReviewRow) -> tuple[tuple[str, str], ...]:
    """The label, where asking and voting agree on it; else what each way says, and what is trained on."""
    asked, voted = row.candidate.label_asked, brief(row.candidate.output, 24)
    if asked == voted == row.output:
        return (("asked for, and what most votes say", row.output),)
    found = (("asked for", asked or ""), ("most votes", voted), ("trains as", row.output))
    return tuple((how, label) for how, label in found if label)


def _asked(row: ReviewRow) -> str:
    """The text that the input was written for, where the output is another one."""
    asked = row.candidate.label_asked or ""
    return "" if asked == row.output else brief(asked)


def _neighbour(state: ReviewState, row: ReviewRow) -> tuple[int, float, tuple[tuple[str, bool], ...]] | None:
    if row.signals.neighbour is None or row.signals.similarity < 0.25:
        return None
    other = next(one for one in state.rows if one.id == row.signals.neighbour)
    apart = review.words_apart(review.text_of(state, row)[0], review.text_of(state, other)[0])
    return other.number, row.signals.similarity, tuple(apart)


def _menu(state: ReviewState) -> tuple[tuple[str, str, str], ...]:
    if state.mode == "help":
        return HELP
    if state.mode == "reason":
        reasons = tuple((str(i), reason, "") for i, reason in enumerate(review.REASONS, 1))
        return (*reasons, ("o", "another reason", ""))
    if state.mode == "filter":
        return _filter_menu(state)
    return ()


def _filter_menu(state: ReviewState) -> tuple[tuple[str, str, str], ...]:
    view = state.view
    return (
        ("s", "by the filters", view.show),
        ("j", "judged by people", view.judged),
        *((("l", "label", view.label or "any"),) if state.labels else ()),
        ("w", "rejected by rule", view.rule or "any"),
        ("v", "votes for the answer", "any" if view.max_votes is None else f"at most {view.max_votes:.0%}"),
        ("p", "personal data", "likely" if view.personal else "any"),
        ("n", "note", "with one" if view.noted else "any"),
        ("c", "clear", ""),
    )


def _heading(state: ReviewState) -> str:
    """What stands above a menu or a page."""
    if state.mode == "reason" and state.about is not None:
        return f"#{review.number_of(state, state.about)} is rejected. Why? Or just go on."
    if state.mode == "confirm":
        return review.n_rows(len(state.bulk[1]))
    return {"help": "Keys", "filter": "Show which rows?", "task": "The task"}.get(state.mode, "")


def _page(state: ReviewState) -> tuple[tuple[str, str], ...]:
    """Headings with their texts: the task, the rows in question, or what a card's lines say."""
    if state.mode == "task":
        return _task(state)
    if state.mode == "confirm":
        by_id = {row.id: row for row in state.rows}
        rows = [by_id[id] for id in state.bulk[1]]
        lines = [
            (f"#{row.number}", " \u2192 ".join(map(brief, review.text_of(state, row)))) for row in rows[:PREVIEWED]
        ]
        more = len(rows) - PREVIEWED
        return (*lines, ("", f"and {more} more")) if more > 0 else tuple(lines)
    return LEGEND if state.mode == "help" else ()


def _task(state: ReviewState) -> tuple[tuple[str, str], ...]:
    """The instruction, where labels mean something in it, too; the labels with their digits; some examples."""
    digits = [f"{i if i < 10 else ' '} {label}" for i, label in enumerate(state.labels, 1)]
    examples = [f"{brief(pair.input)} \u2192 {brief(pair.output)}" for pair in state.examples[:N_EXAMPLES]]
    pages = (
        ("asks", state.instruction),
        ("labels", "\n".join(digits)),
        ("schema", state.schema),
        ("examples", "\n".join(examples)),
    )
    return tuple((heading, text) for heading, text in pages if text)


def greeting(state: ReviewState) -> str:
    """What the first screen says: how much is left, and where help is."""
    rows = review.visible(state)
    n_open = sum(not review.is_judged(state, row) for row in rows)
    if not rows:
        return ""
    if n_open == 0:
        return "Every row of this view is judged. f shows others, q ends the review."
    begun = n_open < len(rows)
    still = f"{'is' if n_open == 1 else 'are'} {'still ' if begun else ''}open"
    n_personal = sum(bool(personal.kinds(*review.text_of(state, row))) for row in rows)
    likely = f" {n_personal} with likely personal data: f p shows them." if n_personal else ""
    return f"{n_open} of {review.n_rows(len(rows))} {still}. a accepts, r rejects, ? shows all keys.{likely}"
