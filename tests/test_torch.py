"""The torch trainer against its references: llama.cpp, transformers, peft, full rows, and itself uninterrupted."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bounds import soon
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_architectures import SPECS, spec_of
from tiny_models import TinySpec, write_model

from sg_local.backends import TrainSettings, open_trainer
from sg_local.backends.torch import below, functions
from sg_local.backends.torch import engine as torch_engine
from sg_local.backends.torch.__main__ import main
from sg_local.backends.torch.adapter import TorchLora
from sg_local.backends.torch.engine import TorchEngine
from sg_local.backends.torch.forward import Pass, answer_loss, hidden_states, logits
from sg_local.backends.torch.frozen import Whole
from sg_local.backends.torch.model import load_base
from sg_local.backends.torch.output import gguf_pairs, peft_tensors
from sg_local.backends.torch.packing import pack_rows, pack_tokens
from sg_local.backends.torch.trainer import TorchTrainer
from sg_local.backends.training.checkpoint import CHECKPOINT, TrainJob
from sg_local.backends.training.handover import Handover, write_job
from sg_local.backends.training.loop import StepPlan, run_loop
from sg_local.backends.training.lora import normaliser, shared_prefix
from sg_local.backends.training.parity import parity_gate
from sg_local.gguf import read_adapter, write_adapter
from sg_local.records import SgError, TokenExample

CPU = torch.device("cpu")
PLAIN_PASS = Pass()
# peft 0.21 asks transformers 5 under a name that the latter renames.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
SETTINGS = TrainSettings(rank=4, alpha=8.0, batch_size=4, epochs=3.0, valid_every=2, checkpoint_every=2, n_threads=1)


def rows_of(n: int, n_prefix: int = 20, seed: int = 0) -> list[TokenExample]:
    """Rows of made-up tokens with a common prefix, own parts of 3 to 12 tokens, and a pattern to learn."""
    draw = np.random.default_rng(seed)
    prefix = tuple(draw.integers(3, 500, n_prefix).tolist())
    rows = []
    for i in range(n):
        own = tuple(draw.integers(3, 500, int(draw.integers(3, 12))).tolist())
        answer = (own[-1], 7, 2)
        rows.append(TokenExample(f"row{i}", (*prefix, *own, *answer), n_prefix + len(own), 1.0 + i % 3))
    return rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinySpec())


def lively(model: Path, settings: TrainSettings = SETTINGS) -> tuple:
    """A loaded base and an adapter whose B is not zero, so that every path matters."""
    base = load_base(model, CPU, torch.float32)
    lora = TorchLora(base, settings)
    lora.start()
    draw = torch.Generator().manual_seed(1)
    for _, b in lora.matrices().values():
        b.normal_(0, 0.05, generator=draw)
    return base, lora


def gradient(base, lora: TorchLora, rows: list[TokenExample], n_prefix: int, how: Pass = PLAIN_PASS) -> tuple:
    lora.flat.grad.zero_()
    pack = pack_rows(rows, n_prefix, CPU)
    loss = answer_loss(base, hidden_states(base, lora, pack, how), pack) / normaliser(rows)
    loss.backward()
    return loss.item(), lora.flat.grad.clone()


def distance(one, other) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(
    "spec",
    [
        TinySpec(),
        TinySpec(type="Q4_K", tied=False),
        TinySpec(type="F16", kv_heads=4, tokenizer="spm", rope_base=500000.0),
        TinySpec(type="Q6_K", layers=4, heads=8, kv_heads=2),
    ],
    ids=lambda spec: f"{spec.type}-{spec.heads}/{spec.kv_heads}",
)
@pytest.mark.parametrize("full_bytes", [1 << 30, 1], ids=["whole", "slice"])
def test_the_base_computes_what_llama_cpp_computes(tmp_path, monkeypatch, spec, full_bytes) -> None:
    monkeypatch.setattr("sg_local.backends.training.parity.FULL_COPY_BYTES", full_bytes)
    model = write_model(tmp_path / "tiny.gguf", spec)
    gate = parity_gate(model, tmp_path, rows_of(8), 1)
    assert len(gate.tokens) >= 64
    assert gate.check_base(TorchTrainer(model)._logits_of(load_base(model, CPU, torch.float32), None)) <= 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_few_layers_of_an_adapter_tell_that_it_was_written_wrong(tmp_path) -> None:
    model = write_model(tmp_path / "tiny.gguf", TinySpec(layers=4))
    base, lora = lively(model)
    path = tmp_path / "adapter.gguf"
    gate = parity_gate(model, tmp_path, rows_of(8), 1)
    assert gate.few == (0, 3) and len(gate.layers) == 4
    ours = TorchTrainer(model)._logits_of(base, lora)
    write_adapter(path, "llama", gguf_pairs(base, lora), SETTINGS.alpha)
    assert gate.check_adapter(path, ours) <= 1e-3
    write_adapter(path, "llama", gguf_pairs(base, lora), 2 * SETTINGS.alpha)
    with pytest.raises(SgError, match="does not do in llama.cpp"):
        gate.check_adapter(path, ours)
    assert {one.name for one in tmp_path.iterdir()} == {"tiny.gguf", "adapter.gguf"}


def test_a_wrong_row_order_does_not_pass_the_gate(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sg_local.backends.torch.model.rows_to_hf", lambda rows, heads: rows)
    gate = parity_gate(model, tmp_path, rows_of(8), 1)
    with pytest.raises(SgError, match="otherwise than llama.cpp") as caught:
        gate.check_base(TorchTrainer(model)._logits_of(load_base(model, CPU, torch.float32), None))
    assert caught.value.exit_code == 3


def test_the_written_out_block_equals_transformers_with_peft(model) -> None:
    base, lora = lively(model)
    tokens = rows_of(4)[0].tokens
    ours = logits(base, lora, pack_tokens(tokens, CPU))
    with torch.no_grad():
        theirs = peft_model(base, lora)(torch.tensor([tokens])).logits[0]
    assert (ours - theirs).abs().max() < 1e-4


def test_the_gradient_equals_that_of_padded_rows_in_transformers_with_peft(model) -> None:
    base, lora = lively(model)
    rows = rows_of(6)
    _, ours = gradient(base, lora, rows, shared_prefix(rows))
    theirs = peft_model(base, lora)
    loss = plain_loss(theirs, rows)
    loss.backward()
    for name in lora.matrices():
        layer, module = int(name.split(".")[1]), name.split(".")[2]
        found = theirs.base_model.model.model.layers[layer].get_submodule(MODULE_OF[module])
        grads = dict(zip("AB", own_gradients(lora, ours, name), strict=True))
        assert distance(grads["A"], found.lora_A["default"].weight.grad) < 1e-4, name
        assert distance(grads["B"], found.lora_B["default"].weight.grad) < 1e-4, name


MODULE_OF = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def own_gradients(lora: TorchLora, flat, name: str) -> tuple:
    """The gradients of one module's A and B, cut out of the flat vector by where the matrices lie."""
    start = lora.flat.data_ptr()
    return tuple(
        flat[(at := (m.data_ptr() - start) // 4) : at + m.numel()].view(m.shape) for m in lora.matrices()[name]
    )


def peft_model(base, lora: TorchLora):
    """peft's own model over a copy of the base, with our adapter's weights."""
    import copy

    config = LoraConfig(
        r=SETTINGS.rank, lora_alpha=SETTINGS.alpha, target_modules=[m.split(".")[1] for m in MODULE_OF.values()]
    )
    model = get_peft_model(copy.deepcopy(base.model), config)
    for key, value in peft_tensors(base, lora).items():
        model.get_parameter(key.replace(".weight", ".default.weight")).data.copy_(value)
    return model


def plain_loss(model, rows: list[TokenExample]):
    """The weighted token mean as anybody would write it: padded rows, all logits, answer tokens picked out."""
    longest = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens, *[0] * (longest - len(row.tokens))] for row in rows])
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (longest - len(row.tokens)) for row in rows])
    logprobs = model(ids, attention_mask=mask).logits.log_softmax(-1)
    total = 0.0
    for i, row in enumerate(rows):
        for at in range(row.n_prompt, len(row.tokens)):
            total = total - row.weight * logprobs[i, at - 1, row.tokens[at]]
    return total / normaliser(rows)


