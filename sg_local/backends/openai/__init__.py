"""Generator over a server that speaks OpenAI's protocol: vLLM, llama-server, our own, Ollama, and others.

The endpoint writes and scores with the base, many requests at a time. The base's own GGUF stays on this machine: its
vocabulary counts tokens, it is trained and exported, and it computes here what the endpoint cannot or may not: answers
under an adapter, grammars, prompts that the endpoint would read otherwise, and scores where it offers none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends.openai.address import HERE, Access, address_of
from sg_local.backends.settings import Beside, EngineSettings
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.backends.openai.generator import EndpointGenerator

__all__ = ["check_settings", "open_generator"]

MOST_S = 86400.0


def open_generator(
    model: Path, settings: EngineSettings, access: Access = HERE, beside: Beside | None = None
) -> EndpointGenerator:
    """The base's vocabulary, loaded; the endpoint is asked when it is first needed. Raises SgError without one."""
    from sg_local.backends.openai.generator import EndpointGenerator

    if not settings.endpoint:
        hint = "Name its address as `endpoint`, such as http://127.0.0.1:8000/v1."
        raise SgError("The openai backend needs an endpoint to ask.", hint, exit_code=2)
    check_settings(settings)
    return EndpointGenerator(model, settings, address_of(settings.endpoint), access, beside)


def check_settings(settings: EngineSettings) -> None:
    """Raise SgError (usage) for a time limit or a number of requests that no server can be asked with."""
    if not 0 < settings.endpoint_timeout_s <= MOST_S:
        message = f"engine.endpoint_timeout_s = {settings.endpoint_timeout_s:g}: no request can take that long."
        raise SgError(message, f"Give seconds above 0, at most {MOST_S:g}.", exit_code=2)
    if settings.n_parallel is not None and settings.n_parallel < 1:
        message = f"engine.n_parallel = {settings.n_parallel}: so many requests cannot be under way."
        raise SgError(message, "Give 1 or more.", exit_code=2)
