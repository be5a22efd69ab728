"""A notice at the end of a command, however it ends."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from sg_local.cli import notify
from sg_local.cli.app import app
from sg_local.records import SgError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "finished"),
        (click.exceptions.Exit(3), "finished"),
        (KeyboardInterrupt(), "interrupted"),
        (click.Abort(), "interrupted"),
        (SgError("The disk is full."), "The disk is full."),
        (SgError("x" * 500), "x" * 119 + "\u2026"),
    ],
    ids=str,
)
def test_how_a_command_ended_is_told(error, words):
    assert notify.ended(error) == words


@pytest.mark.usefixtures("own_folder")
def test_a_command_gives_notice_only_when_asked(monkeypatch):
    told = []
    monkeypatch.setattr(notify, "notify", lambda *said: told.append(said))
    line = ["synth", "support_routing", "--backend", "scripted", "--name", "a", "--set", "synth.n_inputs=4"]
    assert CliRunner().invoke(app, line).exit_code == 0 and told == []
    assert CliRunner().invoke(app, [*line, "--notify"]).exit_code == 0
    assert CliRunner().invoke(app, ["train", "nope", "--notify"]).exit_code == 2
    assert [title.split()[-1] for title, _ in told] == ["synth", "train"]
    assert told[0][1] == "finished" and "no run named 'nope'" in told[1][1]


def test_the_texts_are_arguments_and_never_code(monkeypatch):
    for program in ("notify-send", "osascript"):
        monkeypatch.setattr(notify.shutil, "which", lambda name, here=program: name if name == here else None)
        command = notify.notice("title", '-x "$(rm)"')
        assert command[0] == program and command[-2:] == ("title", '-x "$(rm)"')
    monkeypatch.setattr(notify.shutil, "which", lambda name: None)
    assert notify.notice("title", "text") is None


def test_a_desktop_that_fails_is_no_error(monkeypatch, capsys):
    def fail(*args, **more):
        raise subprocess.TimeoutExpired("notify-send", 5)

    monkeypatch.setattr(notify.shutil, "which", lambda name: name)
    monkeypatch.setattr(notify.subprocess, "run", fail)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    notify.notify("title", "text")
    assert capsys.readouterr().err == "\a"
