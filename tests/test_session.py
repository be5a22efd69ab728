"""The recorded first run: the picture follows from the recording, which is of the README's commands and no machine.

Where a change of words or layout is meant: `python tests/session.py --take` records anew.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest
import screens
import session
from test_screens import is_clean

LARGEST = 300_000
README = (session.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cast():
    return session.CAST.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown(cast):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(screens.pyte.graphics.TEXT, 2, "+strikethrough")
        yield session.frames(cast)


def text_of(frame):
    return "\n".join("".join(text for _, text in line) for line in frame.lines)


def test_the_picture_is_drawn_from_the_recording(cast, shown):
    assert session.PICTURE.read_text(encoding="utf-8") == session.picture(cast)


def test_the_recording_is_of_the_readme_s_first_command_from_its_start_to_an_answer(shown):
    first, last = text_of(shown[0]), text_of(shown[-1])
    assert first.strip() == f"$ sg-local {' '.join(session.LINES[0])}"
    assert f"sg-local {' '.join(session.LINES[0])}\n" in README
    ends = [text_of(frame) for frame in shown if frame.is_end]
    assert len(ends) == len(session.LINES) and "adapter.gguf" in ends[0] and ends[-1] == last
    assert last.strip().splitlines()[-1] == "delivery"


def test_its_clock_is_the_real_one_and_the_picture_says_how_much_faster_it_plays(cast, shown):
    times = [frame.time_s for frame in shown]
    assert times == sorted(times) and times[-1] > 60 and max(b - a for a, b in zip(times, times[1:], strict=False)) < 30
    speed = int(re.search(r"shown (\d+) times as fast", session.PICTURE.read_text(encoding="utf-8"))[1])
    starts, whole_s = session.played(shown, speed)
    assert starts[0] == pytest.approx(times[0] / speed) and whole_s < 60
    assert whole_s == pytest.approx(times[-1] / speed + session.HELD_S * len(session.LINES), abs=0.1)


def test_the_picture_is_small_whole_and_of_no_machine(cast):
    text = session.PICTURE.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert session.PICTURE.stat().st_size < LARGEST and session.CAST.stat().st_size < LARGEST
    assert is_clean(text) and is_clean(cast) and "<script" not in text
    assert set(re.findall(r'href="#(\w+)"', text)) <= set(re.findall(r'<g id="(\w+)"', text))


def test_the_readme_shows_it():
    assert "](docs/screens/session.svg)" in README


def test_a_repaint_shows_the_same_screen_with_its_colours():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(screens.pyte.graphics.TEXT, 2, "+strikethrough")
        screen = session.pyte.Screen(20, 3)
        session.pyte.Stream(screen).feed(
            "\x1b[1;32mgood\x1b[0m \x1b[2mpale\x1b[0m\r\n\x1b[38;5;208mwarm\x1b[7mback\x1b[0m"
        )
        wanted, again = session.runs(screen), session.pyte.Screen(20, 3)
        session.pyte.Stream(again).feed(session.repaint(((),) * 3, wanted))
    assert session.runs(again) == wanted and [text for _, text in wanted[0]] == ["good", " ", "pale"]


def test_the_recording_is_one_that_asciinema_plays(cast):
    head, *events = map(json.loads, cast.splitlines())
    assert head["version"] == 2 and (head["width"], head["height"]) == (session.COLUMNS, session.ROWS)
    assert {kind for _, kind, _ in events} == {"o", "m"}
