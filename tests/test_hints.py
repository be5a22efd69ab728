"""Hints name settings, options and commands; the command line says how they are typed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sg_local.cli.app import COMMANDS, app
from sg_local.cli.hints import OPTIONS, on_the_command_line

PACKAGE = Path(__file__).parent.parent / "sg_local"

SAID = [
    (
        "Raise `engine.n_ctx` up to what it was trained for.",
        "Raise `--set engine.n_ctx` up to what it was trained for.",
    ),
    ("Try `filter.policy=asked`.", "Try `--set filter.policy=asked`."),
    ("Use `redo` to make it again, or another `name`.", "Use `--redo` to make it again, or another `--name`."),
    ("Try `form=plain`.", "Try `--form plain`."),
    ("Say `columns=input=Mail Body,output=Team`.", "Say `--columns 'input=Mail Body,output=Team'`."),
    ("Run `train my-run` first.", "Run `sg-local train my-run` first."),
    (
        "Let fewer do: `filter r filter.vote_share.threshold=0.2`.",
        "Let fewer do: `sg-local filter r --set filter.vote_share.threshold=0.2`.",
    ),
    ('Quote `name = "..."` and `yes`.', 'Quote `name = "..."` and `yes`.'),
    ("Install it with `pip install x`.", "Install it with `pip install x`."),
    ("Write some: `synth TASK name='a b'`.", "Write some: `sg-local synth TASK --name 'a b'`."),
    ("Give `votes` or `labels=calibrated`.", "Give `--votes` or `--labels calibrated`."),
    (
        "Make it: `train '/my runs/a  b/r' train.epochs=2 --redo`.",
        "Make it: `sg-local train '/my runs/a  b/r' --set train.epochs=2 --redo`.",
    ),
]


@pytest.mark.parametrize(("hint", "typed"), SAID)
def test_a_hint_is_said_as_it_is_typed(hint, typed):
    assert on_the_command_line(hint, COMMANDS) == typed


def test_what_hints_tell_to_type_is_an_option_of_some_command():
    typed = {name.removeprefix("--") for command in every_command(app) for name in options_of(command)}
    assert set(OPTIONS) <= typed


def every_command(group: click.Group) -> Iterator[click.Command]:
    yield group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from every_command(command) if isinstance(command, click.Group) else [command]


def options_of(command: click.Command) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts]


def said_by(path: Path) -> list[str]:
    """Every text of a source file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if text not in docs]


def test_no_room_but_the_command_line_speaks_of_dashes():
    """Errors of the rooms are read in notebooks too."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "console", "views", "doctor"):
            found += [
                f"{path.name}: {text}" for text in said_by(path) if re.search(r"`--|`sg-local [a-z]|--set ", text)
            ]
    assert found == []
