"""Prompts read back and prompts as token ids: what lets another job take its scores from our own server."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time

import pytest
import uvicorn
from serving import Echo, prompt, question
from starlette.testclient import TestClient
from tiny_models import TinySpec, write_model

from sg_local import prompts, serve
from sg_local.backends import EngineSettings, open_generator
from sg_local.serve.app import make_app

TEXT = "/v1/completions"
HELLO = "Route it to billing or delivery, hello there:"
CHOICES = (" billing", " delivery", " technical")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("echo") / "base.gguf", TinySpec(type="F32", head_type="F32"))


@pytest.fixture(scope="module")
def tiny(model):
    generator = open_generator("llama.cpp", model, EngineSettings(n_ctx=512, fast_copy=False, n_threads=1))
    yield generator
    generator.close()


@contextlib.contextmanager
def app_of(generator):
    """The application over an engine, which is free again afterwards."""
    worker = serve.Worker(generator)
    try:
        registry = serve.Registry.of(serve.Service("base", prompts.PLAIN))
        yield make_app(worker, registry, serve.Setup(serve.ServeSettings(n_ctx=512)))
    finally:
        worker.close()


@pytest.fixture
def ask(tiny):
    """Posts a text completion; its status and body."""
    with app_of(tiny) as app:
        client = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)

        def post(**body):
            answer = client.post(TEXT, json={"temperature": 0, **body})
            return answer.status_code, answer.json()

        yield post


def ids_of(tiny, text: str) -> list[int]:
    return list(tiny.tokenize(prompt(text).segments))


def test_a_prompt_is_read_back_with_its_log_probabilities(ask, tiny):
    status, found = ask(prompt=HELLO, echo=True, logprobs=2, max_tokens=4)
    assert status == 200
    [choice], plain = found["choices"], ask(prompt=HELLO, max_tokens=4)[1]
    told, n = choice["logprobs"], len(ids_of(tiny, HELLO))
    assert choice["text"] == HELLO + plain["choices"][0]["text"] and found["usage"] == plain["usage"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == n + 4
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    assert all(p <= 0 for p in told["token_logprobs"][1:]) and all(len(top) <= 2 for top in told["top_logprobs"][1:])
    assert "".join(told["tokens"]) == choice["text"]


@pytest.mark.parametrize("n_words", [1, 60])  # a prompt of one decode, and one of several
def test_what_is_told_of_a_prompt_adds_up_to_its_score(model, tiny, n_words):
    text = HELLO + " fox jumps" * n_words
    wanted = {c: next(iter(tiny.score([question_without_end(text, c)]))).logprobs[0] for c in CHOICES}
    n = len(ids_of(tiny, text))
    with app_of(tiny) as app:
        client = TestClient(app, base_url="http://127.0.0.1:8080")
        for choice in CHOICES:
            whole = ids_of(tiny, text + choice)
            for sent in (text + choice, whole):
                body = {"prompt": sent, "echo": True, "logprobs": 0, "max_tokens": 0}
                found = client.post(TEXT, json=body).json()["choices"][0]
                assert len(found["logprobs"]["tokens"]) == len(whole) and found["text"] == text + choice
                assert sum(found["logprobs"]["token_logprobs"][n:]) == pytest.approx(wanted[choice], abs=0.02)


def question_without_end(text: str, choice: str):
    return dataclasses.replace(question(text, (choice,), "a"), end=False)


def test_nothing_is_written_where_nothing_is_wanted(ask):
    status, found = ask(prompt=[HELLO, "hello"], echo=True, max_tokens=0)
    assert status == 200 and [one["text"] for one in found["choices"]] == [HELLO, "hello"]
    assert all(one["logprobs"] is None and one["finish_reason"] == "length" for one in found["choices"])
    assert found["usage"]["completion_tokens"] == 0 and found["usage"]["prompt_tokens"] > 2
    assert ask(prompt=HELLO, max_tokens=0)[0] == 400


def test_token_ids_are_the_prompt_that_they_are(ask, tiny):
    one, two = ids_of(tiny, HELLO), ids_of(tiny, "hello")
    texts = [one_choice["text"] for one_choice in ask(prompt=[HELLO, "hello"], max_tokens=6)[1]["choices"]]
    assert [c["text"] for c in ask(prompt=[one, two], max_tokens=6)[1]["choices"]] == texts
    assert ask(prompt=one, max_tokens=6)[1]["choices"][0]["text"] == texts[0]
    assert ask(prompt=one, max_tokens=6)[1]["usage"]["prompt_tokens"] == len(one)


@pytest.mark.parametrize("sent", [[10**6], [-1], [1.5], [True], [[1], "a", [10**6]], [[]], [], [["a"]], "", None])
def test_what_are_no_token_ids_is_refused(ask, sent):
    status, found = ask(prompt=sent, max_tokens=2)
    assert (status, sent) in ((400, sent), (200, "")) and ("error" in found) == (status == 400)


@pytest.mark.parametrize("more", [{"stream": True}, {"n": 2}])
def test_an_echo_that_cannot_be_told_is_refused(ask, more):
    status, found = ask(prompt=HELLO, echo=True, **more)
    assert status == 400 and found["error"]["param"] == "echo"


def test_an_engine_that_cannot_read_back_says_so(tmp_path):
    with app_of(Echo(tmp_path)) as app:
        client = TestClient(app, base_url="http://127.0.0.1:8080")
        for body in ({"prompt": "hello", "echo": True}, {"prompt": [1, 2]}):
            answer = client.post(TEXT, json=body)
            assert answer.status_code == 400 and "This engine" in answer.json()["error"]["message"]


@contextlib.contextmanager
def listening(app):
    """The application on a port of its own; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < until and thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()


def test_a_job_takes_texts_and_scores_from_our_own_server(tiny, model, tmp_path):
    texts = ["Where is my parcel?", "I paid twice </s> yesterday", "na\u00efve caf\u00e9 \U0001f642"]
    asks = [question(text, CHOICES, text) for text in texts]
    rows = [prompt(text, text, max_tokens=6) for text in texts]
    scores = {one.prompt_id: one.logprobs for one in tiny.score(asks)}
    written = {one.prompt_id: one.text for one in tiny.generate(rows)}
    with app_of(tiny) as app, listening(app) as address:
        settings = EngineSettings(n_ctx=256, n_threads=1, fast_copy=False, cache=tmp_path, endpoint=address)
        generator = open_generator("openai", model, settings)
        assert generator.offer.takes_ids and generator.scores_there
        assert {one.prompt_id: one.text for one in generator.generate(rows)} == written
        for one in generator.score(asks):
            assert one.logprobs == pytest.approx(scores[one.prompt_id], abs=0.05)
        generator.close()
