"""The review of a job's rows: opened from the journals, kept, sampled, stamped; and what the state machine asks a model
or the filters for: another answer, the outcome of moved thresholds, filtering again.
"""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Any

from sg_local import filters, prompts, review
from sg_local.filters import FilterSettings
from sg_local.job.filter import refilter
from sg_local.job.job import OpenRun
from sg_local.job.plan import flat
from sg_local.reading import read_record
from sg_local.records import Candidate, Prompt, Sampling, SgError, Verdict, seed_of
from sg_local.review import MovableThreshold, Note, ReviewState, View
from sg_local.run import CANDIDATES, NOTES, VERDICTS, MadeOtherwise

PLACE = "review.json"


@dataclasses.dataclass(frozen=True)
class ReviewPlace:
    """Where the last sitting ended: the card's id, and the view. `seconds` is what all sittings took together."""

    view: View = View()
    cursor: str | None = None
    seconds: float = 0.0


REGENERATE_TEMPERATURE = 0.8
SLOW_S = 0.3
STEPS: dict[str, tuple[float, float, float]] = {
    "threshold": (0.05, 0.0, 1.0),
    "sigmas": (0.25, 0.0, 20.0),
    "widest": (0.5, 1.0, 20.0),
    "ratio": (0.25, 1.0, 20.0),
    "at_least": (1, 0, 1000),
}
"""(step, lowest, highest) of a filter setting by the last part of its name."""

LABELS_ONLY, LABELS_LEAVE_OUT = ("balance",), ("output_length", "agreement", "relevance", "grounding")
"""Groups of filter settings that only a classification looks at, and those that it does not."""


def check_judge(name: str) -> str:
    """A reviewer's name; SgError (usage) for the one that the filters use."""
    if name.strip() and name != filters.JUDGE:
        return name.strip()
    raise SgError(f"{name!r} cannot be a reviewer's name.", "Give another `judge`.", exit_code=2)


def open_state(job: OpenRun, judge: str) -> ReviewState:
    """The review of a job's run as its journals have it."""
    journal = job.run.read(VERDICTS, Verdict)
    rows, notes, task = rows_of(job, journal), job.run.read(NOTES, Note), job.task
    state = review.open_review(rows, journal, notes, labels=task.labels, schema=task.schema, judge=judge)
    return state.but(instruction=task.instruction, examples=task.examples)


def keep(job: OpenRun, state: ReviewState) -> ReviewState:
    """The state once what its last key made is on the disk. Hold the lock."""
    job.run.append(VERDICTS, state.new)
    job.run.append(NOTES, state.new_notes)
    return state.but(new=(), new_notes=())


def rows_of(job: OpenRun, journal: list[Verdict]) -> tuple[review.ReviewRow, ...]:
    """The run's candidates with the filters' last verdicts."""
    verdicts = {row.id: row for row in journal if row.judge == filters.JUDGE}
    return review.build_rows(job.run.read(CANDIDATES, Candidate), verdicts, job.task.labels)


def with_sample(state: ReviewState, n: int, seed: int) -> ReviewState:
    """The state over a random sample of the rows that the filters keep: the same one for the same seed and rows."""
    ids = [row.id for row in state.rows if row.kept]
    chosen = tuple(random.Random(seed).sample(ids, min(n, len(ids))))
    return review.settled(state.but(sample=chosen, cursor=None), state.view)


def is_finished(job: OpenRun) -> bool:
    """Whether people have said that they are done with the rows as they are."""
    try:
        return job.run.is_done("review", {}, (CANDIDATES,))
    except MadeOtherwise:  # of other rows
        return False


def n_open(state: ReviewState) -> int:
    """How many of the rows that would be trained on nobody has judged."""
    return sum(row.kept and not review.is_judged(state, row) for row in state.rows)


def seconds(job: OpenRun) -> float:
    """What all sittings took."""
    return _place(job).seconds


def note_time(job: OpenRun, seconds: float) -> None:
    """Add the time of a sitting."""
    place = _place(job)
    _keep_place(job, dataclasses.replace(place, seconds=round(place.seconds + seconds, 1)))
    job.worked = True


def finish(job: OpenRun, state: ReviewState) -> None:
    """Say in the run that people are done with its rows, and what they found. Hold the lock."""
    judged = [row for row in state.rows if review.is_judged(state, row)]
    kept = sum(review.is_kept(state, row) for row in judged)
    facts: dict[str, Any] = {"judged": len(judged), "accepted": kept, "rejected": len(judged) - kept}
    job.run.write_stamp("review", {}, (CANDIDATES,), seconds=_place(job).seconds, **facts)
    job.worked = True


