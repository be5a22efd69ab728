"""Sentences on stdout and stderr: broken between words on a terminal, on one line in a pipe."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from tiny_runs import job_of

from sg_local.cli import output
from sg_local.cli.eval import show_answers
from sg_local.cli.tasks import show
from sg_local.evaluate import evaluate

WIDTHS = (60, 80)


def on_a_terminal(monkeypatch, width):
    """Let stdout and stderr be a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_last_line_of_single_answers_breaks_between_words(width, tmp_path, monkeypatch, capsys):
    job = job_of(tmp_path)
    report = evaluate(job)
    on_a_terminal(monkeypatch, width)
    show_answers(SimpleNamespace(run=job.run), report, "all", "tuned_calibrated", as_json=False)
    lines = capsys.readouterr().out.rstrip().split("\n")
    last = lines[next(i for i, line in enumerate(lines) if line.startswith("all: ")) :]
    said = "all: 4 of 4 test rows, “tuned, calibrated labels” (tuned_calibrated) "
    said += "against “base, calibrated labels” (base_calibrated)"
    assert len(last) > 1 and " ".join(line.rstrip() for line in last) == said
    assert max(map(len, last)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_note_breaks_between_words_and_keeps_a_path_whole(width, monkeypatch, capsys):
    on_a_terminal(monkeypatch, width)
    path = "/a/folder-with-a-name/" + "x" * 90
    output.note(f"It was read from {path} a moment ago, and all of it, row by row, was in order as far as anybody saw.")
    lines = capsys.readouterr().err.rstrip().split("\n")
    assert sum(path in line for line in lines) == 1 and len(lines) > 2
    assert all(len(line) <= width for line in lines if path not in line)


@pytest.mark.parametrize(("width", "n_lines"), [(60, 2), (80, 1)])
def test_the_next_commands_are_never_broken(width, n_lines, monkeypatch, capsys):
    on_a_terminal(monkeypatch, width)
    commands = ("sg-local review runs2/second", "sg-local train runs2/second --redo")
    output.next_commands(*commands)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == n_lines and max(map(len, lines)) <= width
    assert all(sum(command in line for line in lines) == 1 for command in commands)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_task_s_prompt_breaks_between_words(width, monkeypatch, capsys):
    on_a_terminal(monkeypatch, width)
    show.callback("support_routing", as_json=False, as_toml=False)
    prompt = capsys.readouterr().out.partition("The prompt:")[2]
    assert "Decide which team should answer it. Answer with exactly" in " ".join(prompt.split())
    assert max(map(len, prompt.splitlines())) <= width and prompt.rstrip().endswith("\nOutput:")


def test_a_pipe_gets_a_sentence_as_one_line(capsys):
    said = "word " * 40 + "end."
    output.tell(said)
    assert capsys.readouterr().out == f"{said}\n"
