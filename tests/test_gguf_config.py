"""What can be opened and what can be trained, and the shape that trainers read."""

from __future__ import annotations

import gguf as reference
import numpy as np
import pytest
from tiny_models import CHATML, TinySpec, lora_pairs, write_lora, write_model

from sg_local import gguf
from sg_local.records import SgError


def write_variant(path, fields=(), tensors=(), drop=(), architecture="llama"):
    """A tiny model with metadata entries and tensors changed."""
    model = write_model(path.with_suffix(".base"), TinySpec(layers=1))
    with gguf.GgufFile(model) as file:
        kept = {key: field.raw for key, field in file.fields.items()}
        kept.update({key: gguf.pack_field(key, value) for key, value in fields})
        kept["general.architecture"] = gguf.pack_field("general.architecture", architecture)
        plans = [gguf.TensorPlan(t.name, t.shape, t.type) for t in file.tensors.values() if t.name not in drop]
        plans += [gguf.TensorPlan(name, shape, type) for name, shape, type in tensors]

        def chunks(plan):
            known = plan.name in file.tensors and plan.name not in drop
            return [file.rows(file.tensors[plan.name]) if known else np.zeros(plan.n_bytes, np.uint8)]

        gguf.write_gguf(path, gguf.FilePlan(list(kept.values()), plans), chunks)
    return path


def test_config_of_a_gqa_tied_model(tmp_path):
    config = gguf.read_config(write_model(tmp_path / "m.gguf", TinySpec(rope_base=5e5)))
    assert (config.hidden, config.layers, config.heads, config.kv_heads, config.head_dim) == (256, 2, 4, 2, 64)
    assert (config.ffn, config.vocab, config.context, config.tied) == (512, 512, 1024, True)
    assert config.rope_base == 5e5
    assert config.norm_eps == pytest.approx(1e-5)
    assert config.shape_of("attn_k") == (128, 256)
    assert config.shape_of("ffn_down") == (256, 512)


def test_config_of_a_plain_untied_model(tmp_path):
    config = gguf.read_config(write_model(tmp_path / "m.gguf", TinySpec(tokenizer="spm", kv_heads=4, tied=False)))
    assert (config.kv_heads, config.tied) == (4, False)


def test_info_of_a_model(tmp_path):
    info = gguf.check_model(write_model(tmp_path / "m.gguf", TinySpec(type="Q4_K")))
    assert (info.architecture, info.file_type, info.cannot_train) == ("llama", "Q4_K_M", "")
    assert info.types == {"Q8_0": 1, "F32": 5, "Q4_K": 14}
    assert info.chat_template == CHATML


@pytest.mark.parametrize(
    ("changes", "reason"),
    (
        ({"architecture": "mamba"}, "architecture is mamba"),
        ({"tensors": [("blk.0.ffn_up_exps.weight", (2, 512, 256), "F16")]}, "mixture of experts"),
        ({"tensors": [("blk.0.attn_qkv.weight", (512, 256), "F16")]}, "fused"),
        ({"tensors": [("rope_factors_long.weight", (32,), "F32")]}, "scaling is longrope, and llama.cpp picks"),
        ({"tensors": [("blk.0.attn_q.bias", (256,), "F32")]}, "beyond the plain llama"),
        (
            {"drop": ["blk.0.attn_q.weight"], "tensors": [("blk.0.attn_q.weight", (256, 256), "IQ4_NL")]},
            "type IQ4_NL",
        ),
        ({"fields": [("llama.attention.head_count_kv", 4)]}, "promises"),
        ({"drop": ["blk.0.attn_q.weight"]}, "missing"),
        ({"fields": [("llama.rope.scaling.type", "yarn")]}, "scaling is yarn"),
        ({"fields": [("llama.attention.head_count_kv", [2])]}, "differs between layers"),
    ),
)
def test_what_cannot_be_trained_can_still_be_opened(tmp_path, changes, reason):
    path = write_variant(tmp_path / "m.gguf", **changes)
    assert reason in gguf.check_model(path).cannot_train
    with pytest.raises(SgError, match=reason) as caught:
        gguf.check_trainable(path)
    assert "llama" in caught.value.hint


def test_a_part_of_a_split_model_is_refused(tmp_path):
    path = write_variant(tmp_path / "m.gguf", fields=[("split.count", 3)])
    with pytest.raises(SgError, match="one of 3 parts"):
        gguf.check_model(path)


def test_an_adapter_is_no_model(tmp_path):
    path = write_lora(tmp_path / "a.gguf", lora_pairs(TinySpec(layers=1)), 4.0)
    with pytest.raises(SgError, match="not a model"):
        gguf.check_model(path)


def test_an_unknown_tensor_type_is_named(tmp_path):
    writer = reference.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("x.weight", np.zeros((1, 18), np.uint8), raw_dtype=reference.GGMLQuantizationType.Q1_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SgError, match="ggml type 41"):
        gguf.check_model(tmp_path / "m.gguf")


def test_a_tensor_of_an_unknown_type_is_named_with_its_file(tmp_path):
    path = write_model(tmp_path / "m.gguf", TinySpec(layers=1))
    data = path.read_bytes()
    at = data.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4 + 16
    path.write_bytes(data[:at] + (99).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(SgError, match=r"m\.gguf: tensor blk\.0\.attn_q\.weight has ggml type 99") as caught:
        gguf.check_model(path)
    assert caught.value.hint


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_an_adapter_of_numbers_that_are_none_is_refused(tmp_path, number):
    pairs = lora_pairs(TinySpec(layers=1))
    a, b = pairs["blk.0.attn_q.weight"]
    a[0, 0] = number
    pairs["blk.0.attn_q.weight"] = (a, np.full_like(b, 2))
    with pytest.raises(SgError, match=r"a\.gguf: the LoRA pair of blk\.0\.attn_q\.weight holds numbers that are none"):
        gguf.read_adapter(write_lora(tmp_path / "a.gguf", pairs, 4.0))


def test_an_adapter_whose_one_matrix_is_too_large_is_refused_whatever_the_other_holds(tmp_path):
    pairs = lora_pairs(TinySpec(layers=1))
    a, b = pairs["blk.0.attn_q.weight"]
    pairs["blk.0.attn_q.weight"] = (np.zeros_like(a), np.full_like(b, 3e38))
    with pytest.raises(SgError, match="holds numbers that are none, or too large"):
        gguf.read_adapter(write_lora(tmp_path / "a.gguf", pairs, 4.0))


@pytest.mark.parametrize("base", [5, [1, 2]])
def test_an_adapter_whose_base_is_no_digest_is_refused(tmp_path, base):
    spec = TinySpec(layers=1)
    adapter = gguf.read_adapter(write_lora(tmp_path / "a.gguf", lora_pairs(spec), 4.0))
    adapter.metadata["sg_local.base.sha256"] = base
    with gguf.GgufFile(write_model(tmp_path / "m.gguf", spec)) as file:
        gguf.check_adapter(adapter, file)
        with pytest.raises(SgError, match="trained on another base"):
            gguf.check_adapter(adapter, file, "00" * 32)
