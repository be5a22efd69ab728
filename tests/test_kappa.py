"""Cohen's kappa from pairs of answers; the reviewers and the filters have it from here."""

import pytest

from sg_local.kappa import Agreed, judged_alike


@pytest.mark.parametrize(
    ("pairs", "found", "kappa"),
    [
        ([("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15, Agreed(50, 35, 0.5), 0.4),
        ([("a", "b"), ("b", "a")], Agreed(2, 0, 0.5), -1.0),
        ([("a", None)], Agreed(1, 0, 0.0), 0.0),
        ([("a", "a")] * 3, Agreed(3, 3, 1.0), None),
    ],
    ids=["an example of Wikipedia's", "never alike", "one answered nothing", "one answer to all"],
)
def test_kappa_is_the_share_alike_beyond_chance(pairs, found, kappa):
    assert judged_alike(pairs) == found
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))
