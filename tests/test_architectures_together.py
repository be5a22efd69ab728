"""Every architecture through both trainers and both generators: the same curve, the same adapter, the same answers."""

from __future__ import annotations

import numpy as np
import pytest

for package in ("torch", "mlx.core"):
    pytest.importorskip(package)

from tiny_architectures import ALPHA, RANK, examples, relative_error, write_pair

from sg_local import gguf
from sg_local.backends import EngineSettings, TrainSettings, open_generator, open_trainer
from sg_local.backends.torch.model import load_base
from sg_local.backends.training.parity import _reference_logits
from sg_local.export.huggingface import FolderPlan, write_folder
from sg_local.gguf.architectures import ARCHITECTURES
from sg_local.records import Prompt, Sampling, ScoredPrompt, Segment

SETTINGS = TrainSettings(
    rank=RANK, alpha=ALPHA, batch_size=6, epochs=4.0, lr=2e-3, warmup=0.0, n_threads=1, precision="f32"
)
# Long enough that what follows lies beyond the tiny models' windows, and worth being shared.
BEGINNING = "Route the message to billing, delivery or technical. My parcel never came, where is it now? " * 2


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def tiny(request, tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.filterwarnings("ignore")
def test_both_trainers_walk_down_the_same_curve_to_the_same_adapter(tiny, tmp_path):
    curves, adapters = {}, {}
    for name in ("torch", "mlx"):
        steps = []
        open_trainer(name, tiny[0]).train(examples(6), (), tmp_path / name, SETTINGS, steps.append)
        curves[name] = [step.loss for step in steps if step.step]
        pairs = gguf.read_adapter(tmp_path / name / "adapter.gguf").pairs
        adapters[name] = {key: pair[1].ravel() for key, pair in sorted(pairs.items())}
        shape = gguf.read_config(tiny[0])
        assert len(pairs) == len(shape.row.targets) * shape.layers
    np.testing.assert_allclose(curves["torch"], curves["mlx"], rtol=1e-3)
    assert curves["torch"][-1] < curves["torch"][0]
    found, wanted = (np.concatenate(list(adapters[name].values())) for name in ("mlx", "torch"))
    assert relative_error(found, wanted) < 0.05
    assert_other_libraries_compute_the_same(tiny[0], tmp_path)


def assert_other_libraries_compute_the_same(model, folder):
    """What peft and mlx-lm make of the adapters in their own forms, on the base in theirs, against llama.cpp."""
    import mlx.core as mx
    import mlx_lm
    import torch
    from peft import PeftModel

    shape, tokens = gguf.read_config(model), examples()[0].tokens
    wanted = _reference_logits(model, folder / "torch" / "adapter.gguf", tokens)
    base = load_base(model, torch.device("cpu"), torch.float32).model
    base.set_attn_implementation("eager")  # transformers' other attention has no caps
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(base, str(folder / "torch" / "peft"))(torch.tensor([tokens])).logits[0]
    assert np.abs(theirs.numpy() - wanted).max() < shape.row.tolerance
    write_folder(folder, FolderPlan(model, gguf.LoraAdapter(shape.architecture, 1.0, {}, {}), None), lambda _: None)
    loaded, _ = mlx_lm.load(str(folder), adapter_path=str(folder / "mlx" / "mlx"))
    n = shape.window if shape.architecture == "gemma2" else len(tokens)  # mlx-lm's has no window
    found = np.array(loaded(mx.array([tokens]))[0].astype(mx.float32))[:n]
    assert np.abs(found - wanted[:n]).max() < 0.02 * np.abs(wanted).max()  # the folder is float16


def test_both_generators_give_the_same_scores(tiny, tmp_path):
    asked = [
        ScoredPrompt(f"s{i}", (Segment(BEGINNING + "one " * i),), (" billing", " delivery or not", " no"), i == 1)
        for i in range(3)
    ]
    found = {}
    for name in ("llama.cpp", "mlx"):
        generator = opened(name, tiny[0], tmp_path)
        generator.use_adapter(tiny[1])
        found[name] = {score.prompt_id: score.logprobs for score in generator.score(asked)}
        generator.close()
    for key, wanted in found["llama.cpp"].items():
        np.testing.assert_allclose(found["mlx"][key], wanted, atol=0.1)  # llama.cpp's cache is float16


def test_mlx_writes_a_row_as_it_does_alone(tiny, tmp_path):
    generator = opened("mlx", tiny[0], tmp_path)
    prompts = [
        Prompt(f"p{i}", (Segment(BEGINNING + "one two three " * i),), Sampling(temperature=0.0, max_tokens=12))
        for i in range(3)
    ]
    together = {done.prompt_id: done for done in generator.generate(prompts)}
    for prompt in prompts:
        (alone,) = generator.generate([prompt])
        assert alone.text == together[prompt.id].text
        assert alone.logprob == pytest.approx(together[prompt.id].logprob, abs=1e-2)
    generator.close()


def opened(name, model, folder):
    return open_generator(name, model, EngineSettings(n_ctx=512, n_parallel=3, n_threads=1, cache=folder))
