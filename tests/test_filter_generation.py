"""Filters where outputs are free text: relevance, grounding, and which output a row is trained on."""

from dataclasses import replace

import pytest

from sg_local import filters
from sg_local.filters import FilterSettings, Threshold, labels
from sg_local.filters.rules import OUTPUT_RULES, RuleContext, RuleInput, first_reason, grounding
from sg_local.records import Candidate, Pair

INPUT, ASKED, NEAR, FAR = (
    "When does the um the big shop open, that one?",
    "When does the big shop open?",
    "When does that big shop open?",
    "Open shop um the does when?",
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
    row = RuleInput(INPUT, ASKED, relevance=relevance)
    found, reason = first_reason(OUTPUT_RULES, row, RuleContext(fluent, settings))
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
    found = labels.choose_outputs([candidate(voted, asked)], policy, 0.5, lambda *pair: True)
    assert found.labels == {"c": trained} and found.policy == ("voted" if policy == "auto" else policy)


def test_a_row_whose_outputs_disagree_is_dropped_with_both_named(fluent):
    (verdict,), _ = filters.judge([candidate(FAR)], fluent, FilterSettings(policy="agree"))
    assert not verdict.keep and verdict.rule == "consistency" and ASKED in verdict.reason and FAR in verdict.reason


def test_a_relabelled_row_needs_no_share_of_the_votes(fluent):
    row = Candidate("c", INPUT, FAR, {FAR: 1}, 5, 0.2, ASKED, relevance=1.0)
    (verdict,), _ = filters.judge([row], fluent, FilterSettings(policy="asked"))
    assert verdict.keep and verdict.output == ASKED


@pytest.mark.parametrize(
    ("output", "threshold", "rule"),
    [
        ("When does the big shop open?", 0.1, ""),
        ("When does a small cafe close?", 0.1, "grounding"),
        ("When does the big shop close?", 0.1, "grounding"),
        ("When does the big shop close?", 0.2, ""),
        ("...", 0.1, ""),
    ],
)
def test_an_output_takes_its_words_from_the_input_where_the_demonstrations_do(fluent, output, threshold, rule):
    settings = FilterSettings(grounding=Threshold(threshold))
    found, reason = first_reason([("grounding", grounding)], RuleInput(INPUT, output), RuleContext(fluent, settings))
    assert found == rule and (not rule or "90% needed" in reason)


def test_demonstrations_with_words_of_their_own_allow_them(fluent):
    free = replace(fluent, examples=(*fluent.examples, Pair("12 June 2021", "2021-06-12, a Saturday")))
    assert not grounding(RuleInput(INPUT, "When does the big shop close?"), RuleContext(free, FilterSettings()))


def test_votes_that_a_rule_refuses_do_not_count(fluent):
    copied, made_up, right = INPUT, "How old is the queen of Spain?", "When does the big shop open?"
    row = Candidate("c", INPUT, copied, {copied: 5, made_up: 3, right: 2, "": 0}, 10, 0.5, None)
    (verdict,), _ = filters.judge([row], fluent, FilterSettings(vote_share=Threshold(0.2)))
    assert verdict.keep and verdict.output == right
    (verdict,), _ = filters.judge([row], fluent, FilterSettings(vote_share=Threshold(0.3)))
    assert verdict.rule == "vote_share" and "20%" in verdict.reason


def test_where_no_vote_counts_the_reason_names_the_most_frequent(fluent):
    row = Candidate("c", INPUT, INPUT, {INPUT: 5}, 5, 1.0, None)
    (verdict,), _ = filters.judge([row], fluent, FilterSettings())
    assert (verdict.keep, verdict.rule) == (False, "copied_input")


def asked_and_voted(n_agreed: int, n: int, *, alike: bool = False) -> list[Candidate]:
    """Rows of which so many have the vote that was asked for; `alike`: every output is much like every other."""
    common = "the same five words always" if alike else ""
    asked = [f"{common} asked{i} for{i}" for i in range(n)]
    voted = [text if i < n_agreed else f"{common} voted{i} instead{i}" for i, text in enumerate(asked)]
    return [
        Candidate(str(i), f"text {i}", v, {v: 5}, 5, 1.0, a) for i, (a, v) in enumerate(zip(asked, voted, strict=True))
    ]


@pytest.mark.parametrize(
    ("n_agreed", "n", "alike", "policy"),
    [
        (35, 168, False, "agree"),
        (29, 168, False, "voted"),  # too few to train on
        (80, 168, False, "voted"),  # votes are trusted
        (35, 168, True, "voted"),  # agreement is chance
        (0, 0, False, "voted"),
    ],
)
def test_auto_takes_the_rows_that_agree_where_votes_are_seldom_confirmed(n_agreed, n, alike, policy):
    rows = asked_and_voted(n_agreed, n, alike=alike)
    found = labels.choose_outputs(rows, "auto", 0.5, lambda *pair: True)
    assert found.policy == policy
    assert sum(label is not None for label in found.labels.values()) == (n_agreed if policy == "agree" else n)
    assert not n or "like the output asked for" in found.why
