"""The HTTP side: OpenAI-compatible routes over a Worker, and the server that listens on loopback.

GET /health, GET /v1/models, POST /v1/chat/completions, POST /v1/completions, POST /v1/systemone. A single user message
gets the tuned task's answer; any other conversation goes through the model's own chat template, and a text prompt to
the model as it is. A stream carries the whole answer in one piece. There is no authentication: the server refuses to
listen beyond this machine unless told to, and on loopback answers only requests that name a loopback host, so that a
web page cannot reach it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sg_local import prompts
from sg_local.backends import Generator
from sg_local.backends.session import Ended, Lane
from sg_local.calibration import UNSURE
from sg_local.records import Completion, Prompt, ScoredPrompt, Segment, SgError
from sg_local.serve import systemone
from sg_local.serve.answers import Ask, Chosen, ServeSettings, Service, check_room, chosen, task_ask
from sg_local.serve.api import (
    ApiError,
    ChatRequest,
    RequestOptions,
    chat_answer,
    chat_chunks,
    model_list,
    read_body,
    read_chat,
    read_text,
    text_answer,
    text_chunks,
)
from sg_local.serve.worker import BuildAsk, Order, Worker

SHUTDOWN_S = 3  # how long open connections may take to end after Ctrl-C


def make_app(worker: Worker, service: Service, settings: ServeSettings) -> Starlette:
    """The application, for any ASGI server. It does not own the worker."""
    routes = Routes(worker, service, settings, int(time.time()))
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/v1/models", routes.models),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.text, methods=["POST"]),
            Route("/v1/systemone", routes.decisions, methods=["POST"]),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _unrouted, Exception: _failed},
    )
    app.state.worker = worker
    return app


def listen(
    generator: Generator, service: Service, settings: ServeSettings, on_ready: Callable[[str], None] | None = None
) -> None:
    """What `sg_local.serve.serve` promises, with the HTTP packages at hand."""
    listener = open_socket(settings)
    worker = Worker(generator, service.adapter)
    url = f"http://{_netloc(settings.host, listener.getsockname()[1])}"
    try:
        app = make_app(worker, service, settings)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_S, lifespan="off")
        server = _Server(config, worker, lambda: on_ready(url) if on_ready is not None else None)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        worker.close()
        listener.close()


def open_socket(settings: ServeSettings) -> socket.socket:
    """A listening socket at the settings' address."""
    if not settings.allow_remote and not is_loopback(settings.host):
        message = f"{settings.host} can be reached from other machines, and the server asks for no password."
        raise SgError(message, "Use `host=127.0.0.1`, or `allow-remote` if you mean it.", exit_code=2)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"Use `port={settings.port + 1}`, or `port=0` for a free one."
            raise SgError(f"Port {settings.port} of {settings.host} is in use.", hint) from error
        message = f"Cannot listen on {_netloc(settings.host, settings.port)}: {error.strerror or error}."
        raise SgError(message, "Use another `host` or `port`.") from error


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True)
class Routes:
    """The endpoints. `created` is the Unix time that /v1/models states."""

    worker: Worker
    service: Service
    settings: ServeSettings
    created: int

    async def health(self, http: Request) -> Response:
        """Whether requests are answered: 200, or 503 once the engine has stopped."""
        self._check_host(http)
        status = "ok" if self.worker.is_alive else "stopped"
        return JSONResponse({"status": status, "model": self.service.name}, 200 if status == "ok" else 503)

    async def models(self, http: Request) -> Response:
        """The one model that is served."""
        self._check_host(http)
        return JSONResponse(model_list(self.service.name, self.created))

    async def chat(self, http: Request) -> Response:
        """A chat completion, whole or as a stream."""
        chat = read_chat(await self._body(http), self.settings.max_tokens)
        self._check_model(chat.options)
        completion = await self._complete(lambda generator: self._chat_ask(generator, chat))
        text = completion.text
        if chat.bare is not None and self.service.task is not None:
            lead = self.service.form.lead if self.service.form is not None else ""
            text = prompts.parse_output(self.service.task, text, lead)
        completion = dataclasses.replace(completion, text=self._sure(completion, text))
        if chat.options.stream:
            return _stream(chat_chunks(self.service.name, completion, include_usage=chat.options.include_usage))
        return JSONResponse(chat_answer(self.service.name, completion))

    def _sure(self, completion: Completion, text: str) -> str:
        """The answer, or that no label is probable enough."""
        if not self.service.abstain or not isinstance(completion, Chosen):
            return text
        likely = self.service.calibration.probabilities(completion.scores)
        return text if max(likely) >= self.service.abstain else UNSURE

    async def text(self, http: Request) -> Response:
        """Text completions of one prompt or several, whole or as a stream."""
        text = read_text(await self._body(http), self.settings.max_tokens)
        self._check_model(text.options)
        asks = [self._text_ask(prompt, text.options) for prompt in text.prompts]
        completions = await asyncio.gather(*map(self._complete, asks))
        if text.options.stream:
            return _stream(text_chunks(self.service.name, completions, include_usage=text.options.include_usage))
        return JSONResponse(text_answer(self.service.name, completions))

    async def decisions(self, http: Request) -> Response:
        """Typed questions on one state, each answered with probabilities (systemone)."""
        try:
            body = await self._body(http)
        except ApiError as error:
            raise systemone.unread(error) from error
        request = systemone.read(body)
        return JSONResponse(await systemone.decide(request, self._deciders, self._scores))

    @property
    def _deciders(self) -> systemone.Deciders:
        """The run, where it has labels, and the base."""
        service, settings = self.service, self.settings
        form = service.chat or prompts.PLAIN
        if service.task is None or service.form is None or not service.task.labels:
            return systemone.Deciders((), form, settings)
        one = systemone.Decider(
            service.name, service.task, service.form, service.calibration, settings, service.abstain
        )
        return systemone.Deciders((one,), form, settings)

    async def _scores(self, build: systemone.Build, run: str | None) -> Sequence[float]:
        try:
            found = await self._complete(build, Lane(None) if run is None else None)
        except ApiError as error:
            if isinstance(error.__cause__, prompts.TooLong):
                raise error.__cause__ from error
            raise
        assert isinstance(found, Chosen)
        return found.scores

    async def _body(self, http: Request) -> dict[str, Any]:
        self._check_host(http)
        return read_body(await http.body())

    def _check_host(self, http: Request) -> None:
        if not self.settings.allow_remote and not is_loopback(http.url.hostname or ""):
            raise ApiError("This server answers requests to a loopback host only.", status=403)

    def _check_model(self, options: RequestOptions) -> None:
        if options.model not in (None, "", self.service.name):
            message = f"There is no model {options.model!r} here; this server has {self.service.name!r}."
            raise ApiError(message, status=404, param="model", code="model_not_found")

    async def _complete(self, build: BuildAsk, lane: Lane | None = None) -> Completion:
        asked: list[Ask] = []

        def kept(generator: Generator) -> Ask:
            asked.append(build(generator))
            return asked[0]

        ticket = self.worker.submit(Order(kept, lane))
        try:
            result = await asyncio.wrap_future(ticket.future)
        except SgError as error:
            raise self._refusal(error) from error
        finally:
            self.worker.cancel(ticket)
        if isinstance(result, Ended):
            return result.completion
        assert isinstance(asked[0], ScoredPrompt)
        return chosen(self.worker.generator, asked[0], result)

    def _refusal(self, error: SgError) -> ApiError:
        return ApiError(f"{error.message} {error.hint}".strip(), status=400 if self.worker.is_alive else 503)

    def _chat_ask(self, generator: Generator, chat: ChatRequest) -> Ask:
        service, sampling, seed = self.service, chat.options.sampling, chat.options.seed
        if chat.bare is not None and service.task is not None and service.form is not None:
            asked = service.task, service.form, chat.bare, self.settings
            return task_ask(generator, *asked, sampling=sampling, seed=seed)
        if service.chat is None:
            raise SgError("This model has no chat template.", "Send a single user message, or use /v1/completions.")
        segments = prompts.render(service.chat, chat.messages)
        check_room(generator, segments, self.settings.n_ctx)
        return Prompt("", segments, sampling, seed)

    def _text_ask(self, text: str, options: RequestOptions) -> BuildAsk:
        def build(generator: Generator) -> Ask:
            segments = (Segment(text, trusted=False),)
            check_room(generator, segments, self.settings.n_ctx)
            return Prompt("", segments, options.sampling, options.seed)

        return build


class _Server(uvicorn.Server):
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


def _stream(chunks: Iterable[dict[str, Any]]) -> Response:
    """Server-sent events, ended as OpenAI ends them."""

    async def events() -> AsyncIterator[str]:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _refused(http: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


async def _unrouted(http: Request, error: Exception) -> Response:
    """Starlette's own refusals, such as 404 and 405, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    refusal = ApiError(f"{http.method} {http.url.path}: {error.detail}.", status=error.status_code)
    return JSONResponse(refusal.body(), refusal.status, headers=error.headers)


async def _failed(http: Request, error: Exception) -> Response:
    """A fault of our own: told as one, without its traceback."""
    return JSONResponse(ApiError("The server failed on this request.", status=500).body(), 500)


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
