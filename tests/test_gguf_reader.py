"""The reader against the gguf package's reader, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import gguf as reference
import numpy as np
import pytest
from tiny_models import TinySpec, write_model

from sg_local import gguf
from sg_local.gguf import GgufFile, quants, reader
from sg_local.records import SgError

BASES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "m.gguf", TinySpec(type="Q4_1"))


@pytest.mark.parametrize("type", BASES)
def test_every_tensor_decodes_as_the_gguf_package_decodes_it(tmp_path, type):
    path = write_model(tmp_path / "m.gguf", TinySpec(type=type, layers=1))
    with gguf.GgufFile(path) as file:
        for tensor in reference.GGUFReader(path).tensors:
            wanted = reference.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_allclose(file.dequantize(tensor.name), wanted, atol=1e-6)


@pytest.mark.parametrize("type", ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "BF16", "F16"))
def test_decoding_without_ggml_gives_the_same_weights(monkeypatch, type):
    weights = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    raw = gguf.quantize(weights, type)
    fast = gguf.dequantize(raw, type)
    monkeypatch.setattr("sg_local.gguf.quants.ggml", lambda: None)
    np.testing.assert_allclose(gguf.dequantize(raw, type), fast, atol=1e-6)


def test_k_quants_without_ggml_name_the_missing_package(monkeypatch):
    monkeypatch.setattr("sg_local.gguf.quants.ggml", lambda: None)
    with pytest.raises(SgError, match="llama-cpp-python"):
        gguf.quantize(np.zeros((1, 256), np.float32), "Q4_K")


def test_many_threads_encode_as_one_does():
    weights = np.random.default_rng(0).normal(size=(2048, 512)).astype(np.float32)
    whole = gguf.quantize(weights, "Q4_K")
    parts = np.concatenate([gguf.quantize(weights[i : i + 16], "Q4_K") for i in range(0, 2048, 16)])
    assert np.array_equal(whole, parts)


def test_q8_0_has_the_scales_of_the_gguf_package_and_codes_that_differ_at_ties_alone():
    weights = np.random.default_rng(0).normal(size=(512, 4096)).astype(np.float32)
    ours = gguf.quantize(weights, "Q8_0").reshape(-1, 34)
    wanted = reference.quants.quantize(weights, reference.GGMLQuantizationType.Q8_0).reshape(-1, 34)
    assert np.array_equal(ours[:, :2], wanted[:, :2])
    steps = ours[:, 2:].view(np.int8).astype(int) - wanted[:, 2:].view(np.int8)
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) <= 20  # of two million
    exact = gguf.dequantize(ours.reshape(512, -1), "Q8_0")
    assert np.array_equal(gguf.quantize(exact, "Q8_0"), ours.reshape(512, -1))


def test_q8_0_is_encoded_where_the_processors_library_is_missing_or_lacks_the_function(monkeypatch):
    weights = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    usual, base = gguf.quantize(weights, "Q8_0"), quants._library("ggml-base")
    for path in (None, base, Path(__file__)):  # none, one without the function, no library at all
        monkeypatch.setattr(quants, "_library", lambda name, path=path: path)
        assert quants._fast_q8_0.__wrapped__() is None
    monkeypatch.setattr(quants, "_fast_q8_0", lambda: None)
    assert np.abs(gguf.quantize(weights, "Q8_0").view(np.int8) - usual.view(np.int8)).max() <= 1


def test_fields_read_as_the_gguf_package_reads_them(model):
    with gguf.GgufFile(model) as file:
        for key, field in reference.GGUFReader(model).fields.items():
            if not key.startswith("GGUF."):
                assert file.value(key) == field.contents(), key


def test_row_ranges_are_parts_of_the_whole(model):
    with gguf.GgufFile(model) as file:
        whole = file.dequantize("blk.0.ffn_up.weight")
        assert np.array_equal(file.dequantize("blk.0.ffn_up.weight", 100, 110), whole[100:110])


@pytest.mark.parametrize("share", (0.001, 0.01, 0.5, 0.999))
def test_a_cut_file_is_called_cut(tmp_path, model, share):
    data = model.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: max(30, int(len(data) * share))])
    with pytest.raises(SgError, match="cut off"):
        gguf.check_model(path)


@pytest.mark.parametrize("data", (b"", b"GG", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04" * 99, b"lmgg" * 9))
def test_another_kind_of_file_is_no_gguf(tmp_path, data):
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(SgError, match="not a GGUF"):
        gguf.check_model(path)


def test_a_header_of_noise_is_refused_not_crashed_on(tmp_path, model):
    rng = np.random.default_rng(0)
    good = np.frombuffer(model.read_bytes()[:20000], np.uint8)
    for _ in range(200):
        data = good.copy()
        data[rng.integers(8, 3000, 5)] = rng.integers(0, 256, 5)
        path = tmp_path / "noise.gguf"
        path.write_bytes(data.tobytes())
        with pytest.raises(SgError):
            gguf.check_model(path)


def test_old_versions_and_missing_files_are_named(tmp_path):
    path = tmp_path / "v1.gguf"
    path.write_bytes(b"GGUF" + (1).to_bytes(4, "little") + b"\0" * 64)
    with pytest.raises(SgError, match="version 1"):
        gguf.check_model(path)
    with pytest.raises(SgError, match="cannot be read"):
        gguf.check_model(tmp_path / "none.gguf")
    with pytest.raises(SgError, match="folder"):
        gguf.check_model(tmp_path)


def test_a_header_is_parsed_once_while_its_file_stays_as_it_is(tmp_path, monkeypatch):
    path = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1))
    parsed, parse = [], GgufFile._parse_header
    monkeypatch.setattr(GgufFile, "_parse_header", lambda self, data: parsed.append(1) or parse(self, data))

    def names() -> list[str]:
        with GgufFile(path) as file:
            file.fields.pop("general.name", None)
            return list(file.tensors)

    first = names()
    assert names() == first and len(parsed) == 2, "a file that has just changed may change again unseen"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr(reader.time, "time", lambda: path.stat().st_ctime + reader.RESTED_S)
    assert names() == first and names() == first and len(parsed) == 3
    with GgufFile(path) as file:
        assert "general.name" in file.fields, "what one opening changes is its own"
    whole = path.read_bytes()
    write_model(path, TinySpec(layers=2))
    assert len(names()) > len(first)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SgError, match="damaged or cut off"):
        names()
