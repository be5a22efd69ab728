"""Who gets in: an ASGI layer around the application that looks at every request before anything else does.

On loopback a request must name a loopback host, so that no web page reaches the server through a name of its own (DNS
rebinding), and a page of another origin is refused unless it is allowed; such pages may be told answers (CORS). POST
takes application/json alone, which no page can send unasked. A key is compared in constant time. Whatever goes wrong
inside is told as JSON in OpenAI's shape, without traces or paths; each request is told as one line without its texts.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sg_local.serve.api import ApiError
from sg_local.serve.door import Door, is_loopback
from sg_local.serve.limits import Limits
from sg_local.serve.metrics import Metrics
from sg_local.serve.replies import Json

logger = logging.getLogger(__name__)

HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
HEADER_NAMES = re.compile(r"[A-Za-z0-9, _-]{0,1000}")
OPEN_PATHS = ("/health",)
LOCAL_PATHS = "/v1/runs"
WITH_ID = ("/v1/models", "/v1/runs")
KNOWN_PATHS = frozenset(
    "/health /metrics /v1/models /v1/chat/completions /v1/completions /v1/responses /v1/systemone /v1/runs".split()
)


class Headers:
    """A request's headers as they came: names in lower case, each possibly several times."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for other, value in self._pairs if other == name]

    def one(self, name: str) -> str | None:
        """A header's value. Raises ApiError where it comes twice."""
        found = self.all(name)
        if len(found) > 1:
            raise ApiError(f"The header {name} comes {len(found)} times.")
        return found[0] if found else None


@dataclass
class Told:
    """What is known of a request when it ends."""

    status: int = 0
    model: str = ""
    n_prompt_tokens: int = 0
    n_tokens: int = 0


class Gate:
    """The layer around the application. `log` is given a line for each request."""

    def __init__(
        self, app: ASGIApp, door: Door, limits: Limits, metrics: Metrics, log: Callable[[str], None] | None = None
    ) -> None:
        self._app, self._door, self._limits, self._metrics = app, door, limits, metrics
        self._log = log or (lambda line: None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, told = time.monotonic(), Told()
        scope["sg_local"] = told
        scope["app"] = self._app  # so that the router raises what it refuses

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._cors(scope)]
            await send(message)

        try:
            await self._answer(scope, receive, sending, told)
        finally:
            seconds = time.monotonic() - began
            self._end(scope, told, seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, told: Told) -> None:
        try:
            headers = Headers(scope)
            self._check_host(headers)
            origin = self._check_origin(headers)
            if scope["method"] == "OPTIONS" and origin is not None:
                await _preflight(headers)(scope, receive, send)
                return
            self._check_key(scope, headers)
            self._check_local(scope)
            _check_type(scope, headers)
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not told.status:  # the server is stopping
                await _refusal(ApiError("The server is stopping.", status=503))(scope, receive, send)
            raise
        except Exception as error:  # noqa: BLE001 - one request's fault is told to that client alone
            refused = refusal_of(error, scope)
            if told.status:
                logger.debug("a stream broke off", exc_info=error)
            elif refused is not None:
                await _refusal(refused)(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """The raw header: a form that no parser reads in two ways, and on loopback a loopback name."""
        host = headers.one("host")
        found = HOST.fullmatch(host) if host is not None else None
        if found is None:
            raise ApiError("The request names no host, or one that is malformed.", status=400)
        if not self._door.allow_remote and not is_loopback(found[1]):
            raise ApiError("This server answers requests to a loopback host only.", status=403)

    def _check_origin(self, headers: Headers) -> str | None:
        """The origin of a page that may use the server, or None where no page of another origin asks."""
        origin, site = headers.one("origin"), headers.one("sec-fetch-site")
        if origin is not None and (origin in self._door.origins or origin == f"http://{headers.one('host')}"):
            return origin
        if origin is not None or site not in (None, "none", "same-origin"):
            raise ApiError("Pages of other origins may not use this server.", status=403, code="origin_not_allowed")
        return None

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        if not self._door.api_key or scope["path"] in OPEN_PATHS:
            return
        given = (headers.one("authorization") or "").partition(" ")
        known = given[0].lower() == "bearer" and hmac.compare_digest(
            given[2].strip().encode("latin-1"), self._door.api_key.encode()
        )
        if not known:
            told = {"WWW-Authenticate": "Bearer"}
            message = "The API key is missing or wrong."
            raise ApiError(message, status=401, code="invalid_api_key", headers=told)

    def _check_local(self, scope: Scope) -> None:
        """What changes the server is for this machine alone."""
        path, client = scope["path"], scope.get("client")
        if path != LOCAL_PATHS and not path.startswith(f"{LOCAL_PATHS}/"):
            return
        if client is None or not (is_loopback(client[0]) or client[0] == "testclient"):
            raise ApiError("Runs are added and dropped on the server's own machine only.", status=403)

    def _cors(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        if not self._door.origins:
            return []
        origin = next((value for name, value in scope["headers"] if name.lower() == b"origin"), b"")
        allowed = origin.decode("latin-1") in self._door.origins
        return [(b"vary", b"Origin"), *([(b"access-control-allow-origin", origin)] if allowed else [])]

    def _end(self, scope: Scope, told: Told, seconds: float) -> None:
        above = scope["path"].rpartition("/")[0]
        path = scope["path"] if scope["path"] in KNOWN_PATHS else f"{above}/ID" if above in WITH_ID else "other"
        self._metrics.request(path, told.status, seconds, told.model)
        if told.n_prompt_tokens or told.n_tokens:
            self._metrics.tokens(told.model, told.n_prompt_tokens, told.n_tokens)
        counts = f" {told.n_prompt_tokens}+{told.n_tokens} tokens" if told.n_prompt_tokens else ""
        name = f" {told.model}" if told.model else ""
        line = f"{scope['method']} {path}{name} {told.status or 'left'} {seconds * 1000:.0f} ms{counts}"
        logger.info("%s", line)
        self._log(line)


def refusal_of(error: Exception, scope: Scope) -> ApiError | None:
    """What a client is told of a fault; None where it has left."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        what = {404: "There is no such path", 405: "The path takes another method"}.get(error.status_code, error.detail)
        return ApiError(f"{what}.", status=error.status_code, headers=error.headers)
    if isinstance(error, ClientDisconnect):
        return None
    logger.error("a request failed: %s", type(error).__name__)
    logger.debug("the fault", exc_info=error)
    return ApiError("The server failed on this request.", status=500)


def _check_type(scope: Scope, headers: Headers) -> None:
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return
    kind = (headers.one("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError("Send JSON: Content-Type: application/json.", status=415)


def _refusal(error: ApiError) -> Json:
    return Json(error.body(), error.status, error.headers)


def _preflight(headers: Headers) -> Json:
    """The answer to a browser that asks what it may send."""
    asked = headers.one("access-control-request-headers") or ""
    wanted = asked if HEADER_NAMES.fullmatch(asked) else "authorization, content-type"
    return Json(
        {},
        200,
        {
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": wanted or "authorization, content-type",
            "Access-Control-Max-Age": "600",
        },
    )
