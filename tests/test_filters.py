"""Filters: each rule as data cases, label policies, the pass, the funnel."""

import random
from dataclasses import replace

import pytest

from sg_local import filters
from sg_local.filters import Balance, FilterSettings, Switch, Threshold, Window, labels
from sg_local.filters.given import input_rules
from sg_local.filters.rules import (
    INPUT_RULES,
    OUTPUT_RULES,
    RuleContext,
    RuleInput,
    consistency,
    first_reason,
    named_label,
    window,
)
from sg_local.filters.similarity import nearest, rouge_l, words
from sg_local.records import OWN, Candidate, InputRow, Pair, SgError, Verdict

GOOD = "The refund for my order has not come yet."


def test_rouge_l_equals_the_reference_package():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    a, b = "The cat sat on the mat, didn't it?", "A cat was on the red mat!"
    assert rouge_l(words(a), words(b)) == pytest.approx(scorer.score(a, b)["rougeL"].fmeasure)
    assert [rouge_l(*pair) for pair in (((), ()), ((), ("a",)), (("a",), ()))] == [1, 0, 0]


def test_nearest_finds_the_most_similar_above_the_threshold():
    others = ["a b c d", "a b c x", "z z z z"]
    assert nearest("a b c d e", others, 0.5)[1] == "a b c d"
    assert nearest("q r s", others, 0.5) == (0.0, "")


def test_nearest_knows_every_script():
    text, other = "我的包裹还没有到，请帮我查一下", "我的包裹还没有到货，请帮我查一下吧"
    assert nearest(other, [text], 0.7) == (pytest.approx(28 / 30), text)
    assert nearest("\U0001f44d", ["\U0001f44e"], 0.7) == (0.0, "")


@pytest.mark.parametrize(
    ("text", "accepted", "rule"),
    [
        (GOOD, [], ""),
        ("  ", [], "empty"),
        ("... !?", [], "empty"),
        ("Of course! " + GOOD, [], "noise"),
        ("Write the input for my order now", [], "noise"),
        ("Too short", [], "input_length"),
        ("long " * 60, [], "input_length"),
        ("I was charged twice for one order last week!", [], "copied_example"),
        (GOOD, ["the refund for my order has not come yet"], "duplicate"),
        (GOOD, ["The refund for my order has not come back yet."], "near_duplicate"),
    ],
)
def test_input_rules(routing, text, accepted, rule):
    found, reason = first_reason(INPUT_RULES, RuleInput(text, ""), RuleContext(routing, FilterSettings(), accepted))
    assert found == rule and bool(reason) == bool(rule)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (RuleInput(GOOD, "billing", 0.8, "billing", "billing"), ""),
        (RuleInput(GOOD, ""), "empty"),
        (RuleInput(GOOD, "I'm sorry, but I cannot."), "refusal"),
        (RuleInput(GOOD, "billing, therefore"), "noise"),
        (RuleInput(GOOD, "shop"), "label"),
        (RuleInput(GOOD, "Billing", 0.2), "vote_share"),
        (RuleInput(GOOD, "billing", 0.8, "delivery", "billing"), "consistency"),
    ],
)
def test_output_rules_of_classification(routing, row, rule):
    settings = FilterSettings(consistency=Switch(True))
    assert first_reason(OUTPUT_RULES, row, RuleContext(routing, settings))[0] == rule


def test_written_outputs_are_not_held_against_a_vote_on_labels(fluent):
    settings = FilterSettings(consistency=Switch(True))
    row = RuleInput("When does the um the bar open?", "When does the bar open?", label_asked="When is it open?")
    assert consistency(row, RuleContext(fluent, settings)) == ""
    row = RuleInput(GOOD, "billing", 0.8, "delivery", "")
    assert consistency(row, RuleContext(fluent, settings)) == "asked for delivery, voted "


