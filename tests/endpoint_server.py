"""An OpenAI-compatible server on loopback for tests of its clients: what it offers can be chosen, and how it fails.

`TinyModel` answers with a tiny GGUF by llama.cpp's own Python class: nothing of sg-local's engines has a part in it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]
"""(path, body) to HTTP's status and a JSON value."""


@dataclass(frozen=True)
class Raw:
    """What comes instead of a reply, its head and all; again after so many seconds where that is not 0."""

    data: bytes
    again_s: float = 0.0

    def drip(self, out: BinaryIO, released: threading.Event) -> None:
        out.write(self.data)
        while self.again_s and not released.wait(self.again_s):
            out.write(self.data)


SILENCE = Raw(b"", 30.0)


@dataclass
class Endpoint:
    """What is served. `faults` strike the next requests for completions, one each: a status, (status, headers), bytes
    for a body, `Raw`, `cut` or `silence`; None lets one through.
    """

    answer: Answer
    faults: list[Any] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    pause_s: float = 0.0
    most_at_once: int = 0
    address: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def written(self) -> list[dict[str, Any]]:
        """The bodies of the requests for completions."""
        return [body for path, body in self.asked if path.endswith("/completions")]

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def fault(self, path: str) -> Any:
        with self._lock:
            found = self.faults.pop(0) if self.faults and path.endswith("/completions") else None
            return SILENCE if found == "silence" else found


class Server(ThreadingHTTPServer):
    """A client that goes away is part of the tests, and no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve it on a free port of 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: dict[str, Any]) -> None:
            endpoint.asked.append((self.path, body))
            endpoint.headers.append(dict(self.headers))
            fault = endpoint.fault(self.path)
            if fault is None or fault == "cut":
                with endpoint.counted():
                    time.sleep(endpoint.pause_s)
                    status, found = endpoint.answer(self.path, body)
                self._send(status, json.dumps(found).encode(), {}, cut=fault == "cut")
            elif isinstance(fault, Raw):
                fault.drip(self.wfile, endpoint.released)
            elif isinstance(fault, bytes):
                self._send(200, fault, {})
            else:
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                self._send(status, b'{"error": {"message": "not now"}}', headers)

        def _send(self, status: int, data: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    endpoint.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        endpoint.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Manner:
    """How a server reads and answers."""

    takes_ids: bool = True
    reads_specials: bool = True
    echoes: bool = True
    shifted: bool = False
    tokenizes: bool = True
    counts: bool = True
    refuses: tuple[str, ...] = ()
    names: tuple[str, ...] = ("tiny",)
    is_ollama: bool = False
    text: str | None = None
    begins: bool = True
    fails_at: tuple[str, ...] = ()
    penalty: float = 1.0


class TinyModel:
    """Answers completions with a GGUF. Greedy where the temperature is 0, else drawn by the request's seed."""

    def __init__(self, path: Path, manner: Manner | None = None) -> None:
        import llama_cpp

        self.manner = manner or Manner()
        self.llama = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=1, logits_all=True, verbose=False)
        self._lock = threading.Lock()

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.manner.names]}
        if path == "/tokenize" and self.manner.tokenizes:
            return 200, {"tokens": self.llama.tokenize(body["prompt"].encode(), add_bos=False, special=True)}
        if path in ("/api/version", "/api/generate") and self.manner.is_ollama:
            return (200, {"version": "0.13.0"}) if path == "/api/version" else self._generate(body)
        if path != "/v1/completions" or self.manner.is_ollama:
            return 404, {"error": {"message": "not here"}}
        refused = [name for name in body if name in self.manner.refuses]
        if refused or (body.get("echo") and not self.manner.echoes):
            return 400, {"error": {"message": f"{refused or 'echo'} unknown"}}
        if any(name in body for name in self.manner.fails_at):
            return 500, {"error": {"message": "internal"}}
        with self._lock:
            return self._complete(body)

    def _generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Ollama's own way, as its docs/api.md has it."""
        options = body["options"]
        assert body["raw"] is True and isinstance(body["prompt"], str)
        with self._lock:
            _, found = self._complete({**options, "prompt": body["prompt"], "max_tokens": options["num_predict"]})
        choice, usage = found["choices"][0], found["usage"]
        counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
        return 200, {"response": choice["text"], "done": True, "done_reason": choice["finish_reason"], **counts}

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids = self._ids(body["prompt"])
        if ids is None:
            return 400, {"error": {"message": "prompt must be a text"}}
        self.llama.reset()
        self.llama.eval(ids)
        told = [None, *(self._log_p(i)[token] for i, token in enumerate(ids[1:]))] if body.get("echo") else []
        written, finish = self._write(len(ids), body)
        text = self.llama.detokenize([token for token, _ in written]).decode("utf-8", "replace")
        tokens = [*(ids if body.get("echo") else []), *(token for token, _ in written)]
        if self.manner.shifted and told:  # as llama_cpp.server tells them of models without a first token of their own
            told = [None, *(float(self._log_p(i)[token]) for i, token in enumerate(ids))][1:]
            told[0] = None
        logprobs = [*told, *(p for _, p in written)]
        choice = {"text": text if self.manner.text is None else self.manner.text, "finish_reason": finish}
        if "logprobs" in body:
            names = [self.llama.detokenize([token]).decode("utf-8", "replace") for token in tokens]
            top = self._top(len(ids) - 1, body["logprobs"])
            choice["logprobs"] = {
                "top_logprobs": [top],
                "tokens": names,
                "token_logprobs": [p if p is None else float(p) for p in logprobs],
            }
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written)}
        return 200, {"choices": [choice], **({"usage": usage} if self.manner.counts else {})}

    def _top(self, row: int, n: int) -> dict[str, float]:
        log_p = self._log_p(row)
        best = np.argsort(-log_p)[:n]
        return {self.llama.detokenize([int(i)]).decode("utf-8", "replace"): float(log_p[i]) for i in best}

    def _ids(self, prompt: Any) -> list[int] | None:
        if isinstance(prompt, list):
            return list(prompt) if self.manner.takes_ids else None
        return list(
            self.llama.tokenize(prompt.encode(), add_bos=self.manner.begins, special=self.manner.reads_specials)
        )

    def _write(self, n: int, body: dict[str, Any]) -> tuple[list[tuple[int, float]], str]:
        rng, written = np.random.default_rng(body.get("seed", 0)), []
        ends = {self.llama.token_eos(), *body.get("stop_token_ids", ())}
        for _ in range(body["max_tokens"]):
            log_p = self._log_p(n - 1)
            past = list({token for token, _ in written})
            log_p[past] *= body.get("repeat_penalty", self.manner.penalty)
            token = int(log_p.argmax()) if not body["temperature"] else _drawn(log_p, body, rng)
            if token in ends:
                return written, "stop"
            written.append((token, float(log_p[token])))
            text = self.llama.detokenize([one for one, _ in written]).decode("utf-8", "replace")
            if any(stop in text for stop in body.get("stop", ())):
                return written, "stop"
            self.llama.eval([token])
            n += 1
        return written, "length"

    def _log_p(self, row: int) -> np.ndarray:
        logits = self.llama.scores[row].astype(np.float64)
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def close(self) -> None:
        self.llama.close()


def _drawn(log_p: np.ndarray, body: dict[str, Any], rng: np.random.Generator) -> int:
    kept = np.argsort(-log_p)[: body.get("top_k") or len(log_p)]
    p = np.exp(log_p[kept] / body["temperature"])
    return int(rng.choice(kept, p=p / p.sum()))
