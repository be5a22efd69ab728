"""A pace that waiting does not slow down, and the words for it."""

from __future__ import annotations

import pytest

from sg_local.cli.narration import EVERY_S, PlainNarrator, progress_line
from sg_local.evaluate import EvalEvent
from sg_local.job.events import Moved
from sg_local.synth import SynthEvent
from sg_local.views.pace import Pace, rate_words
from sg_local.views.progress import ProgressView
from sg_local.views.records import Progress


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_never_grows_while_the_bar_stands():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0)
    clock.now += 10
    pace.take(10)
    assert pace.rate == 1 and pace.left_s(40) == 30
    told = []
    for _ in range(50):
        clock.now += 1
        pace.take(10)
        told.append(pace.left_s(40))
    assert told[:3] == [29, 28, 27] and told[29:] == [None] * 21 and pace.rate == 1


def test_nothing_is_promised_before_anything_moved_or_when_all_is_done():
    pace = Pace(Clock())
    pace.begin(3)
    assert pace.rate == 0 and pace.left_s(10) is None
    pace.now_s.now += 5
    pace.take(10)
    assert pace.left_s(10) is None


@pytest.mark.parametrize(
    ("rate", "unit", "words"),
    [
        (0.0, "steps", ""),
        (0.04, "steps", "25.0 s a step"),
        (1 / 90, "rows", "1 min 30 s a row"),
        (0.5, "answers", "0.5 answers/s"),
        (12.34, "rows", "12.3 rows/s"),
        (48.2e6, "bytes", "48.2 MB/s"),
    ],
)
def test_a_rate_is_never_told_as_nothing(rate, unit, words):
    assert rate_words(rate, unit) == words


def test_more_than_was_wanted_is_all_of_it():
    view = ProgressView()
    seen = view.take(Moved("synth", SynthEvent("inputs", 44, 32, 50, 900)))
    assert (seen.done, seen.wanted) == (32, 32)
    seen = view.take(Moved("eval", EvalEvent("tuned", "tuned", 3, 60, part=2, n_parts=8)))
    assert (seen.done, seen.wanted, seen.facts["system"]) == (3, 60, "2 of 8")


def test_plain_lines_name_what_is_waited_for_and_count_bytes_as_people_do(capsys):
    clock = Clock()
    narrator = PlainNarrator(clock)
    narrator.begin("train")
    narrator.wait("loading tiny")
    for done in (0, 2, 2, 2):
        narrator.progress(Progress("training", done, 10, "steps"))
        clock.now += EVERY_S
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["train: started", "  loading tiny\u2026"]
    assert lines[2] == "  training: 2 of 10 steps, 0.4 steps/s, 20.0 s left"
    assert not any(" 0.0 " in line for line in lines)
    assert lines[3].endswith("15.0 s left")
    assert progress_line(Progress("merging f", 5_000_000, 9_000_000, "bytes"), Pace(clock)) == (
        "  merging f: 5.0 MB of 9.0 MB"
    )


def test_rows_that_come_at_once_tell_no_rate():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0)
    clock.now += 0.05
    pace.take(3)
    assert pace.rate == 0 and pace.left_s(30) is None
    clock.now += 2.95
    pace.take(6)
    assert pace.rate == 2 and pace.left_s(30) == 12
