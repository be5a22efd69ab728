"""How a server is set up: where it listens, whom it lets in, and what it holds clients to."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from sg_local.serve.answers import ServeSettings
from sg_local.serve.limits import Limits


@dataclass(frozen=True)
class Door:
    """Where the server listens and whom it lets in. `port` 0 picks a free port.

    `origins` are pages that may use it, such as "https://app.example"; `api_key` is what clients must know (empty:
    nothing), and must be there beyond loopback.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    allow_remote: bool = False
    api_key: str = field(default="", repr=False)
    origins: tuple[str, ...] = ()


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


@dataclass(frozen=True)
class Setup:
    """What an application is made of, besides its engine. `log` is given a line for each request."""

    settings: ServeSettings = ServeSettings()
    door: Door = Door()
    limits: Limits = Limits()
    log: Callable[[str], None] | None = None