@pytest.mark.parametrize("n_rows", [1, 7, 60])
def test_a_shared_prefix_changes_neither_loss_nor_gradient(model, n_rows) -> None:
    base, lora = lively(model)
    rows = rows_of(n_rows)
    n_prefix = shared_prefix(rows)
    assert n_prefix >= 20
    shared_loss, shared = gradient(base, lora, rows, n_prefix)
    full_loss, full = gradient(base, lora, rows, 0)
    assert shared_loss == pytest.approx(full_loss, rel=1e-5)
    assert distance(shared, full) < 1e-4


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_give_the_same_gradient(model, dropout) -> None:
    base, lora = lively(model, dataclasses.replace(SETTINGS, dropout=dropout))
    rows = rows_of(5)
    _, kept = gradient(base, lora, rows, 20, Pass(3))
    _, recomputed = gradient(base, lora, rows, 20, Pass(3, recompute=9))
    assert distance(recomputed, kept) < 1e-6


def test_dropout_follows_its_seed_and_leaves_evaluation_alone(model) -> None:
    base, lora = lively(model, dataclasses.replace(SETTINGS, dropout=0.5))
    rows = rows_of(5)
    first, same, other, without = (gradient(base, lora, rows, 20, Pass(seed))[0] for seed in (1, 1, 2, None))
    assert first == same
    assert len({first, other, without}) == 3


