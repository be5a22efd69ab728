"""Filters where outputs are free text: relevance, grounding, and which output a row is trained on."""

from dataclasses import replace

import pytest

from sg_local import filters
from sg_local.filters import FilterSettings, Switch, Threshold, outputs
from sg_local.filters.rules import (
    OUTPUT_RULES,
    RuleContext,
    RuleInput,
    copied_output,
    first_reason,
    grounding,
    refusal,
)
from sg_local.prompts import majority
from sg_local.records import Candidate, Pair, SgError, Task

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
    found = outputs.choose_outputs([candidate(voted, asked)], policy, 0.5, lambda _, *votes: majority(*votes))
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


ORDERS = Task(
    "orders",
    "generation",
    "Copy the order number out of the message. Write NONE where there is no order number.",
    (
        Pair("My order 48-113 has not come yet.", "48-113"),
        Pair("Do you sell umbrellas?", "NONE"),
        Pair("Please cancel 90-552, thank you.", "90-552"),
    ),
)
LETTER = "Dear Ann, the order is on its way."
LONG = replace(ORDERS, examples=(Pair(f"Say it. {LETTER}", LETTER),))


@pytest.mark.parametrize(
    ("task", "text", "votes", "output", "rule"),
    [
        (ORDERS, "I need a cup of lemonade.", {"NONE": 2, "No, I'm not.": 1}, "NONE", ""),
        (ORDERS, "I need a cup of lemonade.", {"48-113": 2, "NONE": 1}, "48-113", "copied_output"),
        (ORDERS, "I need a cup of lemonade.", {"Of course!": 2, "NONE": 1}, "Of course!", "noise"),
        (
            LONG,
            "Say nothing to anyone.",
            {"NONE": 2, "Say nothing to anyone, Ann, please.": 1},
            "NONE",
            "output_length",
        ),
    ],
)
def test_a_majority_is_judged_and_no_other_vote_takes_its_place(task, text, votes, output, rule):
    row = Candidate("c", text, majority(votes), votes, 3, 0.6667, None)
    (verdict,), labelling = filters.judge([row], task, FilterSettings())
    assert (labelling.labels["c"], verdict.keep, verdict.rule) == (output, not rule, rule)


def test_as_published_refused_votes_do_not_count(fluent):
    settings = FilterSettings(**{name: Switch(on=False) for name in ("refusal", "copied_input", "copied_output")})
    settings = replace(settings, grounding=Threshold(0.1, on=False))
    gate = filters.OutputGate(fluent, settings)
    assert gate.elect(INPUT, {"Of course!": 3, ASKED: 2}) == ASKED
    assert filters.OutputGate(fluent, FilterSettings()).elect(INPUT, {"Of course!": 3, ASKED: 2}) == ""


@pytest.mark.parametrize(
    ("outputs", "text", "rule"),
    [
        (("48-113", "NONE", "90-552"), "None.", ""),
        (("48-113", "NONE", "90-552"), "48-113", "copied_output"),
        (("48-113", "NONE", "NONE"), "NONE", ""),
        (("NONE", "umbrellas!", "[]"), "[]", ""),
        (("eins", "zwei", "drei"), "zwei", ""),
        (("Monday", "Tuesday", "Sunday"), "Tuesday", ""),
        (("Yes", "No", "Yes"), "No", ""),
        (("2", "3", "5"), "3", ""),
        (("We will look after it.", "We have none.", "It is done."), "We will look after it.", "copied_output"),
        (("My order", "umbrellas", "Please"), "my order", "copied_output"),
        (("The order is on a ship.", "no sale", "done"), "The order is on a ship.", "copied_output"),
        (("lost parcel letter", "shop question here", "end of sale"), "lost parcel letter", "copied_output"),
        (("order", "a cup?", "thank you"), "a cup?", ""),
        (("order", "sell", "I need a"), "I need a", ""),
    ],
)
def test_an_example_s_output_may_come_again_where_it_is_right_for_many_inputs(outputs, text, rule):
    examples = [Pair(pair.input, output) for pair, output in zip(ORDERS.examples, outputs, strict=True)]
    row = RuleInput("I need a cup of lemonade.", text)
    context = RuleContext(replace(ORDERS, examples=tuple(examples)), FilterSettings())
    assert first_reason((("copied_output", copied_output),), row, context)[0] == rule


