"""Hints name settings, options and commands; the command line says how they are typed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sg_local.cli.app import COMMANDS
from sg_local.cli.hints import on_the_command_line

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
    (
        "Make it: `train '/my runs/a  b/r' train.epochs=2 --redo`.",
        "Make it: `sg-local train '/my runs/a  b/r' --set train.epochs=2 --redo`.",
    ),
]


@pytest.mark.parametrize(("hint", "typed"), SAID)
def test_a_hint_is_said_as_it_is_typed(hint, typed):
    assert on_the_command_line(hint, COMMANDS) == typed


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
