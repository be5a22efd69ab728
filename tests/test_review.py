"""The review as a pure state machine, by key scripts: what each key does, what lands in the journal, undo."""

from __future__ import annotations

import json
import math

import pytest
from bounds import soon

from sg_local import review
from sg_local.records import Candidate, SgError, Verdict, from_dict, to_json
from sg_local.review import state as states
from sg_local.review import steps
from sg_local.review.rows import neighbours, order_key
from sg_local.tables import read_grid, write_table

LABELS = ("billing", "delivery", "technical")


def candidate(number, **changes):
    base = {
        "id": f"row{number}",
        "input": f"message number {number} about thing {number * 7}",
        "output": LABELS[number % 3],
        "votes": {LABELS[number % 3]: 4, "other": 1},
        "n_samples": 5,
        "vote_share": 0.8,
        "label_asked": LABELS[number % 3],
        "n_tokens": 8,
        "logprob": -4.0,
    }
    return Candidate(**{**base, **changes})


def make(n=6, filters=None, journal=(), labels=LABELS, **changes):
    candidates = [candidate(i, **changes) for i in range(n)]
    rows = review.build_rows(candidates, filters or {})
    return review.open_review(rows, journal, labels=labels, judge="ann")


def press(state, *keys):
    """The state after the keys, and every verdict that they made."""
    made = []
    for key in keys:
        state = review.step(state, key)
        made += state.new
    return state, made


def press_noting(state, *keys):
    """The state after the keys, and the rows that they made for either journal."""
    made, notes = [], []
    for key in keys:
        state = review.step(state, key)
        made += state.new
        notes += state.new_notes
    return state, made, notes


def typed(text):
    return [{" ": "space", "\n": "ctrl-j"}.get(char, char) for char in text]


def reopened(state, made, **more):
    """The state that the journal alone leads to, through JSON."""

    journal = [from_dict(Verdict, json.loads(to_json(row))) for row in made]
    return review.open_review(state.rows, journal, labels=state.labels, judge="ann", **more)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["a"], {"row0": (True, "")}),
        (["enter", "a"], {"row0": (True, ""), "row1": (True, "")}),
        (["r", "enter"], {"row0": (False, "")}),
        (["r", "1"], {"row0": (False, "wrong output")}),
        (["r", "4"], {"row0": (False, "duplicate")}),
        (["r", "o", *"odd", "enter"], {"row0": (False, "odd")}),
        (["r", "o", *"odd", "esc"], {"row0": (False, "")}),
        (["r"], {"row0": (False, "")}),
        (["r", "esc"], {}),
        (["r", "z"], {"row0": (False, "")}),
        (["r", "r", "2", "a"], {"row0": (False, ""), "row1": (False, "off the task"), "row2": (True, "")}),
        (["r", "1", "u"], {}),
        (["r", "1", "1"], {"row0": (False, "wrong output"), "row1": (True, "")}),
        (["r", "2", "b", "r"], {"row0": (False, "off the task")}),
        (["j", "j", "k", "a"], {"row1": (True, "")}),
        (["down", "down", "up", "a"], {"row1": (True, "")}),
        (["a", "a", "k", "k", "tab", "a"], {"row0": (True, ""), "row1": (True, ""), "row2": (True, "")}),
        (["space", "a"], {"row1": (True, "")}),
        (["s", "b", "a"], {"row0": (True, "")}),
        (["right", "right", "left", "r", "r"], {"row1": (False, ""), "row2": (False, "")}),
        (["g", "5", "enter", "a"], {"row4": (True, "")}),
        (["end", "a"], {"row5": (True, "")}),
        (["a", "u"], {}),
        (["a", "a", "a", "u", "u"], {"row0": (True, "")}),
        (["A", "y"], {f"row{i}": (True, "") for i in range(6)}),
        (["a", "A", "n"], {"row0": (True, "")}),
        (["a", "A", "y", "u"], {"row0": (True, "")}),
        (["?", "a"], {}),
        (["x"], {}),
    ],
)
def test_keys_judge_rows(keys, expected):
    state, made = press(make(), *keys)
    assert {id: (v.keep, v.reason) for id, v in state.verdicts.items()} == expected
    assert reopened(state, made).verdicts == state.verdicts


def test_a_digit_relabels_and_accepts():
    state, made = press(make(), "2")
    assert made[-1].keep and made[-1].output == "delivery"
    assert states.text_of(state, state.rows[0])[1] == "delivery" and state.cursor == "row1"


def test_a_digit_without_a_label_does_nothing():
    state, made = press(make(), "7")
    assert not made and "no label 7" in state.message
    assert "no labels" in press(make(labels=()), "1")[0].message


@pytest.mark.parametrize("key", ["\u00b2", "\u2460", "\u0663"])
def test_only_0_to_9_are_digits(key):
    state, made = press(make(), key)
    assert made == [] and "does nothing here" in state.message
    assert [row.reason for row in press(make(), "r", key)[1]] == [""]
    state, _ = press(make(), "g", "2", key)
    assert state.buffer == "2"
    assert "no row 0" in press(state.but(buffer=f"2{key}"), "enter")[0].message


