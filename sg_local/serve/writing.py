"""From a checked request to its choices: what is asked of the engine, and what it says as it comes.

A task's answer is the one that `predict` gives for the same input: the likeliest label or greedy text, parsed alike. A
request may ask for more: other samplings, stops, several choices. Text is told as it is written, but for a label, which
comes whole, and for what parsing might still take away. A label by ensemble takes several questions to the engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.backends.session import Lane
from sg_local.parsing import trimmed
from sg_local.prompts import Room
from sg_local.records import Prompt, Score, Segments
from sg_local.serve.answers import Ask, ServeSettings, Service, answer_room, check_room, is_scored, task_asked
from sg_local.serve.api import ApiError, RequestOptions
from sg_local.serve.choices import Choice, Stream, answer_of
from sg_local.serve.completions import ChatRequest, TextRequest
from sg_local.serve.ensemble import Build, Heads
from sg_local.serve.replies import Answer
from sg_local.serve.worker import Order, Ticket, Worker

Event = tuple[int, str | Answer]


@dataclass(frozen=True)
class Made:
    """A prompt, and the room that it fits where the task answers; None: the model itself does."""

    segments: Segments
    room: Room | None = None


def chat_choices(service: Service, chat: ChatRequest, settings: ServeSettings) -> list[Choice]:
    """The choices of a chat request. Raises ApiError for what this service cannot honour."""
    for_task = service.task is not None and service.form is not None and prompts.is_asked(chat.messages)
    if for_task:
        _check_task(service, chat.options, settings)
    if service.labeller is not None:
        return _labelled_choices(service, chat, is_task=for_task)
    if not for_task and service.chat is None:
        message = "This model has no chat template: use /v1/completions, or a task's model."
        raise ApiError(message, param="messages")

    make = _task_prompt if for_task else _chat_prompt

    made: list[Made] = []

    def prompt(generator: Generator) -> Made:
        if not made:  # one prompt for all choices
            made.append(make(service, chat, settings, generator))
        return made[0]

    def build(number: int) -> Callable[[Generator], Ask]:
        return lambda generator: _ask(service, settings, chat.options, prompt(generator), number)

    scored = for_task and service.task is not None and is_scored(service.task, settings)
    return [
        Choice(build(i), chat.options, service, number=i, for_task=for_task, scored=scored)
        for i in range(chat.options.n)
    ]


def _labelled_choices(service: Service, chat: ChatRequest, *, is_task: bool) -> list[Choice]:
    """The choices of a label by ensemble: one reading of the message serves them all."""
    assert service.labeller is not None
    if not is_task or len(chat.messages) > 1:
        message = "This model answers with a label by ensemble: send a single user message, and nothing before it."
        raise ApiError(message, param="messages", code="unsupported_parameter")
    reading = service.labeller.reading(chat.messages[0]["content"])
    build, options = reading.builds[0], chat.options
    return [
        Choice(build, options, service, number=i, for_task=True, scored=True, reading=reading) for i in range(options.n)
    ]


def text_choices(service: Service, text: TextRequest, settings: ServeSettings) -> list[Choice]:
    """The choices of a text request: of each prompt in turn. Raises ApiError for a service that continues no text."""
    if service.labeller is not None:
        message = "This model answers with a label by ensemble and continues no text: use /v1/chat/completions."
        raise ApiError(message, param="prompt", code="unsupported_parameter")

    def build(segments: Segments, number: int) -> Callable[[Generator], Ask]:
        def built(generator: Generator) -> Ask:
            if segments[0].ids and not getattr(generator, "reads_ids", False):
                raise ApiError("This engine takes prompts as text only.", param="prompt")
            check_room(generator, segments, settings.n_ctx)
            return _ask(service, settings, text.options, Made(segments), number)

        return built

    return [
        Choice(build(prompt, number), text.options, service, i, number, echo=text.echo, writes=text.writes)
        for i, prompt in enumerate(text.prompts)
        for number in range(text.options.n)
    ]


def _check_task(service: Service, options: RequestOptions, settings: ServeSettings) -> None:
    """Raises ApiError for what a chosen label cannot honour."""
    assert service.task is not None
    if not is_scored(service.task, settings):
        return
    if options.sampling.schema is not None:
        message = "This model answers with one of its labels: no response format can be had."
        raise ApiError(message, param="response_format", code="unsupported_parameter")
    if options.sampling.penalises:
        message = "This model answers with one of its labels: there is nothing for penalties to act on."
        raise ApiError(message, param="frequency_penalty", code="unsupported_parameter")


def _task_prompt(service: Service, chat: ChatRequest, settings: ServeSettings, generator: Generator) -> Made:
    """The task's prompt: for a single message the very one of `predict`."""
    assert service.task is not None and service.form is not None
    room = answer_room(generator, service.task, settings)
    if len(chat.messages) > 1:
        return Made(prompts.fitted_conversation(room, service.task, service.form, chat.messages).segments, room)
    text = trimmed(chat.messages[0]["content"], (pair.input for pair in service.task.examples))
    return Made(prompts.fitted_answer(room, service.task, service.form, text).segments, room)


