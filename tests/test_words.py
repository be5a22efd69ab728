"""Small words that people read, and any text made safe to show."""

from __future__ import annotations

import pytest

from sg_local.words import did_you_mean, shown

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


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, caf\u00e9, \u4f60\u597d, \U0001f600 and\ttabs\nand lines", None),
        ("\x1b[31mred\x1b]0;title\x07", "\u241b[31mred\u241b]0;title\u2407"),
        ("a\x00b\x7fc", "a\u2400b\u2421c"),
        ("\x9b31m\x85", "\ufffd31m\ufffd"),
        ("one\r\ntwo\rthree", "one\ntwo\u240dthree"),
        ("one\u2028two\u2029", "one\u2424two\u2424"),
        ("abc\u202edcba\u2066x\u2069", "abc\ufffddcba\ufffdx\ufffd"),
        ("half \ud83d", "half \ufffd"),
        ("\u200f\u05e9\u05dc\u05d5\u05dd and a\u200db", None),
    ],
)
def test_harmful_characters_become_marks_and_the_rest_stays(text, safe):
    assert shown(text) == (text if safe is None else safe)
    assert len(shown(text)) == len(text.replace("\r\n", "\n"))
