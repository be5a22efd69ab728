"""Several contexts of one model side by side: the same texts whatever the clock says, and nothing left behind."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.footprint import KV_BYTES, engine_need, replicas_of
from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.engine import LlamaGenerator
from sg_local.backends.llama_cpp.replicas import FEWEST, MOST_WAITING, Dealt, in_turn
from sg_local.backends.together import together
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment, SgError

WORDS = "the quick brown fox jumps over the lazy dog and then the dog sleeps until the fox comes back ".split()
HEAD = " ".join(itertools.islice(itertools.cycle(WORDS), 60))
LABELS = (" the fox", " a dog", " fox")


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "tiny.gguf", TinySpec())


@pytest.fixture
def opened(tmp_path):
    made: list[LlamaGenerator] = []

    def open_one(path: Path, n_replicas: int = 2, **more) -> LlamaGenerator:
        usual = {"n_ctx": 256, "n_parallel": 8, "n_threads": 2, "fast_copy": False, "cache": tmp_path / "cache"}
        made.append(open_generator("llama.cpp", path, EngineSettings(**{**usual, **more}, n_replicas=n_replicas)))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def adapter(base: Path, number: int) -> Path:
    """One of several adapters on this base."""
    return write_lora(base.with_name(f"{number}.gguf"), lora_pairs(TinySpec(), seed=number, size=0.5), 8.0)


def asked(n: int = 40, votes: int = 1, temperature: float = 0.8) -> list[Prompt]:
    return [
        Prompt(
            f"{i}-{vote}",
            (Segment(f"{HEAD} {WORDS[i % len(WORDS)]} {i}"),),
            Sampling(temperature=temperature, max_tokens=4 + i % 7),
            100 * i + vote,
            settled=temperature == 0,
        )
        for i in range(n)
        for vote in range(votes)
    ]


def questions(n: int = 40, *, settled: bool = False) -> list[ScoredPrompt]:
    return [ScoredPrompt(str(i), one.segments, LABELS, settled=settled) for i, one in enumerate(asked(n))]


def everything(generator: LlamaGenerator, *, settled: bool = False) -> tuple:
    """All that may not depend on the clock: drawn and likeliest texts with their probabilities, and scores."""
    drawn = sorted((one.prompt_id, one.text, one.logprob) for one in generator.generate(asked(votes=2)))
    likeliest = sorted((one.prompt_id, one.text, one.logprob) for one in generator.generate(asked(temperature=0)))
    scores = [(one.prompt_id, one.logprobs) for one in generator.score(questions(settled=settled))]
    return drawn, likeliest, scores


def slowed(monkeypatch, delays) -> None:
    """Every decode takes as much longer as its context's number in this list says."""
    exact, known = Context._compute, []

    def compute(context):
        if context not in known:
            known.append(context)
        time.sleep(delays[known.index(context) % len(delays)])
        return exact(context)

    monkeypatch.setattr(Context, "_compute", compute)


@pytest.mark.parametrize("settled", [False, True])
def test_texts_and_scores_do_not_depend_on_the_clock(model, opened, monkeypatch, settled):
    usual = everything(opened(model), settled=settled)
    for delays in ((0.003, 0.0), (0.0, 0.003), (0.001, 0.002, 0.0)):
        with monkeypatch.context() as patch:
            slowed(patch, delays)
            generator = opened(model)
            assert everything(generator, settled=settled) == usual
            assert len(generator._replicas) == 2, "both were at work"


def test_scores_come_in_the_order_asked_and_are_those_of_one_context(model, opened):
    one, two = opened(model, 1), opened(model)
    theirs = list(one.score(questions()))
    ours = list(two.score(iter(questions())))
    assert [row.prompt_id for row in ours] == [str(i) for i in range(40)] and len(two._replicas) == 2
    apart = [abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.logprobs, y.logprobs, strict=True)]
    assert max(apart) < 0.02


def test_what_is_copied_of_a_prefix_is_what_would_have_been_computed(model, opened, monkeypatch):
    copied = everything(opened(model))
    monkeypatch.setattr(
        "sg_local.backends.llama_cpp.prefix.Prefix.take_over",
        lambda self, other: self.begin() or self.cover([[*other._tokens, 1], [*other._tokens, 2]]),
    )
    assert everything(opened(model)) == copied


def test_few_prompts_are_answered_by_one_context_with_all_threads(model, opened):
    generator, one = opened(model), opened(model, 1)
    assert list(generator.generate(asked(FEWEST - 1))) == list(one.generate(asked(FEWEST - 1)))
    assert list(generator.score(questions(FEWEST - 1))) == list(one.score(questions(FEWEST - 1)))
    assert len(generator._replicas) == 1
    list(generator.generate(asked(FEWEST)))
    assert len(generator._replicas) == 2


def test_every_one_computes_on_its_own_thread_until_the_others_have_ended(model, opened, monkeypatch):
    seen, exact = [], Context._decoded

    def decoded(context, worker):
        seen.append((context, context.crew.limit, worker is context.crew.own, context._batch.n_tokens))
        return exact(context, worker)

    monkeypatch.setattr(Context, "_decoded", decoded)
    generator = opened(model)
    list(generator.generate(asked()))
    limited = [row for row in seen if row[1] == 1]
    assert len({id(row[0]) for row in limited}) == 2
    assert all(own for *_, own, n_tokens in limited if n_tokens > 1), "a team of one each"
    assert all(one._context.crew.limit is None for one in generator._replicas)
    assert generator._replicas[1]._context.crew.all is generator._context.crew.own, "the whole team has one leader"


