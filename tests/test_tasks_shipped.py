"""The task files that ship: each is complete, balanced, free of repeats, and no test row gives an example away."""

import datetime
import itertools
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

FOLDER = Path(__file__).parent.parent / "tasks"
FILES = sorted(FOLDER.glob("*.toml"))
NEAR = 0.8  # ROUGE-L F1 above which two inputs say the same; synthesis drops near duplicates at 0.7
FORMS = {
    "order_line": r"qty=[1-9]\d*; item=[a-z -]+; size=(S|M|L|XL|none)",
    "iso_date": r"\d{4}-\d\d-\d\d",
    "dictated_question": r"[A-Z].*\?",
    "active_voice": r"[A-Z].*[.?]",
    "mask_personal_data": r".*\[(NAME|PHONE|EMAIL)\].*",
    "subject_line": r"\S+( \S+){0,5}",
}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def task(path):
    return load(path)


def load(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def outputs(row):
    return row["outputs"] if "outputs" in row else [row["output"]]


def rows(task):
    return task["examples"] + task["tests"]


def closest(pairs):
    scorer = RougeScorer(["rougeL"])
    return max((scorer.score(a, b)["rougeL"].fmeasure, a, b) for a, b in pairs)


def test_there_are_tasks_of_both_kinds():
    kinds = Counter(load(path)["kind"] for path in FILES)
    assert len(FILES) >= 8
    assert set(kinds) == {"classification", "generation"}


def test_the_name_is_the_file_stem_in_snake_case(path, task):
    assert task["name"] == path.stem
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", path.stem)


def test_the_summary_is_one_short_line(task):
    assert 0 < len(task["summary"]) <= 80
    assert "\n" not in task["summary"]


def test_there_are_three_examples_and_enough_tests(task):
    assert len(task["examples"]) == 3
    assert 48 <= len(task["tests"]) <= 60


def test_every_row_is_one_short_line(task):
    for row in rows(task):
        for text in (row["input"], *outputs(row)):
            assert text == text.strip()
            assert 0 < len(text) <= 200
            assert "\n" not in text


def test_no_input_stands_twice(task):
    counts = Counter(" ".join(re.findall(r"\w+", row["input"].lower())) for row in rows(task))
    assert [text for text, n in counts.items() if n > 1] == []


def test_no_test_row_is_close_to_an_example(task):
    pairs = itertools.product((row["input"] for row in task["tests"]), (row["input"] for row in task["examples"]))
    score, *pair = closest(pairs)
    assert score <= NEAR, pair


def test_no_two_test_rows_are_close(task):
    score, *pair = closest(itertools.combinations((row["input"] for row in task["tests"]), 2))
    assert score <= NEAR, pair


def test_labels_are_balanced_and_each_is_shown(task):
    if task["kind"] == "generation":
        assert "labels" not in task
        return
    counts = Counter(output for row in task["tests"] for output in outputs(row))
    assert set(counts) == set(task["labels"]) == {row["output"] for row in task["examples"]}
    assert len(set(counts.values())) == 1
    assert all(label in task["instruction"] for label in task["labels"])


def test_a_copy_of_the_input_is_never_right(task):
    assert [row["input"] for row in rows(task) if row["input"] in outputs(row)] == []


@pytest.mark.parametrize(("name", "form"), FORMS.items())
def test_answers_have_the_form_asked_for(name, form):
    answers = [answer for row in rows(load(FOLDER / f"{name}.toml")) for answer in outputs(row)]
    assert [answer for answer in answers if not re.fullmatch(form, answer)] == []


def test_every_date_is_on_the_calendar_and_its_year_in_the_text():
    for row in rows(load(FOLDER / "iso_date.toml")):
        date = datetime.date.fromisoformat(row["output"])
        assert str(date.year) in row["input"] and date.strftime("%Y-%m-%d") == row["output"]


def test_no_personal_data_is_left_in_a_masked_message():
    for row in rows(load(FOLDER / "mask_personal_data.toml")):
        assert not re.search(r"@|\b555\b|\+44", row["output"])
        assert "example." not in row["output"]
