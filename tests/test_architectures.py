"""Every row of the table on tiny random models, with llama.cpp as the judge: both trainers, the merge, the folders.

All in float32, where a right copy differs from llama.cpp by rounding alone.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_architectures import (
    examples,
    mlx_gradient,
    mlx_side,
    relative_error,
    spec_of,
    torch_gradient,
    torch_side,
    write_pair,
    write_pair_of,
)

from sg_local import gguf
from sg_local.backends.torch.forward import logits
from sg_local.backends.torch.packing import pack_tokens
from sg_local.backends.training.parity import _reference_logits, parity_gate
from sg_local.export.huggingface import FolderPlan, write_folder
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.records import SgError

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def tiny(request, tmp_path_factory):
    """The model, an adapter that changes much, and llama.cpp's logits of the rows' tokens with it."""
    folder = tmp_path_factory.mktemp(request.param)
    return *write_pair(folder, request.param), folder


def judged(tiny, ours_base, ours_adapted, tmp_path):
    """Hold a trainer's logits, with and without the adapter, to llama.cpp's: within the row's tolerance."""
    model, adapter, _ = tiny
    gate = parity_gate(model, tmp_path, examples(), 1)
    gate.check_base(ours_base)
    dataclasses.replace(gate, few=gate.layers).check_adapter(adapter, ours_adapted)


def test_torch_computes_what_llama_cpp_computes(tiny, tmp_path):
    base, lora = torch_side(*tiny[:2])

    def ours(adapter):
        return lambda tokens, layers: logits(base, adapter, pack_tokens(tokens, CPU)).numpy()

    judged(tiny, ours(None), ours(lora), tmp_path)


def test_a_slice_of_the_layers_computes_what_llama_cpp_computes(tiny, tmp_path, monkeypatch):
    from sg_local.backends.torch.model import slice_of

    monkeypatch.setattr("sg_local.backends.training.parity.FULL_COPY_BYTES", 1)
    base, lora = torch_side(*tiny[:2])

    def ours(adapter):
        return lambda tokens, layers: logits(slice_of(base, layers), adapter, pack_tokens(tokens, CPU)).numpy()

    judged(tiny, ours(None), ours(lora), tmp_path)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("granite", {"extra": {}}),
        ("gemma2", {"window": 0}),
        ("gemma2", {"extra": {"final_logit_softcapping": 3.0}}),
        ("gemma2", {"extra": {"attn_logit_softcapping": 5.0}}),
        ("gemma3", {"window": 17}),
        ("gemma3", {"pattern": 2}),
        ("mistral3", {"temperature": 0.0}),
    ],
)
def test_the_gate_sees_what_is_computed_otherwise(tmp_path, architecture, changes):
    base, _ = torch_side(*write_pair(tmp_path, architecture))
    wrong = dataclasses.replace(base, shape=dataclasses.replace(base.shape, **changes))
    gate = parity_gate(tmp_path / "tiny.gguf", tmp_path, examples(), 1)
    with pytest.raises(SgError, match="reads tiny.gguf otherwise than llama.cpp"):
        gate.check_base(lambda tokens, layers: logits(wrong, None, pack_tokens(tokens, CPU)).numpy())


def test_torch_s_shared_prefix_gives_the_gradient_of_full_rows(tiny):
    base, lora = torch_side(*tiny[:2])
    shared, whole = (torch_gradient(base, lora, shared=share) for share in (True, False))
    assert np.linalg.norm(whole) > 0 and relative_error(shared, whole) < 1e-4


def test_mlx_computes_what_llama_cpp_computes(tiny, tmp_path):
    mx = pytest.importorskip("mlx.core")
    from sg_local.backends.mlx.forward import logits as mlx_logits

    base, adapted = mlx_side(tiny[0], None), mlx_side(*tiny[:2])
    judged(tiny, lambda *asked: mlx_logits(base, *asked), lambda *asked: mlx_logits(adapted, *asked), tmp_path)
    tokens = examples()[0].tokens
    own = np.array(adapted(mx.array([tokens]))[0])
    assert np.abs(own - mlx_logits(adapted, tokens, range(len(adapted.layers)))).max() < 1e-3


def test_mlx_s_shared_prefix_gives_the_gradient_of_full_rows(tiny):
    pytest.importorskip("mlx.core")
    model = mlx_side(*tiny[:2])
    shared, whole = (mlx_gradient(model, shared=share) for share in (True, False))
    assert np.linalg.norm(whole) > 0 and relative_error(shared, whole) < 1e-4


