"""The Tab key: what it offers for each place on the line, and the scripts in living shells where they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time

import pexpect
import pyte
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner
from terminal import PROGRAM

from sg_local.cli.app import COMMANDS, app

PATIENCE_S = 60


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with runs called `spring` and `summer`, a task file, a GGUF file's name, and a config file."""
    folder = tmp_path_factory.mktemp("names")
    for runs, name in (("runs", "spring"), ("runs", "summer"), ("other", "autumn"), ("third", "winter")):
        (folder / runs / name).mkdir(parents=True)
        (folder / runs / name / "run.json").write_text("{}")
    (folder / "runs" / "no_run").mkdir()
    for name in ("sum_up.toml", "summit.json", "small.gguf", "notes.txt"):
        (folder / name).touch()
    (folder / "home").mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "sg-local").write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    (folder / "bin" / "sg-local").chmod(0o755)
    return folder


@pytest.fixture
def tab(finished, monkeypatch):
    """What the Tab key offers at the end of a line of words."""
    monkeypatch.chdir(finished)
    monkeypatch.setenv("SG_LOCAL_HOME", str(finished / "home"))
    monkeypatch.delenv("SG_LOCAL_RUNS", raising=False)

    def press(*line):
        made = get_completion_class("bash")(app, {}, "sg-local", "_SG_LOCAL_COMPLETE")
        return [item.value for item in made.get_completions(list(line[:-1]), line[-1])]

    return press


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (("re",), ["review", "report"]),
        (("runs", "s"), ["show"]),
        (("review", ""), ["spring", "summer"]),
        (("review", "su"), ["summer"]),
        (("runs", "show", "sp"), ["spring"]),
        (("review", "--runs", "other", ""), ["autumn"]),
        (("run", "supp"), ["support_routing"]),
        (("run", "sum"), ["sum_up.toml", "summit.json"]),
        (("tasks", "check", "sum_"), ["sum_up.toml"]),
        (("run", "support_routing", "--model", "smollm2-135"), ["smollm2-135m-instruct"]),
        (("models", "show", "./sm"), ["./small.gguf"]),
        (("synth", "support_routing", "--preset", "reco"), ["recommended"]),
        (("synth", "support_routing", "--backend", ""), ["auto", "llama.cpp", "mlx", "openai"]),
        (("config", "show", "tr"), ["train"]),
        (("predict", "spring", "sum"), ["summit.json"]),
        (("review", "spring", "--sam"), ["--sample"]),
        (("run", "support_routing", "--set", "synth.n_a"), ["synth.n_asked="]),
        (("train", "spring", "--set", "warm"), ["warmup="]),
        (("train", "spring", "--set", "train.warm"), ["train.warmup="]),
        (("filter", "spring", "--set", "policy=a"), ["policy=auto", "policy=asked", "policy=agree"]),
        (("run", "support_routing", "--set", "synth.steer=t"), ["synth.steer=true"]),
        (("export", "spring", "--type", "Q5"), ["Q5_K_M", "Q5_K_M_imat"]),
        (("eval", "spring", "--system", "tuned_r"), ["tuned_restricted"]),
        (("eval", "spring", "--gate", "tuned-base."), ["tuned-base.low>"]),
        (("eval", "spring", "--file", "a.gguf", "--gate", "file-"), ["file-tuned>=", "file-tuned.low>"]),
    ],
    ids=" ".join,
)
def test_the_names_of_a_place(tab, line, offered):
    assert tab(*line) == offered


def test_commands_are_told_with_what_they_do(finished):
    made = get_completion_class("fish")(app, {}, "sg-local", "_SG_LOCAL_COMPLETE")
    assert {item.value: item.help for item in made.get_completions([], "")} == {
        name: entry.summary for name, entry in COMMANDS.items()
    }


def test_runs_are_looked_for_where_the_config_file_says(tab, finished, monkeypatch):
    (finished / "home" / "config.toml").write_text('runs = "third"\n')
    assert tab("review", "") == ["winter"]
    monkeypatch.setenv("SG_LOCAL_RUNS", "other")
    assert tab("review", "") == ["autumn"]
    (finished / "home" / "config.toml").write_text("not TOML")
    monkeypatch.delenv("SG_LOCAL_RUNS")
    assert tab("review", "") == []
    (finished / "home" / "config.toml").unlink()


SHELLS = {
    "bash": ("bash", ["--norc", "--noprofile", "-i"], "source ./script"),
    "zsh": ("zsh", ["-f", "-i"], "autoload -Uz compinit && compinit -u -D && source ./script"),
    "fish": ("fish", ["--no-config", "-i"], "source ./script"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_works_in_the_shell(finished, shell):
    program, options, load = SHELLS[shell]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    script = CliRunner().invoke(app, ["completion", shell])
    (finished / "script").write_text(script.stdout)
    env = {**os.environ, "SG_LOCAL_HOME": str(finished / "home"), "PATH": f"{finished / 'bin'}:{os.environ['PATH']}",
           "TERM": "xterm", "PS1": "$ ", "HOME": str(finished)}  # fmt: skip
    child = pexpect.spawn(program, options, cwd=str(finished), env=env, dimensions=(40, 120))
    screen = pyte.Screen(120, 40)
    try:
        child.sendline(f"{load}; echo load''ed")
        shown(child, screen, "loaded")
        for line, completed in (
            ("sg-local rev\t", "sg-local review "),
            ("sg-local review sum\t", "sg-local review summer "),
            ("sg-local tasks show supp\t", "sg-local tasks show support_routing "),
            ("sg-local review spring --samp\t", "sg-local review spring --sample "),
        ):
            child.send(line)
            shown(child, screen, completed)
            child.send("\x15")
    finally:
        child.close(force=True)


def shown(child, screen, words):
    """Read until the screen shows the words."""
    stream, end = pyte.ByteStream(screen), time.monotonic() + PATIENCE_S
    while not any(words in line for line in screen.display):
        assert time.monotonic() < end, "\n".join(screen.display)
        with contextlib.suppress(pexpect.TIMEOUT):
            stream.feed(child.read_nonblocking(4096, 0.2))