def test_an_accepted_label_outlives_another_policy_of_the_filters():
    state, made = press(make(), "a")
    other = {row.id: Verdict(row.id, True, "filters", output="technical") for row in state.rows}
    rows = review.build_rows([row.candidate for row in state.rows], other)
    assert states.text_of(review.open_review(rows, made, labels=LABELS, judge="ann"), rows[0])[1] == "billing"


def test_editing_in_place_saves_and_stays():
    state, made = press(make(labels=()), "e", "ctrl-u", *typed("new text"), "left", "backspace", "enter")
    assert made[-1].output == "new tet" and made[-1].keep and state.cursor == "row0" and state.mode == "cards"


def test_an_edit_survives_accept_and_reject():
    state, made = press(make(labels=()), "i", *typed(" more"), "enter", "a", "b", "r", "2")
    assert made[-1].input.endswith(" more") and not made[-1].keep


@pytest.mark.parametrize("keys", [["i", "ctrl-u", "enter"], ["i", "x", "esc"], ["e"]])
def test_an_edit_that_leaves_nothing_valid_is_not_taken(keys):
    assert press(make(), *keys)[1] == []


SCHEMA = '{"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}'


def orders(output, n=1):
    """The review of a task with a schema, every row with this output."""
    rows = review.build_rows([candidate(i, output=output, label_asked=None) for i in range(n)], {})
    return review.open_review(rows, (), schema=SCHEMA, judge="ann")


def test_an_output_that_does_not_fit_the_schema_is_not_accepted():
    state, made = press(orders("three"), "a")
    assert made == [] and state.message.startswith("Its output does not fit the schema (not JSON")
    state, made = press(orders("three"), "r", "enter")
    assert [verdict.keep for verdict in made] == [False]
    state, made = press(orders("three", 3), "A")
    assert state.message == "No open row in this view."
    assert [verdict.keep for verdict in press(orders('{"count": 3}', 3), "A", "y")[1]] == [True] * 3


def test_a_typed_output_that_does_not_fit_is_put_up_again():
    state, made = press(orders('{"count": 3}'), "e", "ctrl-u", *typed('{"count": "3"}'), "enter")
    assert made == [] and (state.mode, state.buffer, state.caret) == ("edit", '{"count": "3"}', 14)
    assert state.message == "The output does not fit the schema: count: '3' is not of type 'integer'"
    state, made = press(state, "left", "backspace", "left", "backspace", "left", "backspace", *typed("4"), "enter")
    assert made == [] and state.mode == "edit" and "not JSON" in state.message
    state, made = press(state, "ctrl-u", *typed('{"count": 4}'), "enter")
    assert [(verdict.keep, verdict.output) for verdict in made] == [(True, '{"count": 4}')]
    assert (state.mode, state.buffer) == ("cards", "")


def test_an_input_edited_beside_an_output_that_does_not_fit_is_not_lost():
    state, made = press(orders("three"), "i", "ctrl-u", *typed("3 mugs"), "enter")
    assert [(verdict.keep, verdict.input) for verdict in made] == [(False, "3 mugs")]
    assert (state.mode, state.edits, state.buffer) == ("edit", "output", "three")
    state, made = press(state, "ctrl-u", *typed('{"count": 3}'), "enter")
    assert [(verdict.keep, verdict.input, verdict.output) for verdict in made] == [(True, "3 mugs", '{"count": 3}')]
    both = review.edited(orders("three"), input="4 mugs", output='{"count": 4}')
    assert [(verdict.keep, verdict.input, verdict.output) for verdict in both.new] == [(True, "4 mugs", '{"count": 4}')]


def test_leaving_an_edit_says_what_became_of_the_row():
    state, _ = press(orders("three"), "i", "ctrl-u", *typed("3 mugs"), "enter", "esc")
    assert state.message == "The output stays as it was; the row is rejected (u takes it back)."
    state, _ = press(state, "u")
    assert not state.verdicts and press(state, "i", "esc")[0].message == "Nothing changed."
    assert press(orders("three"), "e", *typed("x"), "enter", "esc")[0].message == "Nothing changed."
    state, _ = press(orders("three"), "r", "1", "b", "e", "esc")
    assert state.message == "Nothing changed."


def test_an_edited_output_must_be_a_label():
    assert review.edited(make(), output="nonsense").new == ()
    assert review.edited(make(), input="x", output="technical").new[0].output == "technical"


def test_a_new_answer_is_put_up_for_editing():
    state = review.answered(make(labels=()), " fresh \n")
    assert state.mode == "edit" and state.buffer == "fresh"
    assert press(state, "enter")[1][0].output == "fresh"


def test_undo_goes_back_beyond_the_session():
    state, made = press(make(), "a", "r", "1", "2", "u")
    state = reopened(state, made)
    state, more = press(state, "u", "u", "u")
    assert state.verdicts == {} and state.message == "Nothing to undo."
    assert reopened(state, made + more).history == ()


