"""Sessions of llama.cpp on tiny models: rows and scores of many owners and adapters, each as if it were alone."""

from __future__ import annotations

import os
import random

import pytest
from serving import prompt, question
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.session import Ended, Failed, Lane, Piece, Watch, open_session
from sg_local.records import Sampling, Score, SgError

SPEC = TinySpec(type="F32", head_type="F32")
HEAD = "Route the message to billing, delivery or technical. Seven wizards wait while the quick fox jumps over a dog. "
CHOICES = (" billing", " delivery", " technical")
N_NEW = 8
NOISE = 0.1  # kernels sum in another order for other batches: a draw that is closer than this may fall the other way


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    return write_model(folder / "base.gguf", SPEC)


@pytest.fixture
def engine(base):
    generator = open_generator("llama.cpp", base, EngineSettings(n_ctx=256, fast_copy=False, n_parallel=8, n_threads=1))
    yield generator
    generator.close()


@pytest.fixture
def session(engine):
    opened = open_session(engine, lambda: None)
    yield opened
    opened.close()


def adapter(folder, number: int):
    path = folder / f"{number}.gguf"
    return path if path.exists() else write_lora(path, lora_pairs(SPEC, seed=number, size=0.5), 8.0)


def written(text: str, id: str = "", **sampling):
    return prompt(HEAD + text, id, max_tokens=N_NEW, **sampling)


def scored(text: str, id: str = ""):
    return question(HEAD + text, CHOICES, id)


def run(session, asks, lane=None, watch=None):
    """What comes of the asks, by id; pieces are joined."""
    for ask in asks:
        session.add(ask, lane, watch)
    found, pieces = {}, {}
    while not session.is_idle:
        for event in session.step():
            if isinstance(event, Piece):
                pieces[event.prompt_id] = pieces.get(event.prompt_id, "") + event.text
            else:
                assert event.prompt_id not in found
                found[event.prompt_id] = event
    return found, pieces


# One adapter


def test_rows_and_scores_are_what_generate_and_score_give(engine):
    texts = [f"parcel {i}" for i in range(20)]
    offline = {c.prompt_id: c.text for c in engine.generate([written(text, text) for text in texts])}
    scores = {s.prompt_id: s.logprobs for s in engine.score([scored(text, f"s{text}") for text in texts])}
    session = open_session(engine, lambda: None)
    asks = [ask for text in texts for ask in (written(text, text), scored(text, f"s{text}"))]
    found, _ = run(session, asks)
    session.close()
    assert {id: e.completion.text for id, e in found.items() if isinstance(e, Ended)} == offline
    for id, logprobs in scores.items():
        assert found[id].logprobs == pytest.approx(logprobs, abs=NOISE)
    again = {c.prompt_id: c.text for c in engine.generate([written(text, text) for text in texts])}
    assert again == offline


def test_a_score_joins_rows_that_are_being_written(session):
    session.add(prompt(HEAD, "long", max_tokens=200))
    session.step()
    session.add(scored("parcel", "score"))
    events = session.step()
    assert [event.prompt_id for event in events] == ["score"] and not session.is_idle


def test_a_dropped_row_frees_its_sequence_at_once(session):
    for i in range(8):
        session.add(prompt(f"{HEAD} {i}", f"long {i}", max_tokens=200))
    session.step()
    session.add(written("waits", "waits"))
    for i in range(8):
        session.drop(f"long {i}")
    found, _ = run(session, [])
    assert list(found) == ["waits"]
    assert sorted(session._free) == list(range(1, 9))


