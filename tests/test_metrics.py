"""Scores of single answers, tables, intervals and the leak check."""

import random

import pytest

from sg_local import metrics
from sg_local.metrics import Words


@pytest.mark.parametrize(
    "text, references, expected",
    [
        ("Billing.", ("billing",), 1),
        ("  the  Answer ", ("the answer",), 1),
        ("the answer is billing", ("billing",), 0),
        ("b", ("a", "b"), 1),
        ("", ("a",), 0),
        ("?", ("!",), 0),
    ],
)
def test_exact_match_normalises_and_takes_any_reference(text, references, expected):
    assert metrics.exact_match(text, references) == expected


@pytest.mark.parametrize(
    "text, references, expected",
    [
        ("the cats sat", ("the cat sat",), 1.0),
        ("nothing", ("the cat sat", "nothing"), 1.0),
        ("the cat", ("the cat sat",), 0.8),
        ("", ("the cat",), 0.0),
        ("\u732b \u72ac", ("\u732b \u72ac",), 1.0),
        ("Счёт на 15:00 отменён", ("Встреча перенесена на 15:00",), 2 * 3 / (5 + 5)),
        ("Встреча перенесена на пятницу", ("Встреча перенесена на 15:00",), 2 * 3 / (4 + 5)),
        ("Зарядка не работает.", ("Зарядка не работает",), 1.0),
        ("会議は延期されました。", ("会議は延期されました",), 1.0),
        ("猫が10匹います", ("会議は10時に延期されました",), 2 * 2 / (7 + 13)),
        ("Für Möller", ("Für Müller",), 0.5),
        ("\U0001f44e", ("\U0001f44d",), 0.0),
    ],
)
def test_rouge_l_stems_and_takes_the_best_reference(text, references, expected):
    assert metrics.rouge_l()(text, references) == pytest.approx(expected)


def test_exact_match_of_labels_keeps_apart_what_differs_in_signs():
    score = metrics.metrics_of("classification", ("A", "A-", "C++"))["exact_match"]
    found = [
        (text, ref) for text in ("A", "A-", "a-.", "c++", "C") for ref in ("A", "A-", "C++") if score(text, (ref,))
    ]
    assert found == [("A", "A"), ("A-", "A-"), ("a-.", "A-"), ("c++", "C++")]


@pytest.mark.parametrize(
    "text, right, expected",
    [
        ("not yes but no", "no", 1),
        ("Not Yes", "yes", 0),
        ("weakener", "weak", 0),
        ("nothing here", "yes", 0),
    ],
)
def test_the_authors_label_is_the_last_case_sensitive_substring(text, right, expected):
    labels = ("yes", "no", "weak", "weakener") if right == "weak" else ("yes", "no")
    assert metrics.authors_label(labels)(text, (right,)) == (expected if text != "nothing here" else 0)


def test_the_authors_rouge_l_counts_characters():
    assert metrics.authors_rouge_l("abcd", ("abxd",)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "text, found", [("It is 'Yes'!", True), ("yesterday", False), ("", False), ("not  sure", True)]
)
def test_a_label_is_named_only_as_whole_words(text, found):
    assert metrics.names_label(("yes", "not sure"), text) is found


def slow_lcs(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(before[j + 1], row[j])
    return row[-1]


def test_bit_parallel_lcs_equals_the_textbook():
    rng = random.Random(7)
    for _ in range(200):
        a, b = (rng.choices("abc", k=rng.randrange(0, 90)) for _ in range(2))
        assert metrics.lcs_length(a, b) == metrics.lcs_length("".join(a), "".join(b)) == slow_lcs(a, b)


def test_confusion_counts_answers_without_a_label_last():
    table = metrics.confusion(("a", "b"), ["A.", "b", "who knows", "b"], ["a", "a", "b", "b"])
    assert table == [[1, 1, 0], [0, 1, 1]]
    assert metrics.macro_f1(table) == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)


def test_macro_f1_leaves_out_labels_that_never_occur():
    assert metrics.macro_f1([[3, 0, 0], [0, 0, 0]]) == 100


def test_an_estimate_holds_its_mean_and_is_the_same_every_time():
    values = [1.0] * 30 + [0.0] * 10
    first = metrics.estimate(values, metrics.resamples(40, seed=1))
    assert first == metrics.estimate(values, metrics.resamples(40, seed=1))
    assert first.low < first.score == 75 < first.high
    assert 10 < first.high - first.low < 35


@pytest.mark.parametrize("value, low, high", [(0.0, 0, 30.85), (1.0, 69.15, 100)])
def test_rows_that_all_score_alike_still_have_an_interval(value, low, high):
    found = metrics.estimate([value] * 10, metrics.resamples(10, seed=1))
    assert (found.low, found.high) == (low, high)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = random.Random(3)
    hits = 0
    for trial in range(200):
        values = [float(rng.random() < 0.6) for _ in range(80)]
        found = metrics.estimate(values, metrics.resamples(80, seed=trial, rounds=400))
        hits += found.low <= 60 <= found.high
    assert 180 <= hits <= 200


def test_a_paired_gain_is_surer_than_its_two_scores():
    base = [float(i % 2) for i in range(60)]
    tuned = [1.0 if i % 10 == 0 else value for i, value in enumerate(base)]
    draws = metrics.resamples(60, seed=0)
    gain = metrics.paired(tuned, base, draws)
    assert gain.gain == 10 and gain.outcome == "better" and gain.p < 0.05
    assert metrics.estimate(tuned, draws).low < metrics.estimate(base, draws).high


def test_no_difference_is_open_and_never_certain():
    gain = metrics.paired([1.0, 0.0], [1.0, 0.0], metrics.resamples(2, seed=0))
    assert (gain.gain, gain.p, gain.outcome) == (0, 1.0, "open")


def test_p_is_never_zero():
    assert metrics.paired([1.0] * 50, [0.0] * 50, metrics.resamples(50, seed=0)).p > 0


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ("My parcel is late!", "my parcel is late", True),
        ("late is parcel my", "my parcel is late", True),
        ("my parcel is late", "my refund is late", False),
        (
            "one two three four five six seven eight nine ten x",
            "one two three four five six seven eight nine ten",
            True,
        ),
        ("", "word", False),
        ("!!", "??", False),
        ("2x4", "2x5", False),
    ],
)
def test_near_equality_sees_case_order_and_small_additions(a, b, expected):
    assert metrics.nearly_equal(Words.of(a), Words.of(b)) is expected


def test_leaks_are_found_row_by_row():
    assert metrics.leaks(["a b c", "d e f"], ["A, b, c."]) == [True, False]


def test_the_deciding_metric_comes_first():
    assert next(iter(metrics.metrics_of("generation", ()))) == "rouge_l"
    assert next(iter(metrics.metrics_of("classification", ("a", "b")))) == "exact_match"


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [
        ({}, ""),
        ({"one": 1}, "one"),
        ({"the big shop opens at nine": 1, "the big shop opens at ten": 1, "no idea at all": 1},
         "the big shop opens at ten"),  # of equals the shortest
        ({"chatter": 2, "a red bus stops here": 1, "the red bus stops here": 1, "one red bus stops here": 1},
         "a red bus stops here"),  # the most frequent is like nothing else
        ({"yes": 3, "no": 2}, "yes"),
        ({"b c": 1, "c b": 1}, "b c"),
    ],
)  # fmt: skip
def test_the_consensus_is_most_like_all_votes(votes, wanted):
    assert metrics.consensus(votes) == wanted == metrics.consensus(dict(reversed(votes.items())))
