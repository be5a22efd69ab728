"""Near ties: the same tokens get the same answer, whatever is computed beside them and in whichever order."""

from __future__ import annotations

import dataclasses
import random
import threading

import numpy as np
import pytest
from serving import prompt, question
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.llama_cpp.context import Context
from sg_local.backends.llama_cpp.referee import STEP, step_ends
from sg_local.backends.llama_cpp.sampling import NEAR, is_near
from sg_local.backends.session import Ended, Lane, open_session
from sg_local.records import SgError

SPEC = TinySpec(type="F32", head_type="F32")
HEAD = "Route the message to billing, delivery or technical. Seven wizards wait while the quick fox jumps over a dog. "
CHOICES = (" billing", " delivery", " technical")
HEADS = tuple(prompt(HEAD + text).segments for text in "a7")
TEXTS = [f"parcel {i} of the {'quick fox ' * (i % 9)}" for i in range(24)]
NOISE = NEAR / 2  # of a logit: two candidates move against each other by NEAR at most


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("ties") / "base.gguf", SPEC)


@pytest.fixture
def engine(base):
    generator = open_generator("llama.cpp", base, EngineSettings(n_ctx=512, fast_copy=False, n_parallel=8, n_threads=1))
    yield generator
    generator.close()


@pytest.fixture
def noisy(engine, monkeypatch):
    """Kernels that round otherwise with each decode of the shared pool: far more than real ones do."""
    rng, main = np.random.default_rng(3), engine.parts.context
    exact = Context.logits

    def logits(context):
        found = exact(context)
        if context is main:
            found = found + rng.uniform(-NOISE, NOISE, found.shape).astype(np.float32)
        return found

    monkeypatch.setattr(Context, "logits", logits)


def adapter(base, number: int):
    path = base.parent / f"{number}.gguf"
    return path if path.exists() else write_lora(path, lora_pairs(SPEC, seed=number, size=0.5), 8.0)


def written(text: str, id: str, **more):
    return dataclasses.replace(prompt(HEAD + text, id, max_tokens=12, **more), settled=True)


def scored(text: str, id: str, heads=HEADS):
    return dataclasses.replace(question(HEAD + text, CHOICES, id), settled=True, heads=heads)


def offline(engine, texts):
    """The texts and the likeliest choices, as a file's rows are answered."""
    rows = {c.prompt_id: c.text for c in engine.generate([written(text, text) for text in texts])}
    likely = {s.prompt_id: int(np.argmax(s.logprobs)) for s in engine.score([scored(text, text) for text in texts])}
    return rows, likely


def through(session, asks):
    """The same of a session's asks, each with its lane, by id; they come as a server's do."""
    waiting, found = list(asks), {}
    while waiting or not session.is_idle:
        for ask, lane in waiting[:3]:
            session.add(ask, lane)
        del waiting[:3]
        for event in session.step():
            said = event.completion.text if isinstance(event, Ended) else int(np.argmax(event.logprobs))
            found[event.prompt_id] = said
    return found


def test_ties_are_computed_in_the_engine_s_own_thread(engine, monkeypatch):
    seen, exact = [], Context._decoded

    def decoded(context, *worker):
        seen.append((context, context.crew.own.submit(threading.get_ident).result()))
        return exact(context, *worker)

    monkeypatch.setattr(Context, "_decoded", decoded)
    offline(engine, TEXTS[:1])
    engine.referee.logits([3, 4, 5])
    assert len({id(context) for context, _ in seen}) == 2 and len({thread for _, thread in seen}) == 1


def test_a_near_tie_is_told_by_the_best_two():
    assert is_near((-5.0, -1.0, -1.4), 0.5) and not is_near((-1.0, -1.6, -9.0), 0.5)
    assert not is_near((-1.0,), 0.5)


def test_offline_answers_do_not_depend_on_the_rows_beside_them(engine, noisy, base):
    engine.use_adapter(adapter(base, 1))
    together = offline(engine, TEXTS)
    assert offline(engine, TEXTS) == together
    assert offline(engine, TEXTS[::-1]) == together
    alone = [offline(engine, [text]) for text in TEXTS]
    assert {text: rows[text] for text, (rows, _) in zip(TEXTS, alone, strict=True)} == together[0]
    assert {text: likely[text] for text, (_, likely) in zip(TEXTS, alone, strict=True)} == together[1]


def test_without_it_the_noise_turns_answers(engine, noisy, base):
    engine.use_adapter(adapter(base, 1))
    texts = [f"{text} {i}" for i in range(4) for text in TEXTS]
    asks = [dataclasses.replace(written(text, text), settled=False) for text in texts]
    first, second = ({c.prompt_id: c.text for c in engine.generate(asks)} for _ in range(2))
    assert first != second, "else the other tests show nothing"


