"""What is asked of the engine for one input, and how its reply becomes an answer.

A task's input gets the very prompt that training and evaluation use, and its answer the same room. A classification
task answers with the likeliest label, as its evaluation measures it; any other answer is free text, greedy unless told
otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sg_local import prompts
from sg_local.backends import EngineSettings, Generator
from sg_local.backends.session import Lane
from sg_local.calibration import UNFITTED, Calibration
from sg_local.prompts import Form, Room
from sg_local.records import Completion, Prompt, Sampling, Score, ScoredPrompt, Segment, Segments, SgError, Task

if TYPE_CHECKING:
    from sg_local.serve.ensemble import Labeller

Ask = Prompt | ScoredPrompt


@dataclass(frozen=True)
class Chosen(Completion):
    """The likeliest of several continuations, and log P of each, in nats, in the order asked."""

    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class ServeSettings:
    """How a task is answered.

    `n_ctx` is the context of one request in tokens, at most what the engine was opened
    with; `max_tokens` bounds new tokens where a request does not, and a task's answer always. `restricted`: a
    classification task answers with one of its labels, and one with a schema with JSON that fits it, whatever the model
    would rather write.
    """

    n_ctx: int = EngineSettings.n_ctx
    max_tokens: int = prompts.MAX_TOKENS
    restricted: bool = True


@dataclass(frozen=True)
class Service:
    """What answers under a name. `task` and `form` wrap a bare user message; without them it goes through `chat`.

    `chat` is the model's chat form, or None where it has none. A fused file carries its task in its own template,
    so it is served without `task`. `calibration` makes probabilities of label scores, and a label less probable than
    `abstain` is answered as "unsure" (0: never). `adapter` is what the engine answers with, if anything, and `version`
    tells apart what its file held at different times; a base served for a task has one as well, and so a lane whose
    beginnings are kept. `settings` are its own lengths (None: the server's). With a
    `labeller` the task's labels are chosen by ensemble, and nothing else is answered.
    """

    name: str
    chat: Form | None
    task: Task | None = None
    form: Form | None = None
    calibration: Calibration = UNFITTED
    abstain: float = 0.0
    adapter: Path | None = None
    version: str = ""
    settings: ServeSettings | None = None
    labeller: Labeller | None = None

    @functools.cached_property
    def lane(self) -> Lane | None:
        """Where the engine answers for it; None: as the engine stands."""
        if self.adapter is None and not self.version:
            return None
        heads: tuple[Segments, ...] = ()
        if self.task is not None and self.form is not None:
            heads = prompts.answer_heads(self.task, self.form)
        return Lane(self.adapter, self.version if self.adapter else "", heads)


def is_scored(task: Task, settings: ServeSettings) -> bool:
    """Whether a task's answers are chosen among its labels instead of written."""
    return settings.restricted and bool(task.labels)


def task_ask(
    generator: Generator,
    task: Task,
    form: Form,
    text: str,
    settings: ServeSettings,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    id: str = "",
) -> Ask:
    """The question whose answer is the task's output for `text`. Raises SgError when it does not fit the context.

    An answer is at most as long as the evaluation lets it be; a request may ask for less.
    """
    room = answer_room(generator, task, settings)
    segments = prompts.fitted_answer(room, task, form, text).segments
    return task_asked(room, task, form, segments, settings, sampling=sampling, seed=seed, id=id)


def task_asked(
    room: Room,
    task: Task,
    form: Form,
    segments: Segments,
    settings: ServeSettings,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    id: str = "",
) -> Ask:
    """The question for a task's answer behind a prompt that fits this room."""
    if is_scored(task, settings):
        labels = tuple(prompts.answer_text(form, label) for label in task.labels)
        heads = prompts.answer_heads(task, form)
        return ScoredPrompt(id, segments, labels, end=True, ending=form.end, settled=True, heads=heads)
    sampling = sampling or Sampling(max_tokens=room.n_new)
    asked = dataclasses.replace(
        sampling,
        max_tokens=min(sampling.max_tokens, room.n_new),
        stop=(*sampling.stop, *prompts.answer_stops(task, form)),
        schema=sampling.schema or (task.schema if settings.restricted else "") or None,
    )
    return Prompt(id, segments, asked, seed, settled=True)


def answer_room(generator: Generator, task: Task, settings: ServeSettings) -> Room:
    """The room of a task's prompt and its answer."""
    n_ctx = min(settings.n_ctx, generator.info.n_ctx_train)
    return prompts.answer_room(generator.tokenize, task, n_ctx, settings.max_tokens)


def check_room(generator: Generator, segments: Segments, n_ctx: int) -> None:
    """SgError when a prompt leaves no room for a new token."""
    n_tokens = len(generator.tokenize(segments))
    if n_tokens >= n_ctx:
        message = f"The prompt has {n_tokens} tokens, and the context holds {n_ctx}."
        raise SgError(message, "Shorten it, or raise `engine.n_ctx`.")


def chosen(generator: Generator, ask: ScoredPrompt, score: Score) -> Chosen:
    """The likeliest continuation as a completion; ties go to the first."""
    logprob = max(score.logprobs)
    text = ask.continuations[score.logprobs.index(logprob)]
    n_tokens = len(generator.tokenize((Segment(text, trusted=False),), bos=False)) + ask.end
    n_prompt = len(generator.tokenize(ask.segments))
    return Chosen(ask.id, text.strip(), "stop", n_prompt, n_tokens, logprob, score.logprobs)
