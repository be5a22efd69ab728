"""What the live view says while systems answer."""

from __future__ import annotations

import pytest

from sg_local.views.progress import doing


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tuned", "tuned"),
        ("tuned_restricted", "tuned, labels only"),
        ("base_vote_raw", "base, voting"),
        ("base_restricted_chat", "base, labels only (chat prompt)"),
        ("dev_plain", "choosing the prompt: base (plain prompt)"),
        ("dev_restricted_chat", "choosing the prompt: base, labels only (chat prompt)"),
        ("calibration_chat", "calibrating: base (chat prompt)"),
        ("calibration_tuned", "calibrating: tuned"),
        ("retain_text_base", "texts outside the task: base"),
    ],
)
def test_every_system_is_told_in_words(asked, words):
    assert doing(asked) == words
