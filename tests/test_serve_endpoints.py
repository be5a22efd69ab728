"""The endpoints as OpenAI's own client uses them, over a scripted engine and tiny real models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import openai
import pytest
from serving import Echo
from starlette.testclient import TestClient
from tiny_models import TinySpec, write_model

from sg_local import prompts, serve
from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.scripted import TEMPLATE
from sg_local.serve.app import make_app

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


class Clients:
    """A test client and OpenAI's client over one application."""

    def __init__(self, worker, registry) -> None:
        app = make_app(worker, registry, serve.Setup())
        self.http = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
        url = "http://127.0.0.1:8080/v1"
        self.openai = openai.OpenAI(api_key="none", base_url=url, http_client=self.http, max_retries=0)


@pytest.fixture
def clients_of():
    workers = []

    def open_clients(engine, *services) -> Clients:
        workers.append(serve.Worker(engine))
        return Clients(workers[-1], serve.Registry.of(*services))

    yield open_clients
    for worker in workers:
        worker.close()


@pytest.fixture
def echo(tmp_path) -> Echo:
    return Echo(tmp_path)


@pytest.fixture
def fluent_clients(clients_of, echo, fluent) -> Clients:
    return clients_of(echo, serve.Service("fluent", FORM, fluent, FORM))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("endpoints")
    model = write_model(folder / "base.gguf", TinySpec(type="F32", head_type="F32"))
    generator = open_generator("llama.cpp", model, EngineSettings(n_ctx=512, fast_copy=False, n_threads=1))
    yield generator
    generator.close()


@pytest.fixture
def tiny_clients(clients_of, tiny, fluent, routing) -> Clients:
    form = prompts.forms_of(tiny.info)[0]
    plain = serve.Service("base", form)
    return clients_of(
        tiny, serve.Service("fluent", form, fluent, form), serve.Service("route", form, routing, form), plain
    )


# OpenAI's client


def test_the_client_lists_and_finds_models(tiny_clients):
    assert [model.id for model in tiny_clients.openai.models.list()] == ["fluent", "route", "base"]
    assert tiny_clients.openai.models.retrieve("route").owned_by == "sg-local"
    with pytest.raises(openai.NotFoundError):
        tiny_clients.openai.models.retrieve("nobody")


