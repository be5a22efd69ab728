"""llama.cpp's log as error messages need it, and its AMX kernels, tried before they are used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sg_local.gguf import FilePlan, GgufFile, TensorPlan, pack_field, write_gguf
from sg_local.records import SgError
from tests import tiny_models

lib = pytest.importorskip("llama_cpp")

from sg_local.backends.llama_cpp import amx, library
from sg_local.backends.llama_cpp.model import load

INFO, WARN, ERROR, CONT = 2, 3, 4, 5  # ggml.h


@pytest.fixture
def log():
    kept = library.log()
    kept.clear()
    yield kept
    kept.clear()


def test_the_first_error_is_the_cause(log):
    log.take(WARN, b"load: a warning\n")
    log.take(ERROR, b"\n")
    log.take(ERROR, b"llama_model_load: error loading model: missing tensor 'a'\n")
    log.take(ERROR, b"llama_model_load_from_file_impl: failed to load model\n")
    assert log.cause() == "error loading model: missing tensor 'a'"


def test_the_last_warning_speaks_where_there_is_no_error(log):
    log.take(WARN, b"one: the first\n")
    log.take(INFO, b"two: no warning\n")
    log.take(WARN, b"three: the last\n")
    assert log.cause() == "the last"


def test_a_continued_line_belongs_to_the_message_before_it(log):
    log.take(ERROR, b"check: no room for")
    log.take(CONT, b" 3 tensors\n")
    log.take(INFO, b"check: something else")
    log.take(CONT, b" goes on\n")
    assert log.cause() == "no room for 3 tensors"


def test_a_model_that_llama_cpp_does_not_know_is_refused_with_its_reason(tmp_path):
    """The last error line only says that loading failed."""
    known = tiny_models.write_model(tmp_path / "tiny.gguf", tiny_models.TinySpec("bpe", "F32", "F32"))
    with GgufFile(known) as file:
        fields = [
            pack_field(key, "foo42") if key == "general.architecture" else field.raw
            for key, field in file.fields.items()
        ]
        plans = [TensorPlan(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors.values()]
        write_gguf(tmp_path / "foo.gguf", FilePlan(fields, plans), lambda plan: [file.rows(file.tensors[plan.name])])
    with pytest.raises(SgError, match="unknown model architecture: 'foo42'"):
        load(tmp_path / "foo.gguf", 0)


@pytest.fixture
def fresh():
    amx.amx_fails.cache_clear()
    yield
    amx.amx_fails.cache_clear()


@pytest.mark.parametrize(("code", "fails"), [(0, False), (1, True), (-11, True), (-4, True)])
def test_a_build_with_amx_is_believed_only_when_its_child_ends_well(fresh, monkeypatch, code, fails):
    """-11 and -4 are the signals of a faulting tile instruction; 1 says that the logits differ."""
    asked = []
    monkeypatch.setattr(amx, "built_with_amx", lambda: True)
    monkeypatch.setattr(amx.subprocess, "run", lambda *a, **k: asked.append(a) or subprocess.CompletedProcess(a, code))
    assert [amx.amx_fails(), amx.amx_fails()] == [fails, fails]
    assert len(asked) == 1


def test_a_trial_that_does_not_end_counts_as_failed(fresh, monkeypatch):
    def hang(command, **how):
        raise subprocess.TimeoutExpired(command, how["timeout"])

    monkeypatch.setattr(amx, "built_with_amx", lambda: True)
    monkeypatch.setattr(amx.subprocess, "run", hang)
    assert amx.amx_fails()


def test_a_build_without_amx_is_not_tried(fresh, monkeypatch):
    monkeypatch.setattr(amx, "built_with_amx", lambda: False)
    monkeypatch.setattr(amx.subprocess, "run", lambda *a, **k: pytest.fail("tried"))
    assert not amx.amx_fails()


def test_the_trial_model_loads_and_answers_here(tmp_path):
    path = amx.write_probe(tmp_path / "probe.gguf")
    assert amx.main() == 0 if not amx.built_with_amx() else path.exists()


def test_a_model_is_loaded_without_the_extra_buffers_where_amx_fails(monkeypatch):
    seen = []
    monkeypatch.setattr(library, "amx_fails", lambda: True)
    monkeypatch.setattr(
        library.llama_cpp, "llama_model_load_from_file", lambda path, params: seen.append(params.use_extra_bufts)
    )
    library.load_model(Path("model.gguf"))
    library.load_model(Path("model.gguf"), vocab_only=True)
    assert seen == [False, True]
    monkeypatch.setattr(library, "amx_fails", lambda: False)
    library.load_model(Path("model.gguf"))
    library.load_model(Path("model.gguf"), copies=False)
    assert seen[2:] == [True, False]
