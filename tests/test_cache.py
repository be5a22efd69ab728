"""What fills the cache, by model, and its removal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local.backends import EngineSettings, open_generator
from sg_local.cache import cached, digests_by_path, left_over, sweep
from sg_local.cli.app import app
from sg_local.home import cache_folder
from tests import tiny_models

DIGEST = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture
def folder(tmp_path, gone):
    """A folder of caches with a copy of a known model, one of an unknown, and two left-overs."""
    sizes = {
        f"models/{DIGEST[:16]}-BF16.gguf": 300,
        f"models/{OTHER[:16]}-Q8_0.gguf": 200,
        "choices/one.json": 10,
        f"trial-{DIGEST[:16]}-BF16.{gone}.gguf": 70,
        f"trial-{DIGEST[:16]}-BF16.{os.getpid()}.gguf": 71,
        f"choices/two.json.{gone}.partial": 5,
    }
    for name, n_bytes in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * n_bytes)
    return tmp_path


def test_the_cache_is_told_by_model_and_what_dead_processes_left(folder):
    lines = [(line.kind, line.model, line.size_bytes) for line in cached(folder, {DIGEST[:16]: "small"})]
    assert lines == [
        ("faster copy, BF16", "small", 300),
        ("faster copy, Q8_0", "a model that is gone (cdcdcdcd)", 200),
        ("left over", "", 75),
        ("engine choices", "", 15),
    ]


def test_a_sweep_takes_what_dead_processes_left_and_nothing_else(folder):
    before = {path for path in folder.rglob("*") if path.is_file()}
    gone = set(left_over(folder))
    assert len(gone) == 2 and sweep(folder) == 75
    assert {path for path in folder.rglob("*") if path.is_file()} == before - gone


def call(home, *args):
    return CliRunner().invoke(app, ["cache", *args], env={"SG_LOCAL_HOME": str(home)})


def test_the_command_names_models_and_clears_those_asked_for(folder):
    (folder / "models/small.toml").write_text('name = "small"\n[source]\npath = "' + str(folder / "small.gguf") + '"\n')
    (folder / "small.gguf").write_bytes(b"GGUF")
    (folder / "digests").mkdir()
    entry = {"path": str(folder / "small.gguf"), "sha256": DIGEST}
    (folder / "digests/x.json").write_text(json.dumps(entry))
    assert "small" in call(folder, "ls").output
    assert call(folder, "clear").exit_code == 2  # nobody can be asked
    done = call(folder, "clear", "smal", "--yes")
    assert (done.exit_code, "Did you mean small?" in done.output) == (2, True)
    assert call(folder, "clear", "small", "--yes").output == "300 B freed\n"
    names = {path.name for path in (folder / "models").iterdir()}
    assert names == {"small.toml", f"{OTHER[:16]}-Q8_0.gguf"}
    assert call(folder, "clear", "--yes").exit_code == 0
    assert (folder / "small.gguf").exists() and not list((folder / "choices").iterdir())
    assert [row["kind"] for row in json.loads(call(folder, "ls", "--json").output)] == []


@pytest.mark.parametrize("text", ["{", "[]", '{"path": 5, "sha256": "x"}', "[" * 100_000, '{"path": "a\\u0000"}'])
def test_an_entry_that_is_damaged_is_as_good_as_none(tmp_path, text):
    (tmp_path / "digests").mkdir()
    (tmp_path / "digests/good.json").write_text(json.dumps({"path": "/m.gguf", "sha256": DIGEST}))
    (tmp_path / "digests/other.json").write_text(text)
    assert digests_by_path(tmp_path) == {Path("/m.gguf"): DIGEST}


@pytest.mark.parametrize(("variable", "below"), [("XDG_CACHE_HOME", "sg-local"), ("SG_LOCAL_HOME", "")])
def test_an_engine_without_a_folder_of_its_own_uses_that_of_the_environment(tmp_path, monkeypatch, variable, below):
    pytest.importorskip("llama_cpp")
    monkeypatch.delenv("SG_LOCAL_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, str(tmp_path / "named"))
    model = tiny_models.write_model(tmp_path / "tiny.gguf", tiny_models.TinySpec("bpe", "F32", "F32", layers=1))
    settings = EngineSettings(n_ctx=64, n_parallel=1, n_threads=1, fast_copy=False)
    open_generator("llama.cpp", model, settings).close()
    assert any((tmp_path / "named" / below).iterdir()) and not (tmp_path / "home").exists()
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