def test_undo_of_a_bulk_takes_all_back_at_once_and_survives_reopening():
    state, made = press(make(), "r", "3", "A", "y")
    state, more = press(reopened(state, made), "u")
    assert set(state.verdicts) == {"row0"} and len(more) == 5 and all(row.step < 0 for row in more)


def test_undo_goes_back_to_the_card():
    assert press(make(), "a", "a", "u")[0].cursor == "row1"


def test_undo_of_a_card_outside_the_view_says_so_and_moving_goes_into_the_view():
    state, _ = press(make(), "a", "f", "l", "l", "enter", "u")
    assert state.cursor == "row0" and "outside the view" in state.message
    assert press(state, "space")[0].cursor == "row1" and press(state, "b")[0].cursor == "row4"


def test_pages_scroll_cards_and_thresholds():
    state = make().but(thresholds=(review.MovableThreshold("near_duplicate.threshold", 0.9, 0.05),))
    assert press(state.but(below=12), "page_down", "down", "page_up")[0].scroll == 1
    assert press(state, "t", "page_down")[0].scroll == 10 and press(state, "t", "page_down", "down")[0].scroll == 0


def test_judging_goes_round_to_rows_that_were_skipped():
    state, _ = press(make(3), "space", "a", "a")
    assert state.cursor == "row0"
    state, _ = press(state, "a")
    assert "Every row of this view is judged" in state.message


def test_tab_goes_round_to_what_is_open():
    state, _ = press(make(3), "space", "a", "tab")
    assert state.cursor == "row0"
    state, _ = press(state, "a", "tab")
    assert (state.cursor, state.message) == ("row2", "This is the only open row of the view.")
    assert "Every row" in press(state, "a", "tab")[0].message


def test_a_row_the_filters_rejected_can_be_brought_back():
    filters = {"row1": Verdict("row1", False, "filters", "noise", "it holds 'Sure'")}
    state = make(filters=filters)
    assert "row1" not in [row.id for row in states.visible(state)]
    state, made = press(state, "f", "s", "enter", "a")
    assert made == [Verdict("row1", True, "ann", "review", output="delivery", step=1)]


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        (["f", "l", "f"], ["row0", "row3"]),
        (["f", "l", "l", "enter"], ["row4"]),
        (["f", "s", "enter"], ["row1"]),
        (["f", "w", "enter"], ["row1"]),
        (["f", "v", "v", "enter"], ["row5"]),
        (["f", "l", "c", "enter"], ["row0", "row2", "row3", "row4", "row5"]),
        (["/", *typed("number 4"), "enter"], ["row4"]),
        (["/", *typed("number 4"), "esc"], ["row0", "row2", "row3", "row4", "row5"]),
        (["a", "f", "j", "enter"], ["row2", "row3", "row4", "row5"]),
        (["a", "f", "j", "j", "enter"], ["row0"]),
        (["r", "f", "j", "j", "j", "enter"], ["row0"]),
        (["n", *typed("ask bob"), "enter", "f", "n", "enter"], ["row0"]),
        (["n", *typed("ask bob"), "enter", "/", *typed("BOB"), "enter"], ["row0"]),
        (["n", *typed("cafe\u0301"), "enter", "/", *typed("CAF\u00c9"), "enter"], ["row0"]),
        (["2", "f", "j", "j", "j", "j", "enter"], ["row0"]),
        (["f", "l", "enter", "esc"], ["row0", "row2", "row3", "row4", "row5"]),
    ],
)
def test_views_show_what_matches(keys, ids):
    filters = {"row1": Verdict("row1", False, "filters", "noise", "it holds 'Sure'")}
    candidates = [candidate(i, vote_share=0.4 if i == 5 else 0.8) for i in range(6)]
    state = review.open_review(review.build_rows(candidates, filters), (), labels=LABELS, judge="ann")
    state, _ = press(state, *keys)
    assert [row.id for row in states.visible(state)] == ids and state.cursor in ids


def test_a_bulk_touches_only_what_matches_and_is_open():
    state, made = press(make(), "a", "f", "l", "enter", "R", "y")
    assert [row.id for row in made[1:]] == ["row3"] and made[1].reason == "all that match label: billing"


def test_the_most_doubtful_rows_come_first():
    candidates = [
        candidate(0),
        candidate(1, vote_share=0.2),
        candidate(2, label_asked="billing"),
        candidate(3),
    ]
    state = review.open_review(review.build_rows(candidates, {}), (), labels=LABELS, judge="ann")
    state, _ = press(state, "o")
    assert [row.id for row in states.visible(state)][:2] == ["row2", "row1"] and state.cursor == "row2"


def test_a_text_is_doubtful_by_the_words_it_does_not_share_with_the_one_asked_for():
    candidates = [candidate(0, output="the red box", label_asked=asked) for asked in ("the red box", "a red box", "no")]
    texts = review.build_rows(candidates, {})
    assert [row.signals.asked for row in texts] == [0.0, 0.5, 1.0]
    assert [row.signals.asked for row in review.build_rows(candidates, {}, LABELS)] == [0.0, 1.0, 1.0]
    assert "another output than asked for" in texts[2].signals.words()


