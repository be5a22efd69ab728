"""Where an endpoint is, and who may be asked: this machine unless a person says otherwise, nobody where none may be."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from sg_local.records import SgError
from sg_local.words import brief, shown

Reach = Literal["nowhere", "here", "anywhere"]
"""How far a job may ask: not even this machine's other programs, only those, or other machines as well."""

KEY = "SG_LOCAL_ENDPOINT_KEY"
"""The environment variable that holds an endpoint's key: nothing else may, and it is written nowhere."""

PORTS = {"http": 80, "https": 443}
EXAMPLE = "http://127.0.0.1:8000/v1"
ODD = re.compile(r"[^\x21-\x7e]|\\")
UNSENT = re.compile(r"[^\x20-\x7e]")
MOST_LABEL = 63  # RFC 1035, 2.3.4


@dataclass(frozen=True)
class Access:
    """How far a job may ask, and the key that it shows."""

    reach: Reach = "here"
    key: str = field(default="", repr=False)


HERE = Access()


def access_of(reach: Reach, key: str) -> Access:
    """Access with the key that a person gave. Raises SgError (usage) for one that no header may hold."""
    key = key.strip()  # a line's end comes along from files
    if UNSENT.search(key):
        hint = "Give it in plain ASCII letters, digits and signs, as the server's side issued it."
        raise SgError(f"The key in {KEY} holds a character that cannot be sent.", hint, exit_code=2)
    return Access(reach, key)


@dataclass(frozen=True)
class Address:
    """An endpoint's place. `path` ends without a slash, such as `/v1`; `host` is a name or an address in figures."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_here(self) -> bool:
        """Whether it is this machine's own, by its name or figures alone."""
        return self.host == "localhost" or is_loopback(self.host)

    @property
    def root(self) -> str:
        """The path beside which a server has what OpenAI's protocol lacks."""
        return self.path.removesuffix("/v1")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def address_of(text: str) -> Address:
    """The address that a text names; `/v1` is added where it has no path. Raises SgError (usage) for none."""
    hint = f"Write it as {EXAMPLE}."
    if "@" in text:  # the text is kept and shown, so it must hold no secret
        raise SgError("The endpoint holds a name or a password.", f"{hint} A key comes by {KEY}.", exit_code=2)
    plain = re.split(r"[?#]", text)[0]  # a query may hold a key
    wrong = SgError(f"{brief(shown(plain), 80)!r} is not the address of an endpoint.", hint, exit_code=2)
    try:
        parts = urlsplit(plain)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in PORTS or plain != text or ODD.search(text) or not _is_host(host) or port == 0:
        raise wrong
    return Address(parts.scheme, host, port or PORTS[parts.scheme], parts.path.rstrip("/") or "/v1")


def check_reach(address: Address, reach: Reach) -> None:
    """Raise SgError (usage) for an endpoint that this job may not ask."""
    if reach == "nowhere":
        hint = "Leave out `offline` or `endpoint`."
        raise SgError(f"This job may ask nobody, and it is to write at {address}.", hint, exit_code=2)
    if reach == "here" and not address.is_here:
        hint = "If that machine may read them, allow it with `allow-remote`."
        raise SgError(f"{address} is another machine: the task and its rows would go there.", hint, exit_code=2)


def _is_host(host: str) -> bool:
    """Whether it can be looked up: no part of a name is empty or too long."""
    return ":" in host or all(0 < len(label) <= MOST_LABEL for label in host.removesuffix(".").split("."))


def is_loopback(host: str) -> bool:
    """Whether an address in figures is this machine's own."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
