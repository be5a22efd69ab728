"""Every row of the table on tiny random models, with llama.cpp as the judge: both trainers, the merge, the folders.

All in float32, where a right copy differs from llama.cpp by rounding alone.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_models import TinySpec, lora_pairs, write_lora, write_model

import sg_local
from sg_local import gguf
from sg_local.backends import TrainSettings
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.forward import answer_loss, hidden_states, logits
from sg_local.backends.torch.model import load_base
from sg_local.backends.torch.packing import pack_rows, pack_tokens
from sg_local.backends.training.parity import _reference_logits, parity_gate
from sg_local.export.huggingface import FolderPlan, write_folder
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.records import SgError, TokenExample

CPU, ALPHA, RANK = torch.device("cpu"), 8.0, 4
SETTINGS = TrainSettings(rank=RANK, alpha=ALPHA, batch_size=4, n_threads=1)
PLAIN = TinySpec(type="F32", head_type="F32")
# Where an architecture has a length of its own or layers of several kinds, its tiny model has them too.
SPECS = {
    "llama": PLAIN,
    "qwen2": dataclasses.replace(PLAIN, rope_base=1e6),
    "qwen3": dataclasses.replace(PLAIN, head_width=96, rope_base=1e6, tied=False),
    "granite": PLAIN,
    "smollm3": dataclasses.replace(PLAIN, layers=5, rope_base=2e6),
    "olmo2": dataclasses.replace(PLAIN, tied=False),
}


def examples(n: int = 5, n_prefix: int = 20) -> list[TokenExample]:
    """Rows with a common prefix and parts of their own, of unequal lengths and weights."""
    draw = np.random.default_rng(3)
    prefix = tuple(draw.integers(3, 500, n_prefix).tolist())
    own = [tuple(draw.integers(3, 500, 4 + i).tolist()) for i in range(n)]
    return [
        TokenExample(f"row{i}", (*prefix, *part, 7, 2), n_prefix + len(part), 1.0 + i % 3) for i, part in enumerate(own)
    ]


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def tiny(request, tmp_path_factory):
    """The model, an adapter that changes much, and llama.cpp's logits of the rows' tokens with it."""
    folder = tmp_path_factory.mktemp(request.param)
    spec = dataclasses.replace(SPECS[request.param], architecture=request.param)
    model = write_model(folder / "tiny.gguf", spec)
    adapter = write_lora(folder / "adapter.gguf", lora_pairs(spec, RANK, size=0.1), ALPHA / 2, request.param)
    return model, adapter, folder


def torch_side(model: Path, adapter: Path):
    """The base in torch, and the file's adapter as its own."""
    base = load_base(model, CPU, torch.float32)
    lora = TorchLora(base, dataclasses.replace(SETTINGS, alpha=ALPHA / 2))
    pairs = gguf.read_adapter(adapter).pairs
    for name, (a, b) in lora.matrices().items():
        heads = base.shape.rotary_heads(name)
        own = pairs[name]
        a.copy_(torch.from_numpy(own[0].copy()))
        b.copy_(torch.from_numpy(np.ascontiguousarray(own[1] if heads is None else gguf.rows_to_hf(own[1], heads))))
    return base, lora


def judged(tiny, ours_base, ours_adapted, tmp_path):
    """Hold a trainer's logits, with and without the adapter, to llama.cpp's: within the row's tolerance."""
    model, adapter, _ = tiny
    gate = parity_gate(model, tmp_path, examples(), 1)
    gate.check_base(ours_base)
    gate.check_adapter(adapter, ours_adapted)
    gate.close()


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


def test_torch_s_shared_prefix_gives_the_gradient_of_full_rows(tiny):
    base, lora = torch_side(*tiny[:2])

    def gradient(packs):
        lora.flat.grad.zero_()
        for pack in packs:
            answer_loss(base, hidden_states(base, lora, pack), pack).backward()
        return lora.flat.grad.clone()

    rows = examples()
    shared = gradient([pack_rows(rows, 20, CPU)])
    whole = gradient([pack_rows([row], 0, CPU) for row in rows])
    assert whole.norm() > 0 and (shared - whole).norm() / whole.norm() < 1e-4


def mlx_side(model: Path, adapter: Path | None):
    from sg_local.backends.mlx.adapter import apply_adapter
    from sg_local.backends.mlx.weights import load_model

    loaded = load_model(model, keep_quantised=False)
    if adapter is not None:
        found = gguf.read_adapter(adapter)
        apply_adapter(loaded, found.pairs, found.alpha)
    return loaded


