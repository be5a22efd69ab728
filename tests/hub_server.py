"""A server on loopback that speaks the Hub's endpoints for files, with faults on request.

`/OWNER/REPO/resolve/REVISION/FILE` answers HEAD with the etag, the commit and the size, and GET with the bytes or the
range asked for, as https://huggingface.co/docs/huggingface_hub/guides/download describes and its client checks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and how it fails.

    `files` maps OWNER/REPO/FILE to bytes. `refuse` maps OWNER/REPO to (status, X-Error-Code). `cuts` are the byte
    counts after which the next answers break off; `pause_s` is waited before every KiB; `ranges` False ignores Range;
    `lies` gives other bytes than the etag promises.
    """

    files: dict[str, bytes]
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    stalls: int = 0
    ranges: bool = True
    lies: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    def gets(self) -> list[str | None]:
        """The Range header of every GET so far."""
        return [wanted for method, _, wanted in self.asked if method == "GET"]


class Server(ThreadingHTTPServer):
    """A client that goes away is part of the tests, and no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port of 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            _answer(self, hub, method)

    server = Server(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, hub: Hub, method: str) -> None:
    path = unquote(handler.path.split("?")[0]).strip("/")
    hub.asked.append((method, path, handler.headers.get("Range")))
    is_tree = path.startswith("api/models/")
    repo, _, rest = path.removeprefix("api/models/").partition("/tree/" if is_tree else "/resolve/")
    if repo in hub.refuse:
        return _refuse(handler, *hub.refuse[repo])
    if is_tree:
        return _tree(handler, hub, repo)
    name = f"{repo}/{rest.partition('/')[2]}"
    if name not in hub.files:
        known = any(file.startswith(f"{repo}/") for file in hub.files)
        return _refuse(handler, 404, "EntryNotFound" if known else "RepoNotFound")
    _send(handler, hub, method, hub.files[name])


def _tree(handler: BaseHTTPRequestHandler, hub: Hub, repo: str) -> None:
    """The files of a repository, as /api/models/OWNER/REPO/tree/REVISION lists them."""
    files = {name.removeprefix(f"{repo}/"): data for name, data in hub.files.items() if name.startswith(f"{repo}/")}
    if not files:
        return _refuse(handler, 404, "RepoNotFound")
    listed = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
    body = json.dumps(listed).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    handler.send_response(status)
    if code:
        handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, hub: Hub, method: str, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    wanted = handler.headers.get("Range") if hub.ranges else None
    start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
    body = bytes(len(data)) if hub.lies else data
    handler.send_response(206 if wanted else 200)
    handler.send_header("ETag", f'"{digest}"')
    handler.send_header("X-Linked-Etag", f'"{digest}"')
    handler.send_header("X-Linked-Size", str(len(data)))
    handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("Content-Length", str(len(data) - start))
    if wanted:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.end_headers()
    if method == "GET":
        _body(handler, hub, body[start:])


def _body(handler: BaseHTTPRequestHandler, hub: Hub, body: bytes) -> None:
    cut = hub.cuts.pop(0) if hub.cuts else None
    if hub.stalls:
        hub.stalls -= 1
        time.sleep(2)
    for start in range(0, len(body[:cut]), 1024):
        time.sleep(hub.pause_s)
        handler.wfile.write(body[:cut][start : start + 1024])
    if cut is not None:
        handler.close_connection = True
        handler.connection.close()
