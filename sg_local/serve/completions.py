"""OpenAI's chat and text completions: bodies to requests, answers to whole objects and to the chunks of a stream."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sg_local.backends.session import Token
from sg_local.records import Segment, Segments
from sg_local.serve.api import (
    COMMON,
    ApiError,
    Bounds,
    RequestOptions,
    check_fields,
    flag,
    read_options,
    schema_of,
    whole,
)
from sg_local.serve.replies import Answer, Head, usage

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
CHAT = COMMON | {"messages", "max_completion_tokens", "logprobs", "top_logprobs", "response_format"}
TEXT = COMMON | {"prompt", "logprobs", "echo"}
MOST_TOP = 20

Message = dict[str, str]


@dataclass(frozen=True)
class ChatRequest:
    """A chat request. `messages` holds role and content as text, at least one."""

    options: RequestOptions
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class TextRequest:
    """A text completion request: prompts to go on with, as texts or as token ids.

    `echo`: they stand in front of what is written, if anything is (`writes`).
    """

    options: RequestOptions
    prompts: tuple[Segments, ...]
    echo: bool = False
    writes: bool = True


def read_chat(body: dict[str, Any], bounds: Bounds) -> ChatRequest:
    """A checked chat request."""
    check_fields(body, CHAT)
    messages = read_messages(body.get("messages"), "messages")
    schema = schema_of(body.get("response_format"), bounds.limits, "response_format")
    field = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    options = read_options(body, bounds, schema=schema, tokens_field=field)
    n_top = whole(body, "top_logprobs", 0, (0, MOST_TOP))
    if n_top and not flag(body, "logprobs"):
        raise ApiError("top_logprobs goes with logprobs.", param="top_logprobs")
    return ChatRequest(dataclasses.replace(options, n_top=n_top if flag(body, "logprobs") else None), messages)


def read_text(body: dict[str, Any], bounds: Bounds) -> TextRequest:
    """A checked text completion request."""
    check_fields(body, TEXT)
    prompts, echo = read_prompts(body.get("prompt")), flag(body, "echo")
    writes = not (echo and body.get("max_tokens") == 0 and not isinstance(body["max_tokens"], bool))
    options = read_options(body if writes else {**body, "max_tokens": 1}, bounds)
    if echo and (options.stream or options.n > 1):
        raise ApiError("echo goes with neither stream nor n.", param="echo", code="unsupported_parameter")
    if len(prompts) * options.n > bounds.limits.prompts:
        raise ApiError(f"A request may ask for {bounds.limits.prompts} answers.", param="prompt")
    n_top = whole(body, "logprobs", -1, (0, MOST_TOP))
    return TextRequest(dataclasses.replace(options, n_top=None if n_top < 0 else n_top), prompts, echo, writes)


def read_prompts(prompt: Any) -> tuple[Segments, ...]:
    """The prompts of a text completion: a text, token ids, or a list of either."""
    listed = prompt if isinstance(prompt, list) and not _are_ids(prompt) else [prompt]
    found = tuple(_prompt(one) for one in listed)
    if not found:
        raise ApiError("prompt must hold at least one.", param="prompt")
    return found


def _prompt(one: Any) -> Segments:
    if isinstance(one, str):
        return (Segment(one, trusted=False),)
    if not _are_ids(one):
        raise ApiError("prompt must be text, token ids, or a list of either.", param="prompt")
    return (Segment("", trusted=False, ids=tuple(one)),)


def _are_ids(found: Any) -> bool:
    """Whether it is a list of token ids: whole numbers that a model may have."""
    if not isinstance(found, list) or not found:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in found)


def read_messages(messages: Any, where: str) -> tuple[Message, ...]:
    """A conversation of at least one message."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(f"{where} must be a list of at least one message.", param=where)
    return tuple(_message(message, f"{where}[{i}]") for i, message in enumerate(messages))


def _message(message: Any, where: str) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise ApiError(f"{where} needs a role: {', '.join(ROLES)}.", param=where)
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name):
            raise ApiError(f"{where} holds {name}; only text is covered.", param=where)
    content = message.get("content")
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if len(texts) != len(content):
            raise ApiError(f"{where} holds a part that is not text; only text is covered.", param=where)
        content = "".join(texts)
    if not isinstance(content, str):
        raise ApiError(f"{where} needs content as text.", param=where)
    return {"role": ROLES[role], "content": content}


class ChatReply:
    """The objects of a chat completion."""

    def __init__(self, model: str) -> None:
        self._whole = Head.new("chat.completion", model, "chatcmpl")
        self._chunk = dataclasses.replace(self._whole, kind="chat.completion.chunk")

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": _chat_logprobs(answer.tokens),
                "finish_reason": answer.finish,
            }
            for i, answer in enumerate(answers)
        ]
        return self._whole.of(choices=choices, usage=usage(answers))

    def begin(self, index: int) -> dict[str, Any]:
        """A choice's first chunk."""
        return self._choice(index, {"role": "assistant", "content": ""})

    def more(self, index: int, text: str, tokens: tuple[Token, ...] | None = None) -> dict[str, Any]:
        """A choice's next piece of text."""
        return self._choice(index, {"content": text}, _chat_logprobs(tokens))

    def end(self, index: int, answer: Answer) -> dict[str, Any]:
        """A choice's last chunk."""
        return self._choice(index, {}, finish=answer.finish)

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The chunk that counts tokens."""
        return self._chunk.of(choices=[], usage=usage(answers))

    def _choice(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._chunk.of(choices=[choice])


class TextReply:
    """The objects of a text completion."""

    def __init__(self, model: str) -> None:
        self._head = Head.new("text_completion", model, "cmpl")

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answer in one piece, a choice for each prompt and number, in order."""
        choices = [_text_choice(i, one.text, one.tokens, one.finish) for i, one in enumerate(answers)]
        return self._head.of(choices=choices, usage=usage(answers))

    def begin(self, index: int) -> None:
        """Text has no first chunk."""

    def more(self, index: int, text: str, tokens: tuple[Token, ...] | None = None) -> dict[str, Any]:
        """A choice's next piece of text."""
        return self._head.of(choices=[_text_choice(index, text, tokens, None)])

    def end(self, index: int, answer: Answer) -> dict[str, Any]:
        """A choice's last chunk."""
        return self._head.of(choices=[_text_choice(index, "", None, answer.finish)])

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The chunk that counts tokens."""
        return self._head.of(choices=[], usage=usage(answers))


def _text_choice(index: int, text: str, tokens: tuple[Token, ...] | None, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": _text_logprobs(tokens), "finish_reason": finish}


def _chat_logprobs(tokens: tuple[Token, ...] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    told = [
        {**_told(token.data, token.logprob), "top_logprobs": [_told(*one) for one in token.top]} for token in tokens
    ]
    return {"content": told, "refusal": None}


def _told(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}


def _text_logprobs(tokens: tuple[Token, ...] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    texts = [token.data.decode("utf-8", "replace") for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [None if math.isnan(token.logprob) else token.logprob for token in tokens],
        "top_logprobs": [
            None if math.isnan(token.logprob) else {data.decode("utf-8", "replace"): p for data, p in token.top}
            for token in tokens
        ],
        "text_offset": [sum(map(len, texts[:i])) for i in range(len(texts))],
    }