@pytest.mark.parametrize("order", review.ORDERS)
def test_every_order_is_total(order):
    rows = make(8).rows
    keys = [order_key(order, row) for row in rows]
    assert len(set(keys)) == len(keys) and all(math.isfinite(key[0]) for key in keys)


def test_neighbours_share_most_words():
    assert neighbours(["a b c", "x y z", "a b d"]) == [(2, 0.5), (-1, 0.0), (0, 0.5)]
    assert neighbours([]) == [] and neighbours(["", ""]) == [(-1, 0.0), (-1, 0.0)]


def test_words_apart_marks_what_differs():
    assert review.words_apart("the red box", "the blue box") == [("the ", False), ("blue", True), (" box", False)]


def test_thresholds_move_within_bounds_and_ask_for_a_replay():
    threshold = review.MovableThreshold("near_duplicate.threshold", 0.95, 0.05, 0.0, 1.0)
    state = make().but(thresholds=(threshold, review.MovableThreshold("balance.at_least", 1, 1, 0, 5, whole=True)))
    state, made = press(state, "t", "right", "right")
    assert state.wants == "play" and state.thresholds[0].value == 1.0 and made == []
    state, _ = press(state, "down", "left", "left")
    assert state.thresholds[1].value == 0 and isinstance(state.thresholds[1].value, int)
    assert press(state, "enter")[0].wants == "save"
    assert press(state, "esc")[0].thresholds[0].value == 0.95


def test_the_program_is_asked_for_what_the_machine_cannot_do():
    assert [press(make(), key)[0].wants for key in "EGq"] == ["editor", "regenerate", "quit"]


def test_an_empty_review_refuses_politely():
    for key in (*steps.CARD_KEYS, "1"):
        state, made = press(make(0), key)
        assert made == []


@pytest.mark.parametrize(
    ("bad", "n", "bound"),
    [(0, 40, 0.0722), (1, 40, 0.1132), (0, 1, 0.95), (2, 50, 0.1206), (40, 40, 1.0), (5, 100, 0.1023)],
)
def test_the_bound_is_clopper_pearsons(bad, n, bound):
    assert review.upper_bound(bad, n) == pytest.approx(bound, abs=5e-5)


def test_a_sample_says_what_it_means_for_the_rest():
    result = review.sample_result(40, 0, 260)
    assert result.at_most == 21 and result.bound == pytest.approx(0.0722, abs=1e-4)
    with pytest.raises(SgError):
        review.sample_result(0, 0, 10)


# Notes, queues, many rows at once


def note(text):
    return ["n", "ctrl-u", *typed(text), "enter"]


def test_a_note_judges_nothing_and_undo_takes_it_back_beyond_the_session():
    state, made, notes = press_noting(make(), *note("ask bob"), "a", "b", *note("asked"))
    assert (state.notes["row0"], [row.id for row in made]) == ({"ann": "asked"}, ["row0"])
    again = reopened(state, made, notes=[from_dict(review.Note, json.loads(to_json(row))) for row in notes])
    assert again.notes == state.notes and [action.number for action in again.history] == [1, 2, 3]
    texts, judged = [], []
    for _ in range(3):
        again = review.step(again, "u")
        texts.append(again.notes["row0"].get("ann", ""))
        judged.append("row0" in again.verdicts)
    assert texts == ["ask bob", "ask bob", ""] and judged == [True, False, False]
    assert again.message == "Note taken back." and press(again, "u")[0].message == "Nothing to undo."


def test_an_empty_note_takes_it_away_and_the_same_one_changes_nothing():
    state, _, notes = press_noting(make(), *note("hm"), *note("hm"), "n", "ctrl-u", *typed("no"), "esc", *note(""))
    assert [row.text for row in notes] == ["hm", ""] and not state.notes["row0"]


def test_each_person_has_notes_of_their_own():
    notes = [review.Note("row0", "bob", "odd"), review.Note("row0", "ann", "fine", 1)]
    rows = make().rows
    state = review.open_review(rows, (), notes, judge="ann")
    state, _, made = press_noting(state, "u")
    assert state.notes["row0"] == {"bob": "odd"} and [(row.judge, row.text, row.step) for row in made] == [
        ("ann", "", -1)
    ]


def test_a_reason_after_a_rejection_is_one_action_with_it():
    state, made = press(make(), "r", "3")
    assert [(row.step, row.reason) for row in made] == [(1, ""), (1, "unnatural input")]
    again = reopened(state, made)
    assert len(again.history) == 1 and press(again, "u")[0].verdicts == {}


def test_a_rejection_is_made_with_its_first_key():
    state, made = press(make(), "r")
    assert [row.keep for row in made] == [False] and (state.mode, state.cursor, state.about) == (
        "reason",
        "row1",
        "row0",
    )


@pytest.mark.parametrize("key", ["enter", "space"])
def test_enter_and_space_give_no_reason_and_leave_the_next_card_alone(key):
    state, made = press(make(), "r", key)
    assert len(made) == 1 and (state.mode, state.cursor) == ("cards", "row1")
    assert [(row.id, row.keep) for row in press(make(), "r", "a")[1]] == [("row0", False), ("row1", True)]


