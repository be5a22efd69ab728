"""Scores to probabilities, the temperature between them, and how far the probabilities can be trusted."""

from __future__ import annotations

import math

import pytest

from sg_local import calibration
from sg_local.calibration import BINS, SURE, Calibration, fitted, mean_scores, reliability, shares

SURE_ROW, UNSURE_ROW = (0.0, -8.0), (0.0, -0.5)


def test_probabilities_are_the_softmax_of_what_the_journal_keeps():
    assert shares((0.0, -1.0, -11.0))[1] == math.exp(-1) / (1 + math.exp(-1) + math.exp(-11))
    assert shares((-1.234512, -2.0)) == shares((-1.2345, -2.0))
    assert sum(shares((-900.0, -901.0, -5.0))) == pytest.approx(1)


def test_means_are_taken_off_before_the_temperature():
    found = Calibration((-1.0, -3.0), 2.0).probabilities((-2.0, -4.0))
    assert found == (0.5, 0.5)
    assert Calibration(temperature=2.0).probabilities((0.0, -2.0)) == shares((0.0, -1.0))


def test_rows_that_are_surely_wrong_raise_the_temperature():
    rows = [SURE_ROW] * 20
    calm = fitted(rows, [0] * 20)
    wrong = fitted(rows, [0] * 15 + [1] * 5)
    assert calm.temperature < wrong.temperature and wrong.n == 20
    assert wrong.probabilities(SURE_ROW)[0] == pytest.approx(0.75, abs=0.03)


def test_timid_rows_that_are_right_lower_it():
    found = fitted([UNSURE_ROW] * 200, [0] * 180 + [1] * 20)
    assert found.temperature < 1 and found.probabilities(UNSURE_ROW)[0] == pytest.approx(0.9, abs=0.03)


def test_few_rows_say_little():
    assert 0.5 < fitted([SURE_ROW] * 3, [0] * 3).temperature < 1.1
    assert fitted([], []) == Calibration() and fitted([], [], (-1.0, -2.0)) == Calibration((-1.0, -2.0))


def test_a_temperature_never_changes_which_label_is_likeliest():
    rows = [(-1.0, -2.0, -0.5), (-3.0, -0.1, -9.0)]
    for temperature in (0.1, 1.0, 7.0):
        found = [Calibration(temperature=temperature).probabilities(row) for row in rows]
        assert [row.index(max(row)) for row in found] == [2, 1]


def test_means_of_scores_are_by_label():
    assert mean_scores([(-1.0, -2.0), (-3.0, -2.00001)]) == (-2.0, -2.0) and mean_scores([]) == ()


def test_an_honest_half_has_no_calibration_error():
    rows, right = [(0.0, 0.0)] * 10, [frozenset({i % 2}) for i in range(10)]
    found = reliability(rows, right, Calibration())
    assert (found.ece, found.brier, found.n) == (0.0, 0.5, 10)
    assert (found.sure.threshold, found.sure.coverage, found.sure.right) == (SURE, 0.0, None)
    assert [(one.low, one.high, one.n, one.confidence, one.right) for one in found.bins] == [(0.5, 0.6, 10, 50.0, 50.0)]


def test_reliability_tells_before_and_after_and_what_is_left_above_a_threshold():
    rows, right = [SURE_ROW] * 4 + [UNSURE_ROW] * 4, [frozenset({0})] * 7 + [frozenset({1})]
    found = reliability(rows, right, Calibration(temperature=4.0, n=9), abstain=0.6)
    assert (found.temperature, found.n_fitted) == (4.0, 9)
    assert found.brier_before != found.brier and found.ece_before != found.ece
    assert (found.sure.coverage, found.sure.right) == (0.0, None)
    assert found.abstain is not None and (found.abstain.coverage, found.abstain.right) == (50.0, 100.0)
    assert sum(one.n for one in found.bins) == 8
    assert reliability(rows, right, Calibration()).abstain is None


def test_a_confidence_of_one_stands_in_the_last_bin():
    [only] = calibration.bins_of([(1.0, True)])
    assert (only.low, only.high) == ((BINS - 1) / BINS, 1.0)


def test_of_several_right_labels_any_counts():
    found = reliability([(0.0, -1.0)], [frozenset({0, 1})], Calibration())
    assert found.brier == pytest.approx(2 * shares((0.0, -1.0))[1] ** 2, abs=1e-4)
    assert found.bins[0].right == 100.0
