"""The recorded screens in docs/screens: drawn again from their data, they show the same text; small, of no machine.

Where a change of words or layout is meant: `python tests/screens.py` draws them anew.
"""

from __future__ import annotations

import re

import pytest
import screens

RECORDED = sorted(set(screens.SCREENS.glob("*.svg")) - {screens.SCREENS / "session.svg"})  # drawn by tests/session.py
NAMES = [path.stem for path in RECORDED]
LARGEST = 150_000
PACE = re.compile(r"\d+\.\d s a row|<?\d+ min left")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Every screen, drawn anew."""
    folder = tmp_path_factory.mktemp("screens")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(screens.pyte.graphics.TEXT, 2, "+strikethrough")
        return screens.drawn(folder)


def steady(lines):
    """The lines of a screen without the pace of the review, which is that of the machine."""
    return [PACE.sub("pace", line) for line in lines]


def is_clean(text):
    """True when the picture fetches nothing and names no folder of a machine."""
    text = text.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")
    return not re.search(r"https?:|url\((?!#)|/(tmp|root|home|work|usr)/", text)


def test_every_screen_is_recorded(drawn):
    both = {f"{name}{ground}" for name in ("review", "thresholds") for ground in ("", "_light")}
    assert set(NAMES) == {*both, "doctor", "run", "verdict", "half_way"} == set(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_a_screen_shows_what_is_recorded(drawn, name):
    recorded = (screens.SCREENS / f"{name}.svg").read_text(encoding="utf-8")
    assert steady(screens.cells(drawn[name])) == steady(screens.cells(recorded))


@pytest.mark.parametrize("path", RECORDED, ids=NAMES)
def test_a_recorded_screen_is_small_and_of_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST and is_clean(text) and text.startswith("<svg")


@pytest.mark.parametrize("path", RECORDED, ids=NAMES)
def test_its_text_is_read_as_a_terminal_shows_it(path):
    lines = screens.cells(path.read_text(encoding="utf-8"))
    assert len(lines) > 10 and max(map(len, lines)) <= screens.WIDTH
    edges = [line for line in lines if line.startswith("│")]
    assert all(len(line) == screens.WIDTH and line.endswith("│") for line in edges)


def test_colours_and_fonts_do_not_count():
    plain = screens.svg(screens.Text("a word\nand another"), 20, "one")
    coloured = screens.svg(screens.Text("a word\nand another", "bold red"), 20, "two")
    assert screens.cells(plain) == screens.cells(coloured) == ["a word", "and another"]
    assert screens.cells(plain) != screens.cells(screens.svg(screens.Text("a word\nand  another"), 20, "one"))


def test_the_data_names_no_machine():
    texts = [path.read_text(encoding="utf-8") for path in screens.DATA.rglob("*") if path.is_file()]
    assert texts and all(map(is_clean, texts))
