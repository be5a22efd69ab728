"""What ends a text and what of it counts, where the demonstrations hold blank lines, cues, blanks, quotes or fences."""

from dataclasses import replace

import pytest

from sg_local import prompts, tasks
from sg_local.parsing import indented, trimmed, uncued, unfenced, unheld, unquoted
from sg_local.prompts import PLAIN, answer_stops, parse_output
from sg_local.records import Pair
from sg_local.synth import asking

MAIL = "Hello,\n\nthe kettle has stopped working.\n\nOna"
CHAT = prompts.Form("chat", "{{ messages[0].content }}", lead="")


def shown(task, *pairs):
    return replace(task, examples=tuple(Pair(*pair) for pair in pairs))


def test_an_input_with_blank_lines_ends_at_the_layouts_cue(routing):
    assert asking.input_stops(shown(routing, (MAIL, "billing"))) == ("\nOutput:", "\nInput:")
    assert asking.input_stops(shown(routing, ("Hi,\nOna", "billing"))) == ("\n\n", "\nOutput:", "\nInput:")
    assert asking.input_stops(shown(routing, ("a\nOutput: b", "billing"))) == ("\n\n", "\n\nOutput:", "\nInput:")


def test_an_output_does_not_end_at_what_the_demonstrations_outputs_hold(fluent):
    code = shown(fluent, ("x", "```\na = 1\n\nb = 2\n```\nOutput: 3"))
    assert asking.output_stops(code) == ("\nInput:", "\n\nOutput:")
    assert answer_stops(code, PLAIN) == ("\n\nInput:", "\nInput:", "\n\nOutput:") and answer_stops(code, CHAT) == ()


def test_shipped_tasks_end_where_they_ended():
    for path in tasks.shipped_tasks():
        task = tasks.read_task(path)
        assert asking.input_stops(task) == asking.output_stops(task) == answer_stops(task, CHAT) == ("\n",)
        assert answer_stops(task, PLAIN) == ("\n", "\n\nInput:", "\nInput:", "\nOutput:")


@pytest.mark.parametrize(
    ("example", "raw", "lead", "output"),
    [
        ("a", " Output:  b \n", " ", "b"),
        ("Output: a", " Output: b", " ", "Output: b"),
        ("    a = 1\n    b", "     c = 1\n    d\n", " ", "    c = 1\n    d"),
        ("    a = 1\n    b", "    c = 1", "", "    c = 1"),
        ("    a = 1\n    b", " \n    c = 1", " ", "    c = 1"),
        ("a\nb", "    c = 1\n    d", " ", "c = 1\n    d"),
        ("a\nb", "```python\nc = 1\n```", "", "c = 1"),
        ("a\nb", "See:\n```\nc\n```", "", "See:\n```\nc\n```"),
        ("```\na\n```", "```\nb\n```", "", "```\nb\n```"),
    ],
)
def test_an_output_keeps_what_the_demonstrations_outputs_have(fluent, example, raw, lead, output):
    assert parse_output(shown(fluent, ("x", example)), raw, lead) == output


@pytest.mark.parametrize(
    ("example", "raw", "text"),
    [
        ("1. a\n2. b", " 1. c\n2. d", "1. c\n2. d"),
        ("Input: a", " Input: b", "Input: b"),
        ('"a"', ' "b"', '"b"'),
        ("a", ' "b"', "b"),
        ("\ta\nb", " \tc", "\tc"),
        ("a\nb", " ```python\nc = 1\n```", "c = 1"),
        ("```\na\n```", " ```\nb\n```", "```\nb\n```"),
    ],
)
def test_an_input_keeps_what_the_demonstrations_inputs_have(fluent, example, raw, text):
    assert asking.parse_input(shown(fluent, (example, "x")), raw) == text


@pytest.mark.parametrize(
    "quoted",
    [
        "\u201eb\u201c",
        "\u201eb\u201d",
        "\u00abb\u00bb",
        "\u00bbb\u00ab",
        "\u300cb\u300d",
        "\u201cb\u201d",
        "\u201db\u201d",
    ],
)
def test_quotes_of_any_language_are_taken_off_where_no_demonstration_has_them(fluent, quoted):
    assert asking.parse_input(shown(fluent, ("a", "x")), f" {quoted}") == "b"
    assert asking.parse_input(shown(fluent, (quoted, "x")), f" {quoted}") == quoted
    two = f"{quoted} und {quoted}"
    assert asking.parse_input(shown(fluent, ("a", "x")), two) == two


@pytest.mark.parametrize(
    ("example", "raw", "output"),
    [
        ("a", " Output: b", "b"),
        ("Output: a", " Output: b", "Output: b"),
        ("a\nb", "```\nc\n```", "c"),
        ("```\na\n```", "```\nb\n```", "```\nb\n```"),
    ],
)
def test_an_output_written_first_is_read_as_an_answer_is(fluent, example, raw, output):
    assert asking.parse_target(shown(fluent, ("x", example)), raw) == output


def test_an_output_written_first_keeps_the_quotes_that_outputs_have(fluent):
    assert asking.parse_target(shown(fluent, ("x", '"a"')), ' "b"') == '"b"'
    assert asking.parse_target(shown(fluent, ("x", "a")), ' "b"') == "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n  a\n  b\n\n", "  a\n  b"),
        (" -a\n+b", " -a\n+b"),
        ("    return x", "    return x"),
        (" a ", "a"),
        ("\n \n a", "a"),
    ],
)
def test_an_indentation_is_meant(text, expected):
    assert indented(text) == expected


def test_a_task_file_keeps_its_indentation_and_an_old_run_its_task(tmp_path):
    path = tmp_path / "code.toml"
    path.write_text(
        'kind = "generation"\ninstruction = "Go on."\n'
        '[[examples]]\ninput = """\n    if x:\n        y\n"""\noutput = "    z"\n'
    )
    task = tasks.read_task(path)
    assert task.examples == (Pair("    if x:\n        y", "    z"),)
    old = replace(task, examples=(Pair("if x:\n        y", "z"),))
    assert tasks.as_made(task, old.digest) == old and tasks.as_made(task, task.digest) is task


def test_each_rule_leaves_a_plain_text_as_it_is():
    for rule in (trimmed, unquoted, unfenced):
        assert rule("plain text", ["an example"]) == "plain text"
    assert uncued("an input: x", "input:", []) == "an input: x" and unheld(("\n",), ["a"]) == ("\n",)
