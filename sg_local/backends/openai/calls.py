"""One JSON request to an endpoint, tried again where that may help: 429 with Retry-After, 5xx, timeouts, cut replies.

Redirects and proxies are not followed: what is sent goes to the address that was named and nowhere else. Replies are
bounded in bytes and in seconds. The key goes into one header, and into no message.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from sg_local import __version__
from sg_local.backends.openai.address import Address, is_loopback
from sg_local.records import SgError
from sg_local.words import brief, shown

logger = logging.getLogger(__name__)

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another try may fix (RFC 9110, 6585)."""

MOST_BYTES = 32 << 20
PIECE = 1 << 16
CONNECT_S = 10.0


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is waited for: tries of one request, the first pause (doubled each time), the longest."""

    tries: int = 6
    first_s: float = 0.5
    longest_s: float = 60.0


USUAL = Patience()


class Refused(Exception):
    """The endpoint will not do what was asked, however often. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Passing(Exception):
    """A fault that another try may fix. `status` is HTTP's, or 0; `after_s` the pause that the endpoint asked for.

    `said` are the endpoint's own words: they may quote a prompt, so that they go into no log.
    """

    def __init__(self, reason: str, said: str = "", status: int = 0, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.said, self.status, self.after_s = reason, said, status, after_s


class Unanswered(SgError):
    """The endpoint failed again and again, the last time with this status (0: none came)."""

    status = 0


@dataclass(frozen=True)
class Received:
    """A reply as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Caller:
    """Asks one endpoint; any number of threads may call at a time. After `stop` every call fails soon."""

    address: Address
    key: str = field(default="", repr=False)
    timeout_s: float = 300.0
    patience: Patience = field(default_factory=lambda: USUAL)
    _open: set[http.client.HTTPConnection] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def ask(self, path: str, body: Any = None, *, patience: Patience | None = None) -> dict[str, Any]:
        """The JSON object that a POST of `body`, or a GET without one, brings. `path` begins at the server's root.

        Raises Refused for what will not be done, SgError where the endpoint fails again and again.
        """
        patience = patience or self.patience
        status = 0
        for number in range(1, patience.tries + 1):
            try:
                return self._once(path, body)
            except Passing as fault:
                reason, status, pause_s = fault.reason + fault.said, fault.status, patience.first_s * 2 ** (number - 1)
                pause_s = min(patience.longest_s, pause_s if fault.after_s is None else fault.after_s)
                told = fault.reason
            if number < patience.tries:
                logger.info("%s%s: %s; again in %.1f s", self.address, path, told, pause_s)
                self._stopped.wait(pause_s)
            if self._stopped.is_set():
                break
        times = f" ({patience.tries} tries)" if patience.tries > 1 else ""
        hint = "Is the server up, and `endpoint` right? Finished rows are kept: run the same command again to continue."
        failed = Unanswered(f"The endpoint {self.address} gave no answer: {reason}{times}.", hint)
        failed.status = status
        raise failed

    def stop(self) -> None:
        """End every call that is under way."""
        self._stopped.set()
        with self._lock:
            found = list(self._open)
        for connection in found:
            _cut(connection)

    def resume(self) -> None:
        """Let calls be made again."""
        self._stopped.clear()

    def _once(self, path: str, body: Any) -> dict[str, Any]:
        try:
            found = self._exchange(path, body)
        except ssl.SSLCertVerificationError as error:
            raise Refused(0, f"its certificate is not trusted{self._shown(error.verify_message)}") from error
        except TimeoutError as error:
            raise Passing(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            told = getattr(error, "strerror", None)
            raise Passing(told or "the connection broke off", "" if told else self._shown(str(error))) from error
        if found.status in PASSING:
            after_s = _pause_s(found.headers.get("retry-after", ""))
            raise Passing(f"status {found.status}", self._said(found.body), found.status, after_s)
        if not 200 <= found.status < 300:
            raise Refused(found.status, f"status {found.status}{self._said(found.body)}")
        data = _object(found.body)
        if data is None:
            raise Passing("the reply is not a JSON object, or was cut off")
        return data

    def _exchange(self, path: str, body: Any) -> Received:
        connection = self._connection()
        with self._lock:
            self._open.add(connection)
        deadline = time.monotonic() + self.timeout_s
        alarm = threading.Timer(self.timeout_s, _cut, (connection,))  # headers may drip for ever, each in time
        alarm.daemon = True
        alarm.start()
        try:
            self._connect(connection)
            headers = {"User-Agent": f"sg-local/{__version__}", "Accept": "application/json", "Connection": "close"}
            if self.key:
                headers["Authorization"] = f"Bearer {self.key}"
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                data = json.dumps(body).encode()
                connection.request("POST", path, data, {**headers, "Content-Type": "application/json"})
            with connection.getresponse() as response:
                read = _read(response, deadline)
                return Received(response.status, {k.lower(): v for k, v in response.getheaders()}, read)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() < deadline or isinstance(error, ssl.SSLCertVerificationError):
                raise
            raise TimeoutError(f"nothing came within {self.timeout_s:g} s") from error
        finally:
            alarm.cancel()
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, wait_s = self.address.host, self.address.port, min(CONNECT_S, self.timeout_s)
        if self.address.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=wait_s, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=wait_s)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        """Connect. A name that stands for this machine must lead to it."""
        self._check_going()
        try:
            connection.connect()
        except TimeoutError as error:
            raise TimeoutError(f"no connection within {min(CONNECT_S, self.timeout_s):g} s") from error
        self._check_going()  # a stop finds no socket before it is connected
        if self.address.is_here and not is_loopback(connection.sock.getpeername()[0]):
            raise Refused(0, f"{self.address.host} leads to another machine")
        connection.sock.settimeout(self.timeout_s)

    def _check_going(self) -> None:
        if self._stopped.is_set():
            raise ConnectionAbortedError(0, "it was given up")

    def _said(self, body: bytes) -> str:
        """What the endpoint gives as its reason, fit to be shown, without the key."""
        found = _object(body)
        error = found.get("error", found) if found is not None else body.decode("utf-8", "replace")
        if isinstance(error, dict):
            error = error.get("message") or error.get("detail") or ""
        return self._shown(str(error))

    def _shown(self, text: str) -> str:
        """Words of the endpoint in brackets, cut after the key is out: half of one must not be left."""
        text = brief(shown(text.replace(self.key, "***") if self.key else text), 300)
        return f" ({text})" if text else ""


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """A reply's body. Raises TimeoutError after the deadline, HTTPException for what is cut off or has no end."""
    expected, pieces, n_bytes = response.length, [], 0
    while piece := response.read1(PIECE):
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > MOST_BYTES:
            raise http.client.HTTPException(f"the reply has more than {MOST_BYTES >> 20} MB")
        if time.monotonic() >= deadline:
            raise TimeoutError
    if expected is not None and n_bytes < expected:
        raise http.client.HTTPException(f"{n_bytes} of {expected} bytes came")
    return b"".join(pieces)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _pause_s(text: str) -> float | None:
    """The seconds that Retry-After asks for, as a number or a date (RFC 9110, 10.2.3)."""
    if text.isascii() and text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _cut(connection: http.client.HTTPConnection) -> None:
    """Wake whoever waits for this connection."""
    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