def test_arrows_scroll_a_long_card_before_they_leave_it():
    state = make().but(below=2)
    state, _ = press(state, "down", "down")
    assert (state.cursor, state.scroll, state.below) == ("row0", 2, 0)
    assert press(state, "up")[0].scroll == 1
    state, _ = press(state, "down")
    assert (state.cursor, state.scroll) == ("row1", 0)


@pytest.mark.parametrize("key", ["?", "T"])
def test_pages_of_text_scroll_and_any_other_key_leaves_them(key):
    state, _ = press(make(), key, "j", "down", "page_down", "up")
    assert state.mode != "cards" and state.scroll == 11
    state, made = press(state, "a")
    assert (state.mode, state.scroll, made) == ("cards", 0, [])


def test_the_queue_begins_where_the_labellers_disagree_most():
    candidates = [
        candidate(0),
        candidate(1, label_asked="billing", votes={"delivery": 3, "technical": 2}),
        candidate(2, votes={}, vote_share=0.0),
        candidate(3, votes={"billing": 5}),
    ]
    rows = review.build_rows(candidates, {}, LABELS)
    state = review.open_review(rows, (), labels=LABELS, judge="ann")
    state, _ = press(state, "d")
    assert [row.id for row in states.visible(state)] == ["row1", "row2", "row0", "row3"] and state.cursor == "row1"
    assert rows[3].signals.disagreement == 0 and rows[1].signals.disagreement == pytest.approx(
        1 - (1.6**2 + 1 + 0.4**2) / 9
    )
    assert press(state, "d")[0].view.order == "file"


def test_a_rows_label_scores_are_shares_without_what_every_row_gives_a_label():
    both = {"label_scores": (-1.0, -3.0, -9.0), "channel_scores": (-40.0, -38.0, -44.0)}
    other = {"label_scores": (-1.0, -1.0, -9.0), "channel_scores": (-40.0, -42.0, -44.0)}
    rows = review.build_rows([candidate(0, **both), candidate(1, **other), candidate(2)], {}, LABELS)
    best, second, _ = rows[0].scores
    e = math.e
    assert (best.label, second.label, rows[2].scores) == ("delivery", "billing", ())
    assert (best.share, second.share) == pytest.approx((e / (2 + e), 1 / (2 + e)))
    assert best.ways == pytest.approx((1 / (2 * e + 1), e**2 / (2 + e**2)))
    assert second.ways == pytest.approx((e / (2 * e + 1), 1 / (2 + e**2)))
    (row,) = review.build_rows([candidate(0, label_scores=(-1.0, -3.0, -9.0))], {}, LABELS)
    assert all(one.ways == () for one in row.scores)
    assert review.build_rows([candidate(0, **both)], {})[0].scores == ()


def test_a_texts_disagreement_is_what_its_votes_lack():
    texts = review.build_rows(
        [candidate(i, label_asked=None, vote_share=share) for i, share in enumerate((1.0, 0.2))], {}
    )
    assert [row.signals.disagreement for row in texts] == [0.0, pytest.approx(0.4)]


def far_apart(number, **changes):
    """A candidate that no other one is near."""
    return candidate(number, **{"input": " ".join(f"word{number}{letter}" for letter in "abcdef"), **changes})


def test_the_surest_rows_are_shown_before_they_are_accepted():
    candidates = [
        far_apart(0),
        far_apart(1, vote_share=0.7),
        far_apart(2, label_asked="billing"),
        far_apart(3, input="call Ann Miller on +44 20 7946 0958"),
        far_apart(4, vote_share=1.0),
        far_apart(5),
        far_apart(6, votes={"technical": 5}, output="technical", label_asked="billing"),
    ]
    asked = {"row6": Verdict("row6", True, "filters", output="billing")}
    state = review.open_review(review.build_rows(candidates, asked, LABELS), (), labels=LABELS, judge="ann")
    state, _ = press(state, "end", "k", *note("hm"), "home", "S")
    assert state.mode == "confirm" and state.message == "Accept the 2 surest rows? y or n"
    assert state.bulk == (True, ("row4", "row0"))
    assert press(state, "n")[1] == []
    state, made = press(state, "j", "page_down", "y")
    assert {row.id for row in made} == {"row0", "row4"} and press(state, "u")[0].verdicts == {}
    assert press(state, "S")[0].message == "No open row of this view is beyond doubt."
    assert "one by one" in press(state.but(sample=("row0",)), "S")[0].message


def test_progress_counts_the_rows_past_the_filters_and_what_was_judged_besides():
    filters = {"row1": Verdict("row1", False, "filters", "noise", "it holds 'Sure'")}
    state = make(filters=filters)
    assert len(review.counted_rows(state)) == 5
    state, _ = press(state, "f", "s", "enter", "a")
    assert len(review.counted_rows(state)) == 6
    assert [row.id for row in review.counted_rows(state.but(sample=("row2",)))] == ["row2"]


