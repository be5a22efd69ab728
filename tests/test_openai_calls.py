"""Addresses and single calls of an endpoint: who may be asked, and what happens when an answer does not come."""

from __future__ import annotations

import http.client
import logging
import threading
import time

import pytest
from endpoint_server import Endpoint, Raw, serving

from sg_local.backends import EngineSettings
from sg_local.backends.openai import check_settings
from sg_local.backends.openai.address import Address, access_of, address_of, check_reach
from sg_local.backends.openai.asks import Echoed, Misread, read_written
from sg_local.backends.openai.calls import Caller, Patience, Refused
from sg_local.records import Prompt, Sampling, Segment, SgError

QUICK = Patience(tries=3, first_s=0.01, longest_s=0.05)
PATH = "/v1/completions"
KEY = "sk-very-secret"


def caller_of(endpoint: Endpoint, timeout_s: float = 20.0) -> Caller:
    return Caller(address_of(endpoint.address), KEY, timeout_s, QUICK)


@pytest.fixture
def endpoint():
    with serving(Endpoint(lambda path, body: (200, {"echo": body}))) as found:
        yield found


@pytest.mark.parametrize(
    ("text", "wanted", "is_here"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1", True),
        ("http://localhost:11434", "http://localhost:11434/v1", True),
        ("http://[::1]:9/v1/", "http://[::1]:9/v1", True),
        ("http://127.8.9.1", "http://127.8.9.1:80/v1", True),
        ("https://gpu.example/llm/v1", "https://gpu.example:443/llm/v1", False),
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000/v1", False),
        ("http://localhost.example", "http://localhost.example:80/v1", False),
        ("http://0.0.0.0:8000", "http://0.0.0.0:8000/v1", False),
    ],
)
def test_an_address_is_read_and_known_as_this_machine_s_own_or_not(text, wanted, is_here):
    found = address_of(text)
    assert (str(found), found.is_here) == (wanted, is_here)
    check_reach(found, "anywhere")
    with pytest.raises(SgError, match="ask nobody"):
        check_reach(found, "nowhere")
    if is_here:
        check_reach(found, "here")
    else:
        with pytest.raises(SgError, match="another machine") as refused:
            check_reach(found, "here")
        assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost:8000", "ftp://a/b", "http://", "http://a:99999", "http://a/v1?x=1", "http://a b/", "/v1"),
        *(
            "http://127.0.0.1/\u00fc",
            "http://\u00fc/",
            "http://a..b/",
            f"http://{'a' * 64}/",
            "http://a:0/",
            "http://[x/",
        ),
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(SgError, match="not the address") as refused:
        address_of(text)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "text", [f"http://me:{KEY}@127.0.0.1:8000/v1", f"me:{KEY}@here", f"http://a/v1?key={KEY}", f"http://a/v1#{KEY}"]
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text):
    with pytest.raises(SgError) as refused:
        address_of(text)
    assert KEY not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " "])
def test_a_key_comes_without_the_end_of_its_line(endpoint, end):
    access = access_of("here", KEY + end)
    Caller(address_of(endpoint.address), access.key, 20.0, QUICK).ask(PATH, {})
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("odd", ["\u201d", "\r\nX: y", "\u00e9", "\x00-"])
def test_a_key_that_no_header_may_hold_is_refused_and_not_repeated(odd):
    with pytest.raises(SgError, match="SG_LOCAL_ENDPOINT_KEY") as refused:
        access_of("here", f"{KEY}{odd}k")
    assert refused.value.exit_code == 2 and KEY not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    "settings",
    [{"endpoint_timeout_s": odd} for odd in (-1.0, 0.0, float("nan"), float("inf"))]
    + [{"n_parallel": odd} for odd in (-1, 0)],
)
def test_a_time_or_a_number_of_requests_out_of_range_is_refused(settings):
    check_settings(EngineSettings())
    with pytest.raises(SgError, match=next(iter(settings))) as refused:
        check_settings(EngineSettings(**settings))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "fault",
    [
        *(429, 500, 502, 503, 504, (429, {"Retry-After": "0"}), "cut", b"not json", b"[1]", b"[" * 9000),
        (429, {"Retry-After": "\u00b2"}),
    ],
)
def test_a_passing_fault_is_tried_again(endpoint, fault):
    endpoint.faults = [fault]
    assert caller_of(endpoint).ask(PATH, {"a": 1}) == {"echo": {"a": 1}}
    assert len(endpoint.asked) == 2


