"""The MLX backend on the CPU: exact weights, exact steps, resumable training, and text that agrees with llama.cpp."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from tiny_models import TinySpec, lora_pairs, write_lora, write_model

from sg_local.backends import EngineSettings, Generator, TrainSettings, open_generator, open_trainer
from sg_local.backends.session import Ended, Piece, Watch, open_session
from sg_local.backends.training.lora import init_a
from sg_local.gguf import dequantize, quantize, read_adapter
from sg_local.gguf.architectures import LLAMA
from sg_local.records import MadeOtherwise, Prompt, Sampling, ScoredPrompt, Segment, SgError, TokenExample, TrainStep

mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")
pytest.importorskip("llama_cpp")

from mlx import nn
from mlx.utils import tree_flatten

from sg_local.backends.mlx import blas, grids, trainer
from sg_local.backends.mlx.adapter import LoraShape, MlxLora, apply_adapter, remove_adapter
from sg_local.backends.mlx.child import train_in_child
from sg_local.backends.mlx.device import memory_errors
from sg_local.backends.mlx.forward import logits, make_batch, summed_loss
from sg_local.backends.mlx.weights import load_model
from sg_local.backends.training.handover import Handover, write_job
from sg_local.backends.training.loop import OutOfMemory, StepPlan
from sg_local.backends.training.parity import Logits, ParityGate, parity_gate

TOLERANCE = LLAMA.tolerance
F32 = TinySpec(type="F32", head_type="F32", width=64, ffn=128)
TALKER = replace(F32, tied=False)
SMALL = EngineSettings(n_ctx=256, n_parallel=4, n_threads=1, fast_copy=False)
FAST = TrainSettings(rank=4, alpha=8.0, lr=1e-3, epochs=3, batch_size=4, valid_every=4, checkpoint_every=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in F32, where every engine computes the same numbers."""
    return write_model(tmp_path_factory.mktemp("mlx") / "tiny.gguf", F32)


