"""Prompts that calls which belong together share are read once; what they say is the same, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sg_local.backends import EngineSettings
from sg_local.backends.together import together
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment
from tests import tiny_models

pytest.importorskip("llama_cpp")

from sg_local.backends import llama_cpp as engine
from sg_local.backends.llama_cpp.context import Context

INPUTS = [f"{word} {n} of the parcels that I have sent" for n in range(10) for word in ("first", "second", "last")]
ASKED = [(Segment("Say it. "), Segment(text, False)) for text in INPUTS]
SCORED = [ScoredPrompt(str(i), one, (" yes", " no")) for i, one in enumerate(ASKED)]
WRITTEN = [Prompt(f"{i}-{k}", one, Sampling(max_tokens=3), k) for i, one in enumerate(ASKED) for k in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    spec = tiny_models.TinySpec("bpe", "F32", "F32", layers=1)
    return tiny_models.write_model(tmp_path_factory.mktemp("kept") / "tiny.gguf", spec)


@pytest.fixture
def generator(model, tmp_path) -> Iterator[engine.LlamaGenerator]:
    settings = EngineSettings(n_ctx=256, n_parallel=4, n_threads=1, fast_copy=False, cache=tmp_path)
    opened = engine.open_generator(model, settings)
    yield opened
    opened.close()


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Tokens of every decode."""
    found, decode = [], Context.decode

    def counted(context: Context) -> bool:
        found.append(context._n_tokens)
        return decode(context)

    monkeypatch.setattr(Context, "decode", counted)
    return found


def texts(generator) -> dict[str, str]:
    return {one.prompt_id: one.text for one in generator.generate(WRITTEN)}


def scores(generator) -> list[float]:
    return [score for one in generator.score(SCORED) for score in one.logprobs]


def test_prompts_that_were_scored_are_not_read_again_to_write(generator, computed):
    said, n_alone = texts(generator), sum(computed)
    found = scores(generator)
    computed.clear()
    with together(generator):
        assert scores(generator) == pytest.approx(found, abs=1e-3)
        computed.clear()
        assert texts(generator) == said
    n_words = sum(len(generator.tokenize((one[1],), bos=False)) for one in ASKED)
    assert sum(computed) < n_alone - n_words // 2


def test_prompts_that_were_written_to_are_not_read_again_to_write(generator, computed):
    with together(generator):
        said = texts(generator)
        n_first = sum(computed)
        computed.clear()
        assert texts(generator) == said
    assert sum(computed) < 0.7 * n_first


def test_calls_that_do_not_belong_together_read_for_themselves(generator, computed):
    with together(generator):
        scores(generator)
    found = texts(generator)
    n_after = sum(computed)
    computed.clear()
    assert texts(generator) == found and sum(computed) >= n_after // 2
    assert generator._kept.donor(generator.tokenize(ASKED[0])) == (0, 0)


def test_prompts_are_given_up_where_the_pool_has_no_room_for_them(generator, monkeypatch):
    said, found = texts(generator), scores(generator)
    long = [Prompt("long", (Segment("parcel " * 40),), Sampling(max_tokens=3))]
    with together(generator):
        for turn in range(8):  # more prompts than cells
            some = [ScoredPrompt(one.id, (Segment(f"{turn} "), *one.segments), one.continuations) for one in SCORED]
            list(generator.score(some))
        assert list(generator.generate(long))
        assert texts(generator) == said
        assert scores(generator) == pytest.approx(found, abs=1e-3)


def test_prompts_give_way_until_there_is_room(model, tmp_path):
    """Two prompts are kept, and the elder alone leaves too little room for the third."""
    settings = EngineSettings(n_ctx=2560, n_parallel=1, n_threads=1, fast_copy=False, cache=tmp_path)
    opened = engine.open_generator(model, settings)
    words = [("a", 2400), ("b", 300), ("c", 2400)]
    asked = [ScoredPrompt(letter, (Segment(f" {letter}" * n),), (" yes", " no")) for letter, n in words]
    lengths = [len(opened.tokenize(one.segments)) for one in asked]
    n_cells = opened.parts.context.n_cells
    assert lengths[0] + lengths[1] <= n_cells and lengths[0] + lengths[2] > n_cells
    alone = [next(iter(opened.score([one]))).logprobs for one in asked]
    with together(opened):
        found = [next(iter(opened.score([one]))).logprobs for one in asked]
    opened.close()
    assert found == [pytest.approx(one, abs=1e-3) for one in alone]


def test_work_that_ends_after_its_engine_drops_nothing(model, tmp_path):
    settings = EngineSettings(n_ctx=256, n_parallel=4, n_threads=1, fast_copy=False, cache=tmp_path)
    opened = engine.open_generator(model, settings)
    tokens = opened.tokenize(ASKED[0])
    with together(opened):
        written = opened.generate(WRITTEN)
        next(written)
        opened.close()
        written.close()
    assert opened._kept.donor(tokens) == (0, 0)