def test_dropped_scores_and_waiting_rows_are_never_told(session):
    asks = [scored("a", "a"), scored("b", "b"), written("c", "c"), written("d", "d")]
    for ask in asks:
        session.add(ask)
    session.drop("a")
    session.drop("c")
    session.drop("nobody")
    assert set(run(session, [])[0]) == {"b", "d"}


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (written("x", "bad", grammar="no grammar"), SgError),
        (prompt("x " * 600, "bad"), SgError),
        (question("x", ("",), "bad"), None),
        (question("x " * 600, CHOICES, "bad"), SgError),
    ],
)
def test_an_ask_that_cannot_begin_touches_nobody(session, ask, error):
    if error is not None:
        with pytest.raises(error):
            session.add(ask)
    found, _ = run(session, [written("fine", "fine")])
    assert isinstance(found["fine"], Ended)


def test_half_a_character_as_a_stop_is_never_met(session):
    found, _ = run(session, [written("hello", "odd", stop=("\ud83d",)), written("hello", "plain")])
    assert found["odd"].completion.text == found["plain"].completion.text


def test_a_row_that_raises_while_it_is_drawn_fails_alone(session):
    for id in ("good", "bad", "fine"):
        session.add(written(id, id))
    lane = session._lanes[None]
    row = next(row for row in lane.inbox if row.prompt.id == "bad")

    def draw(logits):
        raise ZeroDivisionError

    row.sampler.draw = draw
    found, _ = run(session, [])
    assert isinstance(found["bad"], Failed) and isinstance(found["bad"].error, ZeroDivisionError)
    assert all(isinstance(found[id], Ended) for id in ("good", "fine"))


def test_a_fault_of_a_decode_fails_the_one_that_is_to_blame(engine, session, monkeypatch):
    context = engine.parts.context
    tokens = {id: engine.tokenize(written(id).segments)[-1] for id in ("one", "two", "six")}
    decode, put, seen = context.decode, context.put, []

    def noted(run, *args, **more):
        seen.extend(run)
        return put(run, *args, **more)

    def failing():
        met = tokens["two"] in seen
        seen.clear()
        if met:
            raise SgError("llama.cpp could not decode a batch")
        return decode()

    monkeypatch.setattr(context, "put", noted)
    monkeypatch.setattr(context, "decode", failing)
    asks = [written(id, id) for id in tokens] + [scored(id, f"s {id}") for id in tokens]
    found, _ = run(session, asks)
    assert {id for id, event in found.items() if isinstance(event, Failed)} == {"two", "s two"}
    assert len(found) == 6


def test_pieces_make_up_the_text_and_hold_back_a_stop(session):
    texts = [f"hello {i}" for i in range(40)]
    plain = {id: event.completion.text for id, event in run(session, [written(t, t) for t in texts])[0].items()}
    hello, plain = next((text, said) for text, said in plain.items() if "\ufffd" not in said and len(said) > 5)
    stop = plain[2:4] + "\u2603"
    found, pieces = run(session, [written(hello, "whole", stop=(stop,))], watch=Watch())
    assert pieces["whole"] == found["whole"].completion.text == plain
    found, pieces = run(session, [written(hello, "cut", stop=(plain[2:4],))], watch=Watch())
    assert pieces.get("cut", "") == found["cut"].completion.text == plain[: plain.index(plain[2:4])]


def test_tokens_come_with_the_likeliest_in_their_place(session):
    found, _ = run(session, [written("hello", "a")], watch=Watch(n_top=3))
    ended = found["a"]
    assert len(ended.tokens) == ended.completion.n_tokens
    assert sum(token.logprob for token in ended.tokens) == pytest.approx(ended.completion.logprob)
    assert all(len(token.top) == 3 and token.top[0] == (token.data, token.logprob) for token in ended.tokens)
    assert b"".join(token.data for token in ended.tokens).decode("utf-8", "replace").startswith(ended.completion.text)


def test_an_interrupt_ends_the_step_that_is_computed(session):
    session.add(written("hello", "a"))
    session.interrupt()
    events = session.step()
    assert [type(event) for event in events] == [Failed]
    assert isinstance(run(session, [written("hello", "b")])[0]["b"], Ended)