def rows(n: int, *, prefix: int = 24, seed: int = 0) -> list[TokenExample]:
    """Rows of unequal lengths that share their first tokens."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(3, 500, prefix).tolist()
    own = [rng.integers(3, 500, 5 + i % 5).tolist() for i in range(n)]
    return [TokenExample(str(i), (*shared, *t), prefix + 2 + i % 2, 1.0 + i % 3) for i, t in enumerate(own)]


def gate(path: Path, folder: Path) -> ParityGate:
    """A comparison with llama.cpp in float32, on 64 tokens or more."""
    return parity_gate(path, folder, rows(4), 1)


def logits_of(model: nn.Module) -> Logits:
    return lambda ids, layers: logits(model, ids, layers)


def mlx_logits(model: nn.Module, ids: list[int]) -> np.ndarray:
    return np.array(model(mx.array([ids]))[0])


def put_on(model: nn.Module, path: Path) -> None:
    adapter = read_adapter(path)
    apply_adapter(model, adapter.pairs, adapter.alpha)


def some_ids(n: int = 72, seed: int = 5) -> list[int]:
    return np.random.default_rng(seed).integers(3, 500, n).tolist()


def ignore(_: TrainStep) -> None:
    """An on_step that nobody reads."""


# Weights


@pytest.mark.parametrize("type", sorted(grids.BITS))
def test_a_packed_grid_gives_back_every_weight_exactly(type: str) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    raw = quantize(weights, type)
    grid, bits = grids.affine(raw, type), grids.BITS[type]
    packed = mx.array(grids.pack(grid.q, bits))
    decoded = mx.dequantize(packed, mx.array(grid.scale), mx.array(grid.bias), group_size=grids.GROUP, bits=bits)
    np.testing.assert_array_equal(np.array(decoded), dequantize(raw, type))


@pytest.mark.parametrize(
    "spec",
    [
        F32,
        replace(F32, tied=False),
        replace(F32, kv_heads=4),
        replace(F32, tokenizer="spm", rope_base=500000.0),
        TinySpec(type="Q4_K", head_type="Q6_K"),
    ],
    ids=["tied", "untied", "no-gqa", "spm", "quantised"],
)
def test_logits_of_the_loaded_base_are_those_of_llama_cpp(tmp_path: Path, spec: TinySpec) -> None:
    path = write_model(tmp_path / "m.gguf", spec)
    assert gate(path, tmp_path).check_base(logits_of(load_model(path, keep_quantised=False))) <= TOLERANCE


def test_rope_factors_of_the_file_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, factors = tiny_models.weights_of, np.linspace(1, 8, F32.head_dim // 2, dtype=np.float32)
    monkeypatch.setattr(tiny_models, "weights_of", lambda spec: {"rope_freqs.weight": factors, **plain(spec)})
    path = write_model(tmp_path / "m.gguf", F32)
    assert gate(path, tmp_path).check_base(logits_of(load_model(path, keep_quantised=False))) <= TOLERANCE


@pytest.mark.parametrize("type", [*sorted(grids.BITS), "Q6_K", "BF16"])
def test_weights_kept_quantised_compute_what_their_decoded_form_computes(tmp_path: Path, type: str) -> None:
    path = write_model(
        tmp_path / "m.gguf", TinySpec(type=type, head_type="Q6_K" if type == "Q6_K" else "Q8_0", layers=1)
    )
    dense, kept = (mlx_logits(load_model(path, keep_quantised=keep), some_ids(16)) for keep in (False, True))
    limit = 2e-2 if type == "Q6_K" else 1e-3  # Q6_K has no exact form in MLX and becomes float16
    assert np.abs(dense - kept).max() <= limit


def test_a_slice_of_the_file_computes_what_these_layers_of_the_whole_compute(tmp_path: Path) -> None:
    path, ids = write_model(tmp_path / "m.gguf", TinySpec(type="Q4_K", layers=3)), some_ids(16)
    pairs = lora_pairs(TinySpec(type="Q4_K", layers=3))
    whole, part = load_model(path, keep_quantised=False), load_model(path, keep_quantised=True, layers=(0, 2))
    for model, layers in ((whole, None), (part, (0, 2))):
        apply_adapter(model, pairs, 8.0, layers)
    assert np.abs(logits(whole, ids, (0, 2)) - logits(part, ids, (0, 1))).max() <= TOLERANCE


def test_a_kept_grid_stays_packed_under_its_adapter(tmp_path: Path) -> None:
    loaded = load_model(write_model(tmp_path / "m.gguf", TinySpec(type="Q4_K", layers=1)), keep_quantised=True)
    MlxLora(loaded, LoraShape(range(1), 4, 8.0))
    linear = loaded.layers[0].mlp.down_proj.linear
    assert isinstance(linear, nn.QuantizedLinear)
    assert linear.bits == 4
    assert {name.rpartition(".")[2] for name, _ in tree_flatten(loaded.trainable_parameters())} == {"lora_a", "lora_b"}


# One step


@pytest.fixture
def lora(model: Path) -> MlxLora:
    """The tiny model under an adapter that already does something."""
    found = MlxLora(load_model(model, keep_quantised=False), LoraShape(range(2), 4, 8.0))
    found.initialise(0)
    arrays, rng = found.arrays(), np.random.default_rng(1)
    drawn = {k: rng.normal(0, 0.05, v.shape).astype(np.float32) for k, v in arrays.items() if k.endswith("lora_b")}
    found.restore(arrays | drawn)
    return found


def gradient(lora: MlxLora, examples: list[TokenExample], *, share: bool, recompute: bool = False) -> np.ndarray:
    batch = make_batch(examples, share_prefix=share)
    compute = nn.value_and_grad(lora.model, lambda batch: summed_loss(lora.model, batch, recompute=recompute))
    _, found = compute(batch)
    return np.concatenate([np.array(array).ravel() for _, array in tree_flatten(found)])


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_shared_prefix_gives_the_gradient_of_full_rows(lora: MlxLora, recompute: bool) -> None:
    plain = gradient(lora, rows(6), share=False)
    shared = gradient(lora, rows(6), share=True, recompute=recompute)
    assert np.linalg.norm(shared - plain) <= 1e-4 * np.linalg.norm(plain)


def test_loss_is_taken_on_answers_alone_with_each_rows_weight(lora: MlxLora) -> None:
    examples, expected = rows(5), 0.0
    for row in examples:
        logits = mlx_logits(lora.model, list(row.tokens)).astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        answers = range(row.n_prompt, len(row.tokens))
        expected -= row.weight * sum(logprobs[at - 1, row.tokens[at]] for at in answers)
    assert summed_loss(lora.model, make_batch(examples, share_prefix=True)).item() == pytest.approx(expected, rel=1e-5)


def test_a_single_row_keeps_its_prefix_to_itself() -> None:
    assert make_batch(rows(1), share_prefix=True).prefix.size == 0
    assert make_batch(rows(3), share_prefix=True).prefix.shape == (1, 24)


def test_small_batches_add_up_to_one_large_step(model: Path) -> None:
    found = []
    for size in (6, 2):
        lora = MlxLora(load_model(model, keep_quantised=False), LoraShape(range(2), 4, 8.0))
        engine = trainer.MlxEngine(lora, FAST, recompute=False)
        engine.start()
        examples = rows(6)
        parts = tuple(tuple(examples[i : i + size]) for i in range(0, 6, size))
        result = engine.step(StepPlan(0, parts, 1e-3))
        found.append((result.loss, result.grad_norm))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_the_first_values_are_those_of_every_trainer(model: Path) -> None:
    lora = MlxLora(load_model(model, keep_quantised=False), LoraShape(range(2), 4, 8.0))
    lora.initialise(3)
    a, b = lora.pairs()["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(a, init_a("blk.1.ffn_down.weight", 4, F32.ffn, 3))
    assert b.shape == (F32.width, 4) and not b.any()


# A whole training


def test_training_writes_an_adapter_that_llama_cpp_computes_alike(model: Path, tmp_path: Path) -> None:
    adapter = open_trainer("mlx", model).train(rows(12), rows(3, seed=9), tmp_path, FAST, ignore)
    trained = load_model(model, keep_quantised=False)
    base = mlx_logits(trained, some_ids())
    put_on(trained, tmp_path / "adapter.gguf")
    assert gate(model, tmp_path).check_adapter(tmp_path / "adapter.gguf", logits_of(trained)) <= TOLERANCE
    assert np.abs(mlx_logits(trained, some_ids()) - base).max() > 10 * TOLERANCE
    assert (adapter.rank, adapter.alpha, adapter.trainer) == (4, 8.0, "mlx")


def test_mlx_lm_reads_the_adapter_onto_a_model_in_hugging_face_order(model: Path, tmp_path: Path) -> None:
    from mlx_lm.models.llama import Model
    from mlx_lm.tuner.utils import load_adapters

    from sg_local.gguf import rows_to_hf

    settings = replace(FAST, n_layers=1)
    open_trainer("mlx", model).train(rows(8), (), tmp_path, settings, ignore)
    ours = load_model(model, keep_quantised=False)
    theirs = Model(replace(ours.args, rope_traditional=False))
    weights = dict(tree_flatten(ours.parameters()))
    for name, weight in weights.items():
        heads = {"q_proj": F32.heads, "k_proj": F32.kv_heads}.get(name.split(".")[-2])
        if heads is not None:
            weights[name] = mx.array(rows_to_hf(np.array(weight), heads))
    theirs.load_weights(list(weights.items()))
    load_adapters(theirs, str(tmp_path / "mlx"))
    put_on(ours, tmp_path / "adapter.gguf")
    assert np.abs(mlx_logits(ours, some_ids()) - mlx_logits(theirs, some_ids())).max() <= 1e-3
    assert json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())["num_layers"] == 1


class Killed(BaseException):
    """Stands for a signal."""


def killed_at(step: int) -> Callable[[TrainStep], None]:
    def on_step(done: TrainStep) -> None:
        if done.step == step:
            raise Killed

    return on_step


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_killed_training_goes_on_to_the_same_bytes(model: Path, tmp_path: Path, step: int) -> None:
    settings = replace(FAST, dropout=0.1)
    for name in ("whole", "killed"):
        job = (rows(12), rows(3, seed=9), tmp_path / name, settings)
        if name == "killed":
            with pytest.raises(Killed):
                open_trainer("mlx", model).train(*job, killed_at(step))
        open_trainer("mlx", model).train(*job, ignore)
    for file in ("adapter.gguf", "mlx/adapters.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()


def test_memory_that_runs_out_halves_the_batch_and_loses_no_step(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: dict[str, list[float]] = {"whole": [], "short": []}

    def crowded(examples: tuple[TokenExample, ...], **options: bool) -> object:
        if len(examples) > 2 and len(losses["short"]) >= 4:
            raise RuntimeError("[metal::malloc] Unable to allocate 7 bytes.")
        return make_batch(examples, **options)

    for name, curve in losses.items():
        if name == "short":
            monkeypatch.setattr(trainer, "make_batch", crowded)
        open_trainer("mlx", model).train(rows(12), (), tmp_path / name, FAST, lambda s, c=curve: c.append(s.loss))
    # The checkpoint stood at step 3, so step 4 is taken a second time.
    assert losses["short"][:4] == losses["whole"][:4]
    np.testing.assert_allclose(losses["short"][4:], losses["whole"][3:], rtol=1e-4)


def test_only_memory_errors_count_as_memory_errors() -> None:
    with pytest.raises(OutOfMemory), memory_errors():
        raise RuntimeError("[malloc] Unable to allocate 7 bytes.")
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("a shape is wrong")


# Stands for the trainer's process: with more than two rows at a time Metal ends it after its fourth step.
CHILD = """
import os, sys
from sg_local.backends.mlx import __main__ as entry
if int(sys.argv[sys.argv.index("--rows-at-once") + 1]) > 2:
    tell = entry._tell_json
    def dying(step):
        tell(step)
        if step.step == 4:
            print("libc++abi: [METAL] Command buffer execution failed: " + sys.argv[1], file=sys.stderr, flush=True)
            os.abort()
    entry._tell_json = dying