def test_the_pace_is_the_mean_of_the_gaps_and_breaks_are_cut():
    pace = review.Pace(100.0)
    assert pace.judged(110.0).judged(120.0).seconds is None
    pace = pace.judged(110.0).judged(120.0).judged(9999.0)
    assert pace.seconds == pytest.approx((10 + 10 + 120) / 3)
    assert pace.taken_back().judged(9999.0).gaps == pace.gaps
    assert review.Pace(0.0).taken_back() == review.Pace(0.0)


# Exchange


def exported(state, path):
    write_table(path, review.COLUMNS, review.export_rows(state))
    return path


def imported(state, path, text: str | None = None):
    if text is not None:
        path.write_text(text, encoding="utf-8", newline="")
    return review.import_rows(state, read_grid(path))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.xlsx", "a.jsonl", "a.csv.gz"])
def test_what_was_exported_comes_back_as_nothing_new(tmp_path, name):
    hard = '=SUM(A1), "quoted"\nand \u2028\x85\'-2'
    state, _ = press(make(labels=(), input=hard), "a", "r", "2", "e", *typed("+x"), "enter")
    assert imported(state, exported(state, tmp_path / name)) == []


def test_what_a_spreadsheet_alone_has_changed_is_nothing_new(tmp_path):
    state = make(labels=(), input="=1\n'two'", output="'tis")
    text = exported(state, tmp_path / "a.csv").read_text()
    assert imported(state, tmp_path / "a.csv", text.replace(",", ";").replace("\n", "\r\n")) == []
    rows = [{**row, "input": "'" + row["input"].replace("\n", "\r\n")} for row in review.export_rows(state)]
    write_table(tmp_path / "a.xlsx", review.COLUMNS, rows)
    assert imported(state, tmp_path / "a.xlsx") == []


def test_a_csv_of_before_whose_apostrophes_were_doubled_is_nothing_new(tmp_path):
    state = make(labels=(), output="'tis")
    text = exported(state, tmp_path / "a.csv").read_text()
    assert imported(state, tmp_path / "a.csv", text.replace(",'tis", ",''tis")) == []


def test_spreadsheets_get_no_formulas(tmp_path):
    text = exported(make(2, labels=(), input="=HYPERLINK(1)", output="@x"), tmp_path / "a.csv").read_text()
    assert ",=HYPERLINK" not in text and ",'=HYPERLINK(1),'@x," in text


def test_a_filled_in_file_judges(tmp_path):
    state = make()
    text = exported(state, tmp_path / "a.csv").read_text().splitlines()
    text[1] = text[1].replace("row0,,", "row0,yes,")
    text[2] = text[2].replace("row1,,", "row1,no,silly")
    text[3] = text[3].replace(",technical,", ",billing,", 1)
    found = imported(state, tmp_path / "a.csv", "\n".join(text))
    assert [(v.id, v.keep, v.reason, v.output) for v in found] == [
        ("row0", True, "", "billing"),
        ("row1", False, "silly", "delivery"),
        ("row2", True, "", "billing"),
    ]


def test_a_row_without_a_label_may_stay_open_or_be_rejected_but_not_kept(tmp_path):
    state, path = make(output="mechanic"), tmp_path / "a.csv"
    text = exported(state, path).read_text()
    assert imported(state, path) == []
    found = imported(state, path, text.replace("row0,,", "row0,no,"))
    assert [(v.id, v.keep) for v in found] == [("row0", False)]
    with pytest.raises(SgError, match="'mechanic' is not one of the labels"):
        imported(state, path, text.replace("row0,,", "row0,yes,"))


def test_an_output_that_does_not_fit_the_schema_is_refused(tmp_path):
    state = make(labels=(), output='{"n": 1}').but(schema='{"type": "object", "required": ["n"]}')
    path = tmp_path / "a.jsonl"
    assert imported(state, path, '{"id": "row0", "keep": "yes", "output": {"n": 2}}')[0].output == '{"n": 2}'
    assert not imported(state, path, '{"id": "row0", "keep": "no", "output": "no JSON"}')[0].keep
    for output, words in (("{}", "'n' is a required property"), ("no JSON", "not JSON")):
        text = json.dumps({"id": "row0", "keep": "", "output": output})
        with pytest.raises(SgError, match="line 1: the output does not fit the schema") as caught:
            imported(state, path, text)
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,keep\nrow0,maybe\n", "line 2: keep is 'maybe'"),
        ("id,keep\nrow0,yes\nrow0,no\n", "line 3: the id row0 is there twice"),
        ("id,keep\nnope,yes\n", "line 2: no row has the id 'nope'"),
        ("id,keep,output\nrow0,yes,odd\n", "line 2: the output 'odd' is not one of the labels"),
        ("id,keep,input\nrow0,yes,\n", "line 2: the input or the output is empty"),
        ('id,keep,input\nrow0,yes,"two\nlines"\nrow1,huh,x\n', "line 4: keep is 'huh'"),
        ("id,keep,input\nrow0,yes,a\0b\n", "line 2: a text holds the control character U+0000"),
        ("id,keep,note\nrow0,yes,a\0b\n", "line 2: the note holds the control character U+0000"),
        ("id,keep\nrow0,yes,a\n", "line 2: this row has 3 cells"),
        ("keep\nyes\n", "no column 'id'"),
    ],
)
def test_every_wrong_line_is_named(tmp_path, text, words):
    with pytest.raises(SgError, match="wrong|column") as caught:
        imported(make(), tmp_path / "a.csv", text)
    assert words in caught.value.message and str(tmp_path / "a.csv") in caught.value.message


