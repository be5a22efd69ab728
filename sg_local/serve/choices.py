"""One choice of an answer: its text as it is told, and what the engine's result makes of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.backends.session import Ended, Token
from sg_local.calibration import UNSURE
from sg_local.parsing import THOUGHTS
from sg_local.records import Score, ScoredPrompt, Segment
from sg_local.serve.answers import Ask, Service
from sg_local.serve.api import RequestOptions
from sg_local.serve.ensemble import Reading
from sg_local.serve.replies import Answer
from sg_local.serve.worker import Result

NEVER = -9999.0
"""OpenAI's log P of what never happens: JSON has no infinity."""
MARKS = tuple(mark for pair in THOUGHTS for mark in pair)


@dataclass
class Choice:
    """One choice on its way: how to ask for it, which prompt it answers, its number there, and the ask once built.

    `for_task`: its text is read as the task's answer, which is chosen among labels where it is `scored`. `echo`: the
    prompt stands in front of what is written, if anything is (`writes`). A `reading`, which all choices of a prompt
    share, has the questions of labels by ensemble, `build` the first of them.
    """

    build: Callable[[Generator], Ask]
    options: RequestOptions
    service: Service
    prompt: int = 0
    number: int = 0
    for_task: bool = False
    scored: bool = False
    echo: bool = False
    writes: bool = True
    reading: Reading | None = None
    asked: Ask | None = None

    def built(self, generator: Generator) -> Ask:
        """The ask, remembered."""
        self.asked = self.build(generator)
        return self.asked


@dataclass
class Stream:
    """A choice's text as it is told: of a task's answer only what parsing will leave as it is."""

    choice: Choice
    raw: str = ""
    told: str = ""

    def more(self, piece: str) -> str:
        """What is certain with this piece and was not told before."""
        self.raw += piece
        return self._advance(self._certain())

    def rest(self, text: str) -> str:
        """What is left to tell of the whole text."""
        return self._advance(text)

    def _advance(self, text: str) -> str:
        if not text.startswith(self.told):
            return ""
        fresh, self.told = text[len(self.told) :], text
        return fresh

    def _certain(self) -> str:
        if not self.choice.for_task:
            return self.raw
        task, form = self.choice.service.task, self.choice.service.form
        assert task is not None and form is not None
        start = self.raw.lstrip().lower()
        if task.labels or start.startswith("`") or "output:".startswith(start[: len("output:")]):
            return self.told
        if any(mark in self.raw for mark in MARKS):
            return self.told
        text = prompts.parse_output(task, self.raw, form.lead)
        n_held = max((_overlap(text, mark) for mark in MARKS), default=0)
        return text[: len(text) - n_held].rstrip()


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end could begin the mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


def answer_of(choice: Choice, result: Result, generator: Generator) -> Answer:
    """A choice's answer."""
    if isinstance(result, Ended):
        return _written_answer(choice, result)
    assert isinstance(choice.asked, ScoredPrompt)
    return _label_answer(choice, choice.asked, result, generator)


def _written_answer(choice: Choice, ended: Ended) -> Answer:
    completion = ended.completion
    text = completion.text
    if choice.for_task and choice.service.task is not None and choice.service.form is not None:
        text = prompts.parse_output(choice.service.task, text, choice.service.form.lead)
    finish = "stop" if completion.finish == "stop" else "length"
    if choice.echo:
        return _echoed(choice, ended, finish)
    tokens = None if choice.options.n_top is None else _kept(ended.tokens, completion.text)
    return Answer(text, finish, completion.n_prompt_tokens, completion.n_tokens, tokens, choice.prompt)


def _echoed(choice: Choice, ended: Ended, finish: str) -> Answer:
    """The prompt as its tokens have it, and what was written behind it."""
    completion = ended.completion
    n = completion.n_prompt_tokens
    read = ended.tokens[:n]
    text = b"".join(token.data for token in read).decode("utf-8", "replace")
    tokens = read if choice.options.n_top is not None else None
    if not choice.writes:
        return Answer(text, "length", n, 0, tokens, choice.prompt)
    if tokens is not None:
        tokens = (*read, *_kept(ended.tokens[n:], completion.text))
    return Answer(text + completion.text, finish, n, completion.n_tokens, tokens, choice.prompt)


def _kept(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens that the text is made of: those of a stop string are cut off with it."""
    kept, size = [], len(text.encode("utf-8", "replace"))
    for token in tokens:
        if size <= 0 and token.data:
            break
        kept.append(token)
        size -= len(token.data)
    return tuple(kept)


def _label_answer(choice: Choice, ask: ScoredPrompt, score: Score, generator: Generator) -> Answer:
    """The likeliest label, or one that is drawn where a temperature was asked for."""
    service, options = choice.service, choice.options
    assert service.task is not None
    labels = service.task.labels
    likely, shifted = service.calibration.probabilities(score.logprobs), service.calibration.shifted(score.logprobs)
    index = shifted.index(max(shifted))
    if options.sampling.temperature > 0:
        index = _drawn(likely, options.sampling.temperature, options.seed + choice.number)
    text = labels[index]
    if service.abstain and max(likely) < service.abstain:
        text = UNSURE
    for stop in options.sampling.stop:
        text = text.partition(stop)[0]
    tokens = None if options.n_top is None else (_label_token(labels, likely, index, options.n_top),)
    n_prompt = len(generator.tokenize(ask.segments))
    n_new = len(generator.tokenize((Segment(ask.continuations[index], trusted=False),), bos=False)) + ask.end
    return Answer(text, "stop", n_prompt, n_new, tokens, choice.prompt)


def _drawn(likely: Sequence[float], temperature: float, seed: int) -> int:
    weights = [share ** (1 / temperature) for share in likely]
    return random.Random(seed).choices(range(len(likely)), weights)[0]


def _label_token(labels: Sequence[str], likely: Sequence[float], index: int, n_top: int) -> Token:
    """A label as one token; log P given that the answer is one of the labels."""
    logs = [math.log(share) if share > 0 else NEVER for share in likely]
    order = sorted(range(len(labels)), key=lambda i: -logs[i])[:n_top]
    return Token(labels[index].encode(), logs[index], tuple((labels[i].encode(), logs[i]) for i in order))
