"""The table of architectures: what a row says, held against the trainers' own classes and llama.cpp's names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
from tiny_models import TinySpec, write_model

import sg_local
from sg_local import gguf
from sg_local.gguf.architectures import (
    ARCHITECTURES,
    GEMMA2,
    GEMMA3,
    LLAMA,
    PHI3,
    QWEN2,
    REFUSED,
    SMOLLM3,
    targets_of,
)

ROWS = list(ARCHITECTURES.values())
SIZES = {"hidden": 64, "q": 80, "kv": 32, "ffn": 128}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_modules_as_llama_cpp_s_converter_does(row):
    """gguf's own map from Hugging Face's names, which llama.cpp's converter uses."""
    names = get_tensor_name_map(MODEL_ARCH[row.name.upper()], 4)
    for stem in (*row.targets, *row.norms):
        tensor = f"blk.3.{stem}"
        assert names.get_name(row.module_name(f"{tensor}.weight")) == tensor
    ends = {stem: module for stem, module in gguf.ENDS.items() if row.knows(f"{stem}.weight")}
    assert len(ends) == (3 if row.own_head else 2)
    assert all(names.get_name(module) == stem for stem, module in ends.items())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_s_modules_and_settings_are_those_of_transformers(row):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    model_class = getattr(transformers, row.model_class)
    assert model_class.config_class.model_type == row.model_type
    small = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 8, "intermediate_size": 48, "pad_token_id": None}
    with torch.device("meta"):
        model = model_class(model_class.config_class(**small, **row.constants))
    layer = model.model.layers[0]
    linear = {name for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linear == set(row.modules)
    held = {name.removesuffix(".weight") for name, _ in layer.named_parameters()}
    biases = {f"{matrix.module}.bias" for matrix in row.matrices if matrix.bias}
    assert held == {*row.modules, *row.norms.values(), *biases}
    assert {"hidden_size", *row.constants} <= set(model.config.to_dict())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_mlx_lm_has_the_row_s_model(row):
    pytest.importorskip("mlx_lm")
    import importlib

    arguments = importlib.import_module(f"mlx_lm.models.{row.model_type}").ModelArgs
    assert set(row.settings) <= set(arguments.__dataclass_fields__)


def test_no_row_is_refused_by_its_name():
    assert not set(ARCHITECTURES) & set(REFUSED)
    younger_than_the_gguf_package = {"cohere2moe", "deepseek32", "minimax-01"}
    assert set(REFUSED) <= set(MODEL_ARCH_NAMES.values()) | younger_than_the_gguf_package


def test_a_model_s_shape_follows_from_its_row(tmp_path):
    config = gguf.read_config(write_model(tmp_path / "m.gguf", TinySpec()))
    assert config.row is LLAMA
    settings = config.settings()
    assert settings["num_key_value_heads"] == config.kv_heads and settings["hidden_act"] == "silu"
    assert settings["tie_word_embeddings"] is config.tied


@pytest.mark.parametrize(
    ("row", "stem", "shape"),
    [
        (LLAMA, "attn_q", (80, 64)),
        (LLAMA, "attn_k", (32, 64)),
        (LLAMA, "attn_output", (64, 80)),
        (LLAMA, "ffn_down", (64, 128)),
        (PHI3, "attn_qkv", (144, 64)),
        (PHI3, "ffn_up", (256, 64)),
    ],
)
def test_a_fused_matrix_is_as_long_as_its_parts(row, stem, shape):
    assert row.shape_of(stem, SIZES) == shape


@pytest.mark.parametrize(
    ("row", "tensor", "known"),
    [
        (LLAMA, "blk.0.attn_q.weight", True),
        (LLAMA, "blk.11.ffn_norm.weight", True),
        (LLAMA, "rope_freqs.weight", True),
        (LLAMA, "output.weight", True),
        (LLAMA, "output.bias", False),
        (LLAMA, "blk.0.attn_q.bias", False),
        (LLAMA, "blk.0.attn_qkv.weight", False),
        (LLAMA, "blk.x.attn_q.weight", False),
        (LLAMA, "blk.0.attn_q.weight.more", False),
        (PHI3, "blk.0.attn_qkv.weight", True),
        (PHI3, "blk.0.attn_q.weight", False),
        (QWEN2, "blk.0.attn_q.bias", True),
        (QWEN2, "blk.0.attn_output.bias", False),
        (GEMMA2, "blk.0.post_ffw_norm.weight", True),
        (GEMMA2, "output.weight", False),
        (GEMMA3, "output.weight", True),
    ],
)
def test_a_row_knows_its_tensors(row, tensor, known):
    assert row.knows(tensor) is known


def test_rows_of_rotary_heads_are_permuted_where_the_row_says_so():
    assert [LLAMA.rotary_heads(f"blk.0.{stem}.weight", 8, 2) for stem in ("attn_q", "attn_k", "attn_v")] == [8, 2, None]
    assert QWEN2.rotary_heads("blk.0.attn_q.weight", 8, 2) is None and not QWEN2.has_rotary_pairs
    assert LLAMA.rotary_heads("token_embd.weight", 8, 2) is None


def test_a_slice_keeps_its_layers_kinds_when_they_are_numbered_anew():
    assert (LLAMA.slice_of(1), LLAMA.slice_of(30)) == ((0,), (0, 29))
    assert SMOLLM3.slice_of(36) == (0, 1, 2, 35) and SMOLLM3.slice_of(3) == (0, 1, 2)
    assert [SMOLLM3.rotates(layer) for layer in range(5)] == [True, True, True, False, True]
    assert all(SMOLLM3.rotates(at) == SMOLLM3.rotates(layer) for at, layer in enumerate(SMOLLM3.slice_of(30)))
    assert GEMMA2.slice_of(26) == (0, 25) and GEMMA3.slice_of(26) == (0, 1, 2, 3, 4, 23)
    assert GEMMA3.slice_of(7, pattern=3) == (0, 1, 5) and GEMMA3.slice_of(7, pattern=0) == (0, 6)


def test_a_norm_s_offset_is_taken_off_norms_alone():
    assert [GEMMA2.offset_of(name) for name in ("blk.0.attn_norm.weight", "output_norm.weight")] == [1.0, 1.0]
    assert GEMMA2.offset_of("blk.0.attn_q.weight") == GEMMA2.offset_of("token_embd.weight") == 0.0
    assert LLAMA.offset_of("output_norm.weight") == 0.0


def test_layers_of_a_slice_are_numbered_anew():
    assert LLAMA.module_name("blk.7.attn_q.weight", (0, 7)) == "model.layers.1.self_attn.q_proj"
    assert LLAMA.module_name("blk.3.attn_q.weight", (0, 7)) is None
    assert LLAMA.module_name("rope_freqs.weight") is None


def test_an_adapter_may_change_the_row_s_matrices(monkeypatch):
    monkeypatch.setattr("sg_local.gguf.architectures.ARCHITECTURES", {"llama": LLAMA, "phi3": PHI3})
    assert targets_of("phi3") == ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    assert set(targets_of("unknown")) == {*LLAMA.targets, *PHI3.targets}


def test_a_refused_row_says_why(tmp_path, monkeypatch):
    reason = "its experts are chosen by the token."
    monkeypatch.setattr("sg_local.gguf.config.ARCHITECTURES", {"llama": replace(LLAMA, refused=reason)})
    info = gguf.check_model(write_model(tmp_path / "m.gguf", TinySpec()))
    assert info.cannot_train == reason


def test_further_settings_are_read_from_the_metadata(tmp_path, monkeypatch):
    """A model of a made-up architecture, but for the name of its metadata a llama: shape and settings come through."""
    row = replace(LLAMA, name="other", settings={"logits_scaling": "logit_scale"})
    for module in ("architectures", "config", "shape"):
        monkeypatch.setattr(f"sg_local.gguf.{module}.ARCHITECTURES", {"other": row})
    path = tmp_path / "other.gguf"
    with gguf.GgufFile(write_model(tmp_path / "m.gguf", TinySpec())) as file:
        fields = [("general.architecture", "other")]
        fields += [
            (key.replace("llama.", "other.", 1), file.value(key)) for key in file.fields if key.startswith("llama.")
        ]
        kept = [field.raw for key, field in file.fields.items() if not key.startswith(("llama.", "general.arch"))]
        packed = [*(gguf.pack_field(*pair) for pair in fields), gguf.pack_field("other.logit_scale", 0.25), *kept]
        plans = [gguf.TensorPlan(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors.values()]
        gguf.write_gguf(path, gguf.FilePlan(packed, plans), lambda plan: [file.rows(file.tensors[plan.name])])
        hidden = file.value("llama.embedding_length")
    config = gguf.read_config(path)
    assert (config.architecture, config.hidden) == ("other", hidden)
    assert np.isclose(config.settings()["logits_scaling"], 0.25)


def test_no_module_but_the_table_and_the_forward_passes_names_a_block_s_matrices():
    """Adding an architecture is one row and, at most, the two forward passes."""
    package = Path(sg_local.__file__).parent
    named = set()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in ('"attn_q"', "q_proj", '"ffn_down"', "LlamaForCausalLM", "models.llama")):
            named.add(path.relative_to(package).as_posix())
    assert named == {
        "gguf/architecture.py",  # its docstrings
        "gguf/architectures.py",
        "gguf/quant_mix.py",  # llama.cpp's mixes of types go by these names, whatever the architecture
        "backends/mlx/model.py",
        "backends/llama_cpp/amx.py",  # its trial model
    }
