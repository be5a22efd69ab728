"""What flows into a model's matrices, as llama.cpp's graph shows it: against the same sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local import gguf
from sg_local.backends import EngineSettings, open_watched, watches
from sg_local.backends.llama_cpp import importance
from sg_local.records import ScoredPrompt, Segment

SETTINGS = EngineSettings(n_ctx=256, n_parallel=1, fast_copy=False)
SPEC = TinySpec(type="F32", head_type="F32", layers=2)
TEXT, ANSWER = "Route the message to billing.", " delivery"


def measured(path, adapter=None):
    generator, inputs = open_watched("llama.cpp", path, SETTINGS)
    try:
        generator.use_adapter(adapter)
        assert inputs.means() == {}
        list(generator.score([ScoredPrompt("a", (Segment(TEXT),), (ANSWER,))]))
        ids = [*generator.tokenize((Segment(TEXT),)), *generator.tokenize((Segment(ANSWER),), bos=False)]
    finally:
        generator.close()
    return inputs.means(), ids


def test_mean_squares_of_a_block_s_inputs_are_those_of_the_normed_embeddings(tmp_path):
    path = write_model(tmp_path / "m.gguf", SPEC)
    found, ids = measured(path)
    with gguf.GgufFile(path) as file:
        rows = file.dequantize("token_embd.weight")[ids[:-1]]  # nothing is asked behind the last token
        norm = file.dequantize("blk.0.attn_norm.weight").reshape(-1)
        eps = file.value("llama.attention.layer_norm_rms_epsilon")
        names = {name for name, tensor in file.tensors.items() if name.startswith("blk.") and gguf.is_matrix(tensor)}
    normed = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + eps) * norm
    for stem in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(found[f"blk.0.{stem}.weight"], (normed**2).mean(axis=0), rtol=1e-3, atol=1e-6)
    assert names <= set(found)
    assert found["blk.1.ffn_down.weight"].shape == (SPEC.ffn,) and found["blk.1.ffn_down.weight"].dtype == np.float32


def test_an_adapter_counts(tmp_path):
    path = write_model(tmp_path / "m.gguf", SPEC)
    adapter = write_lora(tmp_path / "a.gguf", lora_pairs(SPEC, size=0.3), 8.0)
    plain, tuned = measured(path)[0], measured(path, adapter)[0]
    assert set(plain) == set(tuned)
    np.testing.assert_allclose(plain["blk.0.attn_q.weight"], tuned["blk.0.attn_q.weight"], rtol=1e-3)  # before any
    assert not np.allclose(plain["blk.1.attn_q.weight"], tuned["blk.1.attn_q.weight"], rtol=0.05)


def test_a_library_that_lays_nodes_out_otherwise_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(importance, "_NAME_AT", 248)
    assert measured(write_model(tmp_path / "m.gguf", SPEC))[0] == {}


@pytest.mark.parametrize(("name", "can"), [("llama.cpp", True), ("auto", True), ("scripted", False), ("mlx", False)])
def test_who_can_tell(name, can):
    assert watches(name) is can
