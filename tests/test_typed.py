"""Plain data held to types: what comes through, and what is said of what does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sg_local.records import Candidate, SgError, Task, from_dict, to_json
from sg_local.typed import Misfit, reader


@dataclass(frozen=True)
class Leaf:
    n: int
    share: float = 0.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    curve: tuple[tuple[int, float | None], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    name: str | None = None
    on: bool = False
    more: dict[str, Any] = field(default_factory=dict)


GOOD = {
    "leaves": [{"n": 1, "share": 2}, {"n": 2, "kind": "b"}],
    "curve": [[1, None], [2, 0.5]],
    "counts": {"x": 3},
    "name": None,
    "on": True,
    "more": {"any": [None, {}]},
}

WRONG = [
    ({"leaves": None}, "leaves is not a list"),
    ({"leaves": {}}, "leaves is not a list"),
    ({"leaves": [{"n": 1}, 5]}, "leaves[1] is not an object"),
    ({"leaves": [{"n": 1}, {"n": "2"}]}, "leaves[1].n is not a whole number"),
    ({"leaves": [{"n": True}]}, "leaves[0].n is not a whole number"),
    ({"leaves": [{"n": 1.0}]}, "leaves[0].n is not a whole number"),
    ({"leaves": [{"n": 10**30}]}, "leaves[0].n is too large"),
    ({"leaves": [{}]}, "leaves[0].n is missing"),
    ({"leaves": [{"n": 1, "m": 2}]}, "leaves[0] unknown key 'm'"),
    ({"leaves": [{"n": 1, "share": False}]}, "leaves[0].share is not a number"),
    ({"leaves": [{"n": 1, "share": float("nan")}]}, "leaves[0].share is not a finite number"),
    ({"leaves": [{"n": 1, "share": float("-inf")}]}, "leaves[0].share is not a finite number"),
    ({"leaves": [{"n": 1, "share": 10**400}]}, "leaves[0].share is not a finite number"),
    ({"leaves": [{"n": 1, "kind": "c"}]}, "leaves[0].kind is not one of a, b"),
    ({"leaves": [{"n": 1, "kind": ["a"]}]}, "leaves[0].kind is not one of a, b"),
    ({"curve": [[1]]}, "curve[0] is not a list of 2"),
    ({"curve": [[1, "x"]]}, "curve[0][1] is not a number"),
    ({"counts": {"x": None}}, "counts.x is not a whole number"),
    ({"counts": []}, "counts is not an object"),
    ({"name": 5}, "name is not a text"),
    ({"on": 1}, "on is not true or false"),
    ({"more": "x"}, "more is not an object"),
]


def test_what_fits_comes_back_as_the_record():
    found = from_dict(Tree, GOOD)
    assert found.leaves == (Leaf(1, 2), Leaf(2, 0.0, "b"))
    assert found.curve == ((1, None), (2, 0.5)) and found.counts == {"x": 3} and found.on is True
    assert type(found.leaves[0].share) is int  # a row is written again as it was read


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_does_not_fit_is_named_by_its_path(change, said):
    with pytest.raises(SgError) as caught:
        from_dict(Tree, {**GOOD, **change})
    assert caught.value.message == f"Tree: {said}"


@pytest.mark.parametrize("data", [None, [], "x", 5, True])
def test_a_record_is_an_object(data):
    with pytest.raises(SgError, match="Tree: is not an object"):
        from_dict(Tree, data)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(Misfit) as caught:
        reader(Tree)({"k" * 5000: 1})
    assert len(str(caught.value)) < 100


def test_every_type_of_a_record_in_a_journal_has_a_reader(routing):
    assert from_dict(Task, json.loads(to_json(routing))) == routing
    row = Candidate("a", "b", "c", {"c": 2}, 2, 1.0, None, (-1.5,))
    assert from_dict(Candidate, json.loads(to_json(row))) == row
