"""Completions of an endpoint, asked in OpenAI's way or, where it is Ollama, in its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sg_local.backends.openai import ollama
from sg_local.backends.openai.calls import Caller, Patience, Refused
from sg_local.records import SgError

COMPLETIONS = "/completions"


@dataclass(frozen=True)
class Speech:
    """How an endpoint is asked for completions. `n_ctx` is the context that Ollama is to have, in tokens."""

    caller: Caller
    is_ollama: bool
    n_ctx: int

    @classmethod
    def with_endpoint(cls, caller: Caller, n_ctx: int) -> Speech:
        """As this endpoint has it; asks once."""
        try:
            found = caller.ask(f"{caller.address.root}{ollama.VERSION}", patience=Patience(tries=1))
        except (Refused, SgError):
            found = {}
        return cls(caller, "version" in found, n_ctx)

    def complete(self, body: dict[str, Any], patience: Patience | None = None) -> dict[str, Any]:
        """The reply in OpenAI's shape. Raises Refused, and SgError where the endpoint fails again and again."""
        address = self.caller.address
        if not self.is_ollama:
            return self.caller.ask(address.path + COMPLETIONS, body, patience=patience)
        asked = ollama.generate_body(body, self.n_ctx)
        return ollama.completion(self.caller.ask(address.root + ollama.GENERATE, asked, patience=patience))