def remember_place(job: OpenRun, state: ReviewState) -> None:
    """Keep the card and the view, so that the next sitting begins there; a sample always begins at its first card."""
    if not state.sample:
        _keep_place(job, dataclasses.replace(_place(job), view=state.view, cursor=state.cursor))


def at_last_card(job: OpenRun, state: ReviewState) -> ReviewState:
    """The state at the card and in the view where the last sitting ended."""
    if state.sample or not job.run.path(PLACE).exists():
        return state
    place = _place(job)
    found = state.but(view=place.view, cursor=place.cursor)
    return review.settled(found, found.view)


def _place(job: OpenRun) -> ReviewPlace:
    path = job.run.path(PLACE)
    if not path.exists():
        return ReviewPlace()
    return read_record(path, ReviewPlace, f"Delete {PLACE}: the review then begins at its first card.")


def _keep_place(job: OpenRun, place: ReviewPlace) -> None:
    job.run.write_json(PLACE, dataclasses.asdict(place))


# What the state machine asks for


def another_answer(job: OpenRun, row_id: str, text: str, n: int) -> str:
    """Another answer of the model for an input; `n` counts the answers asked for in this sitting."""
    settings, tokenize = job.plan["synth"], job.generator.tokenize
    n_ctx = min(settings.n_ctx, job.generator.info.n_ctx_train)
    room = prompts.answer_room(tokenize, job.task, n_ctx, settings.max_tokens, "synth")
    sampling = Sampling(
        temperature=REGENERATE_TEMPERATURE,
        max_tokens=room.n_new,
        stop=prompts.answer_stops(job.task, job.form),
    )
    seed = seed_of(row_id, "again", n, time.time_ns())
    prompt = Prompt(row_id, prompts.fitted_answer(room, job.task, job.form, text).segments, sampling, seed)
    return prompts.parse_output(job.task, next(iter(job.generator.generate([prompt]))).text, job.form.lead)


class Outcomes:
    """What the filters would say with other thresholds, each question asked once."""

    def __init__(self, job: OpenRun) -> None:
        self.job = job
        self.known: dict[tuple[MovableThreshold, ...], dict[str, bool]] = {}

    def play(self, state: ReviewState) -> review.Play:
        """The outcome with the thresholds as they are now and, where that is quick, one step either way."""
        began = time.monotonic()
        now = self.of(state, state.thresholds)
        sides: list[dict[str, bool]] = [{}, {}]
        if time.monotonic() - began < SLOW_S:
            chosen = state.selected
            for i, by in enumerate((-1, 1)):
                moved = list(state.thresholds)
                moved[chosen] = moved[chosen].moved(by)
                sides[i] = self.of(state, tuple(moved))
        return review.Play(now, *sides)

    def of(self, state: ReviewState, moved: tuple[MovableThreshold, ...]) -> dict[str, bool]:
        """Whether each row would be kept, by its id."""
        if moved not in self.known:
            candidates = [row.candidate for row in state.rows]
            settings = with_thresholds(self.job.plan["filter"], moved)
            verdicts, _ = filters.judge(candidates, self.job.task, settings)
            self.known[moved] = {verdict.id: verdict.keep for verdict in verdicts}
        return self.known[moved]


def save_thresholds(job: OpenRun, state: ReviewState) -> ReviewState:
    """Filter again with the moved thresholds, which the run remembers; the state over the new verdicts."""
    tables: dict[str, Any] = {}
    for now, was in zip(state.thresholds, state.saved, strict=True):
        if now != was:
            group, name = now.name.split(".")
            tables.setdefault(group, {})[name] = now.value
    refilter(job, tables)
    return review.reloaded(state, rows_of(job, job.run.read(VERDICTS, Verdict)))


def thresholds(settings: FilterSettings, has_labels: bool) -> tuple[MovableThreshold, ...]:
    """The numbers of the filters that a reviewer may move: those of the rules that are on and look at this kind."""
    found = []
    without = LABELS_LEAVE_OUT if has_labels else LABELS_ONLY
    for name, value in flat(settings, ""):
        group, _, last = name.removeprefix(".").partition(".")
        if last in STEPS and group not in without and getattr(settings, group).on:
            step, low, high = STEPS[last]
            found.append(MovableThreshold(f"{group}.{last}", value, step, low, high, whole=isinstance(value, int)))
    return tuple(found)


def with_thresholds(settings: FilterSettings, moved: tuple[MovableThreshold, ...]) -> FilterSettings:
    """Filter settings with these numbers."""
    for threshold in moved:
        group, name = threshold.name.split(".")
        rule = dataclasses.replace(getattr(settings, group), **{name: threshold.value})
        settings = dataclasses.replace(settings, **{group: rule})
    return settings