@pytest.mark.parametrize(
    ("output", "rule"),
    [
        ("When does the big shop open?", ""),
        ("Yes", "output_length"),
        ("When does the um the big shop no the bakery open", "copied_input"),
        ("When does the bakery open?", ""),
        ("Who painted the Night Watch?", "grounding"),
    ],
)
def test_output_rules_of_generation(fluent, output, rule):
    row = RuleInput("When does the um the big shop no the bakery open?", output)
    assert first_reason(OUTPUT_RULES, row, RuleContext(fluent, FilterSettings()))[0] == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("The invoice shows the wrong tax number.", ""),
        ("Billing: the invoice is wrong.", "named_label"),
        ("I have two DELIVERY questions today", "named_label"),
        ("My parcel was delivered to the neighbours.", ""),
        ("The technically minded will love this one.", ""),
    ],
)
def test_an_input_that_says_a_label_is_rejected(routing, text, rule):
    assert first_reason(INPUT_RULES, RuleInput(text, ""), RuleContext(routing, FilterSettings()))[0] == rule


@pytest.mark.parametrize(
    ("labels", "text", "said"),
    [
        (("account access", "other matters"), "My Account-Access is gone again since monday", "account access"),
        (("account access", "other matters"), "I cannot access my account since this monday", ""),
        (("no", "C++"), "No, the c compiler stops at line five", ""),
        (("good", "bad"), "It is a good day for a long walk outside", ""),
        (("travel", "other"), "The other day we left the town at noon", ""),
        (("travel", "other"), "Other travel costs of the team in May", "travel"),
        (("退款申请", "物流查询"), "我想问一下退款申请的进度怎么样了", "退款申请"),
        (("退款申请", "物流查询"), "我想问一下退款的进度怎么样了", ""),
        (("退款", "物流", "技术"), "我想要退款，谢谢你们", "退款"),
        (("退款", "其他"), "请问这件衣服还有其他颜色吗", ""),
        (("はい", "いいえ"), "これはいい商品ですかと聞かれた", ""),
        (("ดี", "แย่"), "สวัสดีครับ วันนี้ร้านเปิดกี่โมง", ""),
        (("жалоба", "вопрос"), "Это жалоба на курьера, он опоздал", "жалоба"),
        (("жалоба", "вопрос"), "Это не жалобы, а просто слова", ""),
    ],
)
def test_a_label_is_said_by_its_whole_words_in_any_script(routing, labels, text, said):
    task = replace(routing, labels=labels, examples=(Pair(text[::-1], labels[0]),))
    found = named_label(RuleInput(text, ""), RuleContext(task, FilterSettings()))
    assert found == (f"it says {said!r}" if said else "")


def test_labels_may_be_said_where_a_demonstration_says_one_or_an_input_is_a_person_s(routing):
    own = replace(routing, examples=(*routing.examples[:2], Pair("I have a technical problem", "technical")))
    said = RuleInput("The delivery has not come yet.", "")
    assert named_label(said, RuleContext(own, FilterSettings())) == ""
    assert named_label(said, RuleContext(replace(routing, labels=()), FilterSettings())) == ""
    assert first_reason(input_rules(OWN), said, RuleContext(routing, FilterSettings()))[0] == ""


def test_a_rule_can_be_switched_off(routing):
    settings = FilterSettings(noise=Switch(False))
    assert first_reason(INPUT_RULES, RuleInput("Of course! " + GOOD, ""), RuleContext(routing, settings))[0] == ""


def test_the_length_window_never_collapses():
    assert window([30, 30, 30], Window()) == (10, 90)
    assert window([10, 100], Window(sigmas=2)) == (-35, 165)


def test_words_of_the_task_itself_are_not_noise(routing):
    own = replace(routing, examples=(replace(routing.examples[0], input="The input field is empty again."),))
    text = "Why does the input field flicker?"
    assert first_reason(INPUT_RULES, RuleInput(text, ""), RuleContext(own, FilterSettings()))[0] == ""


def candidate(i, asked, voted, scores=(), share=1.0):
    votes = {voted: round(share * 5)}
    text = " ".join(random.Random(i).choices([f"word{k}" for k in range(500)], k=7))
    return Candidate(f"id{i}", text, voted, votes, 5, share, asked, tuple(scores))


NAMES = ("billing", "delivery", "technical")


def collapsed(n=30):
    """Votes all on one label; scores biased to it, but right once centred."""
    rows = []
    for i in range(n):
        asked = NAMES[i % 3]
        scores = [-5.0 + (label == asked) + 4 * (label == "technical") for label in NAMES]
        rows.append(candidate(i, asked, "technical", scores))
    return rows


