"""The server that listens: uvicorn with our bounds around the application, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from sg_local.backends import Generator
from sg_local.records import SgError
from sg_local.serve.app import make_app
from sg_local.serve.beside import ThroughWorker, warm
from sg_local.serve.door import Door, Setup, is_loopback
from sg_local.serve.protocol import protocol_of
from sg_local.serve.registry import Registry
from sg_local.serve.worker import Worker

SHUTDOWN_S = 2  # how long open connections may take to end
HEADER_BYTES = 64 << 10


def listen(
    generator: Generator, registry: Registry, setup: Setup, on_ready: Callable[[str], None] | None = None
) -> None:
    """What `sg_local.serve.serve` promises, with the HTTP packages at hand."""
    door = setup.door
    listener = open_socket(door)
    worker = Worker(generator)
    registry.beside = ThroughWorker(worker)
    warm(worker, registry.services, setup.settings)
    url = f"http://{_netloc(door.host, listener.getsockname()[1])}"
    config = uvicorn.Config(
        make_app(worker, registry, setup),
        http=protocol_of(setup.limits),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=round(setup.limits.idle_s),
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    try:
        server = Server(config, worker, lambda: on_ready(url) if on_ready is not None else None)
        with contextlib.suppress(KeyboardInterrupt), _terminated_like_interrupted():
            server.run(sockets=[listener])
    finally:
        worker.close()
        listener.close()


def open_socket(door: Door) -> socket.socket:
    """A listening socket at the door's address. Beyond loopback SgError where a key or the permission is missing.

    Its connections send at once: else an answer's second packet waits 40 ms for a client to confirm the first, since
    asyncio turns that off for its own sockets alone.
    """
    if not is_loopback(door.host):
        if not door.allow_remote:
            message = f"{door.host} can be reached from other machines."
            raise SgError(message, "Use `host=127.0.0.1`, or `allow-remote` if you mean it.", exit_code=2)
        if not door.api_key:
            message = f"{door.host} can be reached from other machines, and no key is set that clients must send."
            raise SgError(message, "Give one as `api-key`, or in SG_LOCAL_API_KEY.", exit_code=2)
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    try:
        listener = socket.create_server((door.host, door.port), family=family)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"Use `port={door.port + 1}`, or `port=0` for a free one."
            raise SgError(f"Port {door.port} of {door.host} is in use.", hint) from error
        message = f"Cannot listen on {_netloc(door.host, door.port)}: {error.strerror or error}."
        raise SgError(message, "Use another `host` or `port`.") from error


class Server(uvicorn.Server):
    """Says when it is ready, and stops the engine first when it ends, so that open requests are answered by 503."""

    def __init__(self, config: uvicorn.Config, worker: Worker, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._worker, self._on_ready = worker, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._worker.close)
        await super().shutdown(sockets)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, which uvicorn passes on once it has stopped, ends the work as Ctrl-C does: nothing is left open."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
