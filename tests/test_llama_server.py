"""A folder for llama-server: what its own parser reads is what was meant, whatever stands in names and paths."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import jinja2
import pytest
from click.testing import CliRunner
from tiny_models import write_model

import sg_local as sg
from sg_local.cli.app import app
from sg_local.export.llama_server import LACKS, ServedAdapter, command, grammar, preset, write_preset
from sg_local.records import SgError


def parsed(text: str) -> dict[str, dict[str, str]]:
    """A preset as llama.cpp's common/preset.cpp reads it: no quotes, a comment wherever `;` or `#` stands."""
    found: dict[str, dict[str, str]] = {"": {}}
    section = ""
    for line in text.split("\n"):
        line = re.split(r"[ \t]*[;#]", line, maxsplit=1)[0]
        if head := re.fullmatch(r"\[[ \t]*([^\]]+)[ \t]*\]", line):
            section = head[1]
            found[section] = {}
        elif line.strip():
            key, value = re.fullmatch(r"([a-zA-Z_][a-zA-Z0-9_.-]*)[ \t]*=[ \t]*(.*)", line).groups()
            found[section][key] = value
    return found


def served(**more) -> ServedAdapter:
    base, adapter = Path("/models/b.gguf"), Path("/runs/team/adapter.gguf")
    return dataclasses.replace(ServedAdapter("team", base, adapter, "{{ x }}", ("a", 'b "c"'), 2048), **more)


def test_the_preset_says_where_everything_lies(tmp_path):
    path = write_preset(tmp_path / "my folder", [served(), served(name="other-1.2", labels=())])
    found = parsed(path.read_text())
    assert found.pop("") == {"version": "1"} and list(found) == ["team", "other-1.2"]
    assert found["team"] == {
        "model": "/models/b.gguf",
        "lora": "/runs/team/adapter.gguf",
        "chat-template-file": str(tmp_path / "my folder" / "team.jinja"),
        "jinja": "true",
        "ctx-size": "2048",
        "temp": "0",
    }
    assert (tmp_path / "my folder" / "team.jinja").read_text() == "{{ x }}"
    assert all(one in path.read_text() for one in LACKS)


@pytest.mark.parametrize("name", ["a;b", "a#b", "a\nb = c", "a,b", " a"])
def test_a_path_that_the_preset_cannot_hold_is_refused_and_nothing_written(tmp_path, name):
    with pytest.raises(SgError, match="cannot hold the path") as refused:
        write_preset(tmp_path / "out", [served(adapter=Path(f"{name}"))])
    assert refused.value.exit_code == 2 and not (tmp_path / "out").exists()


def test_the_command_is_quoted_for_a_shell():
    words = shlex.split(command(Path("/my folder/it's/models.ini")))
    assert words[:3] == ["llama-server", "--models-preset", "/my folder/it's/models.ini"]
    assert words[3:] == ["--host", "127.0.0.1", "--port", "8080"]


def test_the_grammar_holds_an_answer_to_the_labels():
    assert grammar(("a", 'b "c"', "d\\e\nf")) == r'root ::= "a" | "b \"c\"" | "d\\e\nf"'
    [line] = [line for line in preset(Path("/x"), [served()]).split("\n") if "grammar to send" in line]
    assert json.loads(line.partition("request: ")[2]) == {"grammar": grammar(("a", 'b "c"'))}


@pytest.fixture
def runs(own_folder):
    """Two tuned runs of one tiny base, one of another base, and one that was not trained."""
    for name, base in (("one", "a"), ("two", "a"), ("three", "b"), ("four", "a")):
        path = own_folder / f"{base}.gguf"
        if not path.exists():
            write_model(path, name=base)
        with sg.open_job("support_routing", model=path, backend="scripted", name=name) as job, job.opened.lock():
            if name != "four":
                (job.folder / "adapter.gguf").write_text("adapter")
            job.opened.worked = True
            (job.folder / "inputs.jsonl").touch()
    return own_folder / "runs"


def test_the_command_writes_this_run_and_the_others_of_its_base(runs, own_folder):
    result = CliRunner().invoke(app, ["export", "one", "--llama-server", "out"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{own_folder / 'out' / 'models.ini'}\n"
    found = parsed((own_folder / "out" / "models.ini").read_text())
    assert sorted(found) == ["", "one", "two"] and Path(found["two"]["lora"]).read_text() == "adapter"
    assert "llama-server --models-preset" in result.stderr
    assert "no offsets (calibrated labels) but those that" in result.stderr
    template = Path(found["one"]["chat-template-file"]).read_text()
    asked = {"messages": [{"role": "user", "content": "Where is it?"}], "add_generation_prompt": True}
    task = sg.load("one").task
    said = jinja2.Environment().from_string(template).render(bos_token="", eos_token="", **asked)
    assert task.instruction in said and task.examples[0].input in said and "Where is it?" in said


def test_a_folder_whose_name_is_no_run_s_is_passed_over(runs, own_folder):
    (runs / "two").rename(runs / "two]\n[x")
    assert CliRunner().invoke(app, ["export", "one", "--llama-server", "out"]).exit_code == 0
    assert sorted(parsed((own_folder / "out" / "models.ini").read_text())) == ["", "one"]


def test_the_examples_can_be_left_out(runs, own_folder):
    done = CliRunner().invoke(app, ["export", "one", "--llama-server", "out", "--without-demonstrations"])
    assert done.exit_code == 0, done.output
    assert sg.load("one").task.examples[0].input not in (own_folder / "out" / "one.jinja").read_text()


def test_a_run_that_was_not_trained_has_nothing_to_serve(runs):
    result = CliRunner().invoke(app, ["export", "four", "--llama-server", "out"])
    assert result.exit_code == 1 and "adapter" in result.output
