"""What `tasks check` finds in a task, each finding with its line; an error stops a run, a warning does not."""

import json

import pytest
from click.testing import CliRunner

from sg_local import tasks
from sg_local.cli.app import app
from sg_local.records import SgError
from sg_local.tasks.files import read_placed_task
from sg_local.tasks.lint import lint

GOOD = """\
kind = "classification"
instruction = "Say whether the review is glad, sad or mixed."
labels = ["glad", "sad", "mixed"]
[[examples]]
input = "I love it."
output = "glad"
[[examples]]
input = "It broke at once, and nobody answers."
output = "sad"
[[examples]]
input = "Nice colour, poor sound."
output = "mixed"
"""
ROWS = "".join(
    f'[[tests]]\ninput = "Review {n} tells of thing {n * n} at length {n**3}."\noutput = "{label}"\n'
    for n, label in zip(range(30), ["glad", "sad", "mixed"] * 10, strict=True)
)


@pytest.fixture
def found(tmp_path):
    """What is found in a task's text, and the lines that are named."""

    def look(text):
        (tmp_path / "task.toml").write_text(text, encoding="utf-8")
        placed = read_placed_task(tmp_path / "task.toml")
        advice = lint(placed.task, placed.source)
        assert all(item.place.startswith(str(tmp_path)) and item.advice for item in advice)
        return [(item.level, item.place.removeprefix(f"{tmp_path}/"), item.finding) for item in advice]

    return look


def test_a_good_task_has_nothing_to_complain_about(found):
    assert found(GOOD + ROWS) == []


LABELS = '["glad", "sad", "mixed"'
ONE, THREE, FOUR = (f"Review {n} tells of thing {n * n} at length {n**3}." for n in (1, 3, 4))
NEAR = "It broke at once, and nobody ever answers."
LAST = 'output = "mixed"\n[[tests]]'
LONG = f'output = "mixed"\n[[examples]]\ninput = "{"long " * 301}"\noutput = "sad"\n[[tests]]'
SHORT_ROWS = ROWS[: ROWS.index("[[tests]]", 1)]


@pytest.mark.parametrize(
    ("old", "new", "level", "place", "says"),
    [
        (THREE, "I LOVE it!", "error", ":22", "stands among the examples"),
        (THREE, NEAR, "warning", ":22", "1 test row is nearly an example, such as test row 4"),
        ("Nice colour, poor sound.", "i love it", "error", ":4, 10", "Examples 1 and 3 have the same input and other"),
        (FOUR, ONE, "warning", ":25", "more than once"),
        (THREE, ONE, "warning", ":16, 22", "contradict"),
        (LABELS, LABELS + ', "Sad!"', "error", ":3", "letter case or punctuation: 'sad' and"),
        (LABELS, LABELS + ', "s\u0430d"', "error", ":3", "same to the eye"),
        (LABELS, LABELS + ', "b\u0430d"', "warning", ":3", "mixes scripts in one word: \u0430 is Cyrillic"),
        (LABELS, LABELS + ', "\u0434\u0430"', "warning", ":3", "in Cyrillic letters, which neither"),
        (LABELS, LABELS + ', "sad "', "error", ":3", "letter case"),
        (LABELS, LABELS + ', "bad "', "error", ":3", "has blanks around it"),
        (LABELS, LABELS + ', "dull"', "warning", ":2", "name 1 label, such as dull"),
        (LAST, LAST.replace("mixed", "sad"), "warning", ":3", "No example has the label mixed"),
        (LAST, LONG, "warning", ":13", "Example 4 has 302 words"),
        (ROWS, "", "warning", "", "There are no test rows"),
        (ROWS, SHORT_ROWS, "warning", ":13", "Only 1 test row is given"),
        (ROWS, SHORT_ROWS, "warning", ":13", "No test row has the label mixed, sad"),
    ],
)
def test_each_finding_has_its_level_and_its_line(found, old, new, level, place, says):
    text = (GOOD + ROWS).replace(old, new)
    assert text != GOOD + ROWS
    assert [(one, where) for one, where, finding in found(text) if says in finding] == [(level, f"task.toml{place}")]


def test_findings_in_a_file_of_tests_name_that_file(found, tmp_path):
    (tmp_path / "rows.csv").write_text('text,label\n"a\nb",glad\nI love it,sad\n', encoding="utf-8")
    (error, *_) = found('tests = "rows.csv"\n' + GOOD)
    assert error[:2] == ("error", "rows.csv:4")


def test_latin_labels_of_a_latin_instruction_suit_inputs_of_any_script(found):
    text = GOOD.replace("I love it.", "\u3068\u3066\u3082\u597d\u304d").replace("Nice colour", "\u041e\u043d")
    assert not [finding for _, _, finding in found(text + ROWS) if "letters" in finding]


def test_every_error_stops_a_run_before_work_and_no_warning_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.toml").write_text(GOOD.replace('"mixed"]', '"mixed", "s\u0430d"]'), encoding="utf-8")
    task = tasks.read_task(tmp_path / "task.toml")
    with pytest.raises(SgError, match="same to the eye") as refused:
        tasks.check_task(task)
    assert "`tasks check`" in refused.value.hint and refused.value.exit_code == 2
    done = CliRunner().invoke(app, ["run", "task.toml", "--backend", "scripted", "--yes"])
    assert done.exit_code == 2 and "sg-local tasks check" in done.output and not (tmp_path / "runs").exists()
    (tmp_path / "task.toml").write_text(GOOD.replace('"mixed"]', '"mixed", "\u0434\u0430"]'), encoding="utf-8")
    tasks.check_task(tasks.read_task(tmp_path / "task.toml"))


def test_what_a_models_context_does_not_hold_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tmp_path / "home"))
    long = 'input = "' + "word " * 3000 + '"\noutput = "sad"\n[[tests]]\ninput = "' + "word " * 980
    text = GOOD + ROWS.replace('input = "Review 3 tells of thing 9 at length 27.', long)
    (tmp_path / "task.toml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["tasks", "check", "task.toml", "--backend", "scripted", "--json"])
    assert done.exit_code == 0, done.output
    found = {item["place"]: item["finding"] for item in json.loads(done.stdout)}
    assert "1 input is too long for a context of 2048 tokens: The prompt has 6026" in found["task.toml:22"]
    assert "1 input leaves no room for all examples in a context of 2048 tokens" in found["task.toml:25"]
