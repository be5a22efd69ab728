"""The server on a real socket: slow and leaving clients, streams as they are written, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local import prompts, serve
from sg_local.backends import EngineSettings, open_generator

SPEC = TinySpec(type="F32", head_type="F32")
SERVER = """
import sys
from pathlib import Path
from sg_local import prompts, serve
from sg_local.backends import EngineSettings, open_generator
generator = open_generator("llama.cpp", Path(sys.argv[1]), EngineSettings(n_ctx=1024, fast_copy=False, n_threads=1))
form = prompts.forms_of(generator.info)[0]
limits = serve.Limits(header_s=1, body_s=1, connections=8, tokens=1000)
setup = serve.Setup(serve.ServeSettings(n_ctx=1024, max_tokens=1000), serve.Door(port=0), limits)
registry = serve.Registry.of(serve.Service("m", form))
serve.serve(generator, registry, setup, lambda url: print(url, flush=True))
generator.close()
print("closed", flush=True)
"""
LONG = {"prompt": "hello there", "max_tokens": -1, "temperature": 2, "seed": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("listen") / "base.gguf", SPEC)


class Running:
    """A server in a process of its own."""

    def __init__(self, model, errors) -> None:
        command = [sys.executable, "-c", SERVER, str(model)]
        self.errors = errors
        with errors.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        url = self.process.stdout.readline().strip()
        assert url, errors.read_text()
        self.port = int(url.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, path: str, body: dict, connection: socket.socket | None = None) -> socket.socket:
        connection = connection or self.connect()
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return connection

    def ask(self, path: str, body: dict) -> tuple[int, str]:
        with self.send(path, body) as connection:
            return answered(connection)

    def get(self, path: str) -> str:
        with self.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return answered(connection)[1]

    def n_open(self) -> int:
        [line] = [one for one in self.get("/metrics").splitlines() if one.startswith("sg_local_queue ")]
        return int(line.split()[1])


@pytest.fixture
def server(model, tmp_path):
    running = Running(model, tmp_path / "stderr")
    yield running
    running.process.kill()
    running.process.communicate()


def answered(connection: socket.socket) -> tuple[int, str]:
    """Status and body, read until the server closes; (0, '') where it closes without an answer."""
    data = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body.decode()) if head else (0, "")


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_clients_that_leave_free_their_rows(server):
    for stream in (False, True):
        gone = [server.send("/v1/completions", {**LONG, "seed": i, "stream": stream}) for i in range(4)]
        wait_until(lambda: server.n_open() == 4, "they are under way")
        for connection in gone:
            connection.close()
        wait_until(lambda: server.n_open() == 0, "nobody waits any more")
    assert server.ask("/v1/completions", {"prompt": "hello", "max_tokens": 2})[0] == 200


def test_a_stream_comes_as_it_is_written(server):
    with server.send("/v1/completions", {**LONG, "stream": True}) as connection:
        first = connection.recv(4096)
        assert b"200 OK" in first and server.n_open() == 1
    wait_until(lambda: server.n_open() == 0, "the row is freed")


def test_heads_and_bodies_that_do_not_come_are_given_up(server):
    quiet, halted, stuck = server.connect(), server.connect(), server.connect()
    halted.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: local")
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    stuck.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    for connection in (quiet, halted, stuck):
        status, body = answered(connection)
        assert status == 408 and json.loads(body)["error"]["type"] == "invalid_request_error"
        connection.close()


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"A" * 100_000]
)
def test_what_is_no_http_gets_an_answer_or_nothing(server, sent):
    with server.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        status, body = answered(connection)
        assert status in (0, 400) and (not body or "error" in json.loads(body))
    assert json.loads(server.get("/health"))["status"] == "ok"
    assert server.errors.read_text() == ""


def test_connections_are_bounded(server):
    held = [server.connect() for _ in range(8)]
    wait_until(lambda: refused(server), "a ninth connection is refused")
    for connection in held:
        connection.close()
    wait_until(lambda: not refused(server), "there is room again")


def refused(server) -> bool:
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return answered(connection)[0] != 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_and_answers_who_waits(server, how):
    waiting = [server.send("/v1/completions", {**LONG, "seed": i}) for i in range(3)]
    streaming = server.send("/v1/completions", {**LONG, "stream": True})
    wait_until(lambda: server.n_open() == 4, "they are under way")
    server.process.send_signal(how)
    statuses = [answered(connection)[0] for connection in waiting]
    assert set(statuses) <= {200, 503} and 503 in statuses
    assert "has stopped" in answered(streaming)[1]
    assert server.process.wait(30) == 0
    assert server.process.stdout.read() == "closed\n" and server.errors.read_text() == ""


def test_hostile_clients_beside_honest_ones_change_no_answer(server):
    asks = [{"prompt": f"parcel {i} is late", "max_tokens": 12} for i in range(6)]
    alone = [texts_of(server.ask("/v1/completions", ask)) for ask in asks]
    stop = threading.Event()

    def hostile() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            bodies = [
                {**LONG, "stop": ["\ud83d"]},
                {"prompt": [[["x"]]], "n": 10**9},
                {"prompt": "x" * 200_000},
                {**LONG, "response_format": {"type": "json_object"}},
            ]
            with contextlib.suppress(OSError):
                connection = server.send("/v1/completions", bodies[number % 4])
                if number % 3:
                    answered(connection)
                connection.close()
                leaving = server.send("/v1/completions", {**LONG, "stream": True})
                leaving.recv(10)
                leaving.close()

    thread = threading.Thread(target=hostile)
    thread.start()
    try:
        beside = [texts_of(server.ask("/v1/completions", ask)) for ask in asks * 3]
    finally:
        stop.set()
        thread.join()
    assert beside == alone * 3
    wait_until(lambda: server.n_open() == 0, "nothing is left")


def texts_of(answer: tuple[int, str]) -> str:
    status, body = answer
    assert status == 200, body
    return str(json.loads(body)["choices"][0]["text"])


def test_runs_on_one_base_each_answer_as_they_do_alone(model, tmp_path, routing, fluent):
    """Through the worker, as the server asks: the lane of each service is its adapter's."""
    paths = [write_lora(tmp_path / f"{i}.gguf", lora_pairs(SPEC, seed=i, size=0.5), 8.0) for i in range(2)]
    generator = open_generator("llama.cpp", model, EngineSettings(n_ctx=512, fast_copy=False, n_threads=1))
    form = prompts.forms_of(generator.info)[0]
    tasks = [routing, fluent]
    texts = ["my parcel is late", "who painted it"]
    alone = []
    for path, task in zip(paths, tasks, strict=True):
        generator.use_adapter(path)
        alone.append(list(serve.predict(generator, task, form, texts)))
    generator.use_adapter(None)
    services = [
        serve.Service(f"run {i}", form, task, form, adapter=path)
        for i, (path, task) in enumerate(zip(paths, tasks, strict=True))
    ]
    from starlette.testclient import TestClient

    from sg_local.serve.app import make_app

    worker = serve.Worker(generator)
    app = make_app(worker, serve.Registry.of(*services), serve.Setup(serve.ServeSettings()))
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    for _ in range(2):
        for service, answers in zip(services, alone, strict=True):
            for text, answer in zip(texts, answers, strict=True):
                body = {"model": service.name, "messages": [{"role": "user", "content": text}]}
                found = client.post("/v1/chat/completions", json=body).json()
                assert found["choices"][0]["message"]["content"] == answer
    worker.close()
    generator.close()
    assert os.path.exists(paths[0])
