"""`POST /v1/systemone`: a decision request read, matched with the served runs, and answered in the wire's form.

A run answers the question whose criteria are its labels, with calibrated probabilities or by ensemble. Any other
question goes to the untuned base with labels by ensemble: how likely the label is after the state and, for few labels,
how likely the state is after the label, both less what they are for inputs that say nothing. Such an answer is marked:
`x_model` says who answered, `x_calibrated` whether its probabilities were fitted. Nothing here knows of HTTP or of
threads: a Scorer asks the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.calibration import UNFITTED, Calibration, mean_scores
from sg_local.decisions import Question, Request, Unfit, read_request, said
from sg_local.prompts import Form
from sg_local.records import ScoredPrompt, Segment, SgError, Task
from sg_local.serve.answers import ServeSettings, check_room
from sg_local.serve.api import ApiError
from sg_local.serve.batch import Answerer
from sg_local.serve.ensemble import Build, Heads, Labeller, together

BASE = "base"
HOSTED = "jev-"
"""How the hosted model's names begin: such a name stands for whatever is served, so that only the address changes."""
MOST_CHANNELLED = 8
"""Options up to which the state is read behind each of them, too."""
UNTUNED = 2.0
"""The temperature of the base's guesses, which nothing fits: it lowered the Brier score of two shipped tasks by 7 %."""
CONTENT_FREE = ("N/A", "[MASK]")
"""Inputs without content, over which a label's mean score is its prior (arXiv 2102.09690)."""


class Scorer(Protocol):
    """Asks an engine for log P of each continuation, with a run's adapter or, where `run` is None, with the base."""

    async def __call__(self, build: Build, heads: Heads = (), *, run: str | None) -> Sequence[float]: ...


@dataclass(frozen=True)
class Decider:
    """A served run, as decisions see it: its task, its prompt form, and what makes probabilities of its scores.

    An answer less probable than `abstain` is marked as unsure; a `labeller` gives the scores of labels by ensemble.
    """

    name: str
    task: Task
    form: Form
    calibration: Calibration = UNFITTED
    settings: ServeSettings = ServeSettings()
    abstain: float = 0.0
    labeller: Labeller | None = None


@dataclass(frozen=True)
class Deciders:
    """All that a server has for decisions: its runs, and the form and lengths in which the base is asked."""

    runs: tuple[Decider, ...]
    form: Form
    settings: ServeSettings = ServeSettings()


class Misread(ApiError):
    """A refusal in both shapes that clients read: OpenAI's `error`, and the decision API's `detail`."""

    def __init__(self, message: str, *, status: int = 422, place: Sequence[str] = (), code: str | None = None) -> None:
        super().__init__(message, status=status, param=".".join(place) or None, code=code)
        self.place = tuple(place)

    def body(self) -> dict[str, Any]:
        """OpenAI's error object, and what is wrong where."""
        if self.status == 422:
            detail: Any = [{"loc": ["body", *self.place], "msg": self.message, "type": "value_error"}]
        else:
            detail = {"error_type": self.code or "invalid_request_error", "message": self.message}
        return {**super().body(), "detail": detail}


def read(body: dict[str, Any]) -> Request:
    """A checked request. Raises Misread (422)."""
    try:
        return read_request(body)
    except Unfit as wrong:
        place = ".".join(wrong.place)
        raise Misread(f"{place}: {wrong.message}.", place=wrong.place) from wrong


def unread(error: ApiError) -> Misread:
    """A body that could not be read at all, told in both shapes."""
    return Misread(error.message, status=422 if error.status == 400 else error.status, code=error.code)


def told(name: str, created: int, *, is_tuned: bool) -> dict[str, str]:
    """A served model as clients of decision APIs list it; `created` is a Unix time."""
    what = "A tuned run." if is_tuned else "The untuned base." if name == BASE else "The untuned base on this task."
    day = datetime.datetime.fromtimestamp(created, datetime.UTC).date()
    return {"name": name, "description": what, "release_date": day.isoformat()}


def candidates(request: Request, deciders: Deciders) -> tuple[Decider, ...]:
    """The runs that may answer: the one that is named, all for a hosted model's name or none, none for the base.

    Raises Misread (404) for another name.
    """
    if not request.model or request.model.startswith(HOSTED):
        return deciders.runs
    if request.model == BASE:
        return ()
    found = tuple(run for run in deciders.runs if run.name == request.model)
    if not found:
        known = ", ".join((*(run.name for run in deciders.runs), BASE))
        message = f"There is no model {request.model!r} here; there is: {known}."
        raise Misread(message, status=404, place=("model",), code="model_not_found")
    return found


def matched(question: Question, runs: Sequence[Decider], *, named: bool = False) -> Decider | None:
    """The run whose labels are the question's criteria; of several the one that was made for these instructions.

    A run is made for instructions that its own begin with, as `tasks new --from` writes them. Every statement has the
    labels yes and no: its run must be made for its instructions, unless the run was `named`.
    """
    wanted = {option.strip() for option in question.options}
    alike = [run for run in runs if set(run.task.labels) == wanted]
    asked = prompts.normalise(question.instructions)
    begins = [f"{prompts.normalise(run.task.instruction)} ".startswith(f"{asked} ") for run in alike]
    made_for_it = [run for run, is_so in zip(alike, begins, strict=True) if asked and is_so]
    if made_for_it:
        return made_for_it[0]
    return alike[0] if alike and (named or question.kind != "noul") else None


