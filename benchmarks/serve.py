"""Serving: requests a second and latencies of `sg-local serve` against llama_cpp.server, and a soak.

    python benchmarks/serve.py RUN [--full] [--runs FOLDER] [--fused FILE.gguf] [--clients 1,16] [--requests N]
                               [--rounds N]
    python benchmarks/serve.py RUN --soak MINUTES [--clients 16]

Two servers on the same machine take turns, on the same prompts:

    ours     `sg-local serve RUN`: the base and the run's adapter
    theirs   `python -m llama_cpp.server` (pip install 'llama-cpp-python[server]') on the run's fused GGUF, which has
             the task in its template (`sg-local export RUN`)

`task` sends bare user messages, one test input of the run each, for 64 tokens at most; `text` has /v1/completions go
on with an input for 32 tokens. `ratio_at_16` is our requests a second over theirs with 16 clients, the median over
rounds of the task's; `p95_choice_ms` the 95th percentile of one client's task requests on ours; `failed` counts
requests that a server answered with an error, which count for nothing else. Run it on a quiet machine; on two cores
some four minutes, and twenty with `--full`, which has 1, 4, 16 and 64 clients and three rounds. The soak asks for
MINUTES with 16 clients, a tenth of them hostile or leaving, and tells how many answers were not the offline one, how
many requests failed that should not have, and how the server's memory grew after its first fifth (percent). The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sg_local.records import Task, from_dict
from sg_local.run import FUSED, open_run

SG_LOCAL = (sys.executable, "-c", "from sg_local.cli import main; main()")
START_S = 180
N_TEXT, N_TASK = 32, 64
QUICK: dict[str, Any] = {"clients": [1, 16], "requests": 24, "rounds": 1}
FULL: dict[str, Any] = {"clients": [1, 4, 16, 64], "requests": 48, "rounds": 3}
HOSTILE = (
    ("/v1/completions", {"prompt": "x", "stop": ["\ud83d"]}),
    ("/v1/completions", {"prompt": "word " * 50_000}),
    ("/v1/chat/completions", {"messages": [{"role": {"a": 1}, "content": "x"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 10**9}),
)


@dataclass(frozen=True)
class Server:
    """A server that listens; `process` is its root."""

    name: str
    port: int
    process: subprocess.Popen[str]

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")

    def leave(self, path: str, body: dict[str, Any]) -> None:
        """Ask and go away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        time.sleep(random.random() / 2)
        connection.close()


