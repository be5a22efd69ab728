"""Metadata that no model can have is refused by our reader, by the key's name, and costs neither memory nor time."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc

import pytest
from bounds import soon
from test_gguf_config import write_variant
from tiny_models import TinySpec, write_model

from sg_local import gguf
from sg_local.records import SgError

NAN, INF = float("nan"), float("inf")
EPSILON = "llama.attention.layer_norm_rms_epsilon"
STRING, UINT32, ARRAY = 8, 4, 9


@pytest.mark.parametrize(
    ("key", "value"),
    (
        ("llama.block_count", 0),
        ("llama.block_count", 513),
        ("llama.block_count", 2**32 - 1),
        ("llama.block_count", "2"),
        ("llama.block_count", [2]),
        ("llama.context_length", 0),
        ("llama.embedding_length", 0),
        ("llama.feed_forward_length", 0),
        (EPSILON, NAN),
        (EPSILON, INF),
        (EPSILON, 0.0),
        (EPSILON, -1e-5),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 3),
        ("llama.attention.head_count", "four"),
        ("llama.attention.head_count_kv", 0),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.key_length", 0),
        ("llama.rope.freq_base", NAN),
        ("llama.rope.scaling.factor", INF),
        ("llama.rope.scaling.type", 1),
        ("llama.logit_scale", NAN),
        ("adapter.lora.alpha", INF),
        ("llama.expert_count", 4),
        ("llama.expert_count", 513),
        ("general.alignment", 0),
        ("general.alignment", 48),
        ("general.alignment", "1e999"),
        ("general.file_type", ["Q4_0"]),
        ("split.count", "two"),
        ("tokenizer.chat_template", 7),
        ("tokenizer.ggml.tokens", [1, 2]),
        ("tokenizer.ggml.token_type", [1, 2]),
        ("tokenizer.ggml.scores", [0.5]),
    ),
)
def test_a_value_that_no_model_has_is_refused_by_its_key(tmp_path, key, value):
    with pytest.raises(SgError) as caught:
        gguf.check_model(write_variant(tmp_path / "m.gguf", fields=[(key, value)]))
    words = {"llama.attention.head_count": "heads", "llama.attention.head_count_kv": "heads"}
    assert key in caught.value.message or words.get(key, "-") in caught.value.message
    assert "fetch it again" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    (
        ("llama.attention.head_count_kv", [2]),
        ("llama.rope.scaling.factor", 0.0),
        ("general.file_type", 999),
        ("tokenizer.ggml.eos_token_id", 99999),
    ),
)
def test_what_llama_cpp_bears_is_borne(tmp_path, key, value):
    assert gguf.check_model(write_variant(tmp_path / "m.gguf", fields=[(key, value)])).architecture == "llama"


@pytest.mark.parametrize("key", ("llama.attention.key_length", "llama.rope.dimension_count", EPSILON))
def test_a_number_for_each_layer_is_no_ground_to_crash_but_cannot_be_trained(tmp_path, key):
    value = [1e-5] if key == EPSILON else [64]
    assert "differs between layers" in gguf.check_model(write_variant(tmp_path / "m.gguf", [(key, value)])).cannot_train


@pytest.mark.parametrize("value", (0, 513))
def test_what_we_refuse_would_end_the_process_in_llama_cpp(tmp_path, value):
    """Why the limits are what they are; where this fails, llama.cpp has others."""
    pytest.importorskip("llama_cpp")
    path = write_variant(tmp_path / "m.gguf", fields=[("llama.block_count", value)])
    code = (
        "import sys, pathlib; from sg_local.backends.llama_cpp.library import load_model;"
        "load_model(pathlib.Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False).returncode < 0


def header(n_tensors: int, n_fields: int, *entries: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_fields) + b"".join(entries)


def array(key: str, element: int, count: int, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IIQ", ARRAY, element, count) + body


def text(key: str, length: int) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IQ", STRING, length)


@pytest.mark.parametrize(
    ("data", "size", "words"),
    (
        (header(0, 2**40), 1 << 20, "announces"),
        (header(2**60, 0), 1 << 20, "announces"),
        (header(0, 60_000), 1 << 20, "too many"),
        (header(100_000, 0), 1 << 23, "too many"),
        (header(0, 1, array("general.tags", STRING, 2**61)), 1 << 20, "too many"),
        (header(0, 1, array("general.tags", UINT32, 2**62)), 1 << 20, "too many"),
        (header(0, 1, array("general.tags", STRING, 2_000_000)), 1 << 24, "too many"),
        (header(0, 1, array("general.tags", 0, 2_000_000)), 1 << 21, "too many"),
        (header(0, 1, array("general.tags", STRING, 100_000_000)), 1 << 33, "too many"),
        (header(0, 1, array("general.tags", UINT32, 1_000_000_000)), 1 << 33, "too many"),
        (header(0, 1, text("general.name", 1 << 32)), 1 << 33, "too long"),
        (header(0, 1, text("general.name", 1 << 62)), 1 << 20, "cut off"),
        (header(0, 1, struct.pack("<Q", 1 << 31)), 1 << 33, "cut off"),
        (header(1, 0, struct.pack("<QI", 0, 5)), 1 << 20, "cut off"),
    ),
)
def test_counts_beyond_reason_cost_neither_memory_nor_time(tmp_path, data, size, words):
    """The files are sparse: what they announce is there, as zeros, and must not be read."""
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    os.truncate(path, size)
    tracemalloc.start()
    with soon(), pytest.raises(SgError, match=words):
        gguf.check_model(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < max(2 * size, 64 << 20) and peak < 1 << 28


def test_as_many_entries_as_are_allowed_are_read_in_time(tmp_path):
    entries = [struct.pack("<Q", 6) + f"k{i:05}".encode() + struct.pack("<II", UINT32, i) for i in range(8000)]
    tokens = array("tokenizer.ggml.tokens", STRING, 500_000, struct.pack("<Q", 1) + b"a")
    path = tmp_path / "m.gguf"
    path.write_bytes(header(0, 8001, *entries, tokens))
    os.truncate(path, 1 << 25)
    with soon(), gguf.GgufFile(path) as file:
        assert len(file.fields) == 8001
        assert len(file.value("tokenizer.ggml.tokens")) == 500_000


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    entry = struct.pack("<Q", 1) + b"k" + struct.pack("<II", UINT32, 1)
    path = tmp_path / "m.gguf"
    path.write_bytes(header(0, 2, entry, entry) + bytes(64))
    with pytest.raises(SgError, match="k is there twice"):
        gguf.check_model(path)


def test_a_tensor_without_weights_is_refused(tmp_path):
    path = write_variant(tmp_path / "m.gguf", tensors=[("extra.weight", (0, 256), "F32")])
    with pytest.raises(SgError, match=r"extra\.weight of shape \(0, 256\)"):
        gguf.check_model(path)


def test_models_without_attention_are_let_through(tmp_path):
    fields = [("mamba.attention.head_count", 0), ("mamba.feed_forward_length", 0), ("mamba.ssm.state_size", 16)]
    path = write_variant(tmp_path / "m.gguf", fields=fields, architecture="mamba")
    assert "mamba" in gguf.check_model(path).cannot_train


def test_arrays_decode_as_they_did(tmp_path):
    with gguf.GgufFile(write_model(tmp_path / "m.gguf", TinySpec(tokenizer="spm", layers=1))) as file:
        scores, kinds = file.value("tokenizer.ggml.scores"), file.value("tokenizer.ggml.token_type")
    assert isinstance(scores, list)
    assert {type(scores[5]), type(kinds[5])} == {float, int}