sys.exit(entry.main(sys.argv[2:]))
"""


def test_a_process_that_metal_ends_is_followed_by_one_with_half_the_rows(model: Path, tmp_path: Path) -> None:
    whole: list[float] = []
    short: list[float] = []
    job = Handover(model, tuple(rows(12)), (), FAST)
    open_trainer("mlx", model).train(job.train, (), tmp_path / "whole", FAST, lambda step: whole.append(step.loss))
    entry = (sys.executable, "-c", CHILD, "Insufficient Memory")
    adapter = train_in_child(job, tmp_path / "short", lambda step: short.append(step.loss), entry)
    assert adapter.n_steps == len(whole)
    np.testing.assert_allclose(short, whole[:4] + whole[3:], rtol=1e-4)  # from the checkpoint at step 3


def test_a_process_that_crashes_for_another_reason_is_not_started_again(model: Path, tmp_path: Path) -> None:
    job, entry = Handover(model, tuple(rows(12)), (), FAST), (sys.executable, "-c", CHILD, "a page fault")
    with pytest.raises(SgError, match="page fault"):
        train_in_child(job, tmp_path, ignore, entry)


def test_a_sentence_from_the_other_process_stays_a_sentence(model: Path, tmp_path: Path) -> None:
    job = Handover(model, (), (), FAST)
    with pytest.raises(SgError, match="no rows") as raised:
        train_in_child(job, tmp_path, ignore)
    assert raised.value.hint


def test_a_checkpoint_of_other_work_is_told_across_processes(model: Path, tmp_path: Path) -> None:
    job = Handover(model, tuple(rows(12)), (), FAST)
    train_in_child(job, tmp_path, ignore)
    with pytest.raises(MadeOtherwise, match="rank was"):
        train_in_child(replace(job, settings=replace(FAST, rank=2)), tmp_path, ignore)


LAUNCH = "import sys; from mlx._distributed_utils.launch import main; sys.argv[0] = 'mlx.launch'; main()"


@pytest.mark.slow
def test_two_processes_under_mlx_launch_train_the_adapter_of_one(model: Path, tmp_path: Path) -> None:
    work = Handover(model, tuple(rows(13)), tuple(rows(3, seed=9)), replace(FAST, n_threads=1))
    folder = write_job(tmp_path / "job", work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-c", LAUNCH, "-n", "2", "--backend", "ring", "-p", port, "--"]
    command = [*launch, sys.executable, "-m", "sg_local.backends.mlx", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert (folder / "adapter.gguf").exists(), done.stdout + done.stderr
    trainer = open_trainer("mlx", model)
    alone = trainer.train(work.train, work.valid, tmp_path / "alone", work.settings, ignore)
    one, other = (read_adapter(path) for path in (folder / "adapter.gguf", Path(alone.path)))
    for name, pair in other.pairs.items():
        assert all(np.abs(a - b).max() < 1e-4 for a, b in zip(pair, one.pairs[name], strict=True))
    found = trainer.train(work.train, work.valid, folder, work.settings, ignore)  # goes on from the finished checkpoint
    assert found.n_steps == alone.n_steps
    assert found.valid_loss == pytest.approx(alone.valid_loss, rel=1e-4)


def test_divergence_stops_with_a_sentence(model: Path, tmp_path: Path) -> None:
    wild = replace(FAST, lr=1e30, warmup=0.0)
    with pytest.raises(SgError, match="diverged"):
        open_trainer("mlx", model).train(rows(12), (), tmp_path, wild, ignore)
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_mlx_and_torch_walk_down_the_same_curve(model: Path, tmp_path: Path, schedule: str) -> None:
    pytest.importorskip("peft")
    settings = replace(FAST, epochs=20 / 3, schedule=schedule, grad_accumulation=1, weight_decay=0.01, precision="f32")
    curves: dict[str, list[float]] = {"mlx": [], "torch": []}
    for name, curve in curves.items():
        open_trainer(name, model).train(rows(12), (), tmp_path / name, settings, lambda s, c=curve: c.append(s.loss))
    assert len(curves["mlx"]) == 20
    np.testing.assert_allclose(curves["mlx"], curves["torch"], rtol=1e-2)
    ours, theirs = (read_adapter(tmp_path / name / "adapter.gguf").pairs for name in curves)
    a, b = ours["blk.0.attn_q.weight"], theirs["blk.0.attn_q.weight"]
    assert np.linalg.norm(a[1] - b[1]) <= 0.01 * np.linalg.norm(b[1])


# The generator


def prompts(n: int, sampling: Sampling) -> list[Prompt]:
    start = Segment("<|im_start|>user\nRoute the message to billing, delivery or technical. My parcel number is ")
    end = Segment("<|im_end|>\n<|im_start|>assistant\n")
    return [Prompt(f"p{i}", (start, Segment(f"{i} {'now ' * (i % 3)}", False), end), sampling, i + 1) for i in range(n)]


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that does more than repeat its last token, as one with tied random embeddings would."""
    return write_model(tmp_path_factory.mktemp("mlx") / "talker.gguf", TALKER)