def test_calibration_undoes_a_bias():
    rows = collapsed()
    assert labels.calibrated(rows, NAMES) == {row.id: row.label_asked for row in rows}


def test_rows_with_known_labels_are_calibrated_by_the_others_means():
    made = collapsed()
    known = [row for row in made if row.label_asked == "billing"]
    assert labels.calibrated(known, NAMES, over=made) == {row.id: "billing" for row in known}
    assert labels.calibrated(known, NAMES, over=[]) == labels.ranked(known, NAMES, over=[]) == {}
    assert set(labels.ranked(known, NAMES, over=made).values()) == {"billing"}


@pytest.mark.parametrize(("scored", "name", "kappa"), [(True, "calibrated", 1.0), (False, "voted", 0.0)])
def test_the_second_opinion_is_the_one_that_follows_the_asked_labels_better(scored, name, kappa):
    rows = [row if scored else replace(row, label_scores=()) for row in collapsed()]
    found = labels.second_opinion(rows, NAMES)
    assert (found.name, found.agreement.kappa) == (name, kappa)


def test_auto_does_not_trust_votes_that_collapsed():
    found = labels.choose(collapsed(), NAMES, "auto")
    assert found.policy == "agree" and "voted labels 0.00 (0.0 standard errors), calibrated labels 1.00" in found.why
    assert set(found.labels.values()) == set(NAMES)


def test_auto_takes_every_row_as_asked_where_a_second_opinion_is_a_guess():
    rng = random.Random(0)
    rows = [candidate(i, NAMES[i % 3], rng.choice(NAMES)) for i in range(90)]
    found = labels.choose(rows, NAMES, "auto")
    assert found.policy == "asked" and "clearly better than chance" in found.why


@pytest.mark.parametrize(("n_alike", "policy"), [(33, "ranked"), (27, "calibrated")])
def test_auto_ranks_where_the_scores_lean_the_asked_labels_way_and_else_trusts_the_scores(n_alike, policy):
    def told(i):
        shift = 0 if i < n_alike else 1 + i // 3 % 2
        return [float(name == NAMES[(i + shift) % 3]) for name in NAMES]

    rows = [candidate(i, NAMES[i % 3], NAMES[0], told(i)) for i in range(90)]
    found = labels.choose(rows, NAMES, "auto")
    assert found.policy == policy
    assert policy == "ranked" or found.labels == labels.calibrated(rows, NAMES)


def test_ranking_keeps_the_better_half_of_every_label():
    rng = random.Random(1)
    rows = []
    for i in range(120):
        asked, right = NAMES[i % 3], rng.random() < 0.5
        scores = [3.0 * (label == asked) * right + 2.0 * (label == "technical") + rng.gauss(0, 0.5) for label in NAMES]
        rows.append(candidate(i, asked, "technical", scores))
    kept = [row for row in rows if labels.ranked(rows, NAMES)[row.id] is not None]
    assert [sum(row.label_asked == name for row in kept) for name in NAMES] == [20, 20, 20]
    margin = {
        row.id: row.label_scores[NAMES.index(row.label_asked)] - 2.0 * (row.label_asked == "technical") for row in rows
    }
    dropped = [row for row in rows if row not in kept]
    assert sum(margin[row.id] for row in kept) / 60 > 2.0 > 1.0 > sum(margin[row.id] for row in dropped) / 60


def test_ranking_keeps_enough_rows_of_a_small_set():
    rows = [candidate(i, NAMES[i % 3], NAMES[0], (0.0, 0.0, float(i))) for i in range(36)]
    assert sum(label is not None for label in labels.ranked(rows, NAMES).values()) == 30


def test_auto_takes_every_row_as_asked_where_agreement_would_lose_a_label():
    rows = [candidate(i, NAMES[i % 3], NAMES[min(i % 3, 1)]) for i in range(90)]
    found = labels.choose(rows, NAMES, "auto")
    assert found.policy == "asked" and "only 0 rows for 'technical' would agree" in found.why