def test_only_the_last_layers_are_adapted(model) -> None:
    lora = TorchLora(load_base(model, CPU, torch.float32), dataclasses.replace(SETTINGS, n_layers=1))
    assert {name.split(".")[1] for name in lora.matrices()} == {"1"}


UPPER = dataclasses.replace(SETTINGS, n_layers=1)


def trained(model, out, rows, settings=UPPER, *, stays: bool = True, stop_at: int = 0):
    """What a training comes to; one that is stopped once goes on as it would have."""
    job, steps = TrainJob(rows, rows_of(3, 20, seed=1) + rows[:1], out, settings, "", "torch"), []

    def note(step) -> None:
        steps.append((step.step, step.loss, step.valid_loss))
        if stop_at and step.step == stop_at:
            raise KeyboardInterrupt

    for _ in range(2 if stop_at else 1):
        base = load_base(model, CPU, torch.float32)
        engine = TorchEngine(base, TorchLora(base, settings), job)
        if not stays:
            engine.below = None
        with contextlib.suppress(KeyboardInterrupt):
            run_loop(engine, job, note)
        stop_at = 0
    return {number: rest for number, *rest in steps}, engine


@pytest.mark.parametrize("settings", [UPPER, dataclasses.replace(UPPER, share_prefix=False, dropout=0.3)])
def test_layers_below_the_adapter_are_computed_once_for_each_row(model, tmp_path, monkeypatch, settings) -> None:
    asked = []
    monkeypatch.setattr(below, "pack_rows", lambda rows, *rest: asked.append(len(rows)) or pack_rows(rows, *rest))
    rows = rows_of(9)
    anew, _ = trained(model, tmp_path / "anew", rows, settings, stays=False)
    once, engine = trained(model, tmp_path / "once", rows, settings)
    assert sorted(asked) == [1, 4, 4, 4] and len(engine.below._known) == 12  # one row validates and trains
    assert list(once) == list(anew) == list(range(10))
    for step, measured in once.items():
        assert [one and pytest.approx(one, rel=1e-5) for one in measured] == anew[step]


@pytest.mark.parametrize("architecture", SPECS)
def test_so_they_are_in_every_architecture(tmp_path, architecture) -> None:
    """Layers with windows, without positions, with capped scores; and with activations computed again."""
    base, rows, found = (
        load_base(write_model(tmp_path / "m.gguf", spec_of(architecture)), CPU, torch.float32),
        rows_of(8),
        [],
    )
    for stays in (True, False):
        engine = TorchEngine(
            base, TorchLora(base, UPPER), TrainJob(rows, [], tmp_path, UPPER, "", "torch"), recompute=1
        )
        assert engine.below is not None
        engine.below = engine.below if stays else None
        engine.start()
        steps = [engine.step(StepPlan(i, (tuple(rows[i : i + 4]),), 1e-2)) for i in range(3)]
        found.append([one.loss for one in steps] + [one.grad_norm for one in steps])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_stopped_training_of_the_last_layers_ends_the_same_to_the_bit(model, tmp_path) -> None:
    """Step 7 is of the third epoch: the rows meet others than in the first. Some are equal, one of them validates."""
    rows = rows_of(9)
    rows = [*rows, dataclasses.replace(rows[0], id="again"), dataclasses.replace(rows[5], id="too", weight=2.0)]
    whole, engine = trained(model, tmp_path / "whole", rows)
    again, stopped = trained(model, tmp_path / "again", rows, stop_at=7)
    assert again == whole and torch.equal(engine.lora.flat, stopped.lora.flat)


