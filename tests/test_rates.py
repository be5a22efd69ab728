"""The learning rate by a model's width."""

import pytest
from tiny_models import TinySpec, write_model

import sg_local as sg
from sg_local.backends.training.rates import rate_for
from sg_local.job.train import settings_of


@pytest.mark.parametrize(
    ("width", "architecture", "rate"),
    [(4096, "llama", 2e-4), (8192, "llama", 2e-4), (576, "llama", 9.26e-4), (2048, "gemma2", 3.44e-4),
     (896, "qwen2", 2.25e-4)],
)  # fmt: skip
def test_a_narrower_model_bears_more_and_a_wider_one_what_a_7b_does(width, architecture, rate):
    assert rate_for(2e-4, width, architecture) == pytest.approx(rate, rel=5e-3)


def test_it_is_asked_for(tmp_path, routing):
    base = write_model(tmp_path / "base.gguf", TinySpec())

    def rate(**settings):
        home = tmp_path / "home"
        job = sg.open_job(routing, model=base, runs=tmp_path / "runs", home=home, settings={"train": settings})
        return settings_of(job.opened).lr

    assert rate() == 2e-4 < rate(lr_by_width=True) < rate(lr_by_width=True, lr=4e-4)