@pytest.fixture(scope="module")
def generator(talker: Path) -> Iterator[Generator]:
    engine = open_generator("mlx", talker, SMALL)
    yield engine
    engine.close()


def texts(engine: Generator, asked: list[Prompt]) -> dict[str, str]:
    return {done.prompt_id: done.text for done in engine.generate(asked)}


def test_greedy_text_and_its_logprob_are_those_of_llama_cpp(talker: Path, generator: Generator) -> None:
    other = open_generator("llama.cpp", talker, SMALL)
    asked = prompts(10, Sampling(max_tokens=12))
    ours, theirs = ({c.prompt_id: c for c in engine.generate(asked)} for engine in (generator, other))
    other.close()
    for id, mine in ours.items():
        assert replace(mine, logprob=0.0) == replace(theirs[id], logprob=0.0)
        assert mine.logprob == pytest.approx(theirs[id].logprob, abs=1e-2)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_row_draws_the_same_whatever_runs_beside_it(generator: Generator, penalty: float) -> None:
    asked = prompts(
        9, Sampling(temperature=0.9, top_k=20, top_p=0.95, min_p=0.01, repeat_penalty=penalty, max_tokens=10)
    )
    together = texts(generator, asked)
    alone = {id: text for prompt in reversed(asked) for id, text in texts(generator, [prompt]).items()}
    assert together == alone
    assert len(set(together.values())) > 1


