"""uvicorn's HTTP/1.1 protocol with the bounds it lacks: connections, the time of a head, and that of a slow reader."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sg_local.serve.api import ApiError
from sg_local.serve.limits import Limits


def protocol_of(limits: Limits) -> type[H11Protocol]:
    """The protocol's class under these limits."""
    return type("BoundedProtocol", (Bounded,), {"limits": limits})


class Bounded(H11Protocol):
    """One connection."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(ApiError("There are too many connections.", status=503, headers={"Retry-After": "1"}))
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_request():
            _stop(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._head_timer)
        _stop(self._write_timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        _stop(self._write_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError("The server cannot read this HTTP request.", status=400))

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        """A head must be complete in time."""
        self._head_timer = self.loop.call_later(self.limits.header_s, self._too_slow)

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._in_request():
            self._refuse(ApiError("The request's head did not come in time.", status=408))

    def _refuse(self, error: ApiError) -> None:
        """Answer without a request, and close."""
        body = json.dumps(error.body()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            told = [(name.encode(), value.encode()) for name, value in {**headers, **error.headers}.items()]
            for event in (h11.Response(status_code=error.status, headers=told), h11.Data(body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
