"""A request's fields, checked: JSON bodies to options, and refusals in OpenAI's error shape.

What a client asks for is honoured or refused, never ignored: a field must be known, and one that would change the
answer and is not covered may only have the value that changes nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sg_local.reading import loads
from sg_local.records import Sampling
from sg_local.serve.limits import Limits

MAX_STOPS = 4
STOP_CHARACTERS = 200
MAX_DEPTH = 32
"""Levels of a JSON schema."""

COMMON = frozenset(
    "model temperature top_p top_k min_p repeat_penalty frequency_penalty presence_penalty stop n seed stream"
    " stream_options max_tokens".split()
)
WITHOUT_EFFECT = frozenset("user metadata safety_identifier prompt_cache_key prompt_cache_retention".split())
"""Fields that change no answer by what they mean: they are taken and not looked at."""

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "include": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning": ({},),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}
"""Fields that are not covered, and the values besides null with which they ask for nothing."""


class ApiError(Exception):
    """A refusal: HTTP status, a message, and the request's field that is to blame."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class RequestOptions:
    """What all written requests share, checked. `seed` is drawn where the client gives none; `n` counts choices.

    `n_top` asks for the tokens' log P with so many of the likeliest beside each (None: no tokens).
    """

    model: str | None
    sampling: Sampling
    seed: int
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    n_top: int | None = None


@dataclass(frozen=True)
class Bounds:
    """What a request is held to: the server's limits, and the new tokens of one that names no number."""

    limits: Limits = Limits()
    max_tokens: int = 500


def read_body(data: bytes) -> dict[str, Any]:
    """A request's body as JSON. Raises ApiError for anything that is not an object."""
    try:
        body = loads(data)
    except ValueError as error:
        raise ApiError(f"The body is not JSON ({error}).") from error
    if not isinstance(body, dict):
        raise ApiError("The body must be a JSON object.")
    return body


def check_fields(body: Mapping[str, Any], honoured: Collection[str]) -> None:
    """Raises ApiError for a field that would be ignored."""
    for name, value in body.items():
        if name in honoured or name in WITHOUT_EFFECT or value is None or value in HARMLESS.get(name, ()):
            continue
        what = "is not covered by" if name in HARMLESS else "is not known to"
        raise ApiError(f"{name} {what} this server.", param=name, code="unsupported_parameter")


def read_options(
    body: Mapping[str, Any], bounds: Bounds, *, schema: str | None = None, tokens_field: str = "max_tokens"
) -> RequestOptions:
    """The shared options. `schema` is the JSON schema that the answer must fit, as JSON text."""
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise ApiError("stream_options must be an object with include_usage.", param="stream_options")
    if options.get("include_obfuscation"):
        raise ApiError("include_obfuscation is not covered.", param="stream_options", code="unsupported_parameter")
    return RequestOptions(
        model=text(body, "model"),
        sampling=_sampling(body, bounds, schema, tokens_field),
        seed=whole(body, "seed", secrets.randbelow(2**31 - 1), (-(2**63), 2**63 - 1)) % (2**31 - 1) + 1,
        stream=flag(body, "stream"),
        include_usage=flag(options, "include_usage"),
        n=whole(body, "n", 1, (1, bounds.limits.prompts)),
    )


def _sampling(body: Mapping[str, Any], bounds: Bounds, schema: str | None, tokens_field: str) -> Sampling:
    return Sampling(
        temperature=number(body, "temperature", 0.0, (0.0, 2.0)),
        top_k=whole(body, "top_k", Sampling.top_k, (0, 2**31 - 1)),
        top_p=number(body, "top_p", 1.0, (0.0, 1.0)),
        min_p=number(body, "min_p", 0.0, (0.0, 1.0)),
        repeat_penalty=number(body, "repeat_penalty", 1.0, (0.1, 10.0)),
        frequency_penalty=number(body, "frequency_penalty", 0.0, (-2.0, 2.0)),
        presence_penalty=number(body, "presence_penalty", 0.0, (-2.0, 2.0)),
        max_tokens=_new_tokens(body, tokens_field, bounds),
        stop=stops(body.get("stop")),
        schema=schema,
    )


def _new_tokens(body: Mapping[str, Any], name: str, bounds: Bounds) -> int:
    """The most new tokens; null and -1 mean: as many as the context holds."""
    if name not in body:
        return min(bounds.max_tokens, bounds.limits.tokens)
    if body[name] in (None, -1):
        return bounds.limits.tokens
    return whole(body, name, 0, (1, bounds.limits.tokens))


def schema_of(format: Any, limits: Limits, param: str) -> str | None:
    """The JSON schema of a response format, as JSON text; None for free text. Raises ApiError for another kind."""
    if format is None or format == {"type": "text"}:
        return None
    if format == {"type": "json_object"}:
        return '{"type": "object"}'
    kind = format.get("type") if isinstance(format, dict) else None
    given = format.get("json_schema", format) if kind == "json_schema" else None
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise ApiError("The format must be text, json_object, or json_schema with a schema.", param=param)
    told = json.dumps(schema)
    if len(told) > limits.schema_bytes or _depth(schema) > MAX_DEPTH:
        message = f"A schema may take {limits.schema_bytes} bytes and {MAX_DEPTH} levels."
        raise ApiError(message, param=param)
    return told


def _depth(data: Any) -> int:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def text(body: Mapping[str, Any], name: str) -> str | None:
    """A field that is text, or None where it is not there."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(f"{name} must be a string.", param=name)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; false where it is not there."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(f"{name} must be true or false.", param=name)
    return bool(value)


def number(body: Mapping[str, Any], name: str, default: float, bounds: tuple[float, float]) -> float:
    """A number within bounds."""
    value = body.get(name)
    if value is None:
        return default
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ApiError(f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


def whole(body: Mapping[str, Any], name: str, default: int, bounds: tuple[int, int]) -> int:
    """A whole number within bounds."""
    value = body.get(name)
    if value is None:
        return default
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ApiError(f"{name} must be a whole number from {low} to {high}.", param=name)
    return value


def stops(stop: Any) -> tuple[str, ...]:
    """Stop strings."""
    found = [stop] if isinstance(stop, str) else [] if stop is None else stop
    wrong = not isinstance(found, list) or len(found) > MAX_STOPS
    if wrong or not all(isinstance(one, str) and 0 < len(one) <= STOP_CHARACTERS for one in found):
        message = f"stop must be a string or a list of at most {MAX_STOPS}, each of 1 to {STOP_CHARACTERS} characters."
        raise ApiError(message, param="stop")
    return tuple(found)
