"""The generator over an endpoint, against llama.cpp's own class behind HTTP: same tokens, texts and scores as here."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from endpoint_server import Endpoint, Manner, TinyModel, serving
from serving import prompt, question
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.openai import calls, offer
from sg_local.backends.openai.address import HERE, Access, address_of
from sg_local.backends.openai.generator import EndpointGenerator
from sg_local.records import Completion, Prompt, Sampling, Score, ScoredPrompt, Segment, SgError

SPEC = TinySpec(type="F32", head_type="F32", width=64, ffn=128)
CHOICES = (" billing", " delivery", " technical")
TEXTS = [f"Route the message number {i} to billing, delivery or technical:" for i in range(5)]
NEAR = 2e-3


@pytest.fixture(scope="module", params=["bpe", "spm"])
def model(request, tmp_path_factory):
    """Without a beginning-of-sequence token, and with one."""
    return write_model(
        tmp_path_factory.mktemp("openai") / "tiny.gguf", dataclasses.replace(SPEC, tokenizer=request.param)
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all: what was tried in a process of its own is not tried again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tiny(model):
    found = TinyModel(model)
    yield found
    found.close()


@pytest.fixture(scope="module")
def here(model, cache):
    settings = EngineSettings(n_ctx=256, n_parallel=4, n_threads=1, fast_copy=False, cache=cache)
    found = open_generator("llama.cpp", model, settings)
    yield found
    found.close()


@pytest.fixture
def opened(model, tiny, cache, monkeypatch):
    """Opens a generator on an endpoint that has this manner."""
    monkeypatch.setattr(offer, "SOON", calls.Patience(tries=3, first_s=0.01, longest_s=0.05))
    monkeypatch.setattr(calls, "USUAL", calls.Patience(tries=3, first_s=0.01, longest_s=0.05))

    @contextmanager
    def open_it(access: Access = HERE, n_parallel: int = 4, **manner):
        tiny.manner = Manner(**manner)
        with serving(Endpoint(tiny)) as endpoint:
            settings = EngineSettings(
                n_ctx=256,
                n_parallel=n_parallel,
                n_threads=1,
                fast_copy=False,
                cache=cache,
                endpoint=endpoint.address,
                endpoint_timeout_s=20.0,
            )
            generator = open_generator("openai", model, settings, access)
            assert isinstance(generator, EndpointGenerator)
            try:
                yield generator, endpoint
            finally:
                generator.close()

    return open_it


def by_id(found):
    return {one.prompt_id: one for one in found}


def greedy(texts):
    return [prompt(text, text, max_tokens=6) for text in texts]


def test_texts_are_those_that_the_model_writes_here(opened, here):
    with opened() as (generator, endpoint):
        found, wanted = by_id(generator.generate(greedy(TEXTS))), by_id(here.generate(greedy(TEXTS)))
        assert {id: one.text for id, one in found.items()} == {id: one.text for id, one in wanted.items()}
        for id, one in wanted.items():
            assert isinstance(one, Completion)
            assert found[id].n_prompt_tokens == one.n_prompt_tokens
            assert found[id].logprob == pytest.approx(one.logprob, abs=0.05)
        assert all(isinstance(body["prompt"], list) for body in endpoint.written[-5:])


@pytest.mark.parametrize("takes_ids", [True, False])
def test_scores_are_those_of_this_machine(opened, here, takes_ids):
    asks = [question(text, CHOICES, text) for text in TEXTS]
    with opened(takes_ids=takes_ids) as (generator, endpoint):
        assert generator.scores_there
        found, wanted = by_id(generator.score(asks)), by_id(here.score(asks))
        assert any(body.get("echo") for body in endpoint.written)
    for text in TEXTS:
        assert isinstance(found[text], Score)
        assert found[text].logprobs == pytest.approx(wanted[text].logprobs, abs=0.02)


@pytest.mark.parametrize("manner", [{}, {"takes_ids": False}, {"takes_ids": False, "tokenizes": False}])
def test_nothing_is_asked_twice_to_find_what_it_offers(opened, manner):
    with opened(**manner) as (generator, endpoint):
        assert generator.offer.model
        asked = [json.dumps(body, sort_keys=True) for body in endpoint.written]
    assert len(asked) > 5 and len(set(asked)) == len(asked)


def test_seeds_and_settings_of_a_draw_are_sent_and_repeat(opened):
    ask = Prompt("p", (Segment(TEXTS[0], trusted=False),), Sampling(2.0, top_k=7, top_p=0.9, max_tokens=5), seed=77)
    with opened() as (generator, endpoint):
        first, again = (next(iter(generator.generate([ask]))).text for _ in range(2))
        assert first == again
        sent = endpoint.written[-1]
    assert (sent["seed"], sent["temperature"], sent["top_k"], sent["top_p"]) == (77, 2.0, 7, 0.9)


@pytest.mark.parametrize("is_ollama", [False, True])
def test_what_a_server_s_own_defaults_would_change_is_sent(opened, here, is_ollama):
    draw = Prompt("p", (Segment(TEXTS[0], trusted=False),), Sampling(2.0, top_k=0, max_tokens=5), seed=7)
    with opened(is_ollama=is_ollama, tokenizes=not is_ollama, penalty=8.0) as (generator, endpoint):
        found, wanted = by_id(generator.generate(greedy(TEXTS))), by_id(here.generate(greedy(TEXTS)))
        assert {id: one.text for id, one in found.items()} == {id: one.text for id, one in wanted.items()}
        list(generator.generate([draw]))
        sent = endpoint.asked[-1][1]
    sent = sent["options"] if is_ollama else sent
    assert sent["top_k"] >= 100_000 and sent["min_p"] == 0.0
    assert (sent["repeat_penalty"], sent["presence_penalty"], sent["frequency_penalty"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("tokenizes", [True, False])
def test_a_server_of_texts_that_leaves_out_their_beginning_is_refused_at_once(opened, here, tokenizes):
    with opened(takes_ids=False, begins=False, tokenizes=tokenizes) as (generator, _):
        if here.info.add_bos:
            with pytest.raises(SgError, match="beginning-of-sequence") as refused:
                list(generator.generate(greedy(TEXTS)))
            assert refused.value.exit_code == 2
        else:
            assert len(by_id(generator.generate(greedy(TEXTS)))) == 5


@pytest.mark.parametrize("room", [1, 0, -1])
def test_a_scored_prompt_whose_echo_has_no_room_is_scored_here(opened, here, room):
    """The last token of a continuation is never read, and an echo writes one more."""
    text, n = "word", 0
    while n < 255 - room:
        text, n = f"{text} a", len(here.tokenize((Segment(f"{text} a", trusted=False),)))
    ask = ScoredPrompt("s", (Segment(text, trusted=False),), (" b",))
    with opened() as (generator, endpoint):
        assert generator.scores_there
        n_asked = len(endpoint.asked)
        found, wanted = next(iter(generator.score([ask]))), next(iter(here.score([ask])))
        assert all(len(body["prompt"]) + body["max_tokens"] <= 256 for _, body in endpoint.asked[n_asked:])
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=0.02)


def test_the_number_of_requests_is_none_of_sequences_here(opened):
    with opened(n_parallel=7) as (generator, _):
        assert generator.choice is None
        generator.use_adapter(None)
        assert generator.here is not None and generator.choice.n_parallel != 7


def test_an_untrusted_special_string_stays_text_at_an_endpoint_that_takes_text_only(opened, here, model):
    end = here.info.eos
    hostile = [prompt(f"Say {end} once", "hostile", max_tokens=4), *greedy(TEXTS[:1])]
    with opened(takes_ids=False) as (generator, endpoint):
        found = by_id(generator.generate(hostile))
        assert end not in "".join(str(body["prompt"]) for body in endpoint.written[-1:])
        assert found["hostile"].text == by_id(here.generate(hostile))["hostile"].text
        assert "computed on this machine" in " ".join(generator.notes)


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ({"echoes": False}, "no log-probabilities of prompts"),
        ({"shifted": True}, "no log-probabilities of prompts"),
        ({"refuses": ("logprobs",)}, "no log-probabilities of prompts"),
        ({"refuses": ("top_k",)}, "no top_k"),
        ({"refuses": ("min_p",)}, "no min_p"),
        ({"refuses": ("repeat_penalty", "repetition_penalty")}, "no repeat penalty"),
        ({"fails_at": ("echo",)}, "no log-probabilities of prompts"),
        ({"tokenizes": False, "counts": False}, "unchecked"),
    ],
)
def test_what_it_lacks_is_said_and_done_without(opened, here, manner, said):
    asks = [question(text, CHOICES, text) for text in TEXTS[:2]]
    with opened(**manner) as (generator, endpoint):
        assert said in " ".join(generator.notes)
        assert endpoint.address in generator.notes[0]
        assert len(by_id(generator.generate(greedy(TEXTS)))) == 5
        found, wanted = by_id(generator.score(asks)), by_id(here.score(asks))
    for one in wanted.values():
        assert found[one.prompt_id].logprobs == pytest.approx(one.logprobs, abs=0.02)


def test_as_many_requests_as_are_allowed_are_under_way(opened):
    with opened(n_parallel=3) as (generator, endpoint):
        assert generator.offer
        endpoint.pause_s, endpoint.most_at_once = 0.1, 0
        assert len(by_id(generator.generate(greedy(f"Number {i}:" for i in range(9))))) == 9
        assert endpoint.most_at_once == 3


def test_faults_on_the_way_change_no_row(opened):
    with opened(n_parallel=1) as (generator, endpoint):  # which request meets which fault is told beforehand
        wanted = by_id(generator.generate(greedy(TEXTS)))
        endpoint.faults = [(429, {"Retry-After": "0"}), 500, None, "cut", b"{", None, 503]
        assert by_id(generator.generate(greedy(TEXTS))) == wanted


def test_a_busy_endpoint_is_asked_again_what_it_offers(opened):
    with opened() as (generator, endpoint):
        endpoint.faults = [None, 429, None, 503, None, 429]
        assert generator.offer.takes_ids and {"top_k", "logprobs"} <= generator.offer.fields


def test_a_failure_for_good_comes_after_the_rows_that_were_written(opened):
    with opened(n_parallel=1) as (generator, endpoint):
        assert generator.offer
        endpoint.faults = [None, None, *[500] * 9]
        found = []
        with pytest.raises(SgError, match="gave no answer"):
            found.extend(one.text for one in generator.generate(greedy(TEXTS)))
        endpoint.faults = []
        assert len(by_id(generator.generate(greedy(TEXTS)))) == 5  # it can be asked again


def test_another_model_is_refused_before_anything_is_asked_of_it(model, cache, tmp_path):
    other = TinyModel(write_model(tmp_path / "other.gguf", dataclasses.replace(SPEC, chat_template=None)))
    other.llama.tokenize, same = (lambda *a, **k: [5, 6, 7]), other.llama.tokenize
    try:
        for tokenizes in (True, False):
            other.manner = Manner(tokenizes=tokenizes)
            with serving(Endpoint(other)) as endpoint:
                settings = EngineSettings(n_ctx=256, cache=cache, endpoint=endpoint.address)
                generator = open_generator("openai", model, settings)
                with pytest.raises(SgError, match="another model") as refused:
                    list(generator.generate(greedy(TEXTS[:1])))
                assert refused.value.exit_code == 2 and len(endpoint.written) <= 1
                generator.close()
    finally:
        other.llama.tokenize = same
        other.close()


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (("a", "b"), "", "which of its models"),
        (("a", "b"), "c", "no model 'c'"),
        ((), "", "which of its models"),
    ],
)
def test_the_model_s_name_is_asked_for_where_it_is_in_doubt(model, tiny, cache, names, wanted, message):
    tiny.manner = Manner(names=names)
    with serving(Endpoint(tiny)) as endpoint:
        settings = EngineSettings(n_ctx=256, cache=cache, endpoint=endpoint.address, endpoint_model=wanted)
        generator = open_generator("openai", model, settings)
        with pytest.raises(SgError, match=message):
            list(generator.generate(greedy(TEXTS[:1])))
        generator.close()


def test_the_base_s_name_or_ours_is_taken_among_several(opened):
    with opened(names=("other", "org/tiny")) as (generator, _):
        assert generator.offer.model == "org/tiny"
    with opened(names=("other", "org/TINY")) as (generator, _):
        assert generator.offer.model == "org/TINY"
    with opened(names=("run-1", "base")) as (generator, _):
        assert generator.offer.model == "base"


def test_a_prompt_or_an_answer_beyond_the_context_is_refused_or_cut(opened):
    with opened() as (generator, endpoint):
        with pytest.raises(SgError, match="the context holds 256"):
            list(generator.generate([prompt("word " * 300, "long")]))
        ids = generator.tokenize((Segment("word " * 40, trusted=False),))
        list(generator.generate([prompt("word " * 40, "p", max_tokens=500)]))
        assert endpoint.written[-1]["max_tokens"] == 256 - len(ids)


def test_a_grammar_and_an_adapter_answer_on_this_machine(opened, here, tmp_path):
    held = [prompt(TEXTS[0], "held", max_tokens=8, grammar='root ::= " billing" | " delivery"')]
    lora = write_lora(tmp_path / "adapter.gguf", lora_pairs(dataclasses.replace(SPEC), size=0.5), 8.0)
    with opened() as (generator, endpoint):
        assert next(iter(generator.generate(held))).text in (" billing", " delivery")
        n = len(endpoint.asked)
        generator.use_adapter(lora)
        tuned = by_id(generator.generate(greedy(TEXTS)))
        assert len(endpoint.asked) == n
        generator.use_adapter(None)
        base = by_id(generator.generate(greedy(TEXTS)))
        assert len(endpoint.asked) > n
    here.use_adapter(lora)
    wanted = by_id(here.generate(greedy(TEXTS)))
    here.use_adapter(None)
    assert {id: one.text for id, one in tuned.items()} == {id: one.text for id, one in wanted.items()}
    assert {id: one.text for id, one in base.items()} == {
        id: one.text for id, one in by_id(here.generate(greedy(TEXTS))).items()
    }


def test_an_endpoint_out_of_reach_is_never_asked(opened):
    with opened(Access("nowhere")) as (generator, endpoint):
        assert generator.tokenize((Segment("hello"),))
        with pytest.raises(SgError, match="ask nobody"):
            list(generator.generate(greedy(TEXTS[:1])))
        assert endpoint.asked == []


def test_an_empty_continuation_has_no_score(opened):
    with opened() as (generator, _), pytest.raises(SgError, match="without text"):
        list(generator.score([ScoredPrompt("s", (Segment("x", trusted=False),), ("",))]))


def test_ollama_is_asked_in_its_own_way_for_prompts_as_they_are(opened, here, tiny):
    """Its /v1/completions would wrap each prompt in the model's template."""
    asks = [question(text, CHOICES, text) for text in TEXTS[:1]]
    with opened(is_ollama=True, tokenizes=False) as (generator, endpoint):
        found, wanted = by_id(generator.generate(greedy(TEXTS))), by_id(here.generate(greedy(TEXTS)))
        assert {id: one.text for id, one in found.items()} == {id: one.text for id, one in wanted.items()}
        sent = [body for path, body in endpoint.asked if path == "/api/generate"][-1]
        assert sent["raw"] is True and sent["stream"] is False and sent["options"]["num_ctx"] == 256
        assert sent["options"]["num_predict"] == 6 and "no log-probabilities" in " ".join(generator.notes)
        assert not endpoint.written
        assert by_id(generator.score(asks)) == by_id(here.score(asks))


