"""A file that llama.cpp does not survive ends a child, not the job; one that it survives is tried once."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sg_local.backends import EngineSettings
from sg_local.backends.trying import answer_in_child, rewritten
from sg_local.gguf import FilePlan, GgufFile, TensorPlan, copy_with_fields, pack_field, write_gguf
from sg_local.records import Prompt, Sampling, Segment, SgError
from tests import tiny_models

pytest.importorskip("llama_cpp")

from sg_local.backends.llama_cpp import open_generator, trial
from sg_local.backends.llama_cpp.trial import NO_NUMBERS, PASSED, REFUSED, Trial, check_survives

SPEC = tiny_models.TinySpec("bpe", "F32", "F32", layers=1)
PROMPT = Prompt("p", (Segment("hello"),), Sampling(max_tokens=2))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_models.write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", SPEC)


@pytest.fixture(scope="module")
def deadly(tiny) -> Path:
    """A model whose header is sound and whose vocabulary throws what llama.cpp does not catch: bytes without tokens."""
    return changed(tiny, "deadly.gguf", {"tokenizer.ggml.model": "llama"})


@pytest.fixture(autouse=True)
def forgetful():
    trial._came_through.cache_clear()
    yield
    trial._came_through.cache_clear()


def changed(model: Path, name: str, fields: dict, nan_in: str = "") -> Path:
    """The model with other metadata, and a tensor whose first number is NaN."""
    with GgufFile(model) as file:
        raw = [pack_field(key, fields[key]) if key in fields else field.raw for key, field in file.fields.items()]
        plans = [TensorPlan(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors.values()]

        def weights(plan: TensorPlan) -> list[np.ndarray]:
            found = file.dequantize(plan.name).copy()
            if plan.name == nan_in:
                found.flat[0] = np.nan
            return [found]

        write_gguf(model.with_name(name), FilePlan(raw, plans), weights)
    return model.with_name(name)


def settings(cache: Path) -> EngineSettings:
    return EngineSettings(n_ctx=64, n_parallel=1, n_threads=1, fast_copy=False, cache=cache)


@pytest.fixture
def asked(monkeypatch):
    """What children were asked, while they are really asked."""
    found, ask = [], trial._ask_child
    monkeypatch.setattr(trial, "_ask_child", lambda one: found.append(one.file.name) or ask(one))
    return found


@pytest.mark.parametrize("vocab_only", [False, True])
def test_a_file_that_ends_llama_cpp_is_named_and_this_process_goes_on(deadly, tmp_path, vocab_only):
    with pytest.raises(SgError, match=r"llama.cpp breaks down on .*deadly.gguf: .*\.") as caught:
        check_survives(Trial(deadly, tmp_path, vocab_only=vocab_only))
    assert "fetch it again" in caught.value.hint
    assert not list(tmp_path.glob("tried/*"))


def test_an_engine_is_opened_on_no_such_file(deadly, tmp_path):
    with pytest.raises(SgError, match="breaks down"):
        open_generator(deadly, settings(tmp_path))


def test_weights_that_are_no_numbers_are_refused(tiny, tmp_path):
    wrong = changed(tiny, "nan.gguf", {}, "blk.0.attn_q.weight")
    with pytest.raises(SgError, match=r"nan.gguf computes no numbers"):
        open_generator(wrong, settings(tmp_path))


def test_a_file_is_tried_once_on_a_machine(tiny, tmp_path, asked):
    for _ in range(2):
        open_generator(tiny, settings(tmp_path)).close()
        trial._came_through.cache_clear()  # as in another process
    assert asked == ["tiny.gguf"]
    other = changed(tiny, "other.gguf", {"general.name": "another"})
    open_generator(other, settings(tmp_path)).close()
    assert asked == ["tiny.gguf", "other.gguf"]


def test_a_process_that_a_file_may_end_is_a_trial_by_itself(tiny, tmp_path, asked):
    answer_in_child("llama.cpp", tiny, settings(tmp_path), PROMPT)
    open_generator(tiny, settings(tmp_path)).close()
    assert asked == []
    wrong = changed(tiny, "nan.gguf", {}, "blk.0.attn_q.weight")
    with pytest.raises(SgError, match=r"nan.gguf computes no numbers"):
        answer_in_child("llama.cpp", wrong, settings(tmp_path), PROMPT)


@pytest.mark.parametrize("was_tried", [True, False])
def test_a_file_with_other_metadata_is_no_new_one(tiny, tmp_path, asked, was_tried):
    file = changed(tiny, "again.gguf", {"general.name": "one"})
    if was_tried:
        open_generator(file, settings(tmp_path)).close()
    asked.clear()
    with rewritten("llama.cpp", file, settings(tmp_path)):
        copy_with_fields(file, file, {"general.name": "two"})
    open_generator(file, settings(tmp_path)).close()
    assert asked == ([] if was_tried else ["again.gguf"])


def test_an_adapter_is_tried_before_it_is_loaded(tiny, tmp_path, asked, monkeypatch):
    good = tiny_models.write_lora(tmp_path / "good.gguf", tiny_models.lora_pairs(SPEC), 8.0)
    bad = tiny_models.write_lora(tmp_path / "bad.gguf", tiny_models.lora_pairs(SPEC), 16.0)
    generator = open_generator(tiny, settings(tmp_path / "cache"))
    try:
        generator.use_adapter(good)
        generator.use_adapter(good)
        assert asked == ["tiny.gguf", "good.gguf"]
        ended = subprocess.CompletedProcess([], -6, "", "ggml.c:1: GGML_ASSERT(a) failed\n")
        monkeypatch.setattr(trial, "_ask_child", lambda one: ended)
        with pytest.raises(SgError, match=r"breaks down on .*bad.gguf: GGML_ASSERT\(a\) failed"):
            generator.use_adapter(bad)
    finally:
        generator.close()


def test_without_a_folder_of_caches_the_process_remembers(tiny, tmp_path, asked):
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        open_generator(tiny, settings(tmp_path / "file" / "cache")).close()
    assert asked == ["tiny.gguf"]


def test_what_llama_cpp_refuses_in_words_is_left_to_whoever_opens_it(tiny, tmp_path):
    unknown = changed(tiny, "unknown.gguf", {"tokenizer.ggml.pre": "nonsense"})
    check_survives(Trial(unknown, tmp_path))
    with pytest.raises(SgError, match="unknown pre-tokenizer type: 'nonsense'"):
        open_generator(unknown, settings(tmp_path))


@pytest.mark.parametrize(
    ("status", "errors", "says"),
    [
        (
            -6,
            "/src/ops.cpp:3: GGML_ASSERT(eps >= 0.0f) failed\n",
            r"on .*m.gguf: GGML_ASSERT\(eps >= 0.0f\) failed.",
        ),
        (-11, "", "it ended with SIGSEGV"),
        (-9, "", "the memory is too small for it. It takes at least "),
        (-6, "what():  std::bad_alloc\n", "the memory is too small for it"),
        (1, "Traceback\nImportError: no llama_cpp\n", "ImportError: no llama_cpp"),
        (NO_NUMBERS, "", "hold NaN"),
    ],
)
def test_how_a_child_ended_is_said(tmp_path, monkeypatch, status, errors, says):
    ended = subprocess.CompletedProcess([], status, "", errors)
    monkeypatch.setattr(trial, "_ask_child", lambda one: ended)
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(SgError, match=says):
        check_survives(Trial(model, tmp_path))


def test_an_adapter_that_there_is_no_memory_to_try_is_loaded(tiny, tmp_path, monkeypatch):
    """The model is loaded in this process already; the child had to load it once more."""
    good = tiny_models.write_lora(tmp_path / "good.gguf", tiny_models.lora_pairs(SPEC), 8.0)
    monkeypatch.setattr(trial, "_ask_child", lambda one: subprocess.CompletedProcess([], -9, "", ""))
    check_survives(Trial(tiny, tmp_path, adapter=good))
    with pytest.raises(SgError, match="the memory is too small"):
        check_survives(Trial(tiny, tmp_path))


def test_a_child_that_hangs_is_given_up(tiny, tmp_path, monkeypatch):
    def hang(one):
        raise subprocess.TimeoutExpired([], 1)

    monkeypatch.setattr(trial, "_ask_child", hang)
    with pytest.raises(SgError, match="did not answer"):
        check_survives(Trial(tiny, tmp_path))


def test_what_is_asked_comes_back_as_it_went(tmp_path):
    one = Trial(tmp_path / "m\udcff.gguf", tmp_path, 7, tmp_path / "a.gguf", vocab_only=True)
    assert Trial.from_json(one.to_json()) == one
    assert Trial.from_json(dataclasses.replace(one, adapter=None).to_json()).adapter is None
    assert len({PASSED, REFUSED, NO_NUMBERS, 1, 2}) == 5  # what Python's own ends say stays apart