def test_the_client_streams_what_it_gets_whole(tiny_clients):
    ask = {"model": "base", "messages": user("hello there"), "max_tokens": 12}
    whole = tiny_clients.openai.chat.completions.create(**ask)
    chunks = list(
        tiny_clients.openai.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content and len(pieces) > 3
    assert chunks[-1].usage == whole.usage and whole.usage.completion_tokens == 12
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_a_task_s_stream_is_its_answer(tiny_clients, tiny, fluent):
    form = prompts.forms_of(tiny.info)[0]
    for text in ("where is um the station", "hello", "who when"):
        ask = {"model": "fluent", "messages": user(text)}
        whole = tiny_clients.openai.chat.completions.create(**ask).choices[0].message.content
        streamed = tiny_clients.openai.chat.completions.create(**ask, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole
    assert form.template is not None


def test_several_choices_have_seeds_of_their_own(tiny_clients):
    ask = {"model": "base", "messages": user("hello"), "max_tokens": 6, "temperature": 1.5, "seed": 3, "n": 4}
    found = [tiny_clients.openai.chat.completions.create(**ask) for _ in range(2)]
    texts = [[choice.message.content for choice in one.choices] for one in found]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    assert [choice.index for choice in found[0].choices] == [0, 1, 2, 3]
    streamed: dict[int, str] = {}
    for chunk in tiny_clients.openai.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[i] for i in range(4)] == texts[0]
    one = tiny_clients.openai.chat.completions.create(**{**ask, "n": 1})
    assert found[0].usage.prompt_tokens == one.usage.prompt_tokens


def test_log_probabilities_come_with_the_likeliest(tiny_clients):
    ask = {"model": "base", "messages": user("hello"), "max_tokens": 5, "logprobs": True, "top_logprobs": 3}
    choice = tiny_clients.openai.chat.completions.create(**ask).choices[0]
    tokens = choice.logprobs.content
    assert len(tokens) == 5 and all(len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in tokens)
    assert b"".join(bytes(token.bytes) for token in tokens).decode("utf-8", "replace") == choice.message.content
    streamed = tiny_clients.openai.chat.completions.create(**ask, stream=True)
    told = [token for chunk in streamed if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.logprob for token in told] == pytest.approx([token.logprob for token in tokens], abs=1e-2)


def test_text_completions_tell_log_probabilities_in_their_own_shape(tiny_clients):
    found = tiny_clients.openai.completions.create(model="base", prompt="hello", max_tokens=4, logprobs=2)
    told = found.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 4
    assert told.text_offset[0] == 0 and all(len(top) <= 2 for top in told.top_logprobs)


def test_a_label_s_log_probability_is_that_of_the_labels(tiny_clients, routing):
    ask = {"model": "route", "messages": user("a parcel"), "logprobs": True, "top_logprobs": 3}
    choice = tiny_clients.openai.chat.completions.create(**ask).choices[0]
    [token] = choice.logprobs.content
    shares = {one.token: math.exp(one.logprob) for one in token.top_logprobs}
    assert set(shares) == set(routing.labels) and sum(shares.values()) == pytest.approx(1)
    assert token.token == choice.message.content == max(shares, key=shares.get)


def test_a_label_is_drawn_where_a_temperature_asks_for_it(clients_of, tmp_path, routing):
    clients = clients_of(Echo(tmp_path), serve.Service("route", FORM, routing, FORM))
    ask = {"model": "route", "messages": user("a delivery came late"), "n": 40}
    greedy = clients.openai.chat.completions.create(**ask)
    assert {choice.message.content for choice in greedy.choices} == {"delivery"}
    drawn = clients.openai.chat.completions.create(**ask, temperature=2, seed=1)
    assert {choice.message.content for choice in drawn.choices} == set(routing.labels)


@pytest.mark.parametrize(
    ("format", "fits"),
    [
        ({"type": "json_object"}, lambda data: isinstance(data, dict)),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "strict": True,
                    "schema": {
                        "type": "object",
                        "properties": {"team": {"enum": ["billing", "delivery"]}},
                        "required": ["team"],
                        "additionalProperties": False,
                    },
                },
            },
            lambda data: data["team"] in ("billing", "delivery"),
        ),
    ],
)
def test_json_formats_bind_the_answer(tiny_clients, format, fits):
    ask = {"model": "base", "messages": user("hello"), "response_format": format, "max_tokens": 200}
    found = tiny_clients.openai.chat.completions.create(**ask).choices[0]
    if found.finish_reason == "stop":  # a model that knows nothing may write without end
        assert fits(json.loads(found.message.content))
    else:
        assert found.message.content.lstrip().startswith("{")


@pytest.mark.parametrize("schema", [{"type": "no such"}, {"$ref": "http://evil.example/x"}, {"$ref": "#/nowhere"}])
def test_a_schema_that_no_grammar_can_hold_is_refused(tiny_clients, schema):
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = tiny_clients.http.post(CHAT, json={"model": "base", "messages": user("x"), "response_format": format})
    assert answer.status_code == 400
    assert (
        tiny_clients.http.post(CHAT, json={"model": "base", "messages": user("x"), "max_tokens": 2}).status_code == 200
    )


@pytest.mark.parametrize("limit", [-1, None])
def test_no_limit_means_as_much_as_the_context_holds(tiny_clients, limit):
    answer = tiny_clients.http.post(TEXT, json={"model": "base", "prompt": "hello there", "max_tokens": limit}).json()
    usage = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "stop" or usage["total_tokens"] == 512


def test_the_client_s_responses_are_plain_text(tiny_clients):
    ask = {"model": "base", "input": "hello there", "max_output_tokens": 9, "instructions": "Be brief."}
    whole = tiny_clients.openai.responses.create(**ask)
    assert whole.status == "incomplete" and whole.output_text and whole.usage.output_tokens == 9
    events = list(tiny_clients.openai.responses.create(**ask, stream=True))
    assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == whole.output_text
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == whole.output_text
    assert [one.sequence_number for one in events] == list(range(len(events)))
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "hello there"}]}]
    system = [{"role": "developer", "content": "Be brief."}]
    again = tiny_clients.openai.responses.create(model="base", input=[*system, *turns], max_output_tokens=9)
    assert again.output_text == whole.output_text


@pytest.mark.parametrize(
    "more",
    [{"store": True}, {"previous_response_id": "resp_1"}, {"tools": [{"type": "web_search"}]}, {"background": True}],
)
def test_responses_refuse_what_they_do_not_keep(fluent_clients, more):
    with pytest.raises(openai.BadRequestError):
        fluent_clients.openai.responses.create(model="fluent", input="x", **more)


# Fields


