"""The answers of the page: those of the model as it comes and of the served system, in groups by how they fared."""

import dataclasses

import pytest
from small_reports import report_of

from sg_local.records import Answer
from sg_local.report import ScoredRow, answers
from sg_local.run import ANSWERS, Run

SYSTEMS = {"base": 50.0, "tuned": 50.0, "tuned_restricted": 60.0}


def report_with(run, scores, kind="classification"):
    """A report that serves labels only, of rows with (score before, score after), and their answers in the run."""
    rows = [
        ScoredRow(i, f"input {i}", ("yes",), {"base": before, "tuned": 0.0, "tuned_restricted": after})
        for i, (before, after) in enumerate(scores)
    ]
    run.replace(
        ANSWERS,
        [
            Answer(f"{name}{i}", name, i, f"input {i}", f"{name} says {i}")
            for name in SYSTEMS
            for i in range(len(scores))
        ],
    )
    report = report_of(SYSTEMS)
    return dataclasses.replace(report, kind=kind, served="tuned_restricted", rows=tuple(rows))


def texts(pieces):
    return "".join(piece.text for piece in pieces)


def test_after_is_what_is_served_and_no_other_system_is_read(tmp_path):
    run = Run(tmp_path)
    (group,) = answers.groups(run, report_with(run, [(0.0, 100.0)]))
    (line,) = group.first
    assert (texts(line.before), texts(line.after), line.scores) == ("base says 0", "tuned_restricted says 0", (0, 100))


@pytest.mark.parametrize(
    "score, name",
    [
        ((0.0, 100.0), answers.BETTER),
        ((30.0, 31.0), answers.BETTER),
        ((100.0, 0.0), answers.WORSE),
        ((0.0, 0.0), answers.OPEN),
        ((40.0, 40.0), answers.OPEN),
        ((100.0, 100.0), answers.RIGHT),
    ],
)
def test_a_row_stands_where_its_score_went(tmp_path, score, name):
    run = Run(tmp_path)
    assert [group.name for group in answers.groups(run, report_with(run, [score]))] == [name]


def test_what_changed_most_comes_first_and_the_rest_unfolds(tmp_path):
    run = Run(tmp_path)
    scores = [(0.0, float(i)) for i in range(1, 61)]
    (group,) = answers.groups(run, report_with(run, scores))
    shown = answers.FIRST[answers.BETTER]
    assert [line.scores[1] for line in group.first] == [60.0, 59.0, 58.0, 57.0]
    assert (group.n, len(group.first), len(group.more), group.left_out) == (60, shown, 40, 60 - shown - 40)


def test_words_that_differ_are_marked_in_texts_not_in_labels(tmp_path):
    run = Run(tmp_path)
    (labels,) = answers.groups(run, report_with(run, [(0.0, 100.0)]))
    (free,) = answers.groups(run, report_with(run, [(0.0, 100.0)], kind="generation"))
    assert not any(piece.differs for piece in labels.first[0].after)
    assert [piece.text for piece in free.first[0].after if piece.differs] == ["tuned_restricted"]