@pytest.mark.parametrize(
    ("shown", "text", "output", "rule"),
    [
        ("I'm sorry that your soup was cold.", "The chair broke.", "I am sorry about the chair.", ""),
        ("We'll mend it.", "The chair broke.", "I'm sorry, but I cannot help.", "refusal"),
        ("I'm sorry about it.", "The chair broke.", "I'm sorry, as an AI I have no chair.", "refusal"),
        ("We'll mend it.", "He says: I can't come.", "I cannot come.", ""),
        ("We'll mend it.", "I can't come.", "I can't help with that.", "refusal"),
        ("We'll mend it.", "Is the taxi late?", "The taxi cannot come, as an aid is ill.", ""),
        ("We apologise for it.", "The chair broke.", "I'm sorry about the chair.", ""),
        ("We're sorry.", "The chair broke.", "I apologize for the chair.", ""),
        ("We're sorry.", "The chair broke.", "I'm sorry, I cannot help with a chair.", "refusal"),
        ("It's a sorry sight.", "The chair broke.", "I apologise, as a language model I have none.", "refusal"),
    ],
)
def test_what_the_demonstrations_say_is_no_refusal(shown, text, output, rule):
    task = replace(ORDERS, examples=(Pair("The soup was cold.", shown),))
    row, context = RuleInput(text, output), RuleContext(task, FilterSettings())
    assert first_reason((("refusal", refusal),), row, context)[0] == rule


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
        (20, 168, False, "agree"),
        (19, 168, False, "voted"),  # too few to train on
        (80, 168, False, "voted"),  # votes are trusted
        (35, 168, True, "voted"),  # agreement is chance
        (0, 0, False, "voted"),
    ],
)
def test_auto_takes_the_rows_that_agree_where_votes_are_seldom_confirmed(n_agreed, n, alike, policy):
    rows = asked_and_voted(n_agreed, n, alike=alike)
    found = outputs.choose_outputs(rows, "auto", 0.5, lambda _, *votes: majority(*votes))
    assert found.policy == policy
    assert sum(label is not None for label in found.labels.values()) == (n_agreed if policy == "agree" else n)
    assert not n or "like the output asked for" in found.why


def test_mbr_takes_the_vote_most_like_the_others_of_those_that_stand(fluent):
    votes = {FAR: 2, ASKED: 1, NEAR: 1, "When does the big shop open?!": 1}
    row = replace(candidate(FAR), votes=votes)
    (verdict,), labelling = filters.judge([row], fluent, FilterSettings(policy="mbr", copied_input=Switch(False)))
    assert labelling.policy == "mbr" and labelling.labels["c"] in (ASKED, "When does the big shop open?!")
    assert verdict.keep and verdict.output == labelling.labels["c"]
    (voted,), _ = filters.judge([row], fluent, FilterSettings(policy="voted"))
    assert voted.output != verdict.output


@pytest.mark.parametrize(
    ("votes", "output", "rule"),
    [({"NONE": 6, "lemonade": 4}, "NONE", ""), ({"48-113": 6, "a cup of lemonade": 4}, "48-113", "copied_output")],
)
def test_mbr_judges_a_majority_and_puts_no_other_in_its_place(votes, output, rule):
    row = Candidate("c", "I need a cup of lemonade.", majority(votes), votes, 10, 0.6, None)
    (verdict,), labelling = filters.judge([row], ORDERS, FilterSettings(policy="mbr"))
    assert (labelling.labels["c"], verdict.rule) == (output, rule)


@pytest.mark.parametrize("policy", ["voted", "mbr"])
def test_backward_scores_settle_what_the_votes_leave_open(fluent, policy):
    one, other = "When does the big shop open?", "When does the big big shop open?"
    row = Candidate("c", INPUT, one, {one: 2, other: 2}, 4, 0.5, None)
    settings = FilterSettings(policy=policy)
    for backward, output in (({}, one), ({one: -9.0, other: -8.0}, other), ({one: -7.0, other: -8.0}, one)):
        (verdict,), labelling = filters.judge([replace(row, backward=backward)], fluent, settings)
        assert verdict.keep and labelling.labels["c"] == output


def test_mbr_is_for_written_answers(routing):
    row = Candidate("c", "x", "billing", {"billing": 5}, 5, 1.0, "billing")
    with pytest.raises(SgError, match="this task has labels"):
        filters.judge([row], routing, FilterSettings(policy="mbr"))
