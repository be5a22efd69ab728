"""The mean of adapters: its change is the mean of theirs, each is trained with a seed of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sg_local as sg
from sg_local.backends import TrainSettings
from sg_local.backends.training.averaging import Averaged, write_mean
from sg_local.backends.training.loop import CURVE
from sg_local.gguf import read_adapter, write_adapter
from sg_local.journals import JournalFile
from sg_local.records import Adapter, SgError, TokenExample, TrainStep, to_json

NAMES = ("blk.0.attn_q.weight", "blk.1.ffn_up.weight")


def write(path, seed, rank=2):
    rng = np.random.default_rng(seed)
    pairs = {name: (rng.normal(size=(rank, 6)), rng.normal(size=(4, rank))) for name in NAMES}
    metadata = {"general.name": f"seed {seed}", "sg_local.base.sha256": "b"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_adapter(path, "llama", {name: tuple(map(np.float32, pair)) for name, pair in pairs.items()}, 8.0, metadata)


def test_the_mean_changes_a_matrix_as_the_adapters_do_on_the_mean(tmp_path):
    paths = [tmp_path / f"{i}.gguf" for i in range(3)]
    for seed, path in enumerate(paths):
        write(path, seed)
    write_mean(tmp_path / "mean.gguf", paths)
    each, mean = [read_adapter(path) for path in paths], read_adapter(tmp_path / "mean.gguf")
    for name in NAMES:
        assert len(mean.pairs[name][0]) == 6 and mean.scale(name) == each[0].scale(name)
        np.testing.assert_allclose(mean.delta(name), np.mean([one.delta(name) for one in each], axis=0), atol=1e-5)
    assert mean.metadata["general.name"] == "seed 0" and mean.metadata["sg_local.base.sha256"] == "b"


class Trainer:
    """Writes an adapter of its seed, and notes what it was asked."""

    note = "here"

    def __init__(self):
        self.asked = []

    def train(self, examples, valid, out, settings, on_step):
        self.asked.append((out.name, settings.seed, settings.time_s))
        on_step(TrainStep(1, 1, 1.0, 2.0, settings.lr, 1.0, 0))
        write(out / "adapter.gguf", settings.seed)
        return Adapter(str(out / "adapter.gguf"), "d", "b", 2, 8.0, "here", 1, 1, 2.0 + settings.seed, None)


def test_each_adapter_has_a_seed_a_folder_and_its_share_of_the_time(tmp_path):
    inner, steps = Trainer(), []
    trainer = Averaged(inner, 3)
    found = trainer.train(
        [TokenExample("a", (1, 2), 1)], [], tmp_path, TrainSettings(seed=4, time_s=30.0), steps.append
    )
    assert inner.asked == [("seed-0", 4, 10.0), ("seed-1", 5, 10.0), ("seed-2", 6, 10.0)] and len(steps) == 3
    assert (found.rank, found.alpha, found.loss, found.valid_loss) == (6, 24.0, 7.0, None)
    assert Path(found.path) == tmp_path / "adapter.gguf" and len(found.digest) == 64
    assert "the mean of 3 trainings" in trainer.note


class Resumable(Trainer):
    """Keeps its curve as the training loop does, and tells only what this try computes."""

    def train(self, examples, valid, out, settings, on_step):
        path = out / CURVE
        if not path.exists():
            out.mkdir(parents=True)
            curve = [
                TrainStep(n, 2, 1.0, n + settings.seed, settings.lr, 1.0, 0, 3.0 - n if n < 2 else None)
                for n in range(3 + settings.seed)
            ]
            path.write_text("".join(to_json(step) + "\n" for step in curve))
            for step in curve:
                on_step(step)
        return super().train(examples, valid, out, settings, lambda step: None)


def test_the_curve_is_the_mean_of_all_seeds_however_often_it_was_resumed(tmp_path):
    trainer, curves = Averaged(Resumable(), 2), []
    for _ in range(2):  # the second try finds all done
        trainer.train([TokenExample("a", (1, 2), 1)], [], tmp_path, TrainSettings(seed=0), lambda step: None)
        curves.append([(one.step, one.loss, one.valid_loss) for one in JournalFile(tmp_path / CURVE).read(TrainStep)])
    assert curves[0] == curves[1] == [(0, 0.5, 3.0), (1, 1.5, 2.0), (2, 2.5, None)]


@pytest.mark.parametrize("settings", [{"n_seeds": 2}, {"generations": 2}, {"policies": ["asked"]}])
def test_another_program_is_handed_no_training_of_several(own_folder, routing, settings):
    from sg_local.job.train import prepare

    with sg.open_job(routing, runs="runs", backend="scripted", settings={"train": settings}) as job:
        with pytest.raises(SgError, match="Several trainings") as raised:
            prepare(job.opened)
    assert raised.value.exit_code == 2