@dataclass
class OpenQuestion:
    """One question under way. `n_tokens` counts its prompt's tokens once that is built."""

    question: Question
    state: str
    n_tokens: int = 0
    x: dict[str, Any] = field(default_factory=dict)

    def counted(self, build: Build) -> Build:
        """The same, its prompt's tokens counted."""

        def build_it(generator: Generator) -> ScoredPrompt:
            ask = build(generator)
            self.n_tokens = len(generator.tokenize(ask.segments))
            return ask

        return build_it

    async def by_run(self, run: Decider, scorer: Scorer) -> tuple[float, ...]:
        """The probability of each option by a run."""
        scores: Sequence[float]
        if run.labeller is not None:
            reading = run.labeller.reading(self.state)
            builds = [self.counted(reading.builds[0]), *reading.builds[1:]]
            scores = await reading.scores(partial(scorer, run=run.name), builds)
        else:
            asked = partial(_direct, task=run.task, form=run.form, text=self.state, settings=run.settings)
            scores = await scorer(self.counted(asked), run=run.name)
        found = dict(zip(run.task.labels, run.calibration.probabilities(scores), strict=True))
        likely = tuple(found[option.strip()] for option in self.question.options)
        self.x = {"x_model": run.name, "x_calibrated": run.calibration.n > 0}
        if run.abstain:
            self.x["x_unsure"] = max(likely) < run.abstain
        if run.labeller is not None:
            self.x["x_labels"] = "ensemble"
        return likely

    async def by_base(self, deciders: Deciders, scorer: Scorer) -> tuple[float, ...]:
        """The probability of each option by the base, labels by ensemble."""
        options, form, state = self.question.options, deciders.form, self.state.strip()
        task = Task("decision", "classification", self.question.told, (), options)
        shorter = tuple(
            dataclasses.replace(task, instruction=one) for one in (self.question.named, self.question.asked)
        )
        channels = options if len(options) <= MOST_CHANNELLED and state else ()

        def direct(text: str) -> Build:
            return lambda generator: _fitting(generator, (task, *shorter), form, text, deciders.settings)

        def channel(option: str) -> Build:
            return lambda generator: _channel(generator, task, option, (state, *CONTENT_FREE), deciders.settings)

        asks = [self.counted(direct(state)), *map(direct, CONTENT_FREE), *map(channel, channels)]
        found = await together(scorer(build, run=None) for build in asks)
        states, behind = found[: 1 + len(CONTENT_FREE)], found[1 + len(CONTENT_FREE) :]
        channel_of = [[row[k] for row in behind] or [0.0] * len(options) for k in range(len(states))]
        sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(states, channel_of, strict=True)]
        self.x = {"x_model": BASE, "x_calibrated": False, "x_labels": "ensemble" if behind else "direct"}
        return Calibration(mean_scores(sums[1:]), UNTUNED).probabilities(sums[0])


async def decide(request: Request, deciders: Deciders, scorer: Scorer) -> dict[str, Any]:
    """The answer to a request, all its questions asked together. Raises Misread, and what the scorer raises."""
    runs = candidates(request, deciders)
    named = len(runs) == 1 and runs[0].name == request.model
    open_questions = [OpenQuestion(question, request.state) for question in request.questions]

    async def answer(one: OpenQuestion) -> tuple[float, ...]:
        run = matched(one.question, runs, named=named)
        return await (one.by_base(deciders, scorer) if run is None else one.by_run(run, scorer))

    try:
        found = await together(map(answer, open_questions))
    except prompts.TooLong as error:
        message = f"{error.message} Send a shorter state."
        raise Misread(message, status=413, place=("state",), code="context_length_exceeded") from error
    answers = {
        one.question.id: {**said(one.question, likely), **one.x}
        for one, likely in zip(open_questions, found, strict=True)
    }
    usage = {"input_tokens": sum(one.n_tokens for one in open_questions), "output_tokens": 0}
    return {"model": _who(open_questions), "answers": answers, "usage": usage}


def _fitting(
    generator: Generator, tasks: Sequence[Task], form: Form, text: str, settings: ServeSettings
) -> ScoredPrompt:
    """The first of several wordings that leaves room for its answer. Raises TooLong where even the last does not.

    Its scores are one part of a sum, so that a near tie among them decides nothing.
    """
    for task in tasks[:-1]:
        with contextlib.suppress(prompts.TooLong):
            return dataclasses.replace(_direct(generator, task, form, text, settings), settled=False)
    return dataclasses.replace(_direct(generator, tasks[-1], form, text, settings), settled=False)


def _direct(generator: Generator, task: Task, form: Form, text: str, settings: ServeSettings) -> ScoredPrompt:
    """The labels after a state, asked as predict asks them. Raises TooLong."""
    ask = Answerer(generator, task, form, dataclasses.replace(settings, restricted=True)).ask(text, id="")
    assert isinstance(ask, ScoredPrompt), "labels are scored"
    return ask


def _channel(
    generator: Generator, task: Task, option: str, texts: Sequence[str], settings: ServeSettings
) -> ScoredPrompt:
    """Inputs after an option, in a list that gives outputs first. Raises TooLong."""
    text = f"{task.instruction}\n\nOutput: {option.strip()}\nInput:"
    segments = (Segment(text, trusted=False),)
    try:
        check_room(generator, (*segments, Segment(texts[0], trusted=False)), settings.n_ctx)
    except SgError as error:
        raise prompts.TooLong(error.message, error.hint) from error
    return ScoredPrompt("", segments, tuple(prompts.PLAIN.lead + one for one in texts))


def _who(open_questions: Sequence[OpenQuestion]) -> str:
    """Who answered: the one run that did, else the base, else all by name."""
    names = dict.fromkeys(str(one.x["x_model"]) for one in open_questions)
    return "+".join(names)