def test_nothing_stays_of_the_layers_below_where_it_is_of_no_use(model, tmp_path, monkeypatch) -> None:
    def stays(rows, **settings) -> bool:
        base = load_base(model, CPU, torch.float32)
        one = dataclasses.replace(UPPER, **settings)
        return TorchEngine(base, TorchLora(base, one), TrainJob(rows, [], tmp_path, one, "", "torch")).below is not None

    rows = rows_of(8)
    assert stays(rows) and stays(rows, n_layers=None, layer_share=0.5)
    assert not stays(rows, n_layers=None) and not stays(rows, epochs=1.0)
    assert not stays(rows_of(2000))
    monkeypatch.setattr(torch_engine, "n_processes", lambda: 2)
    assert not stays(rows)


def test_what_stays_is_let_go_of_where_memory_runs_out(model, tmp_path, monkeypatch) -> None:
    rows = rows_of(8)
    base = load_base(model, CPU, torch.float32)
    engine = TorchEngine(base, TorchLora(base, UPPER), TrainJob(rows, [], tmp_path, UPPER, "", "torch"))
    gradient = engine._gradient

    def full(plan):
        if engine.below is not None:
            raise torch.OutOfMemoryError("full")
        return gradient(plan)

    monkeypatch.setattr(engine, "_gradient", full)
    assert engine.step(StepPlan(0, (tuple(rows),), 1e-3)).loss > 0 and engine.below is None


