"""A model's shape from its metadata: windows, rotary embedding, caps, and the config for other libraries."""

from __future__ import annotations

import pytest
from tiny_architectures import spec_of
from tiny_models import write_model

from sg_local import gguf
from sg_local.records import SgError


def shape(folder, architecture, **changes):
    return gguf.read_config(write_model(folder / "m.gguf", spec_of(architecture, **{"metadata": (), **changes})))


def sliding(config):
    return [config.slides(layer) for layer in range(config.layers)]


@pytest.mark.parametrize(
    ("architecture", "metadata", "kinds"),
    [
        ("gemma3", (), [False] * 7),
        ("gemma3", (("attention.sliding_window", 512),), [True] * 5 + [False, True]),
        (
            "gemma3",
            (("attention.sliding_window", 512), ("attention.sliding_window_pattern", 2)),
            [True, False] * 3 + [True],
        ),
        ("gemma3", (("attention.sliding_window", 512), ("attention.sliding_window_pattern", 1)), [False] * 7),
        ("gemma3", (("attention.sliding_window", 512), ("attention.sliding_window_pattern", 0)), [True] * 7),
        (
            "gemma3",
            (("attention.sliding_window", 8), ("attention.sliding_window_pattern", [True, True, False] * 2 + [True])),
            [True, True, False] * 2 + [True],
        ),
        ("gemma2", (), [True, False] * 3 + [True]),
        ("phi3", (("attention.sliding_window", 2047),), [False] * 7),
    ],
)
def test_the_layers_that_have_a_window_are_those_of_llama_cpp(tmp_path, architecture, metadata, kinds):
    config = shape(tmp_path, architecture, layers=7, metadata=metadata)
    assert sliding(config) == kinds
    if config.row.pattern:
        words = {True: "sliding_attention", False: "full_attention"}
        assert config.settings()["layer_types"] == [words[kind] for kind in kinds]
        assert config.settings()["sliding_window"] == (config.window or None)
    kept = config.slice_layers()
    assert [config.slides(layer) for layer in kept] == [config.slides(at) for at in range(len(kept))]


def test_windows_without_a_pattern_are_refused(tmp_path):
    metadata = (
        ("attention.sliding_window", 8),
        ("attention.sliding_window_pattern", [True, False, False, True]),
    )
    with pytest.raises(SgError, match="follow no pattern"):
        shape(tmp_path, "gemma3", layers=4, metadata=metadata)


def test_the_largest_gemma_divides_scores_by_another_length(tmp_path):
    wide = {"width": 64, "ffn": 64, "heads": 2, "kv_heads": 1, "head_width": 16}
    usual, largest = (shape(tmp_path, "gemma2", layers=layers, **wide) for layers in (4, 46))
    assert usual.attention_scale is None and largest.attention_scale == 32**-0.5
    assert [config.settings()["query_pre_attn_scalar"] for config in (usual, largest)] == [16, 32]
    assert usual.embedding_scale == 8


def test_caps_are_the_usual_ones_where_the_file_says_none(tmp_path):
    assert (shape(tmp_path, "gemma2").score_cap, shape(tmp_path, "gemma2").logit_cap) == (50.0, 30.0)
    config = shape(tmp_path, "gemma3")
    assert (config.score_cap, config.logit_cap) == (0.0, 0.0)
    assert config.settings()["final_logit_softcapping"] is None
    assert shape(tmp_path, "gemma3", metadata=(("final_logit_softcapping", 30.0),)).logit_cap == 30.0


@pytest.mark.parametrize(
    ("architecture", "metadata", "reason"),
    [
        ("phi3", (("rope.scaling.factor", 4.0),), "its rotary scaling is linear; handled for phi3 are none"),
        ("gemma2", (("rope.scale_linear", 2.0),), "its rotary scaling is linear; handled for gemma2 are none"),
        ("llama", (("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0)), "its rotary scaling is yarn"),
        (
            "mistral3",
            (("rope.scaling.type", "yarn"), ("rope.scaling.attn_factor", 0.5)),
            "its mistral3.rope.scaling.attn_factor is not 1",
        ),
        ("mistral3", (("rope.scaling.type", "longrope"),), "its rotary scaling is longrope"),
    ],
)
def test_rotary_scalings_that_no_trainer_computes_are_refused(tmp_path, architecture, metadata, reason):
    with pytest.raises(SgError, match=reason):
        shape(tmp_path, architecture, metadata=metadata)


@pytest.mark.parametrize(
    ("architecture", "metadata", "reason"),
    [
        ("granite", (("rope.scaling.finetuned", False),), "its granite.rope.scaling.finetuned is False"),
        ("olmo2", (("attention.sliding_window", 4096),), "its olmo2.attention.sliding_window is 4096"),
    ],
)
def test_a_switch_of_llama_cpp_that_no_block_follows_is_refused(tmp_path, architecture, metadata, reason):
    with pytest.raises(SgError, match=reason):
        shape(tmp_path, architecture, metadata=metadata)


def test_a_factor_without_a_type_is_a_linear_one(tmp_path):
    config = shape(tmp_path, "llama", metadata=(("rope.scaling.factor", 4.0),))
    assert (config.rope_scaling, config.rope_factor) == ("linear", 4.0)
    assert shape(tmp_path, "llama", metadata=(("rope.scaling.factor", 1.0),)).rope_scaling == "none"


def test_the_rotary_embedding_is_said_as_each_library_reads_it(tmp_path):
    gemma = shape(tmp_path, "gemma3", metadata=(("rope.freq_base_swa", 2e4),)).settings()
    assert (gemma["rope_theta"], gemma["rope_local_base_freq"]) == (1e6, 2e4)
    assert shape(tmp_path, "phi3").settings()["partial_rotary_factor"] == 0.75
    yarn = gguf.read_config(write_model(tmp_path / "m.gguf", spec_of("mistral3"))).settings()["rope_parameters"]
    assert (yarn["rope_type"], yarn["factor"], yarn["original_max_position_embeddings"]) == ("yarn", 16.0, 32)
    assert yarn["llama_4_scaling_beta"] == pytest.approx(0.1) and yarn["mscale_all_dim"] == 1.0
    plain = shape(tmp_path, "mistral3").settings()["rope_parameters"]
    assert (plain["rope_type"], plain["llama_4_scaling_beta"]) == ("default", 0.0)