@pytest.mark.parametrize("name", ["repeat_penalty", "frequency_penalty", "presence_penalty"])
def test_a_strong_penalty_keeps_a_row_from_repeating_itself(generator: Generator, name: str) -> None:
    sampling = Sampling(max_tokens=20, **{name: 1e6})
    (done,) = generator.generate(prompts(1, sampling))
    tokens = generator.tokenize((Segment(done.text, False),))
    assert done.n_tokens == 20 and len(set(tokens)) > len(tokens) // 2


def test_a_stop_string_ends_a_row_and_is_cut_off(generator: Generator) -> None:
    (whole,) = generator.generate(prompts(1, Sampling(max_tokens=12)))
    stop = re.findall(r"[a-z]{2}", whole.text)[1]  # whole characters: random tokens are often broken ones
    (cut,) = generator.generate(prompts(1, Sampling(max_tokens=12, stop=(stop,))))
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(stop)], "stop")


def test_a_server_is_told_text_as_it_is_written(generator: Generator) -> None:
    session = open_session(generator, lambda: None)
    asks = [Prompt(str(i), (Segment(f"hello {i}"),), Sampling(max_tokens=9)) for i in range(3)]
    whole = {one.prompt_id: one.text for one in generator.generate(asks)}
    for ask in asks:
        session.add(ask, None, Watch())
    events = []
    while not session.is_idle:
        events += session.step()
    session.close()
    pieces = [event for event in events if isinstance(event, Piece)]
    assert len(pieces) > 2 * len(asks), "not in one piece"
    told = {id: "".join(one.text for one in pieces if one.prompt_id == id) for id in whole}
    ended = {event.prompt_id: event.completion.text for event in events if isinstance(event, Ended)}
    assert ended == whole and all(text.startswith(told[id]) for id, text in whole.items())


