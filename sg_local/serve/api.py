"""OpenAI's request and answer shapes: JSON bodies to requests, completions to JSON, errors with their status.

Covers chat and text completions with one choice for each prompt. What would change an answer and is not covered
(tools, log-probabilities, several choices, response formats) is refused, never ignored.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sg_local.reading import loads
from sg_local.records import Completion, Sampling

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NOT_COVERED = ("tools", "functions", "tool_choice", "logprobs", "top_logprobs", "logit_bias", "audio", "suffix", "echo")
MAX_STOPS = 4


class ApiError(Exception):
    """A refusal: HTTP status, a message, and the request's field that is to blame."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class RequestOptions:
    """What chat and text requests share, checked. `seed` is drawn where the client gives none."""

    model: str | None
    sampling: Sampling
    seed: int
    stream: bool
    include_usage: bool


@dataclass(frozen=True)
class ChatRequest:
    """A chat request. `messages` holds role and content as text, at least one."""

    options: RequestOptions
    messages: tuple[dict[str, str], ...]

    @property
    def bare(self) -> str | None:
        """The text of a single user message, or None for any other conversation."""
        return self.messages[0]["content"] if [m["role"] for m in self.messages] == ["user"] else None


@dataclass(frozen=True)
class TextRequest:
    """A text completion request: prompts to go on with."""

    options: RequestOptions
    prompts: tuple[str, ...]


def read_body(data: bytes) -> dict[str, Any]:
    """A request's body as JSON. Raises ApiError for anything that is not an object."""
    try:
        body = loads(data)
    except ValueError as error:
        raise ApiError(f"The body is not JSON ({error}).") from error
    if not isinstance(body, dict):
        raise ApiError("The body must be a JSON object.")
    return body


def read_chat(body: dict[str, Any], max_tokens: int) -> ChatRequest:
    """A checked chat request; `max_tokens` where it names no limit of its own."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError("messages must be a list of at least one message.", param="messages")
    read = tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages))
    return ChatRequest(_options(body, max_tokens), read)


def read_text(body: dict[str, Any], max_tokens: int) -> TextRequest:
    """A checked text completion request; `max_tokens` where it names no limit of its own."""
    prompt = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(text, str) for text in prompts):
        raise ApiError("prompt must be a string or a list of strings.", param="prompt")
    return TextRequest(_options(body, max_tokens), tuple(prompts))


def chat_answer(model: str, completion: Completion) -> dict[str, Any]:
    """A chat.completion object."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": completion.text},
        "logprobs": None,
        "finish_reason": _finish(completion),
    }
    return {**_head("chat.completion", model), "choices": [choice], "usage": usage([completion])}


def chat_chunks(model: str, completion: Completion, *, include_usage: bool) -> list[dict[str, Any]]:
    """The chat.completion.chunk objects of one completion: role, content, end, and usage where asked for."""
    head = _head("chat.completion.chunk", model)
    deltas = [({"role": "assistant", "content": ""}, None), ({"content": completion.text}, None)]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in [*deltas, ({}, _finish(completion))]
    ]
    return [*chunks, *([{**head, "choices": [], "usage": usage([completion])}] if include_usage else [])]


def text_answer(model: str, completions: Sequence[Completion]) -> dict[str, Any]:
    """A text_completion object with a choice for each prompt, in order."""
    choices = [_text_choice(i, completion, _finish(completion)) for i, completion in enumerate(completions)]
    return {**_head("text_completion", model), "choices": choices, "usage": usage(completions)}


def text_chunks(model: str, completions: Sequence[Completion], *, include_usage: bool) -> list[dict[str, Any]]:
    """The text_completion chunks of a request: one for each prompt, and usage where asked for."""
    head = _head("text_completion", model)
    chunks = [{**head, "choices": [_text_choice(i, one, _finish(one))]} for i, one in enumerate(completions)]
    return [*chunks, *([{**head, "choices": [], "usage": usage(completions)}] if include_usage else [])]


def model_list(model: str, created: int) -> dict[str, Any]:
    """The list object of /v1/models."""
    return {"object": "list", "data": [{"id": model, "object": "model", "created": created, "owned_by": "sg-local"}]}


def usage(completions: Sequence[Completion]) -> dict[str, int]:
    """Token counts over all choices."""
    n_prompt, n_new = sum(c.n_prompt_tokens for c in completions), sum(c.n_tokens for c in completions)
    return {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}


def _head(kind: str, model: str) -> dict[str, Any]:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


def _text_choice(index: int, completion: Completion, finish: str) -> dict[str, Any]:
    return {"index": index, "text": completion.text, "logprobs": None, "finish_reason": finish}


def _finish(completion: Completion) -> str:
    return "stop" if completion.finish == "stop" else "length"


def _message(message: Any, where: str) -> dict[str, str]:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise ApiError(f"{where} needs a role: {', '.join(ROLES)}.", param=where)
    content = message.get("content")
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if len(texts) != len(content):
            raise ApiError(f"{where} holds a part that is not text; only text is covered.", param=where)
        content = "".join(texts)
    if not isinstance(content, str):
        raise ApiError(f"{where} needs content as text.", param=where)
    return {"role": ROLES[role], "content": content}


def _options(body: dict[str, Any], max_tokens: int) -> RequestOptions:
    _check_covered(body)
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ApiError("model must be a string.", param="model")
    asked = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    sampling = Sampling(
        temperature=_number(body, "temperature", 0.0, (0.0, 2.0)),
        top_p=_number(body, "top_p", 1.0, (0.0, 1.0)),
        max_tokens=_whole(body, asked, max_tokens, (1, 2**31 - 1)),
        stop=_stops(body.get("stop")),
    )
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ApiError("stream_options must be an object.", param="stream_options")
    seed = _whole(body, "seed", secrets.randbelow(2**31 - 1), (-(2**63), 2**63 - 1))
    return RequestOptions(
        model, sampling, seed % (2**31 - 1) + 1, bool(body.get("stream")), bool(options.get("include_usage"))
    )


def _check_covered(body: dict[str, Any]) -> None:
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ApiError("The body holds half of a surrogate pair, which is no character.") from error
    for name in NOT_COVERED:
        if body.get(name):
            raise ApiError(f"{name} is not covered by this server.", param=name, code="unsupported_parameter")
    if body.get("n") not in (None, 1) or body.get("best_of") not in (None, 1):
        raise ApiError("Only one choice for each prompt is covered.", param="n", code="unsupported_parameter")
    if (body.get("response_format") or {"type": "text"}) != {"type": "text"}:
        message = "Only the text response format is covered."
        raise ApiError(message, param="response_format", code="unsupported_parameter")


def _number(body: dict[str, Any], name: str, default: float, bounds: tuple[float, float]) -> float:
    value = body.get(name)
    if value is None:
        return default
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ApiError(f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


def _whole(body: dict[str, Any], name: str, default: int, bounds: tuple[int, int]) -> int:
    value = body.get(name)
    if value is None:
        return default
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ApiError(f"{name} must be a whole number of at least {low}.", param=name)
    return value


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise ApiError(f"stop must be a string or a list of at most {MAX_STOPS} strings.", param="stop")
    return tuple(stops)
