"""benchmarks/clients.py: how it counts, what it says of clients that are not here, and a whole walk on a tiny model."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg

FOLDER = Path(__file__).parent.parent / "benchmarks"
CASE = {"metadata": {"general.name": "route on base 82K", "general.finetune": "route"}}


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("psutil")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("clients")


@pytest.fixture
def engine():
    """Every letter is a token, and <s> goes before them."""
    info = SimpleNamespace(bos="<s>", add_bos=True)
    return SimpleNamespace(info=info, tokenize=lambda segments: (1, *(ord(letter) for letter in segments[0].text)))


def row_of(bench, engine, said, name="peft"):
    wanted = {"adapter": bench.Reference([[1, 97], [1, 98, 99]], ["red", "blue"])}
    client = bench.Client(name, "adapter", ())
    return bench.judged(client, {"version": "1.0", **said}, wanted, CASE, engine)


@pytest.mark.parametrize(
    ("said", "prompts", "answers"),
    (
        ({"ids": [[1, 97], [1, 98, 99]], "answers": ["red", " blue\n"]}, 2, 2),
        ({"ids": [[1, 97], [1, 98, 99, 32]], "answers": ["red", "- blue"]}, 1, 1),
        ({"lengths": [2, 4], "answers": ["", "blue"]}, 1, 1),
        ({"texts": ["<s>a", "bc"]}, 2, None),
        ({"texts": ["a ", "bc"]}, 1, None),
        ({"answers": ["red", "red"]}, None, 1),
    ),
)
def test_a_client_s_prompts_and_answers_are_counted(bench, engine, said, prompts, answers):
    row = row_of(bench, engine, said)
    assert (row.prompts, row.answers, row.ran) == (prompts, answers, True)


def test_a_reader_s_keys_are_counted(bench, engine):
    row = row_of(bench, engine, {"metadata": {"general.name": "route on base 82K", "general.finetune": None}})
    assert (row.keys, row.note, row.prompts, row.answers) == (1, "1 of 2 keys equal", None, None)


def test_what_is_missing_is_named(bench, engine, monkeypatch, tmp_path):
    node = next(client for client in bench.CLIENTS if client.name == "node-llama-cpp")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "which", lambda name: None)
        assert bench.missing_of(node, tmp_path) == "Node is not installed"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert bench.missing_of(node, tmp_path) == "not installed: node-llama-cpp (--node DIR)"
    (tmp_path / "node_modules" / "node-llama-cpp").mkdir(parents=True)
    assert bench.missing_of(node, tmp_path) == ""
    python = bench.Client("theirs", "adapter", ("json", "no_such_module.core"))
    assert bench.missing_of(python, None) == "not installed: no_such_module.core"
    row = bench.judged(python, {"missing": "not installed: no_such_module.core"}, {}, CASE, engine)
    assert (row.ran, row.note) == (False, "not installed: no_such_module.core")


def test_a_client_that_fails_is_a_line_of_the_table(bench, tmp_path):
    case = tmp_path / "case.json"
    case.write_text("{}")
    said = bench.ask(bench.Client("gguf", "file", ("gguf",)), case, None)
    assert said == {"failed": "KeyError: 'fused'"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of noise, trained on a tiny random model."""
    folder = tmp_path_factory.mktemp("clients")
    base = write_model(folder / "base.gguf", TinySpec(layers=1))
    home = folder / "home"
    with sg.open_job(TASK, model=base, settings=small_settings(), runs=folder / "runs", name="RUN", home=home) as job:
        for stage in (job.synth, job.filter, job.train):
            stage()
    return folder / "runs"


@pytest.mark.slow
def test_every_client_that_is_here_gets_training_s_prompts(bench, runs, tmp_path, monkeypatch, capfd):
    """npm's clients take part where SG_LOCAL_TEST_NODE names a folder with their node_modules."""
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    options = ["--runs", str(runs), "--rows", "3", "--out", str(tmp_path / "out")]
    if node := os.environ.get("SG_LOCAL_TEST_NODE"):
        options += ["--node", node]
    monkeypatch.setattr("sys.argv", ["clients.py", "RUN", *options])
    assert bench.main() == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    ran = {row["client"]: row for row in found["clients"] if row["ran"]}
    assert [row["note"] for row in found["clients"] if not row["ran"] and "installed" not in row["note"]] == []
    assert {"gguf", "llama-cpp-python", "sg-local serve", "sg-local predict"} <= set(ran)
    told = {name for name in ran if name.startswith("node-llama-cpp")}  # puts a system prompt of its own first
    assert [name for name in ran.keys() - told if ran[name]["prompts"] not in (3, None)] == []
    assert ran["llama-cpp-python"]["answers"] == 3
    assert ran["gguf"]["keys"] == len(json.loads((tmp_path / "out" / "case.json").read_text())["metadata"])