def test_rows_that_do_not_fit_the_pool_wait_and_lose_nothing(base):
    settings = EngineSettings(n_ctx=1024, fast_copy=False, n_parallel=2, n_threads=1)
    generator = open_generator("llama.cpp", base, settings)
    asks = [prompt(f"{i} parcel wizards " * 60, str(i), max_tokens=30) for i in range(6)]
    offline = {}
    for ask in asks:
        offline |= {c.prompt_id: c.text for c in generator.generate([ask])}
    generator.parts.context.n_cells = 10**9  # so that nothing is kept out beforehand
    session = open_session(generator, lambda: None)
    session._free[:] = list(range(6, 0, -1))
    found, _ = run(session, asks)
    session.close()
    generator.close()
    assert all(isinstance(found[id], Ended) for id in offline)


@pytest.fixture
def cramped(base):
    """A session whose pool holds less than two prompts at full length, and a lane whose beginning is long."""
    settings = EngineSettings(n_ctx=2560, fast_copy=False, n_parallel=1, n_threads=1)
    generator = open_generator("llama.cpp", base, settings)
    head = "x y " * 600
    heads = (prompt(head + "a").segments, prompt(head + "7").segments)
    n_head = len(generator.tokenize(heads[0]))
    assert n_head < 2500 and 2 * n_head - 40 > generator.parts.context.n_cells
    session = open_session(generator, lambda: None)
    run(session, [question(head + "b", CHOICES, "first")], Lane(None, "", heads))
    yield session, Lane(None, "", heads), head
    session.close()
    generator.close()


def steps(session, most: int = 20) -> list:
    """The events until nothing is left to do."""
    found = []
    for _ in range(most):
        found += session.step()
    assert session.is_idle
    return found


@pytest.mark.parametrize("n_shared", [0, 10])
def test_a_score_that_has_no_room_beside_the_lane_s_beginning_is_computed_without(cramped, n_shared):
    session, lane, head = cramped
    session.add(question(head[: 4 * n_shared] + "y x " * (600 - n_shared), CHOICES, "long"), lane)
    session.add(question(head + "c", CHOICES, "short"), lane)
    assert [type(event) for event in steps(session)] == [Score, Score]


def test_a_prompt_that_is_read_back_takes_the_cells_of_its_lane_s_beginning(cramped):
    session, lane, _ = cramped
    session.add(prompt("y x " * 600, "long", max_tokens=2), lane, Watch(n_top=1, reads=True))
    [*_, ended] = steps(session)
    assert isinstance(ended, Ended) and len(ended.tokens) > 2200


def test_more_adapters_than_lanes_are_refused_in_words(session, monkeypatch):
    monkeypatch.setattr("sg_local.backends.llama_cpp.session.MAX_LANES", 1)
    session.add(written("a", "a"))
    with pytest.raises(SgError, match="1 adapters are at work") as raised:
        session.add(written("b", "b"), Lane(None, "other", ()))
    assert raised.value.hint
    run(session, [])


# Many adapters


def sure(session, ask, lane) -> str | None:
    """The greedy answer, or None where a draw was so close that noise may decide it."""
    event = run(session, [ask], lane, Watch(n_top=2))[0][ask.id]
    margins = [token.top[0][1] - token.top[1][1] for token in event.tokens]
    return event.completion.text if min(margins, default=1.0) > NOISE else None


def lanes_of(folder, count: int) -> list[Lane]:
    heads = (written("a").segments, written("7").segments)
    return [Lane(None, "", heads), *(Lane(adapter(folder, i), "", heads) for i in range(1, count))]


