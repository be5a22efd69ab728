"""The first figure and the marks beside the tables' figures."""

import dataclasses
import re

import pytest
from small_reports import report_of

from sg_local.report import Gain, figure
from sg_local.report.records import Role

GAIN = Gain(30.0, 12.0, 44.0, 0.01, "better", True, ())


def found(**more):
    """A report of a base, a stronger base that has another name, a trivial system, and the tuned one that is served."""
    report = report_of({"base": 20.0, "base_vote": 45.0, "copy_input": 60.0, "tuned": 80.0})
    systems = {**report.systems, "copy_input": dataclasses.replace(report.systems["copy_input"], role="trivial")}
    return dataclasses.replace(report, systems=systems, gains={"tuned-base_vote": dataclasses.replace(GAIN, **more)})


def test_the_first_figure_goes_from_before_over_the_strongest_rival_to_after():
    assert [(one.words, one.system.title) for one in figure.lines(found())] == [
        ("Before", "base"),
        ("The best untuned setup", "base_vote"),
        ("After", "tuned"),
    ]


def test_a_trivial_system_is_in_the_figure_where_it_reaches_the_gain():
    lines = figure.lines(found(reached_by=("copy_input",)))
    assert [one.words for one in lines] == ["Before", "The best untuned setup", "A trivial baseline", "After"]


def test_without_a_verdict_there_is_before_and_after():
    assert [one.words for one in figure.lines(report_of({"base": 1.0, "tuned": 2.0}))] == ["Before", "After"]


def test_the_first_figure_says_scores_and_intervals_in_words():
    drawn = figure.before_after(found())
    said = re.search(r"<desc[^>]*>(.*?)</desc>", drawn)[1]
    assert "Before, base: 20.0 percent, 95 % interval 10.0 to 30.0" in said
    assert "After, tuned: 80.0 percent, 95 % interval 70.0 to 90.0" in said
    assert 'class="band better" x="20%"' in drawn and 'width="60%"' in drawn


def test_a_loss_is_drawn_as_one():
    drawn = figure.before_after(report_of({"base": 70.0, "tuned": 50.0}))
    assert 'class="band worse" x="50%"' in drawn and 'width="20%"' in drawn


def test_a_long_name_is_broken_before_it_leaves_a_telephone():
    report = report_of({"base": 70.0, "tuned": 50.0})
    long = dataclasses.replace(report.tuned, title="tuned on <b>everything</b> that could be found, held to its labels")
    drawn = figure.before_after(dataclasses.replace(report, systems={**report.systems, "tuned": long}))
    assert "<b>" not in drawn
    assert max(len(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)) <= figure.WIDE + 12


def test_roles_are_told_apart_by_shape_too():
    roles: list[Role] = ["base", "tuned", "trivial"]
    shapes = {re.search(r"<(?:circle|path)[^>]*>", figure.interval(40, 50, 60, role))[0] for role in roles}
    assert len(shapes) == 3


@pytest.mark.parametrize(
    "span, at, none",
    [((0, 100), ["40%", "60%", "50%"], None), ((-100, 100), ["70%", "80%", "75%"], "50%")],
)
def test_an_interval_stands_at_its_place_on_the_scale(span, at, none):
    drawn = figure.interval(40, 50, 60, "tuned", span)
    placed = re.search(r'<g class="tuned"><line x1="(\S+)" x2="(\S+)" .*<svg x="(\S+)"', drawn).groups()
    assert list(placed) == at
    assert (re.search(r'class="none" x1="(\S+)"', drawn) or [None, None])[1] == none
    assert 'aria-hidden="true"' in drawn


def test_bars_are_shares_of_the_longest():
    assert re.findall(r'width="([\d.]+)%"/>', figure.bars([10, 5], 20, ["base", "tuned"])) == ["50", "25"]
    assert re.findall(r'width="([\d.]+)%"/>', figure.bars([0], 0)) == ["0"]
