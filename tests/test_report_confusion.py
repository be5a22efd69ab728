"""Confusion tables of the page: shades, numbered columns, and mistakes instead where labels are many."""

import dataclasses
from pathlib import Path

import jinja2
from small_reports import report_of

from sg_local import report as room
from sg_local.report.confusion import MOST_LABELS, MOST_MISTAKES, columns, confused
from sg_local.report.records import Confusion

PAGES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(room.__file__).parent), autoescape=True)


def report_with(labels, table):
    """A report in which the base and the tuned model answered so."""
    report = report_of({"base": 50.0, "base_vote": 45.0, "tuned": 60.0})
    tables = dict.fromkeys(("base_vote", "base", "tuned"), table)
    return dataclasses.replace(report, confusion=Confusion(labels, tables))


def even(n):
    """A table of n labels in which each was answered 8 times right, once as the next and once with no label."""
    return tuple(tuple(8 if j == i else int(j in ((i + 1) % n, n)) for j in range(n + 1)) for i in range(n))


def test_before_stands_beside_after_with_counts_and_shares():
    before, after = confused(report_with(("red", "blue"), ((3, 1, 0), (0, 2, 2))))
    assert (before.title, after.title) == ("base", "tuned")
    label, cells = after.rows[0]
    assert label == "red" and [(cell.n, cell.share, cell.right) for cell in cells] == [
        (3, 75.0, True),
        (1, 25.0, False),
        (0, 0.0, False),
    ]


def test_a_label_that_no_test_row_has_divides_by_nothing():
    (_, after) = confused(report_with(("red", "blue"), ((1, 0, 0), (0, 0, 0))))
    assert [cell.share for cell in after.rows[1][1]] == [0, 0, 0]


def test_short_labels_head_their_columns_and_long_ones_are_numbered():
    assert columns(report_with(("red", "blue"), even(2))) == (("red", "red"), ("blue", "blue"), ("none", "no label"))
    long = tuple(f"a label with a long name, number {i}" for i in range(10))
    heads = columns(report_with(long, even(10)))
    assert [head for head, _ in heads] == [*map(str, range(1, 11)), "none"]
    assert [label for _, label in heads] == [*long, "no label"]


def test_only_columns_that_are_numbered_are_said_to_be():
    long = tuple(f"a label with a long name, number {i}" for i in range(3))
    for labels, numbered in ((long, True), (("red", "blue"), False), (("1", "2"), False)):
        report = report_with(labels, even(len(labels)))
        page = PAGES.get_template("confusion.html").render(
            report=report, confusions=confused(report), columns=columns(report)
        )
        assert ("Columns are numbered as the rows are" in page) is numbered


def test_many_labels_have_their_commonest_mistakes():
    n = MOST_LABELS + 1
    labels = tuple(f"label {i:02d}" for i in range(n))
    table = [list(row) for row in even(n)]
    table[3][5] = 7
    (before, _) = confused(report_with(labels, tuple(map(tuple, table))))
    assert before.rows == () and len(before.mistakes) == MOST_MISTAKES
    first = before.mistakes[0]
    assert (first.right, first.answered, first.n, first.of) == ("label 03", "label 05", 7, 17)
    assert all(one.right != one.answered for one in before.mistakes)


def test_text_runs_have_none():
    report = report_of({"base": 1.0, "tuned": 2.0})
    assert confused(report) == () and columns(report) == (("none", "no label"),)