def test_auto_takes_every_row_as_asked_where_agreement_would_leave_too_few():
    rows = [candidate(i, NAMES[i % 3], NAMES[i % 3] if i % 6 < 3 else "other") for i in range(48)]
    assert labels.choose(rows, NAMES, "auto").policy == "agree"
    rows = [candidate(i, NAMES[i % 3], NAMES[i % 3] if i % 24 < 7 else "other") for i in range(48)]
    found = labels.choose(rows, NAMES, "auto")
    assert found.policy == "asked" and "only 14 rows would agree" in found.why


@pytest.mark.parametrize(("given", "value"), [("abab", 1.0), ("baba", -1.0), ("aaaa", 0.0), ("aabb", 0.0), ("", 0.0)])
def test_kappa_is_agreement_beyond_what_frequencies_give(given, value):
    asked = dict(enumerate("abab")) if given else {0: None}
    assert labels.kappa(asked, dict(enumerate(given))).kappa == pytest.approx(value)


def test_an_unknown_policy_is_a_usage_error():
    with pytest.raises(SgError, match="no label policy"):
        labels.choose(collapsed(), NAMES, "guess")


def test_auto_trusts_votes_that_follow_what_was_asked():
    rows = [candidate(i, NAMES[i % 3], NAMES[i % 3]) for i in range(30)]
    assert labels.choose(rows, NAMES, "auto").policy == "agree"


@pytest.mark.parametrize(
    ("policy", "label"), [("voted", "technical"), ("asked", "billing"), ("calibrated", "billing"), ("agree", "billing")]
)
def test_policies(policy, label):
    assert labels.choose(collapsed(), NAMES, policy).labels["id0"] == label


def test_balance_keeps_the_best_supported_rows(routing):
    rows = [candidate(i, None, "billing", share=1.0 if i < 4 else 0.6) for i in range(12)]
    rows += [candidate(20 + i, None, "delivery") for i in range(2)]
    settings = FilterSettings(policy="voted", balance=Balance(ratio=2.0, at_least=0))
    verdicts, _ = filters.judge(rows, routing, settings)
    kept = [v.id for v in verdicts if v.keep]
    assert kept == ["id0", "id1", "id2", "id3", "id20", "id21"]
    assert {v.rule for v in verdicts if not v.keep} == {"balance"}


def test_every_candidate_has_a_verdict_and_every_rejection_a_reason(routing):
    rows = [candidate(i, NAMES[i % 3], "shop" if i % 4 == 0 else NAMES[i % 3]) for i in range(20)]
    verdicts, _ = filters.judge(rows, routing, FilterSettings(policy="voted"))
    assert [v.id for v in verdicts] == [row.id for row in rows]
    assert all(v.keep or (v.rule and v.reason) for v in verdicts)


@pytest.fixture
def filled(run, routing):
    rows = collapsed()
    inputs = [InputRow(f"in{i}", 0, i, 1, row.input, row.label_asked) for i, row in enumerate(rows)]
    inputs.append(InputRow("bad", 0, 99, 1, "", "billing", rejected="empty: nothing in it"))
    run.append("inputs.jsonl", inputs)
    run.append("candidates.jsonl", rows)
    return run


def test_the_pass_relabels_and_the_funnel_accounts_for_every_row(filled, routing):
    found = filters.apply(filled, routing, FilterSettings())
    assert (found.asked, found.parsed, found.accepted, found.kept) == (31, 30, 30, 30)
    assert found.rules == {"empty": 1} and found.policy == "agree"
    assert found.labels == {"billing": (11, 10), "delivery": (10, 10), "technical": (10, 10)}
    assert [row.pair.output for row in filters.kept_rows(filled)][:3] == list(NAMES)


def test_filtering_again_appends_only_what_changed(filled, routing):
    filters.apply(filled, routing, FilterSettings())
    size = filled.path("verdicts.jsonl").stat().st_size
    filters.apply(filled, routing, FilterSettings())
    assert filled.path("verdicts.jsonl").stat().st_size == size
    again = filters.apply(filled, routing, FilterSettings(near_duplicate=Threshold(0.01), policy="voted"))
    assert filled.path("verdicts.jsonl").stat().st_size > size and again.kept < 30


