"""Ollama's own completions in the shape of OpenAI's: its `/v1/completions` wraps prompts in the model's template.

Fields are those of Ollama's docs/api.md in autumn 2026. It reads prompts as text, and tells no probability of them.
"""

from __future__ import annotations

from typing import Any

from sg_local.backends.openai.asks import NEUTRAL
from sg_local.backends.openai.calls import Refused

VERSION, GENERATE = "/api/version", "/api/generate"
OPTIONS = ("temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty", *NEUTRAL)
LACKS = ("echo", "logprobs", "stop_token_ids")


def generate_body(body: dict[str, Any], n_ctx: int) -> dict[str, Any]:
    """A body of OpenAI's as Ollama has it, with a context of so many tokens. Raises Refused for what it cannot do."""
    missing = [name for name in LACKS if name in body]
    if missing or not isinstance(body["prompt"], str):
        raise Refused(400, f"Ollama has no {missing[0] if missing else 'token ids'}")
    options = NEUTRAL | {name: body[name] for name in OPTIONS if name in body}
    options |= {"num_predict": body["max_tokens"], "num_ctx": n_ctx}
    return {"model": body["model"], "prompt": body["prompt"], "raw": True, "stream": False, "options": options}


def completion(reply: dict[str, Any]) -> dict[str, Any]:
    """Ollama's reply as one of OpenAI's."""
    choice = {"text": reply.get("response"), "finish_reason": reply.get("done_reason")}
    usage = {"prompt_tokens": reply.get("prompt_eval_count"), "completion_tokens": reply.get("eval_count")}
    return {"choices": [choice], "usage": usage}
