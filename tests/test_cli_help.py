"""Help at every width: nothing that is typed is broken at a hyphen, and long examples stay what a shell takes."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.cli.help import Formatter

WIDTHS = (60, 80, 100)


def commands(group=app, path=()):
    """Every command by the words that it is called with."""
    context = app.context_class(group, None, "sg-local", **app.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def help_of(path, command, width):
    """What --help shows in a terminal of that width, of which Click leaves two cells."""
    root = app.context_class(app, None, "sg-local", **app.context_settings)
    return command.get_help(command.context_class(command, root, " ".join(path), terminal_width=width - 2))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_group_tells_the_whole_first_sentence_of_its_commands(width):
    groups = [(path, command) for path, command in commands() if isinstance(command, click.Group)]
    assert len(groups) > 4
    for path, group in groups:
        told = " ".join(help_of(path, group, width).partition("Commands:")[2].split())
        for name, command in group.commands.items():
            sentence = " ".join(command.help.split("\n\n")[0].split())
            assert f"{name} {sentence.partition('. ')[0]}" in told and "..." not in told


@pytest.mark.parametrize("width", WIDTHS)
def test_no_option_gate_or_name_is_broken_at_a_hyphen(width):
    lines = [line for path, command in commands() for line in help_of(path, command, width).splitlines()]
    assert len(lines) > 500 and [line for line in lines if re.search(r"\w-$", line)] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_examples_fit_and_a_shell_reads_them_as_they_were_written(width):
    for path, command in commands():
        examples = help_of(path, command, width).partition("Examples:\n")[2]
        assert all(len(line) <= width for line in examples.splitlines() if not _is_one_word(line)), examples
        typed = [shlex.split(line, comments=True) for line in examples.replace("\\\n", " ").splitlines()]
        written = [shlex.split(line, comments=True) for line in command.examples]
        assert [words for words in typed if words] == written


def _is_one_word(line):
    return len(shlex.split(line.removesuffix("\\"))) == 1


def test_a_long_example_goes_on_after_a_backslash_and_an_option_keeps_its_value():
    formatter = Formatter(width=40)
    formatter.write_example("sg-local run task.toml --rows labelled.xlsx --yes")
    formatter.write_example("sg-local review RUN --export rows.csv   # for a spreadsheet")
    assert formatter.getvalue().splitlines() == [
        "sg-local run task.toml \\",
        "  --rows labelled.xlsx --yes",
        "# for a spreadsheet",
        "sg-local review RUN --export rows.csv",
    ]


def test_in_little_room_a_long_option_leaves_room_to_explain_the_others():
    lines = help_of(("run",), dict(commands())[("run",)], 60).splitlines()
    assert next(line for line in lines if line.startswith("  --inputs FILE")).startswith(
        "  --inputs FILE          Your own"
    )
    assert "[default: tune-settings]" in " ".join(
        help_of(("tune-settings",), dict(commands())[("tune-settings",)], 100).split()
    )


def test_the_list_of_troubles_says_how_to_see_one():
    told = CliRunner().invoke(app, ["help", "troubleshooting"])
    assert "no-engine" in told.stdout and "sg-local help no-engine" in told.stderr
