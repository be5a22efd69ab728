"""The torch trainer on a CUDA GPU: bfloat16 against float32 on the CPU, whole jobs, resuming, memory that runs out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from test_torch import SETTINGS, distance, rows_of
from tiny_architectures import SPECS, spec_of
from tiny_models import TinySpec, write_model

from sg_local.backends import TrainSettings, open_trainer
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine
from sg_local.backends.torch.forward import Pass, answer_loss, hidden_states
from sg_local.backends.torch.model import LoadedBase, load_base
from sg_local.backends.torch.packing import pack_rows
from sg_local.backends.torch.trainer import TorchTrainer, place
from sg_local.backends.training.checkpoint import TrainJob
from sg_local.backends.training.handover import Handover, write_job
from sg_local.backends.training.holding import Way
from sg_local.backends.training.loop import run_loop
from sg_local.backends.training.memory import check_fits
from sg_local.backends.training.precision import numbers_of
from sg_local.gguf import read_adapter, read_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TOLERANCE = 0.02  # of a loss in bfloat16 to the one in float32: 8 bits of mantissa, over a few layers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinySpec(type="Q4_K", layers=3))


def trained(base: LoadedBase, folder: Path, settings: TrainSettings, *, recompute: int = 0) -> list[float]:
    """The losses of a whole run on 24 rows."""
    folder.mkdir()
    losses: list[float] = []
    job = TrainJob(rows_of(24), [], folder, settings, "", "torch")
    engine = TorchEngine(base, TorchLora(base, settings), job, recompute=recompute)
    run_loop(engine, job, lambda step: losses.append(step.loss))
    return losses


def gradient(base: LoadedBase, how: Pass) -> tuple:
    lora = TorchLora(base, SETTINGS)
    lora.start()
    draw = torch.Generator().manual_seed(1)
    for _, b in lora.matrices().values():
        b.copy_(torch.empty(b.shape).normal_(0, 0.05, generator=draw))
    pack = pack_rows(rows_of(6), 20, base.device)
    loss = answer_loss(base, hidden_states(base, lora, pack, how), pack)
    loss.backward()
    return loss.item(), lora.gradient.clone()


@pytest.mark.parametrize("way", [Way(), Way(blocks=True), Way(blocks=True, recomputed=2)], ids=str)
def test_losses_in_bfloat16_follow_those_in_float32_on_the_cpu(model: Path, tmp_path: Path, way: Way) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=3.0, lr=1e-3)
    expected = trained(load_base(model, CPU, torch.float32), tmp_path / "cpu", settings)
    base = load_base(model, CUDA, torch.bfloat16, as_blocks=way.blocks)
    found = trained(base, tmp_path / "cuda", settings, recompute=way.recomputed)
    apart = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
    print(f"largest relative difference of a loss: {apart:.4f}")
    assert expected[-1] < 0.8 * expected[1] and apart < TOLERANCE


@pytest.mark.parametrize("architecture", SPECS)
def test_blocks_are_whole_matrices_on_the_gpu_too(tmp_path: Path, architecture: str) -> None:
    path = write_model(tmp_path / "m.gguf", spec_of(architecture, type="Q8_0", head_type="Q4_0"))
    whole, blocks = (load_base(path, CUDA, torch.bfloat16, as_blocks=held) for held in (False, True))
    for how in (Pass(), Pass(recompute=9)):
        one, other = gradient(whole, how), gradient(blocks, how)
        assert one[0] == other[0]
        assert distance(other[1], one[1]) < 1e-3  # attention's own gradient is summed in no fixed order


@pytest.mark.parametrize("architecture", SPECS)
def test_float32_on_the_gpu_is_float32_on_the_cpu(tmp_path: Path, architecture: str) -> None:
    path = write_model(tmp_path / "m.gguf", spec_of(architecture, type="Q8_0", head_type="Q8_0"))
    one, other = (gradient(load_base(path, device, torch.float32, as_blocks=True), Pass()) for device in (CPU, CUDA))
    assert other[0] == pytest.approx(one[0], rel=1e-4) and distance(other[1].cpu(), one[1]) < 1e-3


def test_a_whole_job_passes_both_gates_and_goes_on_where_it_was_ended(model: Path, tmp_path: Path) -> None:
    def end(step) -> None:
        if step.step == 9:
            raise KeyboardInterrupt

    trainer = open_trainer("torch", model)
    assert "CPU" not in trainer.note and numbers_of("auto", "torch") == ", bfloat16"
    whole = trainer.train(rows_of(20), rows_of(4), tmp_path / "whole", SETTINGS, lambda step: None)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(rows_of(20), rows_of(4), tmp_path / "ended", SETTINGS, end)
    resumed = trainer.train(rows_of(20), rows_of(4), tmp_path / "ended", SETTINGS, lambda step: None)
    assert resumed.n_steps == whole.n_steps
    assert resumed.valid_loss == pytest.approx(whole.valid_loss, rel=1e-2)
    one, other = read_adapter(Path(whole.path)), read_adapter(Path(resumed.path))
    for name, pair in one.pairs.items():
        for a, b in zip(pair, other.pairs[name], strict=True):
            assert np.linalg.norm(a - b) <= 0.05 * np.linalg.norm(a)


def test_under_torchrun_one_process_trains_the_same(model: Path, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", Handover(model, tuple(rows_of(20)), tuple(rows_of(4)), SETTINGS))
    entry = ["-m", "sg_local.backends.torch", str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", *entry]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    alone = TorchTrainer(model).train(rows_of(20), rows_of(4), tmp_path / "alone", SETTINGS, lambda step: None)
    assert found["valid_loss"] == pytest.approx(alone.valid_loss, rel=1e-2)


def test_a_step_that_does_not_fit_is_recomputed_and_then_taken_in_parts(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", TinySpec(type="Q4_0", layers=4, width=512, ffn=1024))
    settings = dataclasses.replace(SETTINGS, batch_size=256, epochs=2.0)
    rows = [dataclasses.replace(row, tokens=row.tokens * 8) for row in rows_of(256)]
    base = load_base(path, CUDA, torch.bfloat16, as_blocks=True)
    folder = tmp_path / "out"
    folder.mkdir()
    job = TrainJob(rows, [], folder, settings, "", "torch")
    engine = TorchEngine(base, TorchLora(base, settings), job)
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + (160 << 20)
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(CUDA).total_memory)
    try:
        progress = run_loop(engine, job, lambda step: None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.recompute == 4 and progress.batch_size < 256 and progress.step == progress.n_steps
    assert np.isfinite([step.loss for step in progress.curve]).all()


def test_a_model_that_fits_is_whole_on_the_gpu(model: Path) -> None:
    assert check_fits(rows_of(8), SETTINGS, read_config(model), place(model)) == Way()
