"""`models` on the command line: other programs' models, cards that are not here, removal, the download's one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_model_stores import in_hub, in_ollama
from tiny_models import TinySpec, write_model

from sg_local.cli.app import app
from sg_local.cli.config import Environment
from sg_local.cli.models import DownloadLine
from sg_local.gguf import ARCHITECTURES
from sg_local.home import folders
from sg_local.job.base import find_base


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A tiny real GGUF model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinySpec(layers=1))


@pytest.fixture
def home(own_folder, monkeypatch) -> Path:
    """A home folder with nothing in it, for every program."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(own_folder))
    return own_folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_found_lists_what_other_programs_have(home, tiny):
    in_ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", tiny.read_bytes())
    in_hub(home / ".cache/huggingface/hub", "o/r", "m-Q4_0.gguf", tiny.read_bytes() + bytes(32), refs=("main",))
    shown = run("models", "ls", "--found").stdout
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert "Ollama" in rows["llama3.2:1b"] and "Hugging Face" in rows["o/r/m-Q4_0.gguf"]
    assert "qwen3-4b" not in rows


def test_ls_counts_other_programs_models_and_names_the_switch(home, tiny):
    in_ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", tiny.read_bytes())
    listed = run("models", "ls")
    assert "llama3.2:1b" not in listed.stdout and "qwen3-4b" in listed.stdout
    assert "models ls --found" in listed.stderr
    found = json.loads(run("models", "ls", "--found", "--json").stdout)
    (theirs,) = [entry for entry in found if entry["where"] == "Ollama"]
    assert theirs["name"] == "llama3.2:1b" and Path(theirs["path"]).is_file()


def test_a_model_of_ollama_can_be_shown(home, tiny):
    in_ollama(home / ".ollama/models", "registry.ollama.ai/library/mine/latest", tiny.read_bytes())
    assert "llama" in run("models", "show", "mine").stdout


def test_a_run_takes_a_model_of_ollama_where_it_lies(home, tiny):
    blob = in_ollama(home / ".ollama/models", "registry.ollama.ai/library/mine/7b", tiny.read_bytes())
    base = find_base("mine:7b", "auto", Environment.read(os.environ).home())
    assert (base.name, base.path) == ("mine:7b", blob)


def test_a_card_that_is_not_here_is_shown_with_the_command(home):
    shown = run("models", "show", "qwen3-4b")
    assert shown.exit_code == 0
    for fact in ("Apache-2.0", "Q4_K_M", "Qwen/Qwen3-4B-GGUF", "chatml", "36"):
        assert fact in shown.stdout
    assert "sg-local models pull qwen3-4b" in shown.stderr
    assert ("not trained" in shown.stderr) == ("qwen3" not in ARCHITECTURES)
    assert json.loads(run("models", "show", "qwen3-4b", "--json").stdout)["path"] is None


def test_stray_folders_in_the_cache_stop_nothing(home, tiny):
    stray = home / ".cache/huggingface/hub/models--org--model--backup/snapshots/1"
    stray.mkdir(parents=True)
    (stray / "m.gguf").symlink_to(tiny)
    assert run("models", "ls").exit_code == 0
    assert run("inspect", str(tiny)).exit_code == 0
    for name in ("gguf/my--models/x.gguf", "models/../gguf/missing.gguf", "a/b.git/x.gguf"):
        refused = run("models", "show", name)
        assert refused.exit_code == 2 and "no model file at" in refused.output + str(refused.exception)


def test_a_name_is_added_to_the_configuration_and_removed_again(home, tiny, monkeypatch):
    monkeypatch.delenv("SG_LOCAL_HOME")
    added = run("models", "add", "mine", str(tiny))
    card = home / ".config/sg-local/models/mine.toml"
    assert Path(added.stdout.strip()) == card == folders({"HOME": str(home)}).models.cards / "mine.toml"
    assert run("models", "rm", "mine").exit_code == 2
    assert run("models", "rm", "mine", "--yes").exit_code == 0
    assert not card.exists() and tiny.exists()


def test_a_download_has_one_line_off_a_terminal(capsys):
    line = DownloadLine("m")
    for here in (0, 10, 20):
        line.show(here, 20)
    line.end()
    assert capsys.readouterr().err == "Fetching m, 20 B\n"


def test_the_line_says_speed_and_time_left():
    line = DownloadLine("m", begun=(0.0, 1_000_000_000))
    assert line.text(1_500_000_000, 2_500_000_000, 10.0) == "1.5 GB of 2.5 GB, 50.0 MB/s, 20.0 s left"
    assert line.text(1_000_000_000, None, 10.0) == "1.0 GB, 0 B/s"
