"""From the state of a review to what its screen shows: words and numbers, no drawing."""

from __future__ import annotations

from collections import Counter

from sg_local import personal, review
from sg_local.records import EARLIER, LABELLED, OWN
from sg_local.review import ReviewRow, ReviewState
from sg_local.views.records import CardView, PlayView, ReviewView
from sg_local.views.review_end import sample_lines
from sg_local.words import brief, counted

KEYS = {
    "cards": (
        ("a", "accept"),
        ("r", "reject"),
        ("?", "keys"),
        ("q", "quit"),
        ("u", "undo"),
        ("e", "edit"),
        ("space", "skip"),
        ("f", "filter"),
        ("o", "order"),
        ("/", "search"),
        ("b", "back"),
        ("A/R", "all"),
        ("g", "jump"),
        ("t", "thresholds"),
        ("i", "edit input"),
        ("E", "in $EDITOR"),
        ("G", "regenerate"),
    ),
    "reason": (("1-5", "the reason"), ("enter", "no reason"), ("o", "another"), ("esc", "do not reject")),
    "reason_text": (("enter", "reject"), ("esc", "do not reject")),
    "edit": (("enter", "save"), ("esc", "leave it"), ("ctrl-j", "new line"), ("ctrl-u", "clear to the left")),
    "search": (("enter", "keep the search"), ("esc", "back to where it began")),
    "jump": (("enter", "go"), ("esc", "stay")),
    "filter": (("letter", "next value"), ("c", "clear"), ("enter", "done")),
    "confirm": (("y", "yes"), ("any other key", "no")),
    "thresholds": (
        ("up/down", "choose"),
        ("left/right", "move"),
        ("enter", "save"),
        ("esc", "leave as it was"),
        ("page down", "more rows"),
    ),
    "help": (("any key", "back"),),
}
HELP = (
    ("a enter", "accept", "and go to the next open row"),
    ("r", "reject", "then a digit for the reason"),
    ("1-9", "relabel", "and accept (classification)"),
    ("e i", "edit", "output, input: here"),
    ("E", "edit", "both in $EDITOR"),
    ("u", "undo", "without limit, ever"),
    ("space b", "skip, back", "arrows too; home and end"),
    ("g", "jump", "to a row by its number"),
    ("/", "search", "rows with this text"),
    ("f", "filter", "by label, rule, personal data, ..."),
    ("o", "order", "most doubtful first, ..."),
    ("A R", "all", "accept, reject all rows shown"),
    ("G", "regenerate", "another answer of the model"),
    ("t", "thresholds", "move one and see what it does"),
    ("up down", "scroll", "a long card"),
    ("esc", "reset", "show all kept rows again"),
    ("q", "quit", "the next time goes on here"),
)
MEANINGS = {
    "grounding.threshold": "how much less of an output than of the examples' may stand in its input",
    "input_length.sigmas": "inputs this many deviations around the examples' length",
    "input_length.widest": "inputs at least this many times shorter or longer",
    "output_length.sigmas": "outputs this many deviations around the examples' length",
    "output_length.widest": "outputs at least this many times shorter or longer",
    "copied_example.threshold": "reject inputs this much like an example",
    "near_duplicate.threshold": "reject inputs this much like an earlier one",
    "vote_share.threshold": "reject below this share of equal votes",
    "agreement.threshold": "outputs this much alike agree",
    "relevance.threshold": "nats a token that the input must add to its output",
    "balance.ratio": "rows of a label, at most this times the rarest label's",
    "balance.at_least": "rows of a label that balance leaves in any case",
}
"""What each threshold of the filters means, by its setting's name."""

SOURCES = {
    OWN: "own input",
    LABELLED: "own labelled row",
    EARLIER: "written for an earlier version of the task",
}
"""Whose row it is, by its source."""

STALE = "The rows were filtered by other rules: with these numbers as they are, filtering again changes them."
PROMPTS = {"search": "Search:", "jump": "Row number:", "reason_text": "Reason:"}


def view_of(state: ReviewState, title: str, funnel: tuple[tuple[str, int], ...]) -> ReviewView:
    """The screen for a state. `funnel` holds the counts from before the review."""
    rows = review.visible(state)
    at = next((i for i, row in enumerate(rows, 1) if row.id == state.cursor), 0)
    kept = [row for row in state.rows if review.is_kept(state, row)]
    counts = Counter(review.text_of(state, row)[1] for row in kept)
    conditions = review.describe(state.view) if not state.sample else "sample"
    order = "" if state.view.order == "file" else review.ORDER_WORDS[state.view.order]
    return ReviewView(
        title=title,
        position=f"{at or chr(0x2013)} of {len(rows)}",
        conditions=" | ".join(filter(None, (conditions, order))),
        card=_card(state) if rows else None,
        progress=_progress(state),
        judged=(sum(review.is_judged(state, row) for row in rows), len(rows)),
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
        play=_play(state) if state.mode == "thresholds" else None,
        sample=sample_lines(state),
    )


def _keys(state: ReviewState) -> tuple[tuple[str, str], ...]:
    """The keys of the mode; over cards with labels, the digits too."""
    keys = KEYS[state.mode]
    if state.mode != "cards" or not state.labels:
        return keys
    n = min(9, len(state.labels))
    return (*keys[:2], (f"1-{n}", "label"), *keys[2:])


def _progress(state: ReviewState) -> tuple[tuple[str, int], ...]:
    judged = [row for row in state.rows if review.is_judged(state, row)]
    accepted = sum(review.is_kept(state, row) for row in judged)
    counts = [("accepted", accepted), ("rejected", len(judged) - accepted)]
    counts.append(("edited", sum(review.is_edited(state, row) for row in judged)))
    conflicts = sum(review.in_conflict(state, row) for row in state.rows)
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
        decision=_decision(state, row),
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
        asked=_asked(row) if not state.labels else "",
        rule=row.rule,
        reason="" if row.kept or row.filters is None else row.filters.reason,
        neighbour=_neighbour(state, row),
        doubts=row.signals.words(),
        facts=(
            counted(candidate.n_tokens, "token"),
            f"log p {candidate.logprob / max(1, candidate.n_tokens):.2f}",
            f"seed {candidate.seed}",
        )
        if not is_labelled
        else ("input and output as given",),
        source=SOURCES.get(candidate.source, ""),
        personal=tuple(dict.fromkeys((one.kind, one.text) for text in texts for one in personal.found(text))),
    )


def _decision(state: ReviewState, row: ReviewRow) -> str:
    if review.in_conflict(state, row):
        return "conflict"
    if not review.is_judged(state, row):
        return "open"
    return "accepted" if review.is_kept(state, row) else "rejected"


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
        return (("asked and voted alike", row.output),)
    found = (("asked", asked or ""), ("voted", voted), ("trains as", row.output))
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
        return (*reasons, ("enter", "no reason", ""), ("o", "another reason", ""))
    if state.mode == "filter":
        view = state.view
        votes = "any" if view.max_votes is None else f"at most {view.max_votes:.0%}"
        return (
            ("s", "by the filters", view.show),
            ("j", "judged by people", view.judged),
            *((("l", "label", view.label or "any"),) if state.labels else ()),
            ("w", "rejected by rule", view.rule or "any"),
            ("v", "votes for the answer", votes),
            ("p", "personal data", "likely" if view.personal else "any"),
            ("c", "clear", ""),
        )
    return ()


def _play(state: ReviewState) -> PlayView:
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
