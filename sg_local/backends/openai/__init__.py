"""Generator over a server that speaks OpenAI's protocol: vLLM, llama-server, our own, Ollama, and others.

The endpoint writes and scores with the base, many requests at a time. The base's own GGUF stays on this machine: its
vocabulary counts tokens, it is trained and exported, and it computes here what the endpoint cannot or may not: answers
under an adapter, grammars, prompts that the endpoint would read otherwise, and scores where it offers none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sg_local.backends.openai.address import HERE, Access, address_of
from sg_local.backends.settings import EngineSettings
from sg_local.records import SgError

if TYPE_CHECKING:
    from sg_local.backends.openai.generator import EndpointGenerator

__all__ = ["open_generator"]


def open_generator(model: Path, settings: EngineSettings, access: Access = HERE) -> EndpointGenerator:
    """The base's vocabulary, loaded; the endpoint is asked when it is first needed. Raises SgError without one."""
    from sg_local.backends.openai.generator import EndpointGenerator

    if not settings.endpoint:
        hint = "Name its address as `endpoint`, such as http://127.0.0.1:8000/v1."
        raise SgError("The openai backend needs an endpoint to ask.", hint, exit_code=2)
    return EndpointGenerator(model, settings, address_of(settings.endpoint), access)
