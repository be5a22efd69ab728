"""What people's verdicts did to the rows, counted for the model card."""

from __future__ import annotations

import dataclasses

import pytest

from sg_local import filters
from sg_local.records import Candidate, Verdict
from sg_local.run import CANDIDATES, VERDICTS


def rows(run, *verdicts):
    """Two candidates, the first relabelled by the filters, and these verdicts behind theirs."""
    made = [Candidate(str(i), f"message {i}", "billing", {}, 1, 1.0) for i in range(2)]
    run.append(CANDIDATES, made)
    judged = [Verdict("0", True, "filters", output="delivery"), Verdict("1", True, "filters")]
    run.append(VERDICTS, [*judged, *verdicts])


@pytest.mark.parametrize(
    ("verdict", "counted"),
    (
        (Verdict("0", True, "me", output="delivery"), {"accepted": 1}),
        (Verdict("1", True, "me"), {"accepted": 1}),
        (Verdict("0", True, "me", output="billing"), {"relabelled": 1}),
        (Verdict("1", True, "me", input="other words", output="technical"), {"edited": 1}),
        (Verdict("1", False, "me", reason="duplicate"), {"rejected": 1}),
        (Verdict("1", True, "filters"), {}),
    ),
)
def test_each_judged_row_counts_once(run, routing, verdict, counted):
    rows(run, verdict)
    assert filters.by_people(run, routing) == counted


def test_what_was_taken_back_does_not_count(run, routing):
    rows(run, Verdict("1", False, "me", step=1), Verdict("1", True, "me", rule="undo", step=-1))
    assert filters.by_people(run, routing) == {}


def test_another_text_of_a_free_output_is_an_edit(run, routing):
    rows(run, Verdict("1", True, "me", output="something else"))
    task = dataclasses.replace(routing, kind="generation", labels=())
    assert filters.by_people(run, task) == {"edited": 1}
