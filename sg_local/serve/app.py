"""The HTTP side: the routes over a Worker. gate.py decides who gets in, writing.py what is asked of the engine.

GET /health, /metrics, /v1/models, /v1/models/ID; POST /v1/chat/completions, /v1/completions, /v1/responses,
/v1/systemone; GET and POST /v1/runs, DELETE /v1/runs/ID. In a conversation that begins with a user's turn the tuned
task answers; a text prompt goes to the model as it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from sg_local import prompts
from sg_local.backends.session import Lane
from sg_local.records import SgError
from sg_local.serve import systemone
from sg_local.serve.answers import ServeSettings, Service
from sg_local.serve.api import ApiError, Bounds, read_body
from sg_local.serve.choices import Choice
from sg_local.serve.completions import ChatReply, TextReply, read_chat, read_text
from sg_local.serve.door import Setup
from sg_local.serve.ensemble import Build, Heads
from sg_local.serve.gate import Gate, Told
from sg_local.serve.metrics import Metrics
from sg_local.serve.places import Places
from sg_local.serve.registry import Registry
from sg_local.serve.replies import Answer, Json
from sg_local.serve.responses import ResponseReply, read_response
from sg_local.serve.streaming import Events, Written, begun, chunks, response_events, unless_gone
from sg_local.serve.worker import Worker
from sg_local.serve.writing import chat_choices, score, text_choices, written

T = TypeVar("T")


def make_app(worker: Worker, registry: Registry, setup: Setup) -> Gate:
    """The application, for any ASGI server. It does not own the worker."""
    metrics = Metrics()
    routes = Routes(worker, registry, setup, metrics)
    router = Router(
        [
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.text, methods=["POST"]),
            Route("/v1/responses", routes.response, methods=["POST"]),
            Route("/v1/systemone", routes.decisions, methods=["POST"]),
            Route("/v1/runs", routes.runs, methods=["GET", "POST"]),
            Route("/v1/runs/{name}", routes.drop, methods=["DELETE"]),
        ],
        redirect_slashes=False,
    )
    return Gate(router, setup.door, setup.limits, metrics, setup.log)


class Routes:
    """The endpoints."""

    def __init__(self, worker: Worker, registry: Registry, setup: Setup, metrics: Metrics) -> None:
        self._worker, self._registry, self._metrics = worker, registry, metrics
        self._settings, self._limits = setup.settings, setup.limits
        self._bounds = Bounds(setup.limits, setup.settings.max_tokens)
        self._places = Places(setup.limits.queue)

    async def health(self, http: Request) -> Response:
        """Whether requests are answered: 200, or 503 once the engine has stopped."""
        alive = self._worker.is_alive
        return Json({"status": "ok" if alive else "stopped"}, 200 if alive else 503)

    async def metrics(self, http: Request) -> Response:
        """Counters in Prometheus's text format."""
        text = self._metrics.text({"queue": self._worker.n_open, "models": len(self._registry.names)})
        return PlainTextResponse(text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def models(self, http: Request) -> Response:
        """The models that are served, as OpenAI's clients read them, and as those of decision APIs do."""
        services = self._registry.services
        models = [self._model(one.name) for one in services]
        tuned = [one.adapter is not None for one in services]
        told = [systemone.told(m["id"], m["created"], is_tuned=is_so) for m, is_so in zip(models, tuned, strict=True)]
        return Json({"object": "list", "data": models, "models": told})

    async def model(self, http: Request) -> Response:
        """One model."""
        name = http.path_params["name"]
        if not name:
            raise HTTPException(404)
        return Json(self._model(self._registry.find(name).name))

    async def runs(self, http: Request) -> Response:
        """The models, or one more of them."""
        if http.method == "GET":
            return await self.models(http)
        name = (await self._body(http)).get("run")
        if not isinstance(name, str):
            raise ApiError('Say which run: {"run": "NAME"}.', param="run")
        try:
            service = await asyncio.to_thread(self._registry.add, name)
        except SgError as error:
            raise ApiError(_told(error), param="run") from error
        return Json(self._model(service.name), 201)

    async def drop(self, http: Request) -> Response:
        """Serve a run no longer; requests under way are answered."""
        name = http.path_params["name"]
        self._registry.drop(name)
        return Json({"id": name, "object": "model", "deleted": True})

    async def chat(self, http: Request) -> Response:
        """A chat completion, whole or as a stream."""
        chat = read_chat(await self._body(http), self._bounds)
        service = self._registry.find(chat.options.model)
        choices = chat_choices(service, chat, self._settings_of(service))
        return await self._completed(http, choices, ChatReply(service.name))

    async def text(self, http: Request) -> Response:
        """Text completions of one prompt or several, whole or as a stream."""
        text = read_text(await self._body(http), self._bounds)
        service = self._registry.find(text.options.model)
        choices = text_choices(service, text, self._settings_of(service))
        return await self._completed(http, choices, TextReply(service.name))

    async def response(self, http: Request) -> Response:
        """A response in plain text, whole or as events."""
        request = read_response(await self._body(http), self._bounds)
        service = self._registry.find(request.options.model)
        choices = chat_choices(service, request, self._settings_of(service))
        reply = ResponseReply(service.name, request)
        if request.options.stream:
            return Events(response_events(await begun(http, self._written(http, choices)), reply))
        [answer] = await self._whole(http, choices)
        return Json(reply.whole(answer))

    async def decisions(self, http: Request) -> Response:
        """Typed questions on one state, each answered with probabilities (systemone)."""
        try:
            body = await self._body(http)
        except ApiError as error:
            raise systemone.unread(error) from error
        request = systemone.read(body)
        if len(request.questions) > self._limits.questions:
            message = f"A request may ask {self._limits.questions} questions."
            raise systemone.Misread(message, place=("questions",))
        asking = asyncio.timeout(self._limits.request_s)
        try:
            with self._taken(len(request.questions)):
                async with asking:
                    answer = await unless_gone(http, systemone.decide(request, self._deciders(), self._scores))
        except TimeoutError as error:
            raise ApiError("The answer took too long.", status=408, code="timeout") from error
        told: Told = http.scope["sg_local"]
        told.model = str(answer["model"]) if answer["model"] in self._registry.names else ""
        told.n_prompt_tokens = answer["usage"]["input_tokens"]
        return Json(answer)

    def _deciders(self) -> systemone.Deciders:
        """The runs that have labels, and the base."""
        services = self._registry.services
        form = next((one.chat for one in services if one.chat is not None), prompts.PLAIN)
        runs = tuple(
            systemone.Decider(
                one.name, one.task, one.form, one.calibration, self._settings_of(one), one.abstain, one.labeller
            )
            for one in services
            if one.task is not None and one.form is not None and one.task.labels
        )
        return systemone.Deciders(runs, form, self._settings)

    async def _scores(self, build: Build, heads: Heads = (), *, run: str | None) -> Sequence[float]:
        """A scored ask's log P, of a run or of the base."""
        lane = Lane(None) if run is None else self._registry.find(run).lane
        try:
            return await score(self._worker, build, lane, heads)
        except prompts.TooLong:
            raise
        except SgError as error:
            raise self._refusal(error) from error

    def _settings_of(self, service: Service) -> ServeSettings:
        return service.settings or self._settings

    def _model(self, name: str) -> dict[str, Any]:
        created = self._registry.created(name)
        return {"id": name, "object": "model", "created": created, "owned_by": "sg-local"}

    async def _body(self, http: Request) -> dict[str, Any]:
        """The body as JSON, in time and within bounds."""
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for chunk in http.stream():
                    data += chunk
                    if len(data) > self._limits.body_bytes:
                        message = f"A body may take {self._limits.body_bytes} bytes."
                        raise ApiError(message, status=413, headers={"Connection": "close"})
        except TimeoutError as error:
            told = {"Connection": "close"}
            raise ApiError("The body did not come in time.", status=408, headers=told) from error
        return read_body(bytes(data))

    def _taken(self, n: int) -> AbstractContextManager[None]:
        """Places for so many choices at once. Raises ApiError where there are too few, or nothing answers."""
        if not self._worker.is_alive:
            raise ApiError("The engine has stopped. Start the server again.", status=503)
        return self._places.taken(n)

    async def _whole(self, http: Request, choices: list[Choice]) -> list[Answer]:
        """All answers, unless the client leaves."""

        async def all_of_them() -> list[Answer]:
            found: dict[int, Answer] = {}
            async with aclosing(self._written(http, choices)) as events:
                async for index, what in events:
                    if isinstance(what, Answer):
                        found[index] = what
            return [found[i] for i in range(len(choices))]

        return await unless_gone(http, all_of_them())

    async def _written(self, http: Request, choices: list[Choice]) -> Written:
        """What the engine writes, its refusals as this client's."""
        told: Told = http.scope["sg_local"]
        told.model = choices[0].service.name
        seen: set[int] = set()
        try:
            with self._taken(len(choices)):
                async with aclosing(written(self._worker, choices, self._limits.request_s)) as events:
                    async for index, what in events:
                        if isinstance(what, Answer):
                            told.n_tokens += what.n_tokens
                            told.n_prompt_tokens += what.n_prompt_tokens if what.prompt not in seen else 0
                            seen.add(what.prompt)
                        yield index, what
        except SgError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: SgError) -> ApiError:
        return ApiError(_told(error), status=400 if self._worker.is_alive else 503)

    async def _completed(self, http: Request, choices: list[Choice], reply: ChatReply | TextReply) -> Response:
        """A completion, whole or as a stream."""
        if choices[0].options.stream:
            return Events(chunks(await begun(http, self._written(http, choices)), choices, reply))
        return Json(reply.whole(await self._whole(http, choices)))


PATH = re.compile(r"(?:[\w.~-]*/){2,}(?=[^\s/])")
"""The folders in front of a file's name."""


def _told(error: SgError) -> str:
    """What a client is told: without the folders of this machine."""
    return PATH.sub("", f"{error.message} {error.hint}".strip())
