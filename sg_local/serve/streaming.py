"""Server-sent events as they are written, and work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sg_local.serve.api import ApiError
from sg_local.serve.choices import Choice
from sg_local.serve.completions import ChatReply, TextReply
from sg_local.serve.replies import Answer, sse
from sg_local.serve.responses import ResponseReply

T = TypeVar("T")
Written = AsyncGenerator[tuple[int, str | Answer]]
"""(choice, piece of text) as it is written, and (choice, answer) as each one ends."""


async def begun(http: Request, events: Written) -> Written:
    """The events, once the first has come: what is wrong before that is told by the status."""
    first = await unless_gone(http, anext(events))

    async def all_of_them() -> Written:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    return all_of_them()


async def chunks(events: Written, choices: Sequence[Choice], reply: ChatReply | TextReply) -> AsyncGenerator[str]:
    """The chunks of a stream; a fault after its beginning is its last event."""
    answers: dict[int, Answer] = {}
    begun: set[int] = set()
    try:
        async with aclosing(events):
            async for index, what in events:
                if index not in begun and (first := reply.begin(index)):
                    yield sse(first)
                begun.add(index)
                if isinstance(what, Answer):
                    answers[index] = what
                    if what.tokens is not None:
                        yield sse(reply.more(index, "", what.tokens))
                    yield sse(reply.end(index, what))
                else:
                    yield sse(reply.more(index, what))
        if choices[0].options.include_usage:
            yield sse(reply.usage([answers[i] for i in range(len(choices))]))
    except ApiError as error:
        yield sse(error.body())
        return
    yield sse("[DONE]")


async def response_events(events: Written, reply: ResponseReply) -> AsyncGenerator[str]:
    """The events of a streamed response."""
    try:
        for kind, data in reply.begin():
            yield sse(data, kind)
        async with aclosing(events):
            async for _, what in events:
                for kind, data in [reply.more(what)] if isinstance(what, str) else reply.end(what):
                    yield sse(data, kind)
    except ApiError as error:
        yield sse({"type": "error", "code": error.code, "message": error.message, "param": error.param}, "error")


class Events(StreamingResponse):
    """Server-sent events; when the client leaves, they end at once."""

    def __init__(self, chunks: AsyncGenerator[str]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._chunks):
            await super().__call__(scope, receive, send)


async def unless_gone(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled when the client leaves."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await task
    except asyncio.CancelledError:
        if watcher.done():
            raise ApiError("The client has left.", status=499) from None
        raise
    finally:
        watcher.cancel()
        task.cancel()