def test_mlx_computes_what_llama_cpp_computes(tiny, tmp_path):
    mx = pytest.importorskip("mlx.core")
    from sg_local.backends.mlx.forward import logits as mlx_logits

    base, adapted = mlx_side(tiny[0], None), mlx_side(*tiny[:2])
    judged(tiny, lambda *asked: mlx_logits(base, *asked), lambda *asked: mlx_logits(adapted, *asked), tmp_path)
    tokens = examples()[0].tokens
    own = np.array(adapted(mx.array([tokens]))[0])
    assert np.abs(own - mlx_logits(adapted, tokens, range(len(adapted.layers)))).max() < 1e-3


def test_mlx_s_shared_prefix_gives_the_gradient_of_full_rows(tiny):
    mx = pytest.importorskip("mlx.core")
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from sg_local.backends.mlx.forward import make_batch, summed_loss

    model = mlx_side(*tiny[:2])
    model.freeze()
    model.unfreeze(keys=["lora_a", "lora_b"], strict=False)
    found = []
    for share in (True, False):
        batch = make_batch(examples(), share_prefix=share)
        _, grads = nn.value_and_grad(model, lambda batch: summed_loss(model, batch))(batch)
        flat = [grad.reshape(-1) for _, grad in tree_flatten(grads)]
        found.append(np.array(mx.concatenate(flat)))
    shared, whole = found
    assert np.linalg.norm(whole) > 0 and np.linalg.norm(shared - whole) / np.linalg.norm(whole) < 1e-4


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


@pytest.mark.filterwarnings("ignore")
def test_the_folder_loads_in_transformers_and_mlx_lm(tiny, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, path, _ = tiny
    write_folder(tmp_path, FolderPlan(model, gguf.read_adapter(path), None), lambda _: None)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == gguf.read_config(model).row.model_type
    tokens = examples()[0].tokens
    wanted = _reference_logits(model, path, tokens)
    limit = 0.01 * np.abs(wanted).max()  # the folder's weights are float16
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        assert np.abs(loaded(torch.tensor([tokens])).logits[0].numpy() - wanted).max() < limit
    mx, mlx_lm = pytest.importorskip("mlx.core"), pytest.importorskip("mlx_lm")
    theirs, _ = mlx_lm.load(str(tmp_path))
    assert np.abs(np.array(theirs(mx.array([tokens]))[0].astype(mx.float32)) - wanted).max() < limit


def test_the_cache_is_as_wide_as_the_heads_are(tiny):
    from sg_local.backends.llama_cpp.context import cell_bytes
    from sg_local.backends.llama_cpp.model import lib, load_model

    handle, config = load_model(tiny[0]), gguf.read_config(tiny[0])
    try:
        assert cell_bytes(handle) == 2 * 2 * config.layers * config.kv_heads * config.head_dim
    finally:
        lib.llama_model_free(handle)


@pytest.mark.parametrize(
    ("architecture", "fields", "reason"),
    [
        ("llama4", {}, "its architecture is llama4"),
        ("gpt-oss", {}, "its architecture is gpt-oss"),
        ("qwen3moe", {}, "its architecture is qwen3moe"),
        ("llama", {"split.count": 2}, "one of 2 parts of a split model"),
        ("llama", {"llama.rope.scaling.type": "longrope"}, "its rotary scaling is longrope"),
    ],
)
def test_a_run_of_what_cannot_be_trained_is_refused_when_it_is_opened(tmp_path, architecture, fields, reason):
    path = write_model(tmp_path / "m.gguf")
    gguf.copy_with_fields(path, tmp_path / "other.gguf", {"general.architecture": architecture, **fields})
    with pytest.raises(SgError, match=reason):
        sg_local.open_job("support_routing", model=str(tmp_path / "other.gguf"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_model_without_one_of_its_vectors_is_refused(tiny, tmp_path):
    with gguf.GgufFile(tiny[0]) as file:
        name = gguf.read_config(tiny[0]).row.vectors(0)[-1]
        plans = [gguf.TensorPlan(t.name, t.shape, t.type) for t in file.tensors.values() if t.name != name]
        plan = gguf.FilePlan([field.raw for field in file.fields.values()], plans)
        gguf.write_gguf(tmp_path / "less.gguf", plan, lambda plan: [file.rows(file.tensors[plan.name])])
    assert gguf.check_model(tmp_path / "less.gguf").cannot_train == f"{name} is missing."
