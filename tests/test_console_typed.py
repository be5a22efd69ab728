"""What keys do to a text under way at a question of the form."""

from functools import reduce

import pytest

from sg_local.console.typed import Typed, type_key

MAIL = "Hello,\r\n\r\nthe box was empty.\r\n.\r\nAnn"


def typed(*keys, is_text=True):
    return reduce(type_key, keys, Typed(is_text=is_text))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ([*"ab", "enter"], "ab"),
        ([*"a", "space", *"b", "left", "backspace", "home", "x", "end", "y", "enter"], "xaby"),
        ([*"one", "space", *"two", "ctrl-w", *"2", "enter"], "one 2"),
        ([*"abc", "home", "delete", "right", "ctrl-u", "enter"], "c"),
        (["esc", "tab", "up", "f1", "enter"], ""),
        ([f"paste:{MAIL}", "enter", ".", "enter"], MAIL.replace("\r\n", "\n")),
        ([f"paste:{MAIL}\r\n", ".", "enter"], MAIL.replace("\r\n", "\n")),
        ([f"paste:{MAIL}", "ctrl-d"], MAIL.replace("\r\n", "\n")),
        (["paste:a line\r\n", "enter"], "a line"),
        ([*"a", "ctrl-j", *"b", "enter", "enter", *"c", "enter", ".", "enter"], "a\nb\n\nc"),
        (["paste:a\tb\x1b[31m\x00", "enter"], "a\tb[31m"),
        ([*"ac", "left", "paste:1\n2", "enter", ".", "enter"], "a1\n2c"),
    ],
)
def test_keys_make_a_text(keys, text):
    found = typed(*keys)
    assert found.is_over and found.text == text


def test_where_one_line_is_asked_for_a_pasted_list_becomes_one():
    assert typed("paste:billing\n\n delivery\n", "enter", is_text=False).text == "billing, delivery"
    assert typed(*"ab", "ctrl-j", is_text=False).is_over


def test_lines_that_follow_at_once_were_pasted():
    text = Typed(is_text=True)
    for line in ("Hello,", "", ".", "Ann"):
        for char in line:
            text = type_key(text, char, is_followed=True)
        text = type_key(text, "enter", is_followed=line != "Ann")
    assert not text.is_over and text.done == ("Hello,", "", ".", "Ann")
    assert type_key(type_key(text, "."), "enter").text == "Hello,\n\n.\nAnn"
