"""What all endpoints tell in common: one choice's answer, JSON that no line reader misreads, server-sent events."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from sg_local.backends.session import Token

LINE_ENDS = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
"""What some readers of lines take for the end of one, and what UTF-8 cannot write."""


@dataclass(frozen=True)
class Answer:
    """One choice. `prompt` is the index of the prompt that it answers; `finish` is stop or length, as OpenAI says."""

    text: str
    finish: str
    n_prompt_tokens: int
    n_tokens: int
    tokens: tuple[Token, ...] | None = None
    prompt: int = 0


@dataclass(frozen=True)
class Head:
    """What the objects of one answer begin with."""

    kind: str
    model: str
    prefix: str
    id: str = ""
    created: int = 0

    @classmethod
    def new(cls, kind: str, model: str, prefix: str) -> Head:
        """A head with an id and a time of its own."""
        return cls(kind, model, prefix, f"{prefix}-{secrets.token_hex(12)}", int(time.time()))

    def of(self, **fields: Any) -> dict[str, Any]:
        """An object with this head."""
        return {"id": self.id, "object": self.kind, "created": self.created, "model": self.model, **fields}


def usage(answers: Sequence[Answer]) -> dict[str, int]:
    """Token counts over all choices; a prompt counts once, however many choices it has."""
    n_prompt = sum({answer.prompt: answer.n_prompt_tokens for answer in answers}.values())
    n_new = sum(answer.n_tokens for answer in answers)
    return {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}


def to_json(data: Any) -> str:
    """JSON text without line ends of any kind."""
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", told)


def sse(data: Any, event: str | None = None) -> str:
    """One server-sent event."""
    named = f"event: {event}\n" if event is not None else ""
    return f"{named}data: {data if isinstance(data, str) else to_json(data)}\n\n"


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def __init__(self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(to_json(data), status, headers)
