"""How much one client may ask of the server, so that none can keep the others from it or fill the memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What goes beyond is refused with a 4xx, or cut off.

    `body_bytes` bounds a request's body, `prompts` its prompts times choices, `questions` those of a decision request,
    `tokens` the new tokens that one choice may ask for, `schema_bytes` a JSON schema. `queue` counts the choices
    of all requests that are under way, and each question of a decision request as one, however much of the engine it
    takes; a request that goes beyond it is not begun, and told to come again. `request_s` is the time of a request
    as a whole, `header_s` and `body_s` that in which its head and its body must have come, `write_s` that in which a
    client must have taken what was sent, `idle_s` how long a connection is kept open between requests.
    """

    body_bytes: int = 1 << 20
    prompts: int = 64
    questions: int = 64
    tokens: int = 32_768
    schema_bytes: int = 32_768
    queue: int = 256
    connections: int = 256
    request_s: float = 600.0
    header_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    idle_s: float = 30.0