@contextlib.contextmanager
def started(name: str, command: Sequence[str], port: int) -> Iterator[Server]:
    """A server that answers GET /v1/models."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        until = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} did not start: {' '.join(command)}")
            time.sleep(0.2)
        yield Server(name, port, process)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ours(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[Server]:
    """`sg-local serve RUN`."""
    port = free_port()
    command = [*SG_LOCAL, "serve", arguments.run, "--runs", str(arguments.runs), "--port", str(port), "--quiet"]
    return started("ours", command, port)


def theirs(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[Server]:
    """llama_cpp.server on the fused file."""
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(arguments.fused), "--port", str(port)]
    return started("theirs", [*command, "--n_ctx", "2048", "--verbose", "false"], port)


def task_body(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """A request of the tuned task."""
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def short_task_body(text: str) -> tuple[str, dict[str, Any]]:
    """The same, whose answer is cut where a model does not end it."""
    return task_body(text, max_tokens=N_TASK)


def text_body(text: str) -> tuple[str, dict[str, Any]]:
    """A request of free text."""
    return "/v1/completions", {"prompt": text, "max_tokens": N_TEXT, "temperature": 0}


def turn(server: Server, bodies: Sequence[tuple[str, dict[str, Any]]], n_clients: int) -> dict[str, float]:
    """Requests a second and latencies in milliseconds, with so many clients that ask one thing after the other."""

    def timed(one: tuple[str, dict[str, Any]]) -> float | None:
        began = time.perf_counter()
        status, _ = server.ask(*one)
        return 1000 * (time.perf_counter() - began) if status == 200 else None

    began = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        found = list(pool.map(timed, bodies))
    seconds = time.perf_counter() - began
    times = sorted(one for one in found if one is not None)
    figures = {"p50": _share(times, 0.5), "p95": _share(times, 0.95)} if times else {"p50": 0.0, "p95": 0.0}
    return {"per_s": len(times) / seconds, **figures, "failed": float(len(found) - len(times))}


def _share(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def compare(arguments: argparse.Namespace, texts: Sequence[str]) -> dict[str, Any]:
    """Both servers in turns: the medians over rounds, and the two figures that are aimed at."""
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    with ours(arguments) as one, theirs(arguments) as other:
        for server in (one, other):  # what is computed once is not what is measured
            server.ask(*short_task_body(texts[0]))
            server.ask(*text_body(texts[0]))
        for number in range(arguments.rounds):
            for kind, make in (("task", short_task_body), ("text", text_body)):
                for n_clients in arguments.clients:
                    bodies = [make(texts[i % len(texts)]) for i in range(max(arguments.requests, 2 * n_clients))]
                    for server in (one, other) if number % 2 else (other, one):
                        found.setdefault((server.name, kind, n_clients), []).append(turn(server, bodies, n_clients))
    return _told(found)


def _told(found: dict[tuple[str, str, int], list[dict[str, float]]]) -> dict[str, Any]:
    medians = {
        key: {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for key, rounds in found.items()
    }
    for (name, kind, n), one in sorted(medians.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        print(f"{kind} {n:3} clients {name:6} {one['per_s']:7.1f}/s  p50 {one['p50']:7.0f}  p95 {one['p95']:7.0f} ms")
    told: dict[str, Any] = {
        f"{name}_{kind}_{n}_{figure}": round(value, 2)
        for (name, kind, n), one in medians.items()
        for figure, value in one.items()
    }
    ratios = [a["per_s"] / b["per_s"] for a, b in _pairs(found, 16) if b["per_s"]]
    if ratios:
        told["ratio_at_16"] = round(statistics.median(ratios), 2)
    if ("ours", "task", 1) in medians:
        told["p95_choice_ms"] = round(medians["ours", "task", 1]["p95"], 1)
    return told


def _pairs(found: dict[tuple[str, str, int], list[dict[str, float]]], n: int) -> list[tuple[Any, Any]]:
    return list(zip(found.get(("ours", "task", n), []), found.get(("theirs", "task", n), []), strict=True))


def soak(arguments: argparse.Namespace, texts: Sequence[str]) -> dict[str, Any]:
    """Honest and hostile clients for so many minutes."""
    expected = offline(arguments, texts)
    with ours(arguments) as server:
        counts = {"n_answers": 0, "n_wrong": 0, "n_errors": 0, "n_hostile": 0}
        until, lock = time.monotonic() + 60 * arguments.soak, threading.Lock()

        def count(name: str) -> None:
            with lock:
                counts[name] += 1

        clients = [_client(server, texts, expected, count, until, i) for i in range(arguments.clients[-1])]
        with ThreadPoolExecutor(len(clients)) as pool:
            running = [pool.submit(client) for client in clients]
            sizes = _sizes(server, until)
            for one in running:
                one.result()
    first, last = sizes[len(sizes) // 5], sizes[-1]
    return {**counts, "rss_mb": round(last / 1e6, 1), "rss_growth_percent": round(100 * (last / first - 1), 2)}


def offline(arguments: argparse.Namespace, texts: Sequence[str]) -> list[str]:
    """What `predict` says to each text."""
    command = [*SG_LOCAL, "predict", arguments.run, "-", "--jsonl", "--runs", str(arguments.runs)]
    lines = "".join(json.dumps({"input": text}) + "\n" for text in texts)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return [str(json.loads(line)["answer"]) for line in done.stdout.splitlines()]


def _client(
    server: Server, texts: Sequence[str], expected: Sequence[str], count: Callable[[str], None], until: float, i: int
) -> Callable[[], None]:
    rng = random.Random(i)

    def run() -> None:
        while time.monotonic() < until:
            if rng.random() < 0.1:
                count("n_hostile")
                with contextlib.suppress(OSError):
                    if rng.random() < 0.5:
                        server.leave("/v1/completions", {"prompt": "hello", "max_tokens": -1, "stream": True})
                    elif server.ask(*rng.choice(HOSTILE))[0] >= 500:
                        count("n_errors")
                continue
            number = rng.randrange(len(texts))
            status, answer = server.ask(*task_body(texts[number]))
            count("n_answers" if status == 200 else "n_errors")
            if status == 200 and answer["choices"][0]["message"]["content"] != expected[number]:
                count("n_wrong")

    return run


def _sizes(server: Server, until: float) -> list[int]:
    """The server's resident bytes, every second."""
    process, sizes = psutil.Process(server.process.pid), []
    while time.monotonic() < until or not sizes:
        sizes.append(process.memory_info().rss)
        time.sleep(1)
    return sizes


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--fused", type=Path, help="default: the run's own, from `sg-local export RUN`")
    parser.add_argument(
        "--clients", type=lambda text: [int(n) for n in text.split(",")], help="1,16; 1,4,16,64 with --full"
    )
    parser.add_argument("--requests", type=int, help="of each turn (24; 48 with --full)")
    parser.add_argument("--rounds", type=int, help="turns of each server (1; 3 with --full)")
    parser.add_argument("--full", action="store_true", help="more clients, requests and rounds")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    arguments = parser.parse_args()
    usual = FULL if arguments.full else QUICK
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, [16] if name == "clients" and arguments.soak else value)
    run = open_run(arguments.runs, arguments.run)
    task = from_dict(Task, run.settings["task"])
    texts = [row.input for row in task.tests][:64]
    if arguments.soak:
        found = soak(arguments, texts)
    else:
        fused = sorted(run.root.glob(FUSED))
        arguments.fused = arguments.fused or (fused[0] if fused else parser.error("There is no fused file: --fused"))
        found = compare(arguments, texts)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