def test_a_person_stands_above_the_filters(filled, routing):
    filters.apply(filled, routing, FilterSettings())
    filled.append(
        "verdicts.jsonl", [Verdict("id0", False, "ann", "wrong", "no"), Verdict("id1", True, "ann", input="x")]
    )
    filters.apply(filled, routing, FilterSettings(policy="voted"))
    kept = {row.id: row.pair for row in filters.kept_rows(filled)}
    assert "id0" not in kept and kept["id1"].input == "x"
    filled.append("verdicts.jsonl", [Verdict("id0", True, "ann", "undo")])
    filters.apply(filled, routing, FilterSettings())
    assert "id0" in {row.id for row in filters.kept_rows(filled)}


def test_the_gate_names_the_rule(routing):
    gate = filters.input_gate(routing, FilterSettings())
    assert gate(GOOD, []) == "" and gate(GOOD, [GOOD]).startswith("duplicate: ")


@pytest.mark.parametrize(
    "text, counts",
    [("billing", True), ("Billing.", True), ("", False), ("I'm sorry", False), ("the invoice", False)],
)
def test_the_gate_on_votes_takes_labels_only(routing, text, counts):
    assert filters.OutputGate(routing, FilterSettings())(GOOD, text) is counts


def told_apart(n=30, source=""):
    """Rows whose label scores know nothing and whose channel scores know all, with a bias to one label."""
    channel = [[-40.0 + 2 * (name == NAMES[i % 3]) + 9 * (name == "delivery") for name in NAMES] for i in range(n)]
    rows = [candidate(i, None if source else NAMES[i % 3], NAMES[0], (0.0, 0.0, 0.0)) for i in range(n)]
    return [replace(row, channel_scores=tuple(one), source=source) for row, one in zip(rows, channel, strict=True)]


def test_the_ensemble_labels_by_both_scores_centred():
    right = {row.id: NAMES[i % 3] for i, row in enumerate(told_apart())}
    for evidence in ("direct", "both"):
        assert labels.choose(told_apart(), NAMES, "ensemble", evidence).labels == right
    with pytest.raises(SgError, match="no channel scores") as error:
        labels.choose(collapsed(), NAMES, "ensemble")
    assert error.value.exit_code == 2


def test_auto_gives_every_row_the_label_of_both_scores_where_the_evidence_is_both():
    found = labels.choose(told_apart(), NAMES, "auto", "both")
    assert found.policy == "ensemble" and "input after the label" in found.why
    assert found.labels == {row.id: NAMES[i % 3] for i, row in enumerate(told_apart())}
    misread = [replace(row, label_asked=NAMES[0]) for row in told_apart()]
    assert labels.choose(misread, NAMES, "auto", "both").labels == found.labels
    assert labels.choose(told_apart(), NAMES, "auto").policy != "ensemble"


def test_own_inputs_are_labelled_by_both_scores_where_the_evidence_is_both():
    rows = told_apart(source=OWN)
    found = labels.choose(rows, NAMES, "auto", "both")
    assert found.policy == "ensemble" and list(found.labels.values()) == [NAMES[i % 3] for i in range(30)]
    assert labels.choose(rows, NAMES, "auto").policy == "calibrated"


def test_rows_are_ranked_by_both_scores_where_the_evidence_is_both():
    rows = told_apart(120)
    doubted = [replace(row, channel_scores=row.channel_scores[::-1]) if i % 2 else row for i, row in enumerate(rows)]
    kept = labels.choose(doubted, NAMES, "ranked", "both").labels
    n_kept, n_right = (sum(kept[row.id] is not None for row in some) for some in (doubted, doubted[::2]))
    assert n_kept == 60 and n_right >= 50


@pytest.mark.parametrize(
    "text, counts",
    [
        ("Where is the nearest open station?", True),
        ("No.", False),
        ("Of course! Where is it?", False),
        ("a " * 90, False),
    ],
)
def test_the_gate_on_votes_knows_noise_and_lengths(fluent, text, counts):
    assert (
        filters.OutputGate(fluent, FilterSettings())("Where is um the near the nearest open station?", text) is counts
    )


def test_the_gate_is_another_one_where_a_rule_that_it_heeds_changes(routing):
    plain = filters.OutputGate(routing, FilterSettings()).digest
    assert filters.OutputGate(routing, FilterSettings(near_duplicate=Threshold(0.5))).digest == plain
    assert filters.OutputGate(routing, FilterSettings(noise=Switch(on=False))).digest != plain