@pytest.mark.parametrize("n_asks", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_server_s_answers_are_the_offline_ones_of_each_adapter(engine, base, noisy, n_asks):
    """Many adapters, requests in any order and number: none differs from its adapter's own offline answer."""
    adapters = [adapter(base, i) for i in range(4 if n_asks < 1000 else 20)]
    expected = {}
    for path in adapters:
        engine.use_adapter(path)
        expected[path] = offline(engine, TEXTS[:8])
    engine.use_adapter(None)
    lanes = [Lane(path, "", HEADS) for path in adapters]
    rng, asks, wanted = random.Random(5), [], {}
    for number in range(n_asks):
        lane, text, kind = rng.choice(lanes), rng.choice(TEXTS[:8]), rng.randrange(2)
        asks.append(((written, scored)[kind](text, str(number)), lane))
        wanted[str(number)] = expected[lane.adapter][kind][text]
    session = open_session(engine, lambda: None)
    found = through(session, asks)
    session.close()
    assert found == wanted


def test_numbers_of_a_near_tie_are_the_same_to_the_bit_whatever_came_before(engine):
    kinds = [("", HEADS), (" wizards" * 40, HEADS), (" wizards" * 100, HEADS), (" wizards" * 40, ())]
    asks = [engine.question(scored(text + kinds[i % 4][0], text, kinds[i % 4][1])) for i, text in enumerate(TEXTS)]
    first = {one.id: engine.referee.settled(one, (0.0, 0.0, 0.0)) for one in asks}
    rows = {one.id: engine.referee.logits(one.tokens).copy() for one in asks}
    random.Random(1).shuffle(asks)
    for one in asks:
        assert np.array_equal(engine.referee.logits(one.tokens), rows[one.id])
        assert engine.referee.settled(one, (0.0, 0.0, 0.0)) == first[one.id]


@pytest.mark.parametrize(
    ("n_tokens", "n_shared", "ends"),
    [
        (1, 0, []),
        (33, 0, []),
        (34, 0, [32]),
        (100, 0, [32, 64, 96]),
        (100, 70, [32, 64, 70]),
        (100, 64, [32, 64]),
        pytest.param(100, 65, [32, 65], id="no step is of one token"),
        pytest.param(100, 1, [32, 64, 96], id="one token is nothing"),
        (9, 5, [5]),
        pytest.param(71, 70, [32, 64, 69], id="two tokens are left"),
        pytest.param(66, 70, [32, 64], id="shorter than what is shared"),
        pytest.param(199, 70, [32, 64, 70], id="the rest in one decode"),
        pytest.param(200, 70, [32, 64, 70, 198], id="the rest in steps of its own"),
    ],
)
def test_steps_end_where_a_task_s_prompts_part(n_tokens, n_shared, ends):
    assert step_ends(n_tokens, n_shared) == ends


@pytest.fixture
def decodes(monkeypatch):
    """(the context, tokens) of every decode."""
    seen, exact = [], Context._decoded

    def decoded(context, *worker):
        seen.append((context, context._batch.n_tokens))
        return exact(context, *worker)

    monkeypatch.setattr(Context, "_decoded", decoded)
    return seen


@pytest.fixture
def session(engine, monkeypatch):
    """All its questions are near ties."""
    monkeypatch.setattr(engine.referee, "_near", 1e9)
    opened = open_session(engine, lambda: None)
    yield opened
    opened.close()


def n_own(engine, ask) -> int:
    """Tokens that only this question has: those of its prompt behind the heads, and what its choices need."""
    one = engine.question(ask)
    assert one.n_shared > STEP
    return len(one.tokens) - one.n_shared + sum(len(tokens) - 1 for tokens in one.continuations)


def test_a_near_tie_that_waits_alone_takes_one_decode_of_its_own_tokens(engine, base, session, decodes):
    lane = Lane(adapter(base, 1), "", HEADS)
    through(session, [(prompt("a", "the base's", max_tokens=1), Lane(None))])
    decodes.clear()
    through(session, [(scored("parcel", "a"), lane)])
    assert len({id(context) for context, _ in decodes}) == 1, "the beginning is computed in one place"
    for text in TEXTS[:6]:
        decodes.clear()
        ask = scored(text, text)
        through(session, [(ask, lane)])
        assert [n for _, n in decodes] == [n_own(engine, ask)]


def test_questions_that_nothing_settles_leave_what_another_task_s_begin_with(engine, base, session, decodes):
    lanes = [Lane(adapter(base, number), "", HEADS) for number in (1, 2)]
    through(session, [(scored(TEXTS[i], str(i)), lane) for i, lane in enumerate(lanes * 2)])
    decodes.clear()
    through(session, [(question(HEAD, CHOICES, "asked of another"), lanes[0])])
    assert {context for context, _ in decodes} == {engine.parts.context}
    decodes.clear()
    ask = scored("quick fox", "b")
    through(session, [(ask, lanes[1])])
    assert [n for _, n in decodes] == [n_own(engine, ask)]


def test_near_ties_that_come_together_share_their_first_decode(engine, base, session, decodes):
    lane = Lane(adapter(base, 1), "", HEADS)
    through(session, [(scored(text, text), lane) for text in ("a b", "parcel", "quick fox")])
    decodes.clear()
    asks = [scored(text, text) for text in TEXTS[:3]]
    through(session, [(ask, lane) for ask in asks])
    main = engine.parts.context
    assert [n for context, n in decodes if context is main] == [sum(n_own(engine, ask) for ask in asks)]
    assert [n for context, n in decodes if context is not main] == [n_own(engine, ask) for ask in asks]


def test_a_file_s_near_ties_have_the_scores_of_a_server_s_to_the_bit(engine, base, monkeypatch):
    monkeypatch.setattr(engine.referee, "_near", 1e9)
    asks, path = [scored(text, text) for text in TEXTS[:6]], adapter(base, 1)
    engine.use_adapter(path)
    expected = {score.prompt_id: score.logprobs for score in engine.score(asks)}
    session, lane, found = open_session(engine, lambda: None), Lane(path, "", HEADS), {}
    for ask in asks[::-1]:
        session.add(ask, lane)
        found |= {event.prompt_id: event.logprobs for event in session.step()}
    session.close()
    assert found == expected


@pytest.mark.parametrize(("type", "near"), [("F32", 0.25), ("F16", 0.25), ("BF16", 0.25), ("Q8_0", 0.6)])
def test_the_bound_is_that_of_the_weights_of_a_file_that_runs_as_it_is(tmp_path, type, near):
    path = write_model(tmp_path / "base.gguf", TinySpec(type=type, head_type=type))
    engine = open_generator("llama.cpp", path, EngineSettings(n_ctx=512, fast_copy=False, n_threads=1))
    assert engine.choice.format == "as given" and engine.referee._near == near
    engine.close()


def test_an_interrupt_outlives_the_pool_s_end(engine, monkeypatch):
    """The engine's thread closes the pool between an interrupt's look at it and its use."""
    engine.referee.logits([3, 4, 5])
    pools, pool = [engine.referee._context], engine.referee._context

    class Closing(type(engine.referee)):
        _context = property(lambda self: pools.pop() if pools else None, lambda self, value: None)

    monkeypatch.setattr(engine.referee, "__class__", Closing)
    engine.referee.interrupt()
    engine.referee.interrupt(wanted=False)
    monkeypatch.undo()
    pool.interrupt(wanted=False)


def test_scores_alone_are_those_of_the_batch_but_for_rounding(engine):
    for text in TEXTS[:6]:
        found = next(iter(engine.score([question(HEAD + text, CHOICES, "a")]))).logprobs
        alone = engine.referee.settled(engine.question(scored(text, "a")), (0.0, 0.0, 0.0))
        assert alone == pytest.approx(found, abs=0.01)


def test_clear_choices_are_not_computed_again(engine, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(engine.referee, "_ready", never)
    one = engine.question(scored("parcel", "a"))
    assert engine.referee.settled(one, (0.0, -1.0, -2.0)) == (0.0, -1.0, -2.0)
    plain = engine.question(question(HEAD, CHOICES, "a"))
    assert engine.referee.settled(plain, (0.0, 0.0, 0.0)) == (0.0, 0.0, 0.0)


def test_an_adapter_that_takes_another_s_place_is_the_one_that_decides(engine, base):
    one = engine.question(scored("parcel", "a"))
    found = []
    for number in (101, 102, 101):
        engine.use_adapter(adapter(base, number))
        found.append(engine.referee.settled(one, (0.0, 0.0, 0.0)))
    assert found[0] == found[2] != found[1]


def test_where_there_is_no_memory_for_it_answers_stay_as_they_fell(engine, monkeypatch, caplog):
    def full(*_, **options):
        raise SgError("llama.cpp could not make a context of 512 tokens: out of memory.")

    monkeypatch.setattr("sg_local.backends.llama_cpp.referee.Context", full)
    assert engine.referee.settled(engine.question(scored("parcel", "a")), (0.5, 0.5, 0.0)) == (0.5, 0.5, 0.0)
    rows, _ = offline(engine, TEXTS[:3])
    assert set(rows) == set(TEXTS[:3])
    assert "near ties fall as they may" in caplog.text
