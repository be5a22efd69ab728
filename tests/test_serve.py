"""Answers for lines and for HTTP requests, over scripted engines and once over the real one."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from serving import Echo, last_input
from starlette.testclient import TestClient

from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE
from sg_local.cli.hints import on_the_command_line
from sg_local.records import Completion, SgError
from sg_local.serve.app import make_app
from sg_local.serve.batch import label_scores
from sg_local.serve.door import is_loopback
from sg_local.serve.listen import open_socket

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SETUP = serve.Setup()


@pytest.fixture
def echo(tmp_path) -> Echo:
    return Echo(tmp_path)


@pytest.fixture
def client_of():
    """Opens test clients over a generator and a service; their workers are closed at the end."""
    workers = []

    def open_client(generator, service, setup=SETUP) -> TestClient:
        workers.append(serve.Worker(generator))
        app = make_app(workers[-1], serve.Registry.of(service), setup)
        client = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
        client.worker = workers[-1]
        return client

    yield open_client
    for worker in workers:
        worker.close()


@pytest.fixture
def client(client_of, echo, fluent) -> TestClient:
    """A client of the fluent task (generation), answered in upper case."""
    return client_of(echo, serve.Service("fluent-run", FORM, fluent, FORM))


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


# predict


def test_predict_answers_in_order_and_keeps_blank_lines(echo, fluent):
    assert list(serve.predict(echo, fluent, FORM, ["one\n", "\n", "two", " "])) == ["ONE", "", "TWO", ""]


def test_predict_sorts_what_the_engine_ends_early(tmp_path, fluent):
    class Backwards(Echo):
        def generate(self, prompts):
            yield from reversed(list(super().generate(prompts)))

    lines = [f"line {i}" for i in range(12)]
    assert list(serve.predict(Backwards(tmp_path), fluent, FORM, lines)) == [line.upper() for line in lines]


def test_predict_uses_the_prompt_that_training_uses(echo, fluent):
    list(serve.predict(echo, fluent, FORM, ["where is it"]))
    asked = echo.asked[0]
    assert asked.segments == prompts.answer_prompt(fluent, FORM, "where is it")
    assert asked.sampling.temperature == 0 and "\n" in asked.sampling.stop


def test_predict_chooses_among_labels(echo, routing):
    lines = ["technical fault", "a delivery", "billing, please"]
    assert list(serve.predict(echo, routing, FORM, lines)) == ["technical", "delivery", "billing"]
    assert [ask.end for ask in echo.scored] == [True] * 3 and echo.asked == []


def test_label_scores_keep_the_order_of_the_texts(tmp_path, routing):
    class Backwards(Echo):
        def score(self, prompts):
            yield from reversed(list(super().score(prompts)))

    texts = ["technical fault", "a delivery", "billing, please"]
    found = list(label_scores(Backwards(tmp_path), routing, FORM, texts))
    assert found == [(-1, -1, 0), (-1, 0, -1), (0, -1, -1)]


def test_predict_can_write_freely_and_canonically(tmp_path, routing):
    generator = Echo(tmp_path, lambda text, rng: " Output: BILLING. ")
    settings = serve.ServeSettings(restricted=False)
    assert list(serve.predict(generator, routing, FORM, ["x"], settings)) == ["billing"]


def test_predict_starts_before_the_last_line_is_read(echo, fluent):
    def lines():
        yield "first"
        pytest.fail("read ahead of a lazy engine")

    assert next(serve.predict(echo, fluent, FORM, lines())) == "FIRST"


def test_predict_answers_the_lines_before_one_that_is_too_long(echo, fluent):
    answers = serve.predict(echo, fluent, FORM, ["fine", "word " * 3000, "never"])
    assert next(answers) == "FINE"
    with pytest.raises(SgError, match="^Line 2: The prompt has"):
        next(answers)


def test_demonstrations_give_way_to_a_long_input(echo, fluent):
    text = "a long question " * 30
    whole = len(echo.tokenize(prompts.answer_prompt(fluent, FORM, text)))
    list(serve.predict(echo, fluent, FORM, [text], serve.ServeSettings(n_ctx=whole)))
    assert echo.asked[0].segments == prompts.answer_prompt(fluent, FORM, text.strip(), fluent.examples[1:])


# HTTP: the good case


def test_a_bare_user_message_gets_the_tasks_prompt(client, echo, fluent):
    answer = client.post(CHAT, json={"model": "fluent-run", "messages": user("where is it")})
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "chat.completion" and body["model"] == "fluent-run"
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "WHERE IS IT", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert echo.asked[0].segments == prompts.answer_prompt(fluent, FORM, "where is it")
    assert echo.asked[0].sampling.temperature == 0


def test_usage_counts_add_up(client, echo):
    usage = client.post(CHAT, json={"messages": user("one two three")}).json()["usage"]
    assert usage["completion_tokens"] == 3
    assert usage["prompt_tokens"] == len(echo.tokenize(echo.asked[0].segments))
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3


def test_a_classification_task_answers_with_a_label(client_of, echo, routing):
    client = client_of(echo, serve.Service("route", FORM, routing, FORM))
    body = client.post(CHAT, json={"messages": user("a delivery came late")}).json()
    assert body["choices"][0]["message"]["content"] == "delivery"
    assert body["usage"]["prompt_tokens"] == len(echo.tokenize(echo.scored[0].segments))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}, *user("hello")],
        [*user("hello"), {"role": "assistant", "content": "Hi."}, *user("and now?")],
    ],
    ids=["system", "turns"],
)
def test_other_conversations_hold_the_task_as_the_fused_file_does(client, echo, fluent, messages):
    assert client.post(CHAT, json={"messages": messages}).status_code == 200
    assert echo.asked[0].segments == prompts.conversation_prompt(fluent, FORM, messages, fluent.examples)
    assert fluent.instruction in "".join(segment.text for segment in echo.asked[0].segments)


def test_a_conversation_without_a_question_goes_through_the_chat_template(client, echo):
    messages = [{"role": "assistant", "content": "Hi."}, *user("hello")]
    assert client.post(CHAT, json={"messages": messages}).status_code == 200
    assert echo.asked[0].segments == prompts.render(FORM, messages)


def test_a_fused_file_is_served_through_its_own_template(client_of, echo):
    client = client_of(echo, serve.Service("fused", FORM))
    assert client.post(CHAT, json={"messages": user("hello")}).status_code == 200
    assert echo.asked[0].segments == prompts.render(FORM, user("hello"))


def test_content_may_come_in_parts_and_from_a_developer(client, echo, fluent):
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    messages = [{"role": "developer", "content": parts}, *user("hello")]
    assert client.post(CHAT, json={"messages": messages}).status_code == 200
    asked = [{"role": "system", "content": "Be brief."}, *user("hello")]
    assert echo.asked[0].segments == prompts.conversation_prompt(fluent, FORM, asked, fluent.examples)


def test_sampling_options_reach_the_engine(client, echo):
    options = {"temperature": 0.7, "top_p": 0.9, "max_completion_tokens": 7, "stop": ["!", "?"], "seed": 41}
    client.post(CHAT, json={"messages": user("x"), **options})
    sampling = echo.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.7, 0.9, 7)
    assert sampling.stop[:2] == ("!", "?") and "\n" in sampling.stop
    assert echo.asked[0].seed == 42


def test_the_same_seed_gives_the_same_answer(client_of, tmp_path):
    generator = Echo(tmp_path, lambda text, rng: str(rng.random()))
    client = client_of(generator, serve.Service("m", FORM))
    texts = [
        client.post(CHAT, json={"messages": user("x"), "temperature": 1, "seed": seed}).json()["choices"][0]
        for seed in (5, 5, 6)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_cut_answer_says_length(client_of, tmp_path):
    class Cut(Echo):
        def generate(self, prompts):
            for completion in super().generate(prompts):
                yield replace(completion, finish="context")

    client = client_of(Cut(tmp_path), serve.Service("m", FORM))
    assert client.post(CHAT, json={"messages": user("x")}).json()["choices"][0]["finish_reason"] == "length"


def test_text_completions_answer_each_prompt_as_it_is(client, echo):
    body = client.post(TEXT, json={"prompt": ["Once upon", "The end <|im_end|>"], "max_tokens": 3}).json()
    assert [choice["text"] for choice in body["choices"]] == ["ONCE UPON", "THE END <|IM_END|>"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert all(not segment.trusted for prompt in echo.asked for segment in prompt.segments)


def events(text: str) -> list[str]:
    assert text.endswith("\n\n")
    return [line.removeprefix("data: ") for line in text.strip().split("\n\n")]


def test_a_chat_stream_is_server_sent_events(client):
    answer = client.post(
        CHAT, json={"messages": user("a b"), "stream": True, "stream_options": {"include_usage": True}}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    *parts, usage = map(json.loads, chunks)
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in parts) == "A B"
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 2
    assert len({part["id"] for part in parts}) == 1


def test_a_text_stream_is_server_sent_events(client):
    *chunks, done = events(client.post(TEXT, json={"prompt": "a b", "stream": True}).text)
    assert done == "[DONE]" and [json.loads(chunk)["choices"][0]["text"] for chunk in chunks] == ["A B", ""]


def test_models_and_health_name_what_is_served(client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["fluent-run"]
    assert client.get("/health").json() == {"status": "ok"}


# HTTP: refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CHAT, b"{", 400, None),
        (CHAT, b"\xff\xfe", 400, None),
        (CHAT, b"[]", 400, None),
        (CHAT, b"[" * 100_000, 400, None),
        (CHAT, {}, 400, "messages"),
        (CHAT, {"messages": []}, 400, "messages"),
        (CHAT, {"messages": ["hello"]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "user"}]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0]"),
        (CHAT, {"messages": user("x"), "model": "gpt-4"}, 404, "model"),
        (CHAT, {"messages": user("x"), "model": 4}, 400, "model"),
        (CHAT, {"messages": user("x"), "temperature": 9}, 400, "temperature"),
        (CHAT, {"messages": user("x"), "temperature": True}, 400, "temperature"),
        (CHAT, {"messages": user("x"), "max_tokens": 0}, 400, "max_tokens"),
        (CHAT, {"messages": user("x"), "max_tokens": 1.5}, 400, "max_tokens"),
        (CHAT, {"messages": user("x"), "seed": "1"}, 400, "seed"),
        (CHAT, {"messages": user("x"), "stop": [""]}, 400, "stop"),
        (CHAT, {"messages": user("x"), "stop": list("abcde")}, 400, "stop"),
        (CHAT, {"messages": user("x"), "n": 65}, 400, "n"),
        (CHAT, {"messages": user("x"), "tools": [{}]}, 400, "tools"),
        (CHAT, {"messages": user("x"), "response_format": {"type": "xml"}}, 400, "response_format"),
        (CHAT, {"messages": user("x"), "stream": True, "stream_options": 1}, 400, "stream_options"),
        (CHAT, {"messages": user("word " * 3000)}, 400, None),
        (TEXT, {}, 400, "prompt"),
        (TEXT, {"prompt": [1, 2]}, 400, "prompt"),
        (TEXT, {"prompt": "word " * 3000}, 400, None),
        ("/v1/nothing", {}, 404, None),
    ],
)
def test_a_bad_request_gets_one_error_in_openais_shape(client, path, body, status, param):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert "Traceback" not in error["message"] and "\n" not in error["message"]


def test_the_wrong_method_is_405(client):
    answer = client.get(CHAT)
    assert answer.status_code == 405 and answer.json()["error"]["type"] == "invalid_request_error"


def test_a_model_without_a_chat_template_says_what_to_send(client_of, echo, fluent):
    client = client_of(echo, serve.Service("m", None, fluent, prompts.PLAIN))
    answer = client.post(CHAT, json={"messages": [{"role": "assistant", "content": "x"}, *user("y")]})
    assert answer.status_code == 400 and "no chat template" in answer.json()["error"]["message"]
    assert client.post(CHAT, json={"messages": user("y")}).status_code == 200


def test_a_template_that_refuses_is_a_bad_request(client_of, echo):
    form = replace(FORM, template="{{ raise_exception('no system role') }}")
    answer = client_of(echo, serve.Service("m", form)).post(CHAT, json={"messages": user("x")})
    assert answer.status_code == 400 and "no system role" in answer.json()["error"]["message"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_of_the_engine_fails_one_request_and_no_other(client_of, tmp_path):
    def crash(text, rng):
        if "crash" in last_input(text):
            raise RuntimeError("a fault of our own")
        return "fine"

    client = client_of(Echo(tmp_path, crash), serve.Service("m", FORM))
    answer = client.post(CHAT, json={"messages": user("crash")})
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert client.get("/health").status_code == 200
    assert client.post(CHAT, json={"messages": user("x")}).json()["choices"][0]["message"]["content"] == "fine"


def test_a_closed_engine_is_503(client_of, echo):
    client = client_of(echo, serve.Service("m", FORM))
    client.worker.close()
    answer = client.post(CHAT, json={"messages": user("x")})
    assert answer.status_code == 503 and answer.json()["error"]["type"] == "server_error"
    assert client.get("/health").status_code == 503


def test_half_a_character_kills_nothing(client):
    body = json.dumps({"prompt": "hello", "max_tokens": 3, "stop": ["\ud83d"]})
    answer = client.post(TEXT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert client.post(CHAT, json={"messages": user("x")}).status_code == 200


def test_a_fault_of_our_own_is_500_without_a_traceback(client_of, tmp_path):
    class Odd(Echo):
        def generate(self, prompts):
            for prompt in filter(None, prompts):
                yield Completion(prompt.id, object(), "stop", 1, 1, 0.0)

    answer = client_of(Odd(tmp_path), serve.Service("m", FORM)).post(CHAT, json={"messages": user("x")})
    assert answer.status_code == 500 and answer.json()["error"]["message"] == "The server failed on this request."


def test_a_foreign_host_name_is_refused_on_loopback(client):
    for path in ("/health", "/v1/models"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 403
    answer = client.post(CHAT, json={"messages": user("x")}, headers={"host": "evil.example:8080"})
    assert answer.status_code == 403


# Listening


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example", False),
    ],
)
def test_loopback_is_told_from_the_rest(host, loopback):
    assert is_loopback(host) is loopback


def test_listening_beyond_loopback_must_be_asked_for():
    with pytest.raises(SgError, match="other machines") as raised:
        open_socket(serve.Door(host="0.0.0.0"))
    assert raised.value.exit_code == 2
    with pytest.raises(SgError, match="no key") as raised:
        open_socket(serve.Door(host="0.0.0.0", port=0, allow_remote=True))
    assert raised.value.exit_code == 2 and "--api-key" in on_the_command_line(raised.value.hint, ())
    open_socket(serve.Door(host="0.0.0.0", port=0, allow_remote=True, api_key="k")).close()


def test_an_answer_s_second_packet_waits_for_nobody():
    with open_socket(serve.Door(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SgError, match=f"Port {port} of 127.0.0.1 is in use") as raised:
            open_socket(serve.Door(port=port))
    assert f"--port {port + 1}" in on_the_command_line(raised.value.hint, ())


def test_missing_http_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(SgError, match="starlette") as raised:
        serve.check_packages()
    assert "sg-local[serve]" in raised.value.hint


def test_random_is_not_a_shared_stream(client):
    state = random.getstate()
    client.post(CHAT, json={"messages": user("x"), "temperature": 1})
    assert random.getstate() == state


# For real

SERVER = """
import sys
from pathlib import Path
from sg_local import prompts, serve
from sg_local.backends import EngineSettings, open_generator
from sg_local.tasks import load_task
generator = open_generator("llama.cpp", Path(sys.argv[1]), EngineSettings(n_ctx=1024, fast_copy=False))
form = prompts.forms_of(generator.info)[0]
service = serve.Service("route", form, load_task("support_routing"), form)
setup = serve.Setup(serve.ServeSettings(n_ctx=1024), serve.Door(port=0))
serve.serve(generator, serve.Registry.of(service), setup, lambda url: print(url, flush=True))
generator.close()
print("closed", flush=True)
"""


@pytest.fixture
def server(embedded, tmp_path):
    """The embedded model's real server in a process of its own: (process, URL)."""
    command = [sys.executable, "-c", SERVER, str(embedded)]
    with (tmp_path / "stderr").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), (tmp_path / "stderr").read_text()
    yield process, url
    process.kill()
    process.communicate()


def post(url: str, body: dict) -> tuple[int, dict]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_a_real_server_answers_many_and_leaves_on_ctrl_c(server, tmp_path):
    process, url = server
    long = {"prompt": "Once upon a time", "max_tokens": 900}
    bodies = [(CHAT, {"messages": user(f"Parcel {i} is lost.")}) for i in range(6)]
    bodies += [(TEXT, {**long, "max_tokens": 12})] * 2
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda one: post(url + one[0], one[1]), bodies))
        assert [status for status, _ in answers] == [200] * 8
        labels = [body["choices"][0]["message"]["content"] for _, body in answers[:6]]
        assert set(labels) <= {"billing", "delivery", "technical"}
        texts = [body["choices"][0]["text"] for _, body in answers[6:]]
        assert texts[0] == texts[1] and answers[6][1]["usage"]["completion_tokens"] == 12
        cut = pool.submit(post, url + TEXT, long)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert cut.result()[0] in (200, 503)
    assert process.wait(30) == 0
    assert process.stdout.read() == "closed\n"
    assert "Traceback" not in (tmp_path / "stderr").read_text()
