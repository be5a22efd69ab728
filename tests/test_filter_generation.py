"""Filters where outputs are free text: relevance, and which output a row is trained on."""

import pytest

from sg_local import filters
from sg_local.filters import FilterSettings, Threshold, labels
from sg_local.filters.rules import OUTPUT_RULES, Context, Row, first_reason
from sg_local.records import Candidate

INPUT, ASKED, NEAR, FAR = (
    "When does the um the shop open?",
    "When does the big shop open?",
    "When does that big shop open?",
    "Who painted it then, please?",
)


def candidate(voted, asked=ASKED, relevance=None):
    return Candidate("c", INPUT, voted, {voted: 5}, 5, 1.0, asked, relevance=relevance)


@pytest.mark.parametrize(
    ("relevance", "settings", "rule"),
    [
        (None, FilterSettings(), ""),
        (0.1, FilterSettings(), ""),
        (0.0999, FilterSettings(), "relevance"),
        (-2.0, FilterSettings(), "relevance"),
        (0.4, FilterSettings(relevance=Threshold(0.5)), "relevance"),
        (-2.0, FilterSettings(relevance=Threshold(0.1, on=False)), ""),
    ],
)
def test_relevance(fluent, relevance, settings, rule):
    row = Row(INPUT, ASKED, relevance=relevance)
    found, reason = first_reason(OUTPUT_RULES, row, Context(fluent, settings))
    assert found == rule and (not rule or "nats a token over other inputs" in reason)


@pytest.mark.parametrize(
    ("policy", "voted", "kept"),
    [("voted", FAR, True), ("voted", ASKED, False), ("asked", FAR, False), ("agree", NEAR, False)],
)
def test_relevance_judges_only_the_output_that_was_asked_for(fluent, policy, voted, kept):
    rows = [candidate(voted, relevance=-1.0)]
    (verdict,), _ = filters.judge(rows, fluent, FilterSettings(policy=policy))
    assert verdict.keep == kept and verdict.rule == ("" if kept else "relevance")


@pytest.mark.parametrize(
    ("policy", "voted", "asked", "trained"),
    [
        ("auto", FAR, ASKED, FAR),
        ("voted", FAR, ASKED, FAR),
        ("asked", FAR, ASKED, ASKED),
        ("agree", NEAR, ASKED, ASKED),
        ("agree", FAR, ASKED, None),
        ("asked", FAR, None, FAR),
        ("agree", FAR, None, FAR),
    ],
)
def test_which_output_a_row_is_trained_on(policy, voted, asked, trained):
    found = labels.choose_outputs([candidate(voted, asked)], policy, 0.5)
    assert found.labels == {"c": trained} and found.policy == ("voted" if policy == "auto" else policy)


def test_a_row_whose_outputs_disagree_is_dropped_with_both_named(fluent):
    (verdict,), _ = filters.judge([candidate(FAR)], fluent, FilterSettings(policy="agree"))
    assert not verdict.keep and verdict.rule == "consistency" and ASKED in verdict.reason and FAR in verdict.reason


def test_a_relabelled_row_needs_no_share_of_the_votes(fluent):
    row = Candidate("c", INPUT, FAR, {FAR: 1}, 5, 0.2, ASKED, relevance=1.0)
    (verdict,), _ = filters.judge([row], fluent, FilterSettings(policy="asked"))
    assert verdict.keep and verdict.output == ASKED
