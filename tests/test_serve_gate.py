"""Who gets in: hosts, origins, keys, content types, limits; and what is told of a request."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

import pytest
from serving import Echo
from starlette.testclient import TestClient

from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE
from sg_local.records import SgError
from sg_local.serve.app import make_app

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "a secret word"}]}
DOOR, LIMITS = serve.Door(), serve.Limits()
PAGE = "https://app.example"


@pytest.fixture
def client_of(tmp_path):
    """Opens test clients over an echoing engine."""
    workers = []

    def open_client(door=DOOR, limits=LIMITS, log=None, engine=None, opener=None) -> TestClient:
        workers.append(serve.Worker(engine or Echo(tmp_path)))
        registry = serve.Registry(opener)
        registry.put(serve.Source(lambda: serve.Service("m", FORM)))
        app = make_app(workers[-1], registry, serve.Setup(door=door, limits=limits, log=log))
        client = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
        client.worker, client.registry = workers[-1], registry
        return client

    yield open_client
    for worker in workers:
        worker.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST.:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8080", 403),
        ("evil.example@127.0.0.1", 400),
        ("127.0.0.1:8080, evil.example", 400),
        ("127.0.0.1:port", 400),
        ("[::1", 400),
        ("", 400),
        ("127.0.0.1/x", 400),
        ("evil.example:80:80", 400),
    ],
)
def test_the_raw_host_must_be_this_machine(client_of, host, status):
    client = client_of()
    for path in ("/health", "/v1/models"):
        assert client.get(path, headers={"Host": host}).status_code == status
    assert client.post(CHAT, json=ASK, headers={"Host": host}).status_code == status


def test_a_host_that_comes_twice_is_refused(client_of):
    headers = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert client_of().get("/health", headers=headers).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://app.example.evil.example"},
    ],
)
def test_pages_of_other_origins_are_refused(client_of, headers):
    client = client_of(serve.Door(origins=(PAGE,)))
    for answer in (client.get("/v1/models", headers=headers), client.post(CHAT, json=ASK, headers=headers)):
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8080"}])
def test_programs_and_own_pages_get_in(client_of, headers):
    assert client_of().post(CHAT, json=ASK, headers=headers).status_code == 200


def test_a_page_that_is_allowed_asks_first_and_is_told_answers(client_of):
    client = client_of(serve.Door(origins=(PAGE,), api_key="k"))
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    asked = client.options(CHAT, headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site", **wanted})
    assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in asked.headers["access-control-allow-methods"]
    for key, status in (("k", 200), ("wrong", 401)):
        answer = client.post(CHAT, json=ASK, headers={"Origin": PAGE, "Authorization": f"Bearer {key}"})
        assert answer.status_code == status and answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_only_json_is_taken(client_of, kind):
    answer = client_of().post(CHAT, content=json.dumps(ASK), headers={"Content-Type": kind})
    assert answer.status_code == 415 and "application/json" in answer.json()["error"]["message"]


def test_json_may_name_its_character_set(client_of):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client_of().post(CHAT, content=json.dumps(ASK), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer k\u00e4y", 200),
        ("bearer k\u00e4y", 200),
        ("Bearer nope", 401),
        ("k\u00e4y", 401),
        ("", 401),
        (None, 401),
    ],
)
def test_a_key_must_be_known(client_of, given, status):
    client = client_of(serve.Door(api_key="k\u00e4y"))
    headers = {} if given is None else {"Authorization": given.encode("utf-8")}
    for path in ("/v1/models", "/metrics", "/v1/runs"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer" and answer.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/health").status_code == 200


def test_a_key_is_not_shown(client_of):
    assert "secret" not in repr(serve.Door(api_key="secret"))


def test_the_request_log_tells_no_texts(client_of, caplog):
    lines = []
    client = client_of(log=lines.append)
    with caplog.at_level(logging.DEBUG):
        client.post(CHAT, json=ASK)
        client.post("/v1/a secret path", json=ASK)
        client.post(CHAT, json={**ASK, "model": "a secret model"})
    assert lines[0].startswith("POST /v1/chat/completions m 200 ") and lines[0].endswith(" tokens")
    assert lines[1].startswith("POST other 404 ")
    logged = [record.getMessage() for record in caplog.records if record.name.startswith(("sg_local", "uvicorn"))]
    assert logged and "secret" not in "".join([*lines, *logged])


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nothing", "GET", 404), (CHAT, "GET", 405), ("/v1/models/", "GET", 404)]
)
def test_what_is_not_there_is_told_in_the_same_shape(client_of, path, method, status):
    answer = client_of().request(method, path)
    assert answer.status_code == status and set(answer.json()["error"]) == {"message", "type", "param", "code"}


# Limits


def test_a_large_body_is_refused(client_of):
    client = client_of(limits=serve.Limits(body_bytes=100))
    assert client.post(CHAT, json={**ASK, "user": "x" * 100}).status_code == 413
    assert client.post(CHAT, json=ASK).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 3}, "n"),
        ({"max_tokens": 11}, "max_tokens"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 99]}}}},
            "response_format",
        ),
    ],
)
def test_what_goes_beyond_a_limit_is_refused(client_of, body, param):
    client = client_of(limits=serve.Limits(prompts=2, tokens=10, schema_bytes=90))
    answer = client.post(CHAT, json={**ASK, **body})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert client.post("/v1/completions", json={"prompt": ["a", "b", "c"]}).status_code == 400
    assert client.post("/v1/completions", json={"prompt": ["a", "b"]}).status_code == 200


def test_a_full_queue_says_when_to_come_again(client_of):
    client = client_of(limits=serve.Limits(queue=1))
    answer = client.post("/v1/completions", json={"prompt": ["a", "b"]})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "queue_full"
    assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_a_request_that_takes_too_long_ends_and_frees_its_row(client_of, tmp_path):
    from serving import Stepwise

    engine = Stepwise(tmp_path)
    client = client_of(limits=serve.Limits(request_s=0.2), engine=engine)
    assert client.post(CHAT, json=ASK).status_code == 408
    engine.go_on.set()
    assert client.post(CHAT, json=ASK).status_code == 200


# Models


def test_runs_are_added_and_dropped_while_it_serves(client_of):
    def opener(name: str):
        if name != "second":
            raise SgError(f"There is no run named {name!r}.")
        return serve.Source(lambda: serve.Service(name, FORM))

    client = client_of(opener=opener)
    assert client.post("/v1/runs", json={"run": "second"}).status_code == 201
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["m", "second"]
    assert client.get("/v1/models/second").json()["id"] == "second"
    assert client.post(CHAT, json={**ASK, "model": "second"}).json()["model"] == "second"
    assert client.post(CHAT, json=ASK).status_code == 400  # which of the two?
    assert client.post("/v1/runs", json={"run": "third"}).status_code == 400
    assert client.post("/v1/runs", json={}).status_code == 400
    assert client.delete("/v1/runs/second").json()["deleted"]
    assert client.delete("/v1/runs/second").status_code == 404
    assert client.delete("/v1/runs/m").status_code == 409
    assert client.post(CHAT, json={**ASK, "model": "second"}).status_code == 404


def test_no_path_of_this_machine_is_told(client_of):
    def opener(name: str):
        raise SgError("There is no adapter at /home/me/runs/x/adapter.gguf.", "Look into ~/runs/x/or y.")

    message = client_of(opener=opener).post("/v1/runs", json={"run": "x"}).json()["error"]["message"]
    assert "home" not in message and message.startswith("There is no adapter at adapter.gguf.")


def test_runs_are_changed_on_the_server_s_own_machine_only(tmp_path):
    worker = serve.Worker(Echo(tmp_path))
    registry = serve.Registry.of(serve.Service("m", FORM))
    door = serve.Door(allow_remote=True, api_key="k")
    app = make_app(worker, registry, serve.Setup(door=door))
    client = TestClient(app, base_url="http://192.168.1.5:8080", client=("192.168.1.9", 5000))
    key = {"Authorization": "Bearer k"}
    assert client.get("/v1/models", headers=key).status_code == 200
    for answer in (
        client.get("/v1/runs", headers=key),
        client.post("/v1/runs", json={"run": "x"}, headers=key),
        client.delete("/v1/runs/m", headers=key),
    ):
        assert answer.status_code == 403
    worker.close()


def test_a_run_that_was_made_anew_is_read_anew():
    stamps, names = [1], ["first text"]

    def load() -> serve.Service:
        if names[-1] == "broken":
            raise SgError("The adapter is damaged.")
        return serve.Service("run", FORM, version=names[-1])

    registry = serve.Registry()
    registry.put(serve.Source(load, lambda: stamps[-1]))
    assert registry.find("run").version == "first text"
    names.append("second")
    assert registry.find("run").version == "first text"
    stamps.append(2)
    assert registry.find("run").version == "second"
    names.append("broken")
    stamps.append(3)
    assert registry.find("run").version == "second"


@pytest.mark.parametrize("fault", [RuntimeError("no lane is free"), SgError("no lane is free", "Wait.")])
def test_a_fit_that_fails_is_told_and_tried_again(caplog, fault):
    stamps, faults = [1], []

    def finish() -> serve.Service:
        if faults:
            raise faults.pop()
        return serve.Service("run", FORM, version=f"fitted {stamps[-1]}")

    registry = serve.Registry()
    registry.put(serve.Source(lambda: serve.Service("run", FORM, version="read"), lambda: stamps[-1], finish))
    registry.beside = object()
    stamps.append(2)
    faults.append(fault)
    assert registry.find("run").version == "read"
    entry = registry._entries["run"]
    settled(lambda: entry.retry_at_s is not None)
    assert "no lane is free" in caplog.text
    assert registry.find("run").version == "read" and entry.retry_at_s > time.monotonic()  # not yet again
    entry.retry_at_s = time.monotonic()
    settled(lambda: registry.find("run").version == "fitted 2")


def settled(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    for _ in range(500):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


def test_metrics_are_prometheus_text(client_of):
    client = client_of()
    client.post(CHAT, json=ASK)
    client.post(CHAT, json={"messages": []})
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'sg_local_requests_total{model="m",path="/v1/chat/completions",status="200"} 1' in lines
    assert 'sg_local_requests_total{model="",path="/v1/chat/completions",status="400"} 1' in lines
    assert 'sg_local_tokens_total{kind="completion",model="m"} 3' in lines
    assert "sg_local_queue 0" in lines and "sg_local_models 1" in lines
    assert 'sg_local_request_seconds_count{model="m",path="/v1/chat/completions"} 1' in lines
    buckets = [int(line.rpartition(" ")[2]) for line in lines if 'bucket{model="m"' in line and "chat" in line]
    assert buckets == sorted(buckets) and buckets[-1] == 1