def test_notes_and_reasons_go_out_and_come_back(tmp_path):
    state, _, _ = press_noting(make(), "r", "2", "b", *note("=odd"))
    state = state.but(notes={**state.notes, "row1": {"bob": "hm"}})
    record = review.export_rows(state)[0]
    assert (record["reason"], record["note"], record["other_notes"]) == ("off the task", "=odd", "")
    assert review.export_rows(state)[1]["other_notes"] == "bob: hm"
    for name in ("a.csv", "a.jsonl", "a.xlsx"):
        grid = read_grid(exported(state, tmp_path / name))
        assert (review.import_rows(state, grid), review.import_notes(state, grid)) == ([], {})
    grid = written_grid(tmp_path, "id,keep,note,judge\nrow0,no,,ann\nrow1,,new,ann\n")
    assert review.import_notes(state, grid) == {"row0": "", "row1": "new"}
    assert review.import_notes(state, written_grid(tmp_path, "id,keep\nrow0,no\n")) == {}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.xlsx"])
@pytest.mark.parametrize("judge", ["ann", "=ann"])
def test_a_file_of_another_reviewer_neither_gives_nor_takes_notes(tmp_path, name, judge):
    notes = {"row0": {judge: "hers"}, "row1": {"bob": "his"}}
    hers, his = make().but(judge=judge, notes=notes), make().but(judge="bob", notes=notes)
    grid = read_grid(exported(hers, tmp_path / name))
    assert review.import_notes(his, grid) == review.import_notes(hers, grid) == {}
    assert review.import_notes(hers.but(notes={"row1": {judge: "since"}}), grid) == {"row0": "hers", "row1": ""}


@pytest.mark.parametrize("text", ["id,keep,note\nrow0,,\nrow1,,new\n", "id,keep,note,judge\nrow0,,,\nrow1,,new,\n"])
def test_an_empty_note_in_a_file_that_names_nobody_takes_none_away(tmp_path, text):
    state = make().but(notes={"row0": {"ann": "mine"}})
    assert review.import_notes(state, written_grid(tmp_path, text)) == {"row1": "new"}


def written_grid(folder, text):
    path = folder / "b.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_grid(path)


def test_a_broken_json_line_is_named(tmp_path):
    with pytest.raises(SgError, match="line 2: this is not JSON"):
        imported(make(), tmp_path / "a.jsonl", '{"id": "row0", "keep": true}\n{oops\n')


def test_many_rows_are_imported_at_once(tmp_path):
    state = make(4000)
    with soon():
        assert imported(state, exported(state, tmp_path / "a.csv")) == []


# Merge


def test_a_merge_takes_over_counts_and_marks_conflicts():
    mine = [Verdict("row0", True, "ann"), Verdict("row1", True, "ann"), Verdict("row2", False, "ann")]
    theirs = [
        Verdict("row0", True, "bob"),
        Verdict("row1", False, "bob", reason="off the task"),
        Verdict("row3", True, "bob"),
        Verdict("gone", True, "bob"),
        Verdict("row4", True, "filters"),
    ]
    found = review.merge(mine, theirs, {f"row{i}" for i in range(6)})
    assert (found.taken, found.agreed, found.unknown, len(found.conflicts)) == (1, 1, 1, 1)
    journal = [*mine, *found.rows]
    state = make(journal=journal)
    assert state.verdicts["row1"].keep and state.verdicts["row1"].reason == "bob rejected it (off the task)"
    state, _ = press(state, "f", *"jjjjj", "enter")
    assert [row.id for row in states.visible(state)] == ["row1"]
    state, made = press(state, "r", "2")
    assert not states.visible(state) and not state.verdicts["row1"].keep
    again = review.merge([*journal, *made], theirs, {f"row{i}" for i in range(6)})
    assert again.rows == ()


def test_notes_of_other_people_are_taken_over_once():
    mine = [review.Note("row0", "ann", "mine", 1), review.Note("row1", "bob", "old")]
    texts = (("row0", "first"), ("row0", "last"), ("gone", "x"), ("row1", "new"), ("row2", "a"), ("row2", ""))
    theirs = [review.Note(id, "bob", text, step) for step, (id, text) in enumerate(texts, 1)]
    found = review.missing_notes(mine, theirs, {"row0", "row1", "row2"})
    assert found == (review.Note("row0", "bob", "last"), review.Note("row1", "bob", "new"))
    assert review.missing_notes([*mine, *found], theirs, {"row0", "row1", "row2"}) == ()


