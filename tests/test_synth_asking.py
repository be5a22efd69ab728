"""What stage A asks, and its replies as inputs."""

import pytest

from sg_local import prompts
from sg_local.prompts import PLAIN
from sg_local.records import Pair
from sg_local.synth import asking


def text_of(segments):
    return "".join(segment.text for segment in segments)


def test_output_first_prompt_ends_with_the_asked_label(routing):
    text = text_of(prompts.continue_input_prompt(routing, routing.examples, "billing"))
    assert text.endswith("Output: technical\nInput: The app closes as soon as I tap search.\n\nOutput: billing\nInput:")


def test_paper_prompt_shows_good_inputs_machine_inputs_and_the_label(routing):
    text = text_of(asking.paper_input_prompt(routing, PLAIN, ["good one"], ["made one"], "billing"))
    assert "1. good one" in text and "1. made one" in text and '"billing"' in text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  a b \n", "a b"),
        ('"a b"', "a b"),
        ("\u201ca b\u201d", "a b"),
        ('"a" and "b"', '"a" and "b"'),
        ("New input: a", "a"),
        ("1. a", "a"),
        ("1.5 litres", "1.5 litres"),
    ],
)
def test_parse_input(routing, raw, text):
    assert asking.parse_input(routing, raw) == text


def test_one_line_tasks_stop_at_a_line_end(routing, fluent):
    assert asking.input_stops(routing) == ("\n",)
    several = type(fluent)("x", "generation", "i", (Pair("a\nb", "c"),))
    assert "\n" not in asking.input_stops(several)
    assert asking.output_stops(several) == ("\n",)
