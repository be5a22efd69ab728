"""`sg-local serve`: which runs it opens on which base, and how its server is set up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local import serve
from sg_local.cli.app import app
from sg_local.records import SgError
from sg_local.run import Run

SMALL = {"synth": {"n_inputs": 40}}


@pytest.fixture
def served(own_folder, monkeypatch):
    """Runs the command and gives what it would serve: (engine, models, setup); the engine is open."""
    seen = []

    def serve_it(generator, registry, setup, on_ready):
        seen.append((generator, registry, setup, [one.name for one in registry.services]))
        on_ready("http://127.0.0.1:1")

    monkeypatch.setattr(serve, "serve", serve_it)

    def run(*arguments: str, **environ: str):
        seen.clear()
        result = CliRunner().invoke(app, ["serve", *arguments], env=environ)
        return result, (seen[0] if seen else None)

    return run


@pytest.fixture
def runs(own_folder):
    """Two trained runs of one base."""
    with sg.open_job("support_routing", backend="scripted", settings=SMALL, name="one") as job:
        job.run()
    shutil.copytree("runs/one", "runs/two")
    shutil.copytree("runs/one", "runs/untrained")
    (own_folder / "runs" / "untrained" / "adapter.gguf").unlink()
    return own_folder / "runs"


def of_another_base(runs, name: str) -> None:
    shutil.copytree(runs / "one", runs / name)
    run = Run(runs / name)
    data = run.settings
    run.write_json("run.json", {**data, "model": {**data["model"], "name": "other", "digest": "0" * 64}})


def test_a_run_comes_with_its_base(served, runs):
    result, (generator, registry, setup, names) = served("one")
    assert result.exit_code == 0 and names == ["one", "base"]
    assert generator.adapter is None, "each request names its own"
    assert registry.find(None).name == "one" and registry.find("one").adapter.name == "adapter.gguf"
    assert setup.door == serve.Door() and setup.limits == serve.Limits()


def test_many_runs_share_one_engine(served, runs):
    _, (_, registry, _, names) = served("two", "one")
    assert names == ["two", "one", "base"]
    with pytest.raises(Exception, match="Say which model: two, one, base"):
        registry.find(None)


def test_a_run_that_was_made_in_another_format_is_told(served, runs, monkeypatch):
    choice = SimpleNamespace(format="BF16", n_parallel=4)
    monkeypatch.setattr("sg_local.backends.scripted.ScriptedGenerator.choice", choice, raising=False)
    for name, format in (("one", "BF16"), ("two", "Q8_0")):
        run = Run(runs / name)
        run.write_json("run.json", {**run.settings, "engine": {"format": format, "n_parallel": 4}})
    told = served("one", "two")[0].stderr
    assert "Run two was made in Q8_0, and this server computes in BF16" in told and "Run one" not in told


def test_all_trained_runs_of_one_base(served, runs):
    assert served("--all")[1][3] == ["one", "two", "base"]
    of_another_base(runs, "stranger")
    result, _ = served("--all")
    assert result.exit_code == 2 and "several bases" in result.output
    assert served("two", "--all")[1][3] == ["two", "one", "base"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say which run"),
        (("nobody",), "There is no run named 'nobody'"),
        (("untrained",), "no adapter.gguf yet"),
        (("one", "stranger"), "made from other"),
        (("one", "two", "--base"), "--base serves the base model of one"),
        (("one", "--set", "serve.queu=3"), "serve.queu"),
        (("one", "--set", "serve.queue=many"), "serve.queue"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_listens(served, runs, arguments, said):
    of_another_base(runs, "stranger")
    result, seen = served(*arguments)
    assert result.exit_code in (1, 2) and seen is None
    assert said in str(result.exception) + result.output


def test_settings_and_the_key_reach_the_server(served, runs):
    _, (_, _, setup, _) = served("one", "--set", "serve.queue=3", "--port", "0", SG_LOCAL_API_KEY="hidden")
    assert setup.limits.queue == 3 and setup.door.api_key == "hidden" and setup.door.port == 0
    _, (_, _, setup, _) = served("one", "--allow-origin", "https://a.example", "--allow-origin", "https://b.example")
    assert setup.door.origins == ("https://a.example", "https://b.example")


def test_ways_of_choosing_a_label_are_those_of_predict(served, runs):
    """A run's own; what has no such way, a task without labels among them, is served as it always is."""
    calibrated = served("one", "--labels", "calibrated")[1][1].find("one")
    assert len(calibrated.calibration.means) == len(calibrated.task.labels)
    for free in (("--free",), ("--labels", "free")):
        assert not served("one", *free)[1][1].find("one").settings.restricted
    assert not served("one")[1][1].find("one").calibration.means


def test_a_run_is_read_anew_when_it_was_trained_anew(own_folder, runs):
    from sg_local.cli.config import Environment
    from sg_local.job.options import Options
    from sg_local.job.serving import open_served

    home = Environment.read({"SG_LOCAL_HOME": str(own_folder / "home")}).home()
    with open_served(("one",), Options(), home) as opened:
        registry = opened.registry(("one",))
        before = registry.find("one")
        assert registry.find("one") is before
        Run(runs / "one").path("adapter.gguf").write_text("trained anew")
        after = registry.find("one")
        assert after.version != before.version and after.lane != before.lane
        assert replace(after, version="", calibration=before.calibration) == replace(before, version="")
        assert registry.add("two").name == "two"
        with pytest.raises(SgError, match="no adapter"):
            registry.add("untrained")