@pytest.mark.parametrize("n_asks", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_adapter_s_answer_is_another_s(engine, base, n_asks):
    """Twenty adapters, requests in any order, some of which leave: each answer is the one its adapter gives alone."""
    lanes = lanes_of(base.parent, 20)
    texts = [f"parcel {i}" for i in range(6)]
    expected, choice = {}, {}
    for lane in lanes:
        engine.use_adapter(lane.adapter)
        alone = open_session(engine, lambda: None)
        expected |= {(lane, text): sure(alone, written(text, "a"), None) for text in texts}
        alone.close()
        for text in texts:
            choice[lane, text] = next(iter(engine.score([scored(text)]))).logprobs
    engine.use_adapter(None)
    assert len(set(expected.values())) > 50, "the adapters must make a difference"
    rng, session = random.Random(7), open_session(engine, lambda: None)
    open_asks, n_wrong, n_told, number = {}, 0, 0, 0
    while number < n_asks or open_asks:
        while number < n_asks and len(open_asks) < 24:
            number += 1
            key = (rng.choice(lanes), rng.choice(texts))
            open_asks[str(number)] = key
            session.add(rng.choice([written, scored])(key[1], str(number)), key[0])
        if rng.random() < 0.1:
            gone = rng.choice(list(open_asks))
            session.drop(gone)
            del open_asks[gone]
        for event in session.step():
            key = open_asks.pop(event.prompt_id)
            n_told += 1
            if isinstance(event, Score):
                n_wrong += event.logprobs != pytest.approx(choice[key], abs=NOISE)
            else:
                n_wrong += expected[key] not in (None, event.completion.text)
    session.close()
    assert n_wrong == 0 and n_told > 0.6 * n_asks


def test_more_adapters_than_are_kept_open_take_turns(engine, base, monkeypatch):
    monkeypatch.setattr("sg_local.backends.llama_cpp.session.MAX_LANES", 3)
    session = open_session(engine, lambda: None)
    for _ in range(2):
        for lane in lanes_of(base.parent, 6):
            assert isinstance(run(session, [written("x", "x")], lane)[0]["x"], Ended)
    assert len(session._lanes) == 3
    session.close()


def test_a_lane_that_cannot_be_opened_fails_its_ask_alone(session, tmp_path):
    (tmp_path / "no.gguf").write_bytes(b"nothing")
    for path in (tmp_path / "gone.gguf", tmp_path / "no.gguf"):
        with pytest.raises(SgError):
            session.add(written("x", "x"), Lane(path))
    assert isinstance(run(session, [written("fine", "fine")])[0]["fine"], Ended)


def test_memory_stays_as_it_was(session, base):
    """Under one adapter: each change of adapters leaves the allocator some kilobytes, up to a plateau."""
    psutil = pytest.importorskip("psutil")
    lane = lanes_of(base.parent, 2)[1]

    def load(n: int) -> int:
        for i in range(n):
            run(session, [written(f"{i % 9} parcel", "a"), scored(f"{i % 9}", "b")], lane)
        return psutil.Process(os.getpid()).memory_info().rss

    load(50)
    before = load(100)
    assert load(200) < 1.03 * before


def test_sampling_is_by_the_request_s_own_seed(session):
    asks = [
        type(ask)(id, ask.segments, Sampling(temperature=1.0, max_tokens=6), seed)
        for id, seed in (("a", 1), ("b", 1), ("c", 2))
        for ask in [written("hello")]
    ]
    found, _ = run(session, asks)
    assert found["a"].completion.text == found["b"].completion.text != found["c"].completion.text


def test_grammars_are_forgotten_when_there_are_many(engine, session, monkeypatch):
    monkeypatch.setattr("sg_local.backends.llama_cpp.sampling.KEPT_GRAMMARS", 4)
    asks = [written("hello", str(i), grammar=f'root ::= "{i}" | "x{i}"') for i in range(12)]
    found, _ = run(session, [*asks, written("hello", "again", grammar='root ::= "0" | "x0"')])
    assert all(found[str(i)].completion.text in (str(i), f"x{i}") for i in range(12))
    assert found["again"].completion.text == found["0"].completion.text
    assert len(engine.tools.grammars._compiled) == 4
