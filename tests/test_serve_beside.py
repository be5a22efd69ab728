"""What a server asks of its own engine: first prompts before anybody asks, and calibration beside the requests."""

from __future__ import annotations

import shutil
import time

import pytest
from serving import Echo, prompt, question

import sg_local as sg
from sg_local import prompts, serve
from sg_local.cli.config import Environment
from sg_local.job.options import Options
from sg_local.job.serving import open_served
from sg_local.records import SgError
from sg_local.run import CALIBRATION, Run
from sg_local.serve.beside import MOST_WARM, ThroughWorker, warm

TEXTS = [f"parcel {i}" for i in range(30)]


@pytest.fixture
def worker(tmp_path):
    opened = serve.Worker(Echo(tmp_path))
    yield opened
    opened.close()


def wait_until(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_every_model_is_met_before_anybody_asks(worker, tmp_path, routing):
    tasks = [serve.Service(f"m{i}", prompts.PLAIN, routing, prompts.PLAIN) for i in range(MOST_WARM + 3)]
    warm(worker, [serve.Service("base", prompts.PLAIN), *tasks], serve.ServeSettings())
    wait_until(lambda: not worker.n_open)
    engine = worker.generator
    assert len(engine.scored) == MOST_WARM - 1
    assert "".join(one.text for one in engine.scored[0].segments).startswith(routing.instruction)


def test_a_model_that_cannot_be_met_harms_nobody(worker, tmp_path, routing):
    broken = serve.Service("m", prompts.PLAIN, routing, prompts.PLAIN, adapter=tmp_path / "gone.gguf")
    warm(worker, [broken], serve.ServeSettings(n_ctx=2))
    wait_until(lambda: not worker.n_open)
    assert [one.text for one in ThroughWorker(worker).generate([prompt("fine", "a")])] == ["FINE"]


def test_asks_beside_the_requests_come_back_in_order_under_their_own_names(worker):
    engine = ThroughWorker(worker)
    found = list(engine.score(question(text, ("parcel", "bill"), text) for text in TEXTS))
    assert [one.prompt_id for one in found] == TEXTS and all(one.logprobs == (0.0, -1.0) for one in found)
    written = list(engine.generate(prompt(text, text) for text in TEXTS))
    assert [(one.prompt_id, one.text) for one in written] == [(text, text.upper()) for text in TEXTS]
    assert engine.tokenize(prompt("a b", "x").segments) == worker.generator.tokenize(prompt("a b", "x").segments)


def test_what_is_asked_and_no_longer_wanted_leaves_the_queue(worker):
    asked = ThroughWorker(worker).score(question(text, ("parcel", "bill"), text) for text in TEXTS)
    next(asked)
    asked.close()
    wait_until(lambda: not worker.n_open)
    worker.close()
    with pytest.raises(SgError, match="stopped"):
        next(ThroughWorker(worker).score([question("a", ("b", "c"), "a")]))


# Runs that come while it serves


@pytest.fixture
def served(own_folder):
    """A server's models over two trained runs, of which it began with one, and its worker."""
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 40}}, name="one") as job:
        job.run()
    shutil.copytree("runs/one", "runs/two")
    home = Environment.read({"SG_LOCAL_HOME": str(own_folder / "home")}).home()
    with open_served(("one",), Options(), home) as opened:
        registry = opened.registry(("one",))
        worker = serve.Worker(opened.generator)
        registry.beside = ThroughWorker(worker)
        yield registry
        worker.close()


def test_a_run_that_is_added_has_fitted_probabilities(served, own_folder):
    (own_folder / "runs" / "two" / CALIBRATION).unlink()
    fitted = served.find("one").calibration
    assert fitted.n > 0 and served.add("two").calibration == fitted
    assert (own_folder / "runs" / "two" / CALIBRATION).is_file()


def test_a_run_that_was_trained_anew_is_served_at_once_and_fitted_soon(served, own_folder):
    Run(own_folder / "runs" / "one").path("adapter.gguf").write_text("trained anew")
    version = served.find("one").version
    wait_until(lambda: served.find("one").calibration.n > 0)
    assert served.find("one").version == version