def test_a_full_context_ends_a_row(talker: Path, generator: Generator) -> None:
    (asked,) = prompts(1, Sampling(max_tokens=50))
    n_prompt = len(generator.tokenize(asked.segments))
    small = open_generator("mlx", talker, replace(SMALL, n_ctx=n_prompt + 3))
    (done,) = small.generate([asked])
    assert (done.finish, done.n_tokens) == ("context", 3)
    with pytest.raises(SgError, match="context"):
        list(small.generate([replace(asked, segments=(*asked.segments, Segment("much too long a text")))]))
    small.close()


WORDS = 'root ::= "billing" | "delivery" | "technical"'
SCHEMA = '{"type": "object", "properties": {"team": {"enum": ["billing", "delivery"]}}, "required": ["team"]}'


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_grammar_lets_only_its_strings_through(generator: Generator, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, max_tokens=20, grammar=WORDS, repeat_penalty=1.2)
    done = list(generator.generate([*prompts(9, sampling), *prompts(1, Sampling(max_tokens=5))]))
    bound = [one for one in done if one.text in ("billing", "delivery", "technical")]
    assert len(bound) == 9 and {one.finish for one in bound} == {"stop"}


def test_a_grammar_gives_the_greedy_text_of_llama_cpp(talker: Path, generator: Generator) -> None:
    other = open_generator("llama.cpp", talker, SMALL)
    for sampling in (Sampling(max_tokens=20, grammar='root ::= [a-z]+ "."'), Sampling(max_tokens=40, schema=SCHEMA)):
        found = [{c.prompt_id: c for c in engine.generate(prompts(4, sampling))} for engine in (generator, other)]
        assert {id: c.text for id, c in found[0].items()} == {id: c.text for id, c in found[1].items()}
        for id, done in found[0].items():
            assert done.logprob == pytest.approx(found[1][id].logprob, abs=1e-2)
    other.close()
    assert json.loads(found[0]["p0"].text)["team"] in ("billing", "delivery")


def test_a_grammar_that_does_not_parse_is_refused(generator: Generator, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SgError, match="grammar"):
        list(generator.generate(prompts(1, Sampling(grammar="root ::= ("))))


def test_scores_are_those_of_llama_cpp(talker: Path, generator: Generator) -> None:
    other = open_generator("llama.cpp", talker, SMALL)
    labels = ("billing", "delivery", "technical", "a", "bill")
    asked = [ScoredPrompt(p.id, p.segments, labels, end=i % 2 == 0) for i, p in enumerate(prompts(6, Sampling()))]
    ours, theirs = ([score.logprobs for score in engine.score(asked)] for engine in (generator, other))
    other.close()
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_an_adapter_changes_the_answers_and_leaves_with_none(
    talker: Path, generator: Generator, tmp_path: Path
) -> None:
    asked = prompts(5, Sampling(max_tokens=10))
    path = write_lora(tmp_path / "adapter.gguf", lora_pairs(TALKER, size=0.5), alpha=4.0)
    base = texts(generator, asked)
    generator.use_adapter(path)
    changed = texts(generator, asked)
    other = open_generator("llama.cpp", talker, SMALL)
    other.use_adapter(path)
    assert changed == texts(other, asked) != base
    other.close()
    generator.use_adapter(None)
    assert texts(generator, asked) == base


def test_an_adapter_of_another_model_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "adapter.gguf", lora_pairs(replace(TALKER, ffn=256)), alpha=4.0)
    with pytest.raises(SgError, match="does not fit"):
        generator.use_adapter(path)


def test_removing_an_adapter_gives_back_the_base(model: Path, tmp_path: Path) -> None:
    loaded, ids = load_model(model, keep_quantised=False), some_ids(16)
    before = mlx_logits(loaded, ids)
    put_on(loaded, write_lora(tmp_path / "a.gguf", lora_pairs(F32), alpha=4.0))
    remove_adapter(loaded)
    np.testing.assert_array_equal(mlx_logits(loaded, ids), before)


# The machine


def test_a_machine_without_openblas_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "NAMES", ("libnothing.so",))
    monkeypatch.setattr(blas, "_library", lambda: None)
    monkeypatch.setattr(blas.platform, "system", lambda: "Linux")
    monkeypatch.delitem(blas.sys.modules, "mlx.core")
    assert "apt install" in blas.prefer_openblas()


def test_a_library_that_is_no_openblas_is_passed_over() -> None:
    assert not blas._load("libm.so.6")