def test_silence_is_ended_by_the_timeout_and_tried_again(endpoint):
    endpoint.faults = ["silence"]
    assert caller_of(endpoint, timeout_s=0.3).ask(PATH, {}) == {"echo": {}}


def test_the_pause_is_the_one_that_the_endpoint_asks_for(endpoint):
    endpoint.faults = [(429, {"Retry-After": "1"})]
    patience = Patience(tries=2, first_s=0.0, longest_s=60.0)
    began = time.monotonic()
    caller_of(endpoint).ask(PATH, {}, patience=patience)
    assert time.monotonic() - began >= 1.0


def test_an_endpoint_that_never_answers_is_one_sentence(endpoint):
    endpoint.faults = [503] * 9
    with pytest.raises(SgError, match=r"gave no answer: status 503 \(not now\) \(3 tries\)") as refused:
        caller_of(endpoint).ask(PATH, {})
    assert endpoint.address in refused.value.message and len(endpoint.asked) == 3


def test_no_server_is_one_sentence():
    with pytest.raises(SgError, match="refused"):
        Caller(address_of("http://127.0.0.1:1/v1"), patience=QUICK).ask(PATH, {})


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_what_another_try_cannot_fix_is_refused_at_once(endpoint, status):
    endpoint.faults = [(status, {"Location": "http://10.0.0.7/v1/completions"})]
    with pytest.raises(Refused, match="not now") as refused:
        caller_of(endpoint).ask(PATH, {})
    assert refused.value.status == status and len(endpoint.asked) == 1


