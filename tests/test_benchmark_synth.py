"""The systems of benchmarks/synth.py on a tiny model: each writes every row, and the ceiling repeats our decodes."""

import importlib
from pathlib import Path

import pytest

from sg_local.records import Prompt, Sampling, Segment
from tests import tiny_models

pytest.importorskip("llama_cpp")
FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def systems(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("synth_systems")


def work_on(systems, model, cache):
    generator = systems.open_given(model, cache, 1)
    texts = [(Segment(f"Route the message to billing. Input: number {i}. Output:"),) for i in range(5)]
    tokens = tuple(tuple(generator.tokenize(text)) for text in texts)
    generator.close()
    asked = tuple(Prompt(str(i), text, Sampling(0.8, max_tokens=4), i) for i, text in enumerate(texts))
    return systems.Work(model, asked, tokens, cache)


@pytest.fixture
def work(systems, tmp_path):
    model = tiny_models.write_model(tmp_path / "tiny.gguf", tiny_models.TinySpec("bpe", "F32", "F32"))
    return work_on(systems, model, tmp_path)


@pytest.mark.parametrize("name", ["ours_given", "ours_chosen"])
def test_our_engine_writes_every_row(systems, work, name):
    done = systems.system(name, work)(work)
    assert done.rows == 5 and 5 <= done.tokens <= 20 and done.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop", "loop_cached"])
def test_the_plain_loops_write_every_row(systems, embedded, tmp_path, name):
    work = work_on(systems, embedded, tmp_path)
    done = systems.system(name, work)(work)
    assert done.rows == 5 and 5 <= done.tokens <= 20 and done.seconds > 0


def test_a_part_may_be_larger_than_the_whole(work):
    part = work.part(12)
    assert len(part.asked) == len(part.tokens) == 12 and len({prompt.id for prompt in part.asked}) == 12
    assert part.tokens[5] == work.tokens[0]


def test_the_ceiling_repeats_what_our_engine_decoded(systems, work):
    generator = systems.open_given(work.model, work.cache, 4)
    ceiling = systems.Ceiling(generator)
    written = ceiling.watch(systems.ours(generator))(work)
    calls = list(ceiling.calls)
    n_decodes = sum(name == "decode" for name, _, _ in calls)
    alone = ceiling.turn(work)
    assert (alone.rows, alone.tokens) == (written.rows, written.tokens) and 0 < alone.seconds
    assert n_decodes >= 4 and ceiling.calls == calls
    assert systems.ours(generator)(work).tokens == written.tokens, "the engine is usable afterwards"
    generator.close()
