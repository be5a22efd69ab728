"""What `serve.queue` counts: a request gets its places before any of its work begins, or is refused whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE, ScriptedGenerator
from sg_local.records import Score
from sg_local.serve.api import ApiError
from sg_local.serve.app import make_app
from sg_local.serve.places import Places

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
WAIT_S = 60
"""Far longer than anything here takes."""


class Held(ScriptedGenerator):
    """Scores nothing until it may go on."""

    def __init__(self, tmp_path) -> None:
        super().__init__(tmp_path / "engine.gguf", lambda prompt, rng: "")
        self.n_scored = 0
        self.started, self.go_on = threading.Event(), threading.Event()

    def score(self, prompts):
        for prompt in prompts:
            self.started.set()
            assert self.go_on.wait(WAIT_S)
            self.n_scored += 1
            yield Score(prompt.id, tuple(-float(len(text)) for text in prompt.continuations))


@pytest.fixture
def engine(tmp_path):
    return Held(tmp_path)


@pytest.fixture
def client(engine):
    """A client of the untuned base, which scores each question many times, with places for four."""
    worker = serve.Worker(engine)
    setup = serve.Setup(limits=serve.Limits(queue=4))
    app = make_app(worker, serve.Registry.of(serve.Service("m", FORM)), setup)
    yield TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    engine.go_on.set()
    worker.close()


def decide(client, n_questions, state="I was charged twice."):
    question = {"type": "choice", "criteria": dict.fromkeys(("billing", "delivery", "technical"))}
    return client.post(
        "/v1/systemone", json={"state": state, "questions": dict.fromkeys("abcdefgh"[:n_questions], question)}
    )


def test_places_are_given_all_at_once_and_come_back():
    places = Places(3)
    with places.taken(2):
        with pytest.raises(ApiError, match="try again in a moment") as refused, places.taken(2):
            pass
        assert refused.value.status == 429 and places.n_taken == 2
        with places.taken(1):
            assert places.n_taken == 3
    with pytest.raises(ZeroDivisionError), places.taken(3):
        1 / 0  # noqa: B018
    assert places.n_taken == 0


def test_a_decision_request_takes_a_place_for_each_question_however_often_the_engine_is_asked(client, engine):
    engine.go_on.set()
    found = decide(client, 4)
    assert found.status_code == 200 and len(found.json()["answers"]) == 4, found.text
    assert engine.n_scored > 4


def test_a_request_for_which_there_are_too_few_places_is_refused_before_any_of_its_work(client, engine):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(decide, client, 3)
        assert engine.started.wait(WAIT_S)
        refused = decide(client, 2)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        chat = {"messages": [{"role": "user", "content": "Hello"}], "n": 2}
        assert client.post("/v1/chat/completions", json={**chat, "stream": True}).status_code == 429
        engine.go_on.set()
        assert first.result(WAIT_S).status_code == 200
    n_scored = engine.n_scored
    assert decide(client, 3).status_code == 200 and engine.n_scored == 2 * n_scored, "what was refused was not asked"


def test_a_request_that_never_fits_says_so(client, engine):
    found = decide(client, 5)
    assert found.status_code == 429 and "asks for 5 answers" in found.json()["error"]["message"]
    assert not engine.started.is_set()


def test_a_request_that_fails_leaves_its_places(client, engine):
    engine.go_on.set()
    assert decide(client, 4, "parcel " * 40_000).status_code == 413
    assert decide(client, 4).status_code == 200