def test_an_adapter_is_on_in_all_of_them(model, opened, tmp_path):
    one, two = opened(model, 1), opened(model)
    plain = list(two.score(questions()))
    for path in (adapter(model, 1), None, adapter(model, 2)):
        one.use_adapter(path)
        two.use_adapter(path)
        ours, theirs = list(two.score(questions())), list(one.score(questions()))
        pairs = [(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.logprobs, y.logprobs, strict=True)]
        assert max(abs(a - b) for a, b in pairs) < 0.02
        assert (ours == plain) is (path is None)


def test_an_adapter_that_came_first_is_on_in_those_made_later(model, opened):
    early, late = opened(model), opened(model)
    list(late.score(questions()))
    for one in (early, late):
        one.use_adapter(adapter(model, 1))
    assert list(early.score(questions())) == list(late.score(questions()))


def test_calls_that_belong_together_read_their_prompts_once(model, opened, monkeypatch):
    n_put, put = [], Context.put
    monkeypatch.setattr(
        Context,
        "put",
        lambda self, tokens, *rest, **more: n_put.append(len(tokens)) or put(self, tokens, *rest, **more),
    )
    generator = opened(model)
    list(generator.score(questions()))
    list(generator.generate(asked(temperature=0)))
    apart = sum(n_put)
    n_put.clear()
    with together(generator):
        list(generator.score(questions()))
        list(generator.generate(asked(temperature=0)))
    assert sum(n_put) < apart - 40


@pytest.mark.parametrize("at", [3, 30])
def test_a_prompt_that_is_too_long_is_told_and_the_others_can_go_on(model, opened, at):
    generator = opened(model)
    usual = list(generator.score(questions()))
    rows = asked()
    rows[at] = Prompt("long", (Segment(" ".join(WORDS * 40)),), Sampling(max_tokens=2), 1)
    with pytest.raises(SgError, match="Prompt long needs"):
        list(generator.generate(rows))
    assert list(generator.score(questions())) == usual


def test_what_fails_in_one_of_them_fails_the_call_and_nothing_goes_on(model, opened, monkeypatch):
    generator = opened(model)
    usual = list(generator.score(questions()))
    draw = LlamaGenerator._written

    def written(self, *rest, **more):
        for i, one in enumerate(draw(self, *rest, **more)):
            if i == 5 and self is not generator:
                raise SgError("broken")
            yield one

    with monkeypatch.context() as patch:
        patch.setattr(LlamaGenerator, "_written", written)
        with pytest.raises(SgError, match="broken"):
            list(generator.generate(asked()))
    assert not [one for one in threading.enumerate() if one.name == "replica"]
    assert list(generator.score(questions())) == usual


def test_a_call_that_is_left_early_leaves_nothing_behind(model, opened, monkeypatch):
    generator = opened(model)
    usual = everything(generator)
    slowed(monkeypatch, (0.01,))
    for call in (generator.generate(asked()), generator.score(questions(200))):
        next(call)
        call.close()
        assert not [one for one in threading.enumerate() if one.name == "replica"]
    assert everything(generator) == usual


def test_a_source_may_have_nothing_for_now(model, opened):
    generator, rows = opened(model), asked()

    def now_and_then():
        for i, row in enumerate(rows):
            yield row
            if i > FEWEST and i % 3 == 0:
                yield None

    assert sorted(one.prompt_id for one in generator.generate(now_and_then())) == sorted(row.id for row in rows)


def test_prompts_are_dealt_in_turn_those_of_one_text_together():
    dealt = Dealt(asked(6, votes=3), 2)
    shares = [[one.id.partition("-")[0] for one in dealt.share(i)] for i in range(2)]
    assert [Counter(share) for share in shares] == [Counter("024" * 3), Counter("135" * 3)]
    assert list(in_turn([(0, "a"), (1, "b"), (0, "c")], Dealt(asked(3), 2).order, 2)) == []


def test_one_that_is_ahead_waits_for_the_others_before_too_much_is_read():
    n_read, seen = [0], []

    def source():
        for one in asked(3 * MOST_WAITING):
            n_read[0] += 1
            yield one

    dealt = Dealt(source(), 2)
    fast = threading.Thread(target=lambda: seen.extend(dealt.share(0)), daemon=True)
    fast.start()
    fast.join(0.3)
    assert fast.is_alive() and n_read[0] <= 2 * MOST_WAITING + 1
    assert len(list(dealt.share(1))) == 3 * MOST_WAITING // 2
    fast.join(5)
    assert len(seen) == 3 * MOST_WAITING // 2


def test_two_processors_have_two_unless_a_second_pool_is_large():
    usual, small = EngineSettings(n_ctx=2048), 23 << 10
    assert [replicas_of(usual, n, 32, small) for n in (1, 2, 4, 8)] == [1, 2, 1, 1]
    assert replicas_of(usual, 2, 32, KV_BYTES // 2048) == 1, "a 7B's keys and values"
    assert replicas_of(usual, 2, 1, small) == 1, "one sequence at a time"
    asked_for = EngineSettings(n_replicas=4)
    assert replicas_of(asked_for, 8, 32, small) == 4 and replicas_of(asked_for, 2, 32, small) == 2


def test_the_memory_of_a_second_one_is_forecast(model):
    one, two = (engine_need(model, EngineSettings(n_threads=2, n_replicas=n)) for n in (1, 2))
    assert two.weights == one.weights and one.pool < two.pool <= 2 * one.pool and two.rest > one.rest
