"""Several contexts of one model side by side: the same texts whatever the clock says, and nothing left behind."""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.footprint import KV_BYTES, engine_need, replicas_of
from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.engine import LlamaGenerator
from sg_local.backends.llama_cpp.replicas import FEWEST, MOST_ALIKE, dealt, in_turn
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


def replica_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "replica"]


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
    ours = list(two.score(questions()))
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
    assert not replica_threads()
    assert list(generator.score(questions())) == usual


def test_a_call_that_is_left_early_leaves_nothing_behind(model, opened, monkeypatch):
    generator = opened(model)
    usual = everything(generator)
    slowed(monkeypatch, (0.01,))
    for call in (generator.generate(asked()), generator.score(questions(200))):
        next(call)
        call.close()
        assert not replica_threads()
    assert everything(generator) == usual


def test_what_comes_bit_by_bit_is_read_by_one_context(model, opened):
    generator, one = opened(model), opened(model, 1)
    assert list(generator.generate(iter(asked()))) == list(one.generate(iter(asked())))
    assert list(generator.score(iter(questions()))) == list(one.score(iter(questions())))
    assert len(generator._replicas) == 1


def test_prompts_are_dealt_in_turn_those_of_one_text_together():
    assert dealt(asked(5), 2) == [0, 1, 0, 1, 0]
    assert dealt(asked(3, votes=3), 2) == [0] * 3 + [1] * 3 + [0] * 3
    assert dealt(asked(1, votes=20), 2) == [0] * MOST_ALIKE + [1] * MOST_ALIKE + [0] * (20 - 2 * MOST_ALIKE)


def test_results_are_given_in_the_order_of_the_prompts():
    pairs = [(1, "b"), (1, "d"), (0, "a"), (0, "c"), (1, "e")]
    assert list(in_turn(pairs, [0, 1, 0, 1, 1])) == list("abcde")


def test_nothing_of_a_context_is_changed_while_replicas_compute(model, opened, monkeypatch):
    slowed(monkeypatch, (0.005,))
    for after in ("together", "adapter", "close"):
        generator = opened(model)
        outer = together(generator)
        outer.__enter__()
        rows = generator.generate(asked())
        next(rows)
        assert replica_threads()
        if after == "together":
            outer.__exit__(None, None, None)
        elif after == "adapter":
            generator.use_adapter(adapter(model, 1))
        else:
            generator.close()
        assert not replica_threads()


def test_an_interrupt_while_threads_end_is_raised_when_all_have(model, opened, monkeypatch):
    generator = opened(model)
    slowed(monkeypatch, (0.01,))
    rows = generator.generate(asked())
    next(rows)
    join, raised = threading.Thread.join, []

    def interrupted(self, timeout=None):
        if not raised:
            raised.append(1)
            raise KeyboardInterrupt
        return join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rows.close()
    assert not replica_threads() and all(one._context.crew.limit is None for one in generator._replicas)


def test_without_memory_for_another_one_computes_alone(model, opened, monkeypatch):
    def refused(self):
        raise SgError("no memory")

    monkeypatch.setattr(LlamaGenerator, "_replica", refused)
    generator, one = opened(model), opened(model, 1)
    assert list(generator.generate(asked())) == list(one.generate(asked())) and generator.n_replicas == 1


def test_a_refused_adapter_leaves_all_as_they_were(model, opened, tmp_path):
    generator = opened(model)
    usual = list(generator.score(questions()))
    with pytest.raises(SgError):
        generator.use_adapter(tmp_path / "none.gguf")
    assert list(generator.score(questions())) == usual
    other = opened(model)
    with pytest.raises(SgError):
        other.use_adapter(tmp_path / "none.gguf")
    assert list(other.score(questions())) == usual


def test_a_prefix_that_finds_no_room_is_computed_anew(model, opened, monkeypatch):
    usual = everything(opened(model))
    monkeypatch.setattr(Context, "copy", lambda self, source, sequence: False)
    generator = opened(model)
    scores = [(one.prompt_id, one.logprobs) for one in generator.score(questions())]
    apart = [abs(a - b) for (_, x), (_, y) in zip(scores, usual[2], strict=True) for a, b in zip(x, y, strict=True)]
    assert max(apart) < 0.02


def test_grammars_are_compiled_one_at_a_time_and_stderr_stays(model, opened, capfd):
    generator = opened(model)
    rules = [f'root ::= "a{i}" | "b"' for i in range(40)]
    rows = [
        replace(one, sampling=replace(one.sampling, grammar=rule)) for one, rule in zip(asked(), rules, strict=True)
    ]
    assert len(list(generator.generate(rows))) == len(rows)
    os.write(2, b"still here")
    assert "still here" in capfd.readouterr().err


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
