"""Answers in JSON against right ones, field by field."""

from __future__ import annotations

import pytest

from sg_local import metrics
from sg_local.fields import likeness

TEXT = '{"type": "object", "required": ["item", "count"]}'


@pytest.mark.parametrize(
    ("text", "right", "f1", "wrong"),
    [
        ('{"a": 1, "b": "x"}', '{"b": "x", "a": 1}', 1, ""),
        ('{"a": 1.0, "b": " X  y"}', '{"a": 1, "b": "x Y"}', 1, ""),
        ('{"a": true}', '{"a": 1}', 0, "a"),
        ('{"a": 1}', '{"a": "1"}', 0, "a"),
        ('{"a": null}', '{"a": false}', 0, "a"),
        ('{"a": 1}', '{"a": 1, "b": 2}', 2 / 3, "b"),
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1}', 1 / 2, ""),
        ('{"items": [{"n": 1}, {"n": 2}]}', '{"items": [{"n": 2}, {"n": 1}]}', 1, ""),
        ('{"items": [1, 1, 2]}', '{"items": [1, 2, 2]}', 2 / 3, "items[]"),
        ('{"items": []}', '{"items": []}', 1, ""),
        ('{"items": []}', '{"items": {}}', 0, "items"),
        ('{"items": []}', '{"items": [1]}', 0, "items[]"),
        ('{"a": {"b": {"c": 1}, "d": 2}}', '{"a": {"b": {"c": 3}, "d": 2}}', 1 / 2, "a.b.c"),
        ("three", '{"a": 1, "b": 2}', 0, "a b"),
        ('{"a": NaN}', '{"a": 1}', 0, "a"),
        ('"x"', '"X"', 1, ""),
        ("[" * 5000, '{"a": 1}', 0, "a"),
    ],
)
def test_an_answer_is_scored_field_by_field(text, right, f1, wrong):
    found = likeness(text, right)
    assert found.f1 == pytest.approx(f1)
    assert [path for path, is_right in found.fields.items() if not is_right] == wrong.split()


def test_the_best_of_several_right_outputs_counts():
    outputs = ('{"a": 1, "b": 2}', '{"a": 5}')
    assert metrics.field_f1('{"a": 5}', outputs) == metrics.fields_right('{"a": 5}', outputs) == 1
    assert metrics.by_field(['{"a": 5}', '{"a": 1, "b": 3}', "no"], [outputs] * 3) == {"a": 66.67, "b": 0.0}
    assert list(metrics.metrics_of("generation", (), TEXT))[3:] == ["field_f1", "fields_right", "valid_json"]
    valid = metrics.metrics_of("generation", (), TEXT)["valid_json"]
    assert [valid(text, ()) for text in ('{"item": "x", "count": 1}', '{"item": "x"}')] == [1, 0]
