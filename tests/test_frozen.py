"""A base of the file's blocks computes what a whole one computes, to the bit, on every type and architecture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_architectures import SPECS, spec_of
from tiny_models import TinySpec, write_model

from sg_local.backends import TrainSettings
from sg_local.backends.torch import decoders, frozen
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine
from sg_local.backends.torch.forward import Pass, answer_loss, hidden_states, logits
from sg_local.backends.torch.frozen import Blocks, Whole
from sg_local.backends.torch.model import LoadedBase, load_base
from sg_local.backends.torch.packing import pack_rows, pack_tokens
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.backends.training.holding import CUDA_BLOCKS, stored
from sg_local.backends.training.loop import StepPlan
from sg_local.gguf import GgufFile, StoredRows, dequantize, quantize, rows_to_hf
from sg_local.records import TokenExample

CPU = torch.device("cpu")
SETTINGS = TrainSettings(rank=4, alpha=8.0, batch_size=4, n_threads=1)
TYPES = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
WAYS = [
    {"recompute": 0, "dropout": 0.0, "n_prefix": 20},
    {"recompute": 9, "dropout": 0.3, "n_prefix": 20},
    {"recompute": 9, "dropout": 0.0, "n_prefix": 0},
]


def rows_of(n: int, n_prefix: int = 20) -> list[TokenExample]:
    draw = np.random.default_rng(0)
    prefix = tuple(draw.integers(3, 500, n_prefix).tolist())
    own = [tuple(draw.integers(3, 500, int(draw.integers(5, 14))).tolist()) for _ in range(n)]
    return [TokenExample(str(i), (*prefix, *one), n_prefix + 3, 1.0 + i % 3) for i, one in enumerate(own)]


def lively(base: LoadedBase, settings: TrainSettings) -> TorchLora:
    """An adapter whose B is not zero, so that every path matters."""
    lora = TorchLora(base, settings)
    lora.start()
    draw = torch.Generator().manual_seed(1)
    for _, b in lora.matrices().values():
        b.copy_(torch.empty(b.shape).normal_(0, 0.05, generator=draw))
    return lora


def gradient(base: LoadedBase, way: dict, settings: TrainSettings = SETTINGS) -> tuple:
    """Loss and gradient of five rows."""
    lora = lively(base, dataclasses.replace(settings, dropout=way["dropout"]))
    pack = pack_rows(rows_of(5), way["n_prefix"], base.device)
    loss = answer_loss(base, hidden_states(base, lora, pack, Pass(3, way["recompute"])), pack)
    loss.backward()
    return loss.detach(), lora.gradient


def assert_equal_ways(model: Path, settings: TrainSettings = SETTINGS) -> LoadedBase:
    whole, blocks = (load_base(model, CPU, torch.float32, as_blocks=held) for held in (False, True))
    for way in WAYS:
        one, other = gradient(whole, way, settings), gradient(blocks, way, settings)
        assert float(one[0]) > 0 and float(one[1].abs().max()) > 0
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]), way
    return blocks


@pytest.mark.parametrize("type", TYPES)
def test_each_type_gives_the_loss_and_gradient_of_whole_matrices(tmp_path: Path, type: str) -> None:
    model = write_model(tmp_path / "m.gguf", TinySpec(type=type, head_type=type, tied=type != "Q4_K"))
    base = assert_equal_ways(model)
    held = [p.weight for block in base.blocks for p in block.projections]
    assert all(isinstance(weight, Blocks) for weight in (*held, base.embedding, base.head))


@pytest.mark.parametrize("architecture", SPECS)
def test_each_architecture_does(tmp_path: Path, architecture: str) -> None:
    model = write_model(tmp_path / "m.gguf", spec_of(architecture, type="Q8_0", head_type="Q4_0"))
    assert_equal_ways(model)


def test_an_adapter_of_the_last_layer_and_a_head_in_parts_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(frozen, "PART_ROWS", 100)
    model = write_model(tmp_path / "m.gguf", TinySpec(type="Q4_K", head_type="Q6_K", layers=3))
    assert_equal_ways(model, dataclasses.replace(SETTINGS, n_layers=1))
    tokens = rows_of(1)[0].tokens
    found = [load_base(model, CPU, torch.float32, as_blocks=held) for held in (False, True)]
    one, other = (logits(base, None, pack_tokens(tokens, CPU)) for base in found)
    assert torch.equal(one, other)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_share_the_decoding(tmp_path: Path, n_threads: int) -> None:
    model = write_model(tmp_path / "m.gguf", TinySpec(type="Q4_0", heads=8, kv_heads=2))
    whole, blocks = (load_base(model, CPU, torch.float32, as_blocks=held) for held in (False, True))
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        for one, other in zip(whole.blocks, blocks.blocks, strict=True):
            for left, right in zip(one.projections, other.projections, strict=True):
                assert torch.equal(left.weight.whole(), right.weight.whole())
    finally:
        torch.set_num_threads(before)


def test_bfloat16_is_the_rounded_float32(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf", TinySpec(type="Q5_K"))
    whole, blocks = (load_base(model, CPU, torch.bfloat16, as_blocks=held) for held in (False, True))
    for one, other in zip(whole.blocks[0].projections, blocks.blocks[0].projections, strict=True):
        assert torch.equal(one.weight.whole(), other.weight.whole())
    ids = torch.tensor([3, 400, 3])
    assert torch.equal(whole.embedding.pick(ids), blocks.embedding.pick(ids))


def test_matrices_of_types_without_blocks_are_whole(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf", TinySpec(type="F32", head_type="Q8_0"))
    base = load_base(model, CPU, torch.float32, as_blocks=True)
    assert isinstance(base.blocks[0].qkv.weight, Whole) and isinstance(base.head, Blocks)
    assert_equal_ways(model)
    held = stored(model, on_cuda=False)
    with GgufFile(model) as file:
        head = file.tensors["token_embd.weight"]
        assert held.n_bytes == head.n_bytes and held.scratch == head.rows * head.columns
        matrices = [tensor for tensor in file.tensors.values() if tensor.name.startswith("blk") and tensor.rows > 1]
        assert held.n_whole == sum(tensor.rows * tensor.columns for tensor in matrices)


def test_blocks_are_the_file_itself(tmp_path: Path) -> None:
    base = load_base(write_model(tmp_path / "m.gguf", TinySpec()), CPU, torch.float32, as_blocks=True)
    weight = base.blocks[0].qkv.weight
    assert isinstance(weight, Blocks) and base.map is not None
    assert not any(one.raw.flags.owndata or one.raw.flags.writeable for one in weight._stored)


def test_steps_of_training_are_equal(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf", TinySpec(type="Q6_K"))
    rows, found = rows_of(8), []
    for held, recompute in ((False, 0), (True, 0), (True, 1), (True, 9)):
        base = load_base(model, CPU, torch.float32, as_blocks=held)
        lora = TorchLora(base, SETTINGS)
        engine = TorchEngine(base, lora, TrainJob(rows, [], tmp_path, SETTINGS, "", "torch"), recompute=recompute)
        engine.start()
        losses = [engine.step(StepPlan(i, (tuple(rows[:4]), tuple(rows[4:])), 1e-2)).loss for i in range(3)]
        found.append((losses, lora.flat.clone(), engine.evaluate(rows)))
    for losses, flat, valid in found[1:]:
        assert losses == found[0][0] and valid == found[0][2] and torch.equal(flat, found[0][1])


def test_the_decoders_are_those_that_the_estimate_counts_on() -> None:
    assert set(decoders.DECODERS) == set(CUDA_BLOCKS)


def random_rows(type: str, rows: int = 64, columns: int = 512) -> np.ndarray:
    draw = np.random.default_rng(5)
    weights = draw.standard_normal((rows, columns)).astype(np.float32) * draw.lognormal(0, 2, (rows, 1))
    return quantize(weights.astype(np.float32), type)


@pytest.mark.parametrize("type", CUDA_BLOCKS)
@pytest.mark.parametrize("heads", [None, 4])
def test_decoders_in_torch_operations_equal_ggml(type: str, heads: int | None, monkeypatch) -> None:
    monkeypatch.setattr(decoders, "_STEP", 3000)
    raw = random_rows(type)
    expected = torch.from_numpy(dequantize(raw, type))
    copy = decoders.copy_of(StoredRows(raw, type, heads), CPU)
    wanted = expected if heads is None else torch.from_numpy(rows_to_hf(expected.numpy(), heads))
    for dtype in (torch.float32, torch.bfloat16):
        out = torch.empty(expected.shape, dtype=dtype)
        copy.decode(out)
        assert torch.equal(out, wanted.to(dtype))
    ids = torch.tensor([5, 0, 63, 5])
    assert torch.equal(copy.pick(ids, torch.float32), expected[ids])
