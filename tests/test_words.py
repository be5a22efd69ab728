"""Small words that people read."""

import pytest

from sg_local.words import did_you_mean

KNOWN = ["smollm2-135m", "qwen3-4b", "qwen3-0.6b", "summer"]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("qwen3", "qwen3-4b"),  # begun: the first of those that begin so
        ("SmolLM2", "smollm2-135m"),
        ("sumer", "summer"),
        ("qwen3-4", "qwen3-4b"),
        ("", None),
        ("nothing like it", None),
        ("a" * 5000, None),
    ],
)
def test_a_word_gets_the_one_that_it_begins_or_the_nearest(word, near):
    assert did_you_mean(word, KNOWN) == (f"Did you mean {near}?" if near else "")
