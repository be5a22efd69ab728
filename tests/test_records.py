"""Records and their JSON form."""

import json

import pytest

from sg_local.records import (
    Candidate,
    Pair,
    SgError,
    Task,
    TestRow,
    Verdict,
    digest,
    from_dict,
    row_id,
    seed_of,
    to_json,
)


def test_records_come_back_from_json(routing):
    rows = [
        routing,
        Verdict("a", True, "ann", output="\u00e9\n"),
        Candidate("a", "b", "c", {"c": 2}, 2, 1.0, None, (-1.5,)),
    ]
    for row in rows:
        line = to_json(row)
        assert "\n" not in line and from_dict(type(row), json.loads(line)) == row


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(SgError, match="unknown key 'x'"):
        from_dict(Pair, {"input": "", "output": "", "x": 1})
    with pytest.raises(SgError, match="output"):
        from_dict(Pair, {"input": ""})


def test_test_rows_do_not_change_a_tasks_digest(routing):
    other = Task(**{**routing.__dict__, "tests": (TestRow("a", ("billing",)),)})
    assert other.digest == routing.digest
    assert Task(**{**routing.__dict__, "instruction": "Else."}).digest != routing.digest


def test_ids_and_seeds_are_stable_across_versions():
    assert row_id("task", "input", 0, 1, 7) == "489ad0d99629"
    assert seed_of("489ad0d99629") == 745225557
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


def test_a_message_with_a_files_text_in_it_fits_on_a_screen():
    error = SgError(f"tasks.toml:3: {'a' * 70_000} is no label.", "b" * 70_000)
    assert error.message.startswith("tasks.toml:3: aaa") and error.message.endswith("is no label.")
    assert len(error.message) <= 1000 and len(error.hint) <= 1000 and str(error) == error.message