def test_accumulated_parts_make_the_step_of_the_whole(model, tmp_path) -> None:
    rows = rows_of(8)
    found = []
    for parts in ((tuple(rows),), (tuple(rows[:3]), tuple(rows[3:]))):
        base, lora = lively(model)
        engine = TorchEngine(base, lora, TrainJob(rows, [], tmp_path, SETTINGS, "", "torch"))
        result = engine.step(StepPlan(0, parts, 1e-3))
        found.append((result.loss, lora.flat.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    # Adam's first step is 1e-3 for every weight, however small its gradient: sums in another order move it a little.
    assert (found[0][1] - found[1][1]).abs().max() < 1e-5


def test_a_loss_that_is_not_finite_updates_nothing_and_stops_with_the_last_checkpoint(model, tmp_path) -> None:
    rows = rows_of(16)
    base = load_base(model, CPU, torch.float32)
    lora = TorchLora(base, SETTINGS)
    engine = TorchEngine(base, lora, TrainJob(rows, [], tmp_path, SETTINGS, "", "torch"))

    def poison(step) -> None:
        if step.step == 3:
            lora.flat[0] = float("nan")

    with pytest.raises(SgError, match="diverged at step 4") as caught:
        run_loop(engine, TrainJob(rows, [], tmp_path, SETTINGS, "", "torch"), poison)
    assert CHECKPOINT in caught.value.hint
    with np.load(tmp_path / CHECKPOINT) as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)


def test_training_lowers_the_loss_and_llama_cpp_computes_the_same_with_the_adapter(model, tmp_path) -> None:
    steps = []
    settings = dataclasses.replace(SETTINGS, epochs=8.0, lr=3e-3)
    adapter = open_trainer("torch", model).train(rows_of(24), rows_of(6, seed=0), tmp_path, settings, steps.append)
    assert [step.step for step in steps] == list(range(49))
    assert steps[-1].loss < 0.7 * steps[1].loss
    assert adapter.valid_loss == min(step.valid_loss for step in steps if step.valid_loss is not None)
    held = read_adapter(Path(adapter.path))
    assert held.metadata["sg_local.base.sha256"] == adapter.base_digest
    assert (held.alpha, len(held.pairs)) == (8.0, 14)
    assert not list(tmp_path.glob("parity*"))


def test_the_peft_folder_loads_in_peft_and_computes_the_same(model, tmp_path) -> None:
    TorchTrainer(model).train(rows_of(12), [], tmp_path, dataclasses.replace(SETTINGS, lr=1e-2), lambda step: None)
    base = load_base(model, CPU, torch.float32)
    lora = TorchLora(base, SETTINGS)
    with np.load(tmp_path / CHECKPOINT) as arrays:
        lora.restore(arrays)
    tokens = rows_of(1)[0].tokens
    ours = logits(base, lora, pack_tokens(tokens, CPU))
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(base.model, str(tmp_path / "peft"))(torch.tensor([tokens])).logits[0]
    assert (ours - theirs).abs().max() < 1e-4


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_torch import SETTINGS, rows_of
from sg_local.backends import open_trainer
def on_step(step):
    if step.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
adapter = open_trainer("torch", Path(sys.argv[1])).train(rows_of(20), rows_of(4), Path(sys.argv[2]), SETTINGS, on_step)
print(adapter.digest)
"""


def in_a_process(model: Path, out: Path, kill_at: int) -> subprocess.CompletedProcess:
    code = KILLED.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, model, out, str(kill_at)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(model, tmp_path) -> None:
    whole = in_a_process(model, tmp_path / "whole", -1)
    assert whole.returncode == 0, whole.stderr
    for kill_at in (1, 7, 12):
        assert in_a_process(model, tmp_path / "killed", kill_at).returncode == -signal.SIGKILL
    resumed = in_a_process(model, tmp_path / "killed", -1)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout
    one, other = (tmp_path / name / "adapter.gguf" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


def test_a_checkpoint_of_other_work_is_named_and_refused(model, tmp_path) -> None:
    trainer = TorchTrainer(model)
    trainer.train(rows_of(8), [], tmp_path, SETTINGS, lambda step: None)
    with pytest.raises(SgError, match="lr was 0.0002, now it is 0.001"):
        trainer.train(rows_of(8), [], tmp_path, dataclasses.replace(SETTINGS, lr=1e-3), lambda step: None)
    with pytest.raises(SgError, match="training rows"):
        trainer.train(rows_of(9), [], tmp_path, SETTINGS, lambda step: None)


def test_a_row_with_tokens_of_another_model_is_named(model, tmp_path) -> None:
    bad = TokenExample("bad", (1, 2, 99999), 2)
    with pytest.raises(SgError, match="Row bad holds a token outside"):
        TorchTrainer(model).train([bad], [], tmp_path, SETTINGS, lambda step: None)


@pytest.mark.slow
def test_two_processes_train_the_adapter_of_one(model, tmp_path) -> None:
    settings = dataclasses.replace(SETTINGS, precision="f32")  # sums in another order, rounded once
    folder = write_job(tmp_path / "job", Handover(model, tuple(rows_of(20)), tuple(rows_of(4)), settings))
    entry = ["-m", "sg_local.backends.torch", str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *entry]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    alone = TorchTrainer(model).train(rows_of(20), rows_of(4), tmp_path / "alone", settings, lambda step: None)
    assert found["valid_loss"] == pytest.approx(alone.valid_loss, rel=1e-5)
    one, other = (read_adapter(path) for path in (folder / "adapter.gguf", Path(alone.path)))
    for name, pair in other.pairs.items():
        assert all(np.abs(a - b).max() < 1e-5 for a, b in zip(pair, one.pairs[name], strict=True))


def test_the_entry_point_names_a_folder_without_a_job(tmp_path, capsys) -> None:
    assert main([str(tmp_path)]) == 1
    assert "job.json is missing" in capsys.readouterr().err


def losses(model: Path, out: Path, precision: str) -> list[float]:
    """The losses of all steps of a training in these numbers."""
    curve: list[float] = []
    settings = dataclasses.replace(SETTINGS, precision=precision, lr=5e-4)
    open_trainer("torch", model).train(rows_of(24), rows_of(6, seed=1), out, settings, lambda s: curve.append(s.loss))
    return curve


@pytest.mark.parametrize("whole_bytes", [1 << 30, 0], ids=["whole", "blocks"])
def test_a_base_in_bfloat16_on_the_cpu_trains_to_losses_within_a_hundredth(tmp_path, monkeypatch, whole_bytes) -> None:
    monkeypatch.setattr("sg_local.backends.machine.multiplies_bf16", lambda: True)
    monkeypatch.setattr("sg_local.backends.training.memory.FULL_COPY_BYTES", whole_bytes)
    model = write_model(tmp_path / "tiny.gguf", TinySpec(type="Q4_K"))
    plain, halved = (losses(model, tmp_path / precision, precision) for precision in ("f32", "bf16"))
    assert len(plain) == len(halved) == 19 and plain != halved and plain[-1] < 0.9 * plain[0]
    apart = [abs(one / other - 1) for one, other in zip(halved, plain, strict=True)]
    assert sum(apart) / len(apart) < 0.01 and max(apart) < 0.02


@pytest.mark.parametrize("multiplies", [False, True])
def test_a_processor_that_multiplies_bfloat16_does_so_unless_asked_otherwise(model, tmp_path, monkeypatch, multiplies):
    monkeypatch.setattr("sg_local.backends.machine.multiplies_bf16", lambda: multiplies)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plain, halved, auto = (
        losses(model, tmp_path / name, name) if name != "bf16" or multiplies else None
        for name in ("f32", "bf16", "auto")
    )
    assert auto == (halved if multiplies else plain) and auto != (plain if multiplies else halved)
    last = losses(model, tmp_path / "auto", "bf16" if multiplies else "f32")  # the same work, which is done
    assert last == []
    monkeypatch.setattr("sg_local.backends.machine.multiplies_bf16", lambda: not multiplies)
    assert losses(model, tmp_path / "auto", "auto") == []  # finished on another machine


@pytest.mark.parametrize("flow", [torch.float32, torch.bfloat16], ids=["cpu", "gpu"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_small_adapter_is_not_rounded_away(flow, biased, rate) -> None:
    """Numbers of about 10 have steps of 1/16 in bfloat16: most of what is added to them afterwards would be lost."""
    draw = torch.Generator().manual_seed(0)
    x, matrix = (torch.randn(shape, generator=draw).bfloat16() for shape in ((256, 96), (128, 96)))
    x = x.abs().to(flow).requires_grad_()
    a = torch.rand(16, 96, generator=draw) / 10
    b = [torch.full((64, 8), 1.5e-4 * sign) for sign in (1, -1)]
    bias = torch.randn(128, generator=draw).to(flow) if biased else None
    kept = (torch.rand(x.shape, generator=draw) >= rate) / (1 - rate) if rate else None
    parts = [part.requires_grad_() for part in (a, *b)]
    plain = functions.frozen(x, Whole(matrix), bias)
    tuned = functions.adapted(x, Whole(matrix), bias, kept, 2.0, *parts)
    exact = [part.detach().float().requires_grad_() for part in (x, *parts)]
    low = ((exact[0] if kept is None else exact[0] * kept) @ exact[1].T).chunk(2, 1)
    change = 2.0 * torch.cat([one @ part.T for one, part in zip(low, exact[2:], strict=True)], 1)
    assert tuned.dtype == plain.dtype == flow and 0.005 < change.abs().max() < 1 / 64
    for found, wanted in zip((tuned.double() - plain.double()).chunk(2, 1), change.chunk(2, 1), strict=True):
        assert found.mean().item() == pytest.approx(wanted.mean().item(), rel=0.25 if biased else 0.1)
    tuned.float().sum().backward()
    (exact[0] @ matrix.float().T + change).sum().backward()
    for one, other in zip((x, *parts), exact, strict=True):
        assert distance(one.grad.float(), other.grad) < 0.01


def test_bfloat16_is_refused_where_the_processor_does_not_multiply_it(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sg_local.backends.machine.multiplies_bf16", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with soon(), pytest.raises(SgError, match="neither AVX512-BF16 nor AMX") as caught:
        losses(model, tmp_path / "out", "bf16")
    assert caught.value.exit_code == 2 and not (tmp_path / "out").exists()