def test_a_merged_file_is_base_and_adapter(tiny, tmp_path):
    model, path, _ = tiny
    tokens, adapter = examples()[0].tokens, gguf.read_adapter(path)
    with gguf.GgufFile(model) as source:
        gguf.check_adapter(adapter, source)
        gguf.merge(tmp_path / "f32.gguf", source, adapter, gguf.MergeSettings("same"), lambda _: None)
        gguf.merge(tmp_path / "q4.gguf", source, adapter, gguf.MergeSettings("Q4_K_M"), lambda _: None)
    merged, wanted = _reference_logits(tmp_path / "f32.gguf", None, tokens), _reference_logits(model, path, tokens)
    assert np.abs(merged - wanted).max() < 1e-3 < np.abs(_reference_logits(model, None, tokens) - wanted).max()
    quantised = _reference_logits(tmp_path / "q4.gguf", None, tokens)
    assert np.corrcoef(quantised.ravel(), wanted.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q5_K_M", "Q6_K", "Q4_0"])
def test_a_merged_file_has_the_types_that_llama_cpp_gives(tiny, tmp_path, file_type):
    import ctypes

    import llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = gguf.FILE_TYPES[file_type], 1
    made = tmp_path / "theirs.gguf"
    assert lib.llama_model_quantize(str(tiny[0]).encode(), str(made).encode(), ctypes.byref(params)) == 0
    with gguf.GgufFile(tiny[0]) as source, gguf.GgufFile(made) as theirs:
        row = ARCHITECTURES[source.value("general.architecture")]
        assert gguf.mix(source.tensors, file_type, row) == {name: t.type for name, t in theirs.tensors.items()}


def plain(architecture, **changes):
    """The tiny model of an architecture without the metadata of its own."""
    return spec_of(architecture, **{"metadata": (), **changes})


# What files of one architecture may say otherwise than its tiny model above.
VARIANTS = {
    "gemma2 of 27B's layers": plain("gemma2", width=64, ffn=64, layers=46, head_width=32, heads=2, kv_heads=1),
    "gemma3 without windows": plain("gemma3", metadata=(("final_logit_softcapping", 2.0),), tied=False),
    "gemma3 with layers told one by one": plain(
        "gemma3",
        metadata=(
            ("attention.sliding_window", 16),
            ("attention.sliding_window_pattern", [True, False, True, False]),
            ("rope.freq_base_swa", 5e4),
        ),
    ),
    "phi3 with whole heads": plain("phi3", rope_dim=0, tied=True),
    "mistral3 without yarn": plain("mistral3"),
    "mistral3 with yarn's own scale": plain(
        "mistral3",
        metadata=(
            ("rope.scaling.type", "yarn"),
            ("rope.scaling.factor", 8.0),
            ("rope.scaling.yarn_beta_fast", 16.0),
            ("rope.scaling.original_context_length", 64),
        ),
    ),
    "llama with a factor without a type": plain("llama", metadata=(("rope.scaling.factor", 4.0),)),
}


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS)
def test_what_files_of_one_architecture_say_otherwise_is_computed(tmp_path, monkeypatch, spec):
    from sg_local.backends.torch.model import slice_of

    model, path = write_pair_of(tmp_path, spec)
    base, lora = torch_side(model, path)

    def ours(adapter):
        return lambda tokens, layers: logits(slice_of(base, layers), adapter, pack_tokens(tokens, CPU)).numpy()

    judged((model, path, None), ours(None), ours(lora), tmp_path)
    monkeypatch.setattr("sg_local.backends.training.parity.FULL_COPY_BYTES", 1)
    judged((model, path, None), ours(None), ours(lora), tmp_path)
    assert relative_error(*(torch_gradient(base, lora, shared=share) for share in (True, False))) < 1e-4
    pytest.importorskip("mlx.core")
    from sg_local.backends.mlx.forward import logits as mlx_logits

    monkeypatch.undo()
    adapted = mlx_side(model, path)
    gate = parity_gate(model, tmp_path, examples(), 1)
    gate.check_adapter(path, lambda *asked: mlx_logits(adapted, *asked))


@pytest.mark.filterwarnings("ignore")
def test_the_folder_loads_in_transformers_and_mlx_lm(tiny, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, path, _ = tiny
    write_folder(tmp_path, FolderPlan(model, gguf.read_adapter(path), None), lambda _: None)
    model_type = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert model_type == gguf.read_config(model).row.model_type
    tokens = examples()[0].tokens
    wanted = _reference_logits(model, path, tokens)
    limit = 0.01 * np.abs(wanted).max()  # the folder's weights are float16
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        assert np.abs(loaded(torch.tensor([tokens])).logits[0].numpy() - wanted).max() < limit
    mx, mlx_lm = pytest.importorskip("mlx.core"), pytest.importorskip("mlx_lm")
    theirs, _ = mlx_lm.load(str(tmp_path))
    # mlx-lm's Gemma 2 has no window: its first tokens, all within one, are what can be compared.
    n = gguf.read_config(model).window if model_type == "gemma2" else len(tokens)
    assert np.abs(np.array(theirs(mx.array([tokens]))[0].astype(mx.float32)) - wanted)[:n].max() < limit


def test_the_cache_is_as_wide_as_the_heads_are(tiny):
    from sg_local.backends.llama_cpp.context import cell_bytes
    from sg_local.backends.llama_cpp.model import lib, load_model

    handle, config = load_model(tiny[0]), gguf.read_config(tiny[0])
    try:
        assert cell_bytes(handle) == 2 * 2 * config.layers * config.kv_heads * config.head_dim
    finally:
        lib.llama_model_free(handle)


def test_a_model_without_one_of_its_vectors_is_refused(tiny, tmp_path):
    with gguf.GgufFile(tiny[0]) as file:
        name = gguf.read_config(tiny[0]).row.vectors(0)[-1]
        plans = [gguf.TensorPlan(t.name, t.shape, t.type) for t in file.tensors.values() if t.name != name]
        plan = gguf.FilePlan([field.raw for field in file.fields.values()], plans)
        gguf.write_gguf(tmp_path / "less.gguf", plan, lambda plan: [file.rows(file.tensors[plan.name])])
    assert gguf.check_model(tmp_path / "less.gguf").cannot_train == f"{name} is missing."