@contextmanager
def llama_cpp_server(model):
    """llama.cpp's Python server in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"model": model, "port": port, "n_ctx": 256, "n_threads": 1, "logits_all": "true", "verbose": "false"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen([sys.executable, "-m", "llama_cpp.server", *words], stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}/v1"
            calls.Caller(address_of(address), patience=calls.Patience(60, 0.5, 0.5)).ask("/v1/models")
            yield address
        finally:
            process.kill()


@pytest.mark.skipif(find_spec("fastapi") is None, reason="llama-cpp-python's extra `server` is not installed")
def test_llama_cpp_server_writes_what_is_written_here(model, here, cache):
    asks = [question(text, CHOICES, text) for text in TEXTS]
    with llama_cpp_server(model) as address:
        settings = EngineSettings(n_ctx=256, n_threads=1, fast_copy=False, cache=cache, endpoint=address)
        generator = open_generator("openai", model, settings)
        found, wanted = by_id(generator.generate(greedy(TEXTS))), by_id(here.generate(greedy(TEXTS)))
        assert {id: one.text for id, one in found.items()} == {id: one.text for id, one in wanted.items()}
        assert not generator.offer.takes_ids and generator.offer.reads_specials
        assert generator.scores_there == here.info.add_bos  # without it, it tells those of the wrong tokens
        found, wanted = by_id(generator.score(asks)), by_id(here.score(asks))
        generator.close()
    for text in TEXTS:
        assert found[text].logprobs == pytest.approx(wanted[text].logprobs, abs=0.02)
