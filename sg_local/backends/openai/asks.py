"""Requests and replies of OpenAI's text completions: prompts as bodies, choices as completions and scores.

A reply may hold anything: each field is looked at before it counts, and text is made such as can be written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sg_local.records import Completion, Prompt, Sampling

Sent = list[int] | str
"""A prompt as it is sent: as token ids, or as text that the endpoint reads as the same ids."""

MOST_STOPS = 4  # OpenAI's bound; text behind a further one is cut here

NEUTRAL = {"min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
"""What changes nothing, sent all the same: a server or its model's file may have defaults of their own, and a penalty
turns greedy answers, too. The penalty has two names: llama.cpp's and vLLM's."""

ALL = 1 << 20
"""A top_k that leaves every token in: servers differ in what switches it off, 0 or -1."""


class Misread(Exception):
    """A reply without what a completion must have."""


@dataclass(frozen=True)
class Echoed:
    """log P of a prompt's tokens in nats, without its first `skipped` ones; None for a first token."""

    logprobs: tuple[float | None, ...]

    def of(self, start: int, end: int) -> float:
        """The sum over the tokens from `start` to `end`. Raises Misread where one of them has none."""
        found = self.logprobs[start:end]
        if start < 0 or len(found) != end - start or any(one is None for one in found):
            raise Misread(f"log-probabilities for {len(self.logprobs)} tokens, and token {end} was asked for")
        return math.fsum(one for one in found if one is not None)


def written_body(
    model: str, sent: Sent, sampling: Sampling, seed: int, fields: frozenset[str], ends: Sequence[int] = ()
) -> dict[str, Any]:
    """The body that asks for one completion. `fields` are those beyond OpenAI's that the endpoint takes."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": sent,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop[:MOST_STOPS])
    more: dict[str, Any] = {**NEUTRAL, "logprobs": 0, "stop_token_ids": list(ends)}
    if sampling.temperature:
        more["top_k"] = sampling.top_k or ALL
    return body | {name: value for name, value in more.items() if name in fields and value != []}


def echo_body(model: str, sent: Sent) -> dict[str, Any]:
    """The body that asks for a prompt's own log-probabilities; one token is written, since some read 0 as no bound."""
    return {
        "model": model,
        "prompt": sent,
        "max_tokens": 1,
        "temperature": 0.0,
        "top_p": 1.0,
        "echo": True,
        "logprobs": 1,
    }


def read_written(reply: dict[str, Any], prompt: Prompt, n_prompt: int) -> Completion:
    """The completion in a reply. Raises Misread for a reply that holds none, or of a prompt that was cut."""
    choice = choice_of(reply)
    text, finish = _cut(_text(choice.get("text")), prompt.sampling.stop)
    if not finish:
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
    read = count_of(reply, "prompt_tokens")
    if read is not None and read < n_prompt:
        raise Misread(f"a prompt of {n_prompt} tokens was cut to {read}: its context is too short")
    logprobs = [one for one in logprobs_of(choice) if one is not None]
    n_tokens = count_of(reply, "completion_tokens")
    told: Literal["stop", "length"] = "length" if finish == "length" else "stop"
    return Completion(
        prompt.id, text, told, n_prompt, len(logprobs) if n_tokens is None else n_tokens, math.fsum(logprobs)
    )


def choice_of(reply: dict[str, Any]) -> dict[str, Any]:
    """The first choice. Raises Misread where there is none."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Misread("no choices")
    return choices[0]


def logprobs_of(choice: dict[str, Any]) -> tuple[float | None, ...]:
    """log P of a choice's tokens in nats; empty where none are told."""
    told = choice.get("logprobs")
    found = told.get("token_logprobs") if isinstance(told, dict) else None
    return tuple(map(_nats, found)) if isinstance(found, list) else ()


def tokens_of(choice: dict[str, Any]) -> tuple[str, ...]:
    """The strings of a choice's tokens; empty where none are told."""
    told = choice.get("logprobs")
    found = told.get("tokens") if isinstance(told, dict) else None
    return tuple(map(str, found)) if isinstance(found, list) else ()


def next_of(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens in the place of a choice's first, each with its log P in nats; empty where none are told."""
    told = choice.get("logprobs")
    found = told.get("top_logprobs") if isinstance(told, dict) else None
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        return ()
    return tuple((clean(text), p) for text, value in first.items() if text and (p := _nats(value)) is not None)


def count_of(reply: dict[str, Any], name: str) -> int | None:
    """A count of `usage`; None where it is not told."""
    usage = reply.get("usage")
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def clean(text: str) -> str:
    """Text as it can be written: lone surrogates replaced, as tokenising does."""
    return text.encode("utf-8", "replace").decode()


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise Misread("a choice without text")
    return clean(found)


def _cut(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """The text before the first stop, and `stop` where one was found: not every endpoint cuts, or knows all of them."""
    place = min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=-1)
    return (text, "") if place < 0 else (text[:place], "stop")


def _nats(found: Any) -> float | None:
    """A log-probability; None for what is none."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    try:
        value = float(found)
    except OverflowError:  # a whole number may have any length
        return None
    return min(0.0, value) if math.isfinite(value) and value <= 1e-3 else None