@pytest.mark.parametrize(
    "field",
    [
        {"grammar": "root ::= x"},
        {"logit_bias": {"5": 100}},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "required"},
        {"suffix": "x"},
        {"echo": True},
        {"best_of": 2},
        {"maxx_tokens": 5},
        {"mirostat": 2},
        {"store": True},
        {"reasoning_effort": "high"},
        {"top_logprobs": 2},
        {"stream_options": {"include_obfuscation": True}},
    ],
)
def test_a_field_that_would_be_ignored_is_refused(fluent_clients, field):
    answer = fluent_clients.http.post(CHAT, json={"messages": user("x"), **field})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == next(iter(field))


@pytest.mark.parametrize(
    "field",
    [
        {"user": "me"},
        {"metadata": {"a": "b"}},
        {"tools": []},
        {"tools": None},
        {"tool_choice": "none"},
        {"logit_bias": {}},
        {"n": 1},
        {"store": False},
        {"parallel_tool_calls": True},
        {"unknown": None},
        {"service_tier": "auto"},
        {"logprobs": False},
    ],
)
def test_a_field_that_asks_for_nothing_is_taken(fluent_clients, field):
    assert fluent_clients.http.post(CHAT, json={"messages": user("x"), **field}).status_code == 200


def test_samplings_that_llama_cpp_knows_are_honoured(fluent_clients, echo):
    asked = {"top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": -0.5}
    fluent_clients.http.post(CHAT, json={"messages": user("x"), "temperature": 1, **asked})
    sampling = echo.asked[-1].sampling
    assert {name: getattr(sampling, name) for name in asked} == asked


def test_labels_refuse_what_cannot_change_them(clients_of, echo, routing):
    clients = clients_of(echo, serve.Service("route", FORM, routing, FORM))
    for field in ({"response_format": {"type": "json_object"}}, {"frequency_penalty": 1}):
        assert clients.http.post(CHAT, json={"messages": user("x"), **field}).status_code == 400


def test_the_fuzzer_s_request_is_refused_in_one_sentence(fluent_clients):
    body = {"model": "fluent", "messages": [{"role": {"0": 1e308}, "content": "s"}], "temperature": 0.5}
    answer = fluent_clients.http.post(CHAT, json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "messages[0]"


def test_events_hold_no_other_line_ends(clients_of, tmp_path):
    clients = clients_of(Echo(tmp_path, lambda text, rng: "a\u2028b\x85c\u2029d\ud83d"), serve.Service("m", FORM))
    for stream in (True, False):
        answer = clients.http.post(CHAT, json={"messages": user("x"), "stream": stream})
        assert answer.status_code == 200 and not set("\u2028\u2029\x85") & set(answer.text)
    told = "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in clients.http.post(CHAT, json={"messages": user("x"), "stream": True}).text.split("\n")
        if line.startswith("data: {")
    )
    assert told == "a\u2028b\x85c\u2029d\ud83d"


def test_a_stream_s_refusal_is_told_by_its_status(fluent_clients):
    answer = fluent_clients.http.post(CHAT, json={"messages": user("word " * 3000), "stream": True})
    assert answer.status_code == 400 and "tokens" in answer.json()["error"]["message"]


def test_systems_and_turns_choose_among_the_same_labels(clients_of, echo, routing):
    """As the exported fused file does: the task stands in front of every conversation."""
    clients = clients_of(echo, serve.Service("route", FORM, routing, FORM))
    delivery = "my delivery never came"
    conversations = [
        user(delivery),
        [{"role": "system", "content": ""}, *user(delivery)],
        [{"role": "system", "content": "Be kind."}, *user(delivery)],
        [*user("a technical fault"), {"role": "assistant", "content": "technical"}, *user(delivery)],
    ]
    answers = [clients.http.post(CHAT, json={"messages": one}).json() for one in conversations]
    assert [one["choices"][0]["message"]["content"] for one in answers] == ["delivery"] * 4


def test_the_curl_lines_of_the_page_are_answered(fluent_clients):
    page = (Path(__file__).parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")
    bodies = [line for line in page.split("```")[1::2] if "curl" in line]
    n_asked = 0
    for block in bodies:
        for command in block.replace("\\\n", " ").splitlines():
            if not command.strip().startswith("curl"):
                continue
            path = command.partition("localhost:8080")[2].split()[0].strip("'\"")
            data = command.partition("-d '")[2].rpartition("'")[0]
            sent = {"content": data, "headers": {"Content-Type": "application/json"}} if data else {}
            answer = fluent_clients.http.request("POST" if data else "GET", path, **sent)
            assert answer.status_code == 200, (command, answer.text)
            n_asked += 1
    assert n_asked >= 5
