"""Tables at every width: no number is cut, no column vanishes, no word is broken that has room on a line."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from sg_local.console.tables import lines, planned

RUNS = (("run", False), ("stage", False), ("base", True), ("served", True), ("size", True), ("made from", False))
ROWS = (
    ("headlines", "eval", "59.6", "70.2", "118.0 MB", "headline_topic on smollm2-135m-instruct"),
    ("support_routing-smollm2-135m-instruct", "eval", "26.7", "100.0", "256.5 MB", ""),
    ("subject", "synth", "", "", "169 kB", "smollm2-135m-instruct"),
)
SETTINGS = (("setting", False), ("value", False), ("what it means", False))
VALUES = tuple(
    (f"filter.rule_{i}.on", "true", "Reject a row when its label has too many rows already.") for i in range(20)
)
LONG_VALUE = ("model", "a-model-with-quite-a-long-name", "Base model.")


def drawn(columns, rows, width):
    """The lines of the table on a console of that width, without its colours."""
    return [line.plain for line in lines(columns, rows, Console(width=width))]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_nothing_is_lost_or_cut_at_any_width(width):
    found = drawn(RUNS, ROWS, width)
    assert all(len(line) <= width for line in found)
    words = " ".join(found).split()
    for word in " ".join(cell for row in ROWS for cell in row).split():
        assert word in words
    assert all(heading in " ".join(words) for heading, _ in RUNS[1:])


def test_where_there_is_room_a_table_is_a_table():
    heading, line, *rows = drawn(RUNS, ROWS, 200)
    assert re.split(r"\s{3,}", heading.strip()) == [heading for heading, _ in RUNS] and set(line.strip()) == {"\u2500"}
    assert len(rows) == len(ROWS) and rows[0].index("59.6") == heading.index("base")


def test_a_text_without_room_goes_below_its_row_and_numbers_stay_in_columns():
    heading, below, _, row, source, *_ = drawn(RUNS, ROWS, 80)
    assert heading.split() == ["run", "stage", "base", "served", "size"] and below.strip() == "made from"
    assert row.index("59.6") == heading.index("base") and source.strip() == ROWS[0][-1]


def test_where_numbers_have_no_room_beside_each_other_each_stands_after_its_heading():
    name, *below = drawn(RUNS, ROWS[1:2], 60)
    assert name.strip() == ROWS[1][0]
    assert " ".join(below).split() == "stage eval base 26.7 served 100.0 size 256.5 MB".split()


def test_one_long_value_among_short_ones_goes_below_alone():
    found = drawn(SETTINGS, (LONG_VALUE, *VALUES), 80)
    assert any(line.strip() == f"value {LONG_VALUE[1]}" for line in found)
    assert sum("what it means" in line for line in found) == 1 and found[-2].split()[:2] == [
        "filter.rule_19.on",
        "true",
    ]


def test_spare_cells_go_to_the_texts_that_want_them():
    plan = planned((("a", False), ("b", False), ("c", False)), [("x", "y" * 30, "z " * 100)], 80)
    assert plan.widths[1] == 30 and sum(plan.widths.values()) + 2 * plan.gap == 80 and plan.below == ()


def test_cells_are_data_not_markup():
    assert "[bold]x[/bold]" in "".join(drawn((("a", False), ("b", False)), [("n", "[bold]x[/bold]")], 40))
    assert "\x1b" not in "".join(drawn((("a", False), ("b", False)), [("n", "\x1b[31mx")], 40))