def _chat_prompt(service: Service, chat: ChatRequest, settings: ServeSettings, generator: Generator) -> Made:
    assert service.chat is not None
    segments = prompts.render(service.chat, chat.messages)
    check_room(generator, segments, settings.n_ctx)
    return Made(segments)


def _ask(service: Service, settings: ServeSettings, options: RequestOptions, made: Made, number: int) -> Ask:
    seed, sampling = options.seed + number, options.sampling
    if made.room is None:
        return Prompt("", made.segments, sampling, seed)
    assert service.task is not None and service.form is not None
    return task_asked(made.room, service.task, service.form, made.segments, settings, sampling=sampling, seed=seed)


async def written(worker: Worker, choices: Sequence[Choice], timeout_s: float) -> AsyncGenerator[Event]:
    """(choice, piece of text) as text is written, where a stream is asked for, and (choice, answer) as each one ends.

    However it is left, what has not ended is cancelled. Raises what the engine raises, and ApiError (408) when the time
    is over.
    """
    tell = _written if choices[0].reading is None else _labelled
    try:
        async with asyncio.timeout(timeout_s), aclosing(tell(worker, choices)) as events:
            async for event in events:
                yield event
    except TimeoutError as error:
        raise ApiError(f"The answer took longer than {timeout_s:g} s.", status=408, code="timeout") from error


async def _written(worker: Worker, choices: Sequence[Choice]) -> AsyncGenerator[Event]:
    """The choices that are one question each."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, str | Ticket]]()
    streams = [Stream(choice) for choice in choices]

    def tell(index: int, what: str | Ticket) -> None:
        loop.call_soon_threadsafe(events.put_nowait, (index, what))

    tickets = [_submit(worker, choice, functools.partial(tell, i)) for i, choice in enumerate(choices)]
    try:
        n_left = len(choices)
        while n_left:
            index, what = await events.get()
            if isinstance(what, str):
                if fresh := streams[index].more(what):
                    yield index, fresh
                continue
            n_left -= 1
            answer = answer_of(choices[index], what.result(0), worker.generator)
            if choices[index].options.stream and (rest := streams[index].rest(answer.text)):
                yield index, rest
            yield index, answer
    finally:
        for ticket in tickets:
            worker.cancel(ticket)


async def _labelled(worker: Worker, choices: Sequence[Choice]) -> AsyncGenerator[Event]:
    """The choices of a label by ensemble, all from one reading."""
    reading, lane = choices[0].reading, choices[0].service.lane
    assert reading is not None
    scores = await reading.scores(lambda build, heads: score(worker, build, lane, heads))
    for index, choice in enumerate(choices):
        choice.asked = reading.asks[0]
        answer = answer_of(choice, Score("", scores), worker.generator)
        if choice.options.stream and answer.text:
            yield index, answer.text
        yield index, answer


async def score(worker: Worker, build: Build, lane: Lane | None, heads: Heads = ()) -> tuple[float, ...]:
    """A scored ask's log P, in a lane of its own where it begins as these prompts do; left, it is cancelled."""
    if heads:
        lane = dataclasses.replace(lane or Lane(None), heads=heads)
    ticket = worker.submit(Order(build, lane))
    try:
        found = await asyncio.wrap_future(ticket.future)
    finally:
        worker.cancel(ticket)
    assert isinstance(found, Score)
    return found.logprobs


def _submit(worker: Worker, choice: Choice, tell: Callable[[str | Ticket], None]) -> Ticket:
    """Ask for one choice; pieces and the end are told on the loop."""
    wants_pieces = choice.options.stream and choice.options.n_top is None
    order = Order(
        choice.built,
        choice.service.lane,
        tell if wants_pieces else None,
        None if choice.scored else choice.options.n_top,
        choice.echo,
    )
    ticket = worker.submit(order)
    ticket.future.add_done_callback(lambda _: _quietly(tell, ticket))
    return ticket


def _quietly(tell: Callable[[Ticket], None], ticket: Ticket) -> None:
    """Tell the end; a loop that is closed has nobody to tell."""
    if not ticket.future.cancelled():
        try:
            tell(ticket)
        except RuntimeError:
            return
