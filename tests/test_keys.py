"""From what a terminal sends to the names of keys."""

from __future__ import annotations

import pytest

from sg_local.console.keys import is_whole, split_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", ["a"]),
        ("ab", ["a", "b"]),
        ("\r \x7f\t\n", ["enter", "space", "backspace", "tab", "ctrl-j"]),
        ("\x1b", ["esc"]),
        ("\x1b[A\x1bOBx", ["up", "down", "x"]),
        ("\x1b[3~\x1b[H", ["delete", "home"]),
        ("\x1b[1;5C", []),
        ("\x1b[15~a", ["a"]),
        ("é漢", ["é", "漢"]),
        ("a\x1b[200~x\r\ny\x1b[201~b", ["a", "paste:x\r\ny", "b"]),
        ("\x1b[200~cut off", ["paste:cut off"]),
    ],
    ids=repr,
)
def test_keys_have_names(text, keys):
    assert split_keys(text) == keys


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a", True),
        ("\x1b", False),
        ("\x1b[", False),
        ("\x1b[1;5", False),
        ("\x1b[A", True),
        ("\x1b[200~some", False),
        ("\x1b[200~some\x1b[201~", True),
        ("\x1b[200~one\x1b[201~\x1b[200~two", False),
    ],
    ids=repr,
)
def test_what_is_under_way_is_waited_for(text, whole):
    assert is_whole(text) == whole