def test_a_note_deleted_or_changed_here_does_not_come_back_from_an_old_copy():
    old = [review.Note("row0", "bob", "a"), review.Note("row1", "ann", "b"), review.Note("row2", "bob", "c")]
    mine = [*old, review.Note("row0", "bob", ""), review.Note("row1", "ann", "better")]
    rows = {"row0", "row1", "row2"}
    assert review.missing_notes(mine, old, rows) == ()
    assert review.missing_notes(old, mine, rows) == (
        review.Note("row0", "bob", ""),
        review.Note("row1", "ann", "better"),
    )


def journal_of(judge, text):
    """Verdicts by a letter a row: a label's first one, or x for a rejection; a dot for none."""
    by_letter = {label[0]: label for label in LABELS}
    return [
        Verdict(f"row{i}", letter != "x", judge, "review", output=by_letter.get(letter), step=i + 1)
        for i, letter in enumerate(text)
        if letter != "."
    ]


def test_kappa_is_cohens():
    # 20 and 15 of 50 alike, 10 and 5 not: Wikipedia's example, 0.4
    mine, theirs = journal_of("ann", "b" * 25 + "x" * 25), journal_of("bob", "b" * 20 + "x" * 5 + "b" * 10 + "x" * 15)
    (found,) = review.agreements(mine, theirs, {f"row{i}" for i in range(50)})
    assert (found.judges, found.n, found.alike, found.kappa) == (("ann", "bob"), 50, 35, 0.4)
    assert found.low < 0.4 < found.high


def test_kappa_counts_labels_where_there_are_any():
    mine, theirs = journal_of("ann", "bdt.x"), journal_of("bob", "bbt.x")
    ids = {f"row{i}" for i in range(5)}
    assert [(one.n, one.alike) for one in review.agreements(mine, theirs, ids, LABELS)] == [(4, 3)]
    assert [(one.n, one.alike) for one in review.agreements(mine, theirs, ids)] == [(4, 4)]
    assert review.agreements(mine, theirs, {"row3"}) == ()


def test_kappa_needs_more_than_one_outcome():
    (found,) = review.agreements(journal_of("ann", "bb"), journal_of("bob", "bb"), {"row0", "row1"}, LABELS)
    assert (found.kappa, found.low, found.high, found.alike) == (None, None, None, 2)


def test_kappa_is_of_judgements_that_nobody_else_had_influenced():
    mine, theirs, ids = journal_of("ann", "bxd"), journal_of("bob", "xxd"), {"row0", "row1", "row2"}
    (before,) = review.agreements(mine, theirs, ids, LABELS)
    merged = [*mine, *review.merge(mine, theirs, ids).rows, Verdict("row0", False, "ann", "review", step=9)]
    assert review.agreements(merged, theirs, ids, LABELS) == (before,) and before.alike == 2
    assert review.agreements(mine, [*mine, *theirs], ids, LABELS) == ()
    assert review.agreements(mine, [*theirs, Verdict("row1", False, "bob", "undo", step=-2)], ids, LABELS)[0].n == 2


# Typing


def test_a_pasted_text_is_typed_where_text_is_typed_and_nothing_elsewhere():
    state, made = press(make(labels=()), "i", "ctrl-u", "paste:two\r\nlines\x1b\ta", "enter")
    assert made[0].input == "two\nlines a"
    for keys in (["paste:aaa"], ["A", "paste:y"], ["f", "paste:s"]):
        state, made = press(make(), *keys)
        assert made == [] and "Pasted" in state.message
    state, made = press(make(), "r", "paste:1")
    assert [verdict.reason for verdict in made] == [""] and "Pasted" in state.message


def test_a_search_that_is_left_goes_back_to_where_it_began():
    state, _ = press(make(), "space", "/", *typed("number 4"))
    assert state.cursor == "row4"
    state, _ = press(state, "esc")
    assert state.cursor == "row1" and state.view.text == ""


def test_a_new_label_of_the_model_is_told_and_waits_for_its_digit():
    state = review.answered(make(), "delivery")
    assert state.new == () and "2 takes it" in state.message
    assert "not one of the labels" in review.answered(make(), "no idea").message


@pytest.mark.parametrize("texts", [("one line", "billing"), ("two\nlines", "and\n\nthree"), ("# a mark", "x")])
def test_a_row_goes_to_the_editor_and_comes_back(texts):
    assert review.from_file(review.as_file(*texts)) == texts


def test_a_file_of_the_editor_without_its_marks_is_not_taken():
    whole = review.as_file("in", "out")
    for spoilt in ("", "in\nout\n", f"something before\n{whole}", whole.replace("# OUTPUT", "# output")):
        assert review.from_file(spoilt) is None


def test_what_the_editor_leaves_is_text(tmp_path):
    path = tmp_path / "row-1.txt"
    path.write_bytes(review.as_file("caf\u00e9", "billing").encode() + b"\r\n")
    assert review.read_edited(path) == ("caf\u00e9", "billing")
    path.write_bytes(review.as_file("caf\u00e9", "billing").encode("latin-1"))
    with pytest.raises(SgError, match=r"row-1\.txt:2: this is not UTF-8 text"):
        review.read_edited(path)


def test_an_edited_text_holds_no_control_character():
    state = review.edited(make(), input="a\x1b[2Jb")
    assert not state.new and "control character U+001B" in state.message
