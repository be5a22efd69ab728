"""OpenAI's /v1/responses for plain text: bodies to chat requests, answers to response objects and their events.

Nothing is stored, so an earlier response cannot be referred to; a conversation comes with its turns.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from sg_local.serve.api import ApiError, Bounds, check_fields, read_options, schema_of, text
from sg_local.serve.completions import ChatRequest, Message, read_messages
from sg_local.serve.replies import Answer

FIELDS = frozenset("model input instructions max_output_tokens temperature top_p seed stop stream text".split())


def read_response(body: dict[str, Any], bounds: Bounds) -> ChatRequest:
    """A checked request, as the chat request that it comes to."""
    check_fields(body, FIELDS)
    shape = body.get("text") or {}
    if not isinstance(shape, dict) or set(shape) - {"format", "verbosity"}:
        raise ApiError("text must be an object with a format.", param="text")
    schema = schema_of(shape.get("format"), bounds.limits, "text.format")
    options = read_options(body, bounds, schema=schema, tokens_field="max_output_tokens")
    told = text(body, "instructions")
    first: tuple[Message, ...] = ({"role": "system", "content": told},) if told else ()
    return ChatRequest(options, first + _input(body.get("input")))


def _input(given: Any) -> tuple[Message, ...]:
    if isinstance(given, str):
        return ({"role": "user", "content": given},)
    for i, item in enumerate(given if isinstance(given, list) else ()):
        if isinstance(item, dict) and item.get("type", "message") != "message":
            raise ApiError(f"input[{i}] is not a message; only text is supported.", param=f"input[{i}]")
    return read_messages(given, "input")


class ResponseReply:
    """The objects and events of one response."""

    def __init__(self, model: str, request: ChatRequest) -> None:
        self._model, self._sampling = model, request.options.sampling
        self._id, self._item = f"resp_{secrets.token_hex(16)}", f"msg_{secrets.token_hex(16)}"
        self._created = time.time()
        self._count = 0

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The response, complete."""
        cut = answer.finish == "length"
        counts = {
            "input_tokens": answer.n_prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.n_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.n_prompt_tokens + answer.n_tokens,
        }
        details = {"reason": "max_output_tokens"} if cut else None
        status = "incomplete" if cut else "completed"
        item = self._message(status, [_part(answer.text)])
        return self._response(status, [item], usage=counts, incomplete_details=details)

    def begin(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events before the first text."""
        begun = self._response("in_progress", [])
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        yield self._event("response.output_item.added", output_index=0, item=self._message("in_progress", []))
        yield self._event("response.content_part.added", **self._place, part=_part(""))

    def more(self, text: str) -> tuple[str, dict[str, Any]]:
        """The next piece of text."""
        return self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def end(self, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events after the last text."""
        done = self.whole(answer)
        yield self._event("response.output_text.done", **self._place, text=answer.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=_part(answer.text))
        yield self._event("response.output_item.done", output_index=0, item=done["output"][0])
        yield self._event(f"response.{done['status']}", response=done)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        self._count += 1
        return kind, {"type": kind, "sequence_number": self._count - 1, **fields}

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._model,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "temperature": self._sampling.temperature,
            "top_p": self._sampling.top_p,
            "tool_choice": "none",
            "tools": [],
            "usage": None,
            "store": False,
        }
        return {**plain, **more}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