def test_the_key_goes_into_one_header_and_into_no_message_or_log(endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda path, body: (401, {"error": {"message": f"bad key {KEY}\x1b[2J"}})
    caller = caller_of(endpoint)
    with pytest.raises(Refused) as refused:
        caller.ask(PATH, {})
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "bad key ***" in str(refused.value) and "\x1b" not in str(refused.value)
    assert KEY not in str(refused.value) + caplog.text + repr(caller)


@pytest.mark.parametrize("at", [240, 260, 285, 299])
def test_a_key_is_taken_out_before_the_endpoint_s_words_are_cut(endpoint, at):
    key = "k" * 63
    endpoint.answer = lambda path, body: (401, {"error": {"message": "." * at + key}})
    with pytest.raises(Refused) as refused:
        Caller(address_of(endpoint.address), key, 20.0, QUICK).ask(PATH, {})
    assert "k" * 4 not in str(refused.value)


def test_a_status_line_of_odd_bytes_is_shown_without_them_and_without_the_key(endpoint):
    endpoint.faults = [Raw(f"\x1b[2J{KEY}\r\n\r\n".encode())] * 9
    with pytest.raises(SgError, match="broke off") as refused:
        caller_of(endpoint).ask(PATH, {})
    assert "\x1b" not in refused.value.message and KEY not in refused.value.message


def test_the_endpoint_s_words_are_in_the_message_and_in_no_log(endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda path, body: (500, {"error": {"message": "no such text: My parcel is late"}})
    with pytest.raises(SgError, match="My parcel"):
        caller_of(endpoint).ask(PATH, {})
    endpoint.faults = [Raw(b"My parcel is late\r\n\r\n")] * 9
    with pytest.raises(SgError, match="My parcel"):
        caller_of(endpoint).ask(PATH, {})
    assert "status 500" in caplog.text and "broke off" in caplog.text and "parcel" not in caplog.text


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X"])
def test_a_head_without_end_is_ended_by_the_timeout(endpoint, head):
    endpoint.faults = [Raw(head, again_s=0.05)]
    assert caller_of(endpoint, timeout_s=2.0).ask(PATH, {}) == {"echo": {}}


def test_stopping_while_it_connects_ends_the_call(endpoint, monkeypatch):
    endpoint.faults = ["silence"]
    caller = caller_of(endpoint, timeout_s=5.0)
    connect = http.client.HTTPConnection.connect

    def late(connection: http.client.HTTPConnection) -> None:
        caller.stop()
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", late)
    with pytest.raises(SgError, match="given up"):
        caller.ask(PATH, {})
    assert not endpoint.asked


def test_connecting_has_a_time_of_its_own(monkeypatch):
    waits = []

    def connect(connection: http.client.HTTPConnection) -> None:
        waits.append(connection.timeout)
        raise TimeoutError

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    with pytest.raises(SgError, match="no connection within 10 s"):
        Caller(Address("http", "127.0.0.1", 9, "/v1"), timeout_s=300.0).ask(PATH, {}, patience=Patience(tries=1))
    assert waits == [10.0]


def test_proxies_of_the_environment_are_not_used(endpoint, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert caller_of(endpoint).ask(PATH, {}) == {"echo": {}}


def test_stopping_ends_a_call_that_waits(endpoint):
    endpoint.faults = ["silence"] * 9
    caller = caller_of(endpoint, timeout_s=30.0)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            caller.ask(PATH, {})
        except SgError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not endpoint.asked:
        time.sleep(0.01)
    caller.stop()
    thread.join(10)
    assert not thread.is_alive() and len(failed) == 1


# Replies


def reply(text="blue", finish="stop", logprobs=(-0.5, -0.25), **usage):
    told = None if logprobs is None else {"token_logprobs": list(logprobs)}
    return {"choices": [{"text": text, "finish_reason": finish, "logprobs": told}], "usage": usage}


def read(found, *stops, n_prompt=3):
    return read_written(found, Prompt("p", (Segment("x"),), Sampling(stop=stops)), n_prompt)


def test_a_reply_becomes_a_completion():
    done = read(reply(prompt_tokens=3, completion_tokens=2))
    assert (done.text, done.finish, done.n_prompt_tokens, done.n_tokens) == ("blue", "stop", 3, 2)
    assert done.logprob == pytest.approx(-0.75)
    assert read(reply(finish="length")).finish == "length"
    assert read(reply(logprobs=None)).logprob == 0.0


def test_a_stop_that_the_endpoint_left_in_is_cut_off_here():
    done = read(reply("red\nblue\n\n", "length"), "\n\n", "\n")
    assert (done.text, done.finish) == ("red", "stop")


def test_hostile_text_can_be_written():
    done = read(reply("\ud800 \x1b[31m \u2028 <|im_end|>"))
    assert done.text.encode() and "\ud800" not in done.text


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"choices": []},
        {"choices": "text"},
        {"choices": [7]},
        {"choices": [{"text": None}]},
        {"choices": [{"text": ["a"]}]},
        reply(prompt_tokens=2),
    ],
)
def test_a_reply_that_holds_no_completion_or_a_cut_prompt_s_is_misread(found):
    with pytest.raises(Misread):
        read(found)


@pytest.mark.parametrize("odd", [float("nan"), "x", True, 4.0, None, -(10**400), 10**400])
def test_scores_are_never_made_of_what_is_no_log_probability(odd):
    found = read(reply(logprobs=[-1.0, odd]))
    assert found.logprob == -1.0
    with pytest.raises(Misread):
        Echoed((None, -1.0)).of(0, 2)
    with pytest.raises(Misread):
        Echoed((None, -1.0)).of(1, 3)
