"""Task files: TOML, Super-NaturalInstructions, and every way they can be wrong."""

import json

import pytest

from sg_local import tasks
from sg_local.records import SgError
from sg_local.tables import Columns
from sg_local.tasks import files

GOOD = """
name = "answer"
kind = "classification"
instruction = "Say yes or no."
labels = ["yes", "no"]
[[examples]]
input = "Is water wet?"
output = "yes"
[[tests]]
input = "Is fire cold?"
output = "no"
"""


def write(tmp_path, text, name="task.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_stay_strings(tmp_path):
    task = tasks.read_task(write(tmp_path, GOOD))
    assert task.labels == ("yes", "no")
    assert task.examples[0].output == "yes" and task.tests[0].outputs == ("no",)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('name = "answer"', "name = answer", 2, "not TOML"),
        ('kind = "classification"', 'kind = "sorting"', 3, "kind is 'sorting'"),
        ('instruction = "Say yes or no."', 'instruction = ""', 4, "instruction is missing"),
        ('labels = ["yes", "no"]', "labels = [true, false]", 5, "labels must be strings"),
        ('labels = ["yes", "no"]', 'labels = ["yes", "yes"]', 5, "listed twice"),
        ('labels = ["yes", "no"]', 'labels = ["yes"]', 5, "two labels or more"),
        ('labels = ["yes", "no"]', 'labels = ["yes", "\\u001b[2Jno"]', 5, "labels holds a control character"),
        ('labels = ["yes", "no"]', 'labels = ["yes", "n\\no"]', 5, "labels holds a control character"),
        ('name = "answer"', 'name = "ans\\u202ewer"', 2, "name holds a control character"),
        ('output = "no"', 'output = "maybe"', 11, "'maybe' is not in labels"),
        ("[[tests]]", "[[test]]", 9, "unknown key 'test'"),
        ('input = "Is water wet?"\n', "", 6, "example 1 has no text as input"),
        ('input = "Is water wet?"', 'inptu = "Is water wet?"', 7, "unknown key 'inptu' in example 1"),
        ('output = "no"', 'output = "no"\nweight = 2', 12, "unknown key 'weight' in test 1"),
        ('output = "yes"', 'output = "yes"\ntests = "rows.jsonl"', 9, "tests comes after [[examples]]"),
        ("[[tests]]", '[[tests]]\nlabels = ["a", "b"]', 10, "labels comes after [[tests]]"),
        ("[[examples]]", 'output = "yes"\n[[examples]]', 6, "output is outside any row"),
        ('labels = ["yes", "no"]', 'lables = ["yes", "no"]', 5, "unknown key 'lables'"),
        ('labels = ["yes", "no"]', '[schema]\ninstruction = "x"', 6, "instruction comes after [schema]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, old, new, line, says):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SgError) as error:
        tasks.read_task(path)
    assert error.value.message.startswith(f"{path}:{line}: ") and says in error.value.message
    assert error.value.hint and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (
            'input = "Is water wet?"',
            'inptu = "Is water wet?"',
            "Did you mean input? Each [[examples]] has: input, output.",
        ),
        ('output = "no"', 'ouputs = ["no"]', "Did you mean outputs?"),
        (
            'output = "yes"',
            'output = "yes"\ntests = "rows.jsonl"',
            "Move `tests = ...` up, above the first line in brackets.",
        ),
        ('labels = ["yes", "no"]', 'lables = ["yes", "no"]', "Did you mean labels?"),
    ],
)
def test_a_wrong_key_gets_the_nearest_name_or_its_right_place(tmp_path, old, new, hint):
    with pytest.raises(SgError) as error:
        tasks.read_task(write(tmp_path, GOOD.replace(old, new)))
    assert hint in error.value.hint


def test_texts_that_look_like_toml_move_no_line(tmp_path):
    text = GOOD.replace('"Is water wet?"', "'''\n[[tests]]\noutput = \"x\"\n'''  # [[tests]]")
    with pytest.raises(SgError) as error:
        tasks.read_task(write(tmp_path, text.replace('output = "no"', 'output = "maybe"')))
    assert error.value.message.startswith(f"{tmp_path / 'task.toml'}:14: ")


def test_examples_may_be_many_and_a_task_without_any_runs_no_job(tmp_path):
    start, end = GOOD.index("[[examples]]"), GOOD.index("[[tests]]")
    block = GOOD[start:end]
    bare = tasks.read_task(write(tmp_path, GOOD.replace(block, "")))
    assert bare.examples == ()
    with pytest.raises(SgError, match="no examples") as caught:
        tasks.check_task(bare)
    assert "`rows`" in caught.value.hint
    n = len(tasks.read_task(write(tmp_path, GOOD)).examples)
    assert len(tasks.read_task(write(tmp_path, GOOD.replace(block, block * 4))).examples) == 4 * n


def test_a_missing_file_and_an_unknown_name_are_usage_errors(tmp_path):
    for name in (str(tmp_path / "none.toml"), "no_such_task"):
        with pytest.raises(SgError) as error:
            tasks.find_task(name)
        assert error.value.exit_code == 2


def test_a_test_file_may_stand_beside_the_task(tmp_path):
    write(tmp_path, '{"input": "a", "output": "yes"}\n\n{"input": "b", "outputs": ["no"]}\n', "rows.jsonl")
    text = GOOD[: GOOD.index("[[examples]]")] + 'tests = "rows.jsonl"\n' + GOOD[GOOD.index("[[examples]]") :]
    text = text[: text.index("[[tests]]")]
    assert [row.input for row in tasks.read_task(write(tmp_path, text)).tests] == ["a", "b"]


def test_other_tests_are_drawn_or_read_in_the_spelling_of_the_labels(tmp_path):
    task = tasks.read_task(write(tmp_path, GOOD))
    rows = write(tmp_path, '{"input": "a", "output": "YES."}\n{"input": "b", "outputs": ["no", "Yes"]}\n', "rows.jsonl")
    assert [row.outputs for row in tasks.with_tests(task, rows).tests] == [("yes",), ("no", "yes")]
    assert tasks.with_tests(task, None) == task == tasks.with_tests(task, 5)
    assert len(tasks.with_tests(tasks.with_tests(task, rows), 1).tests) == 1


def test_a_test_output_that_is_no_label_is_named(tmp_path):
    task = tasks.read_task(write(tmp_path, GOOD))
    with pytest.raises(SgError, match="rows.jsonl:1: the output 'maybe' is not a label of task answer") as error:
        tasks.tests_of(task, write(tmp_path, '{"input": "a", "outputs": ["no", "maybe"]}\n', "rows.jsonl"))
    assert error.value.exit_code == 2


def test_a_malformed_test_line_is_numbered(tmp_path):
    path = write(tmp_path, '{"input": "a", "output": "yes"}\n{"input": \n', "rows.jsonl")
    with pytest.raises(SgError, match=r"rows.jsonl:2"):
        tasks.read_tests(path)


def test_a_spreadsheet_beside_the_task_holds_its_tests(tmp_path):
    write(tmp_path, 'Question;Answer\n"a\n\nb";YES\nc;no.\n', "rows.csv")
    text = 'tests = "rows.csv"\n' + GOOD[: GOOD.index("[[tests]]")]
    task = tasks.read_task(write(tmp_path, text))
    assert [(row.input, row.outputs) for row in task.tests] == [("a\n\nb", ("yes",)), ("c", ("no",))]
    write(tmp_path, 'Question;Answer\n"a\n\nb";YES\nc;maybe\n', "rows.csv")
    with pytest.raises(SgError, match="rows.csv:5: the output 'maybe' is not a label"):
        tasks.read_task(tmp_path / "task.toml")


def test_the_columns_of_a_test_file_are_said_in_the_task(tmp_path):
    write(tmp_path, "Body,Team\na,YES\nb,no\n", "rows.csv")
    head = GOOD[: GOOD.index("[[tests]]")]
    named = write(tmp_path, 'tests = {file = "rows.csv", input = "Body", output = "Team"}\n' + head)
    found = files.read_placed_task(named)
    assert [row.outputs for row in found.task.tests] == [("yes",), ("no",)]
    assert found.told == ("rows.csv: CSV with commas, 2 rows; input = Body, output = Team",)
    for tests, words in (
        ('"rows.csv"', 'Write tests = {file = "rows.csv", input = "Body", output = "Team"}.'),
        ('{file = "rows.csv", inptu = "Body"}', "names a file and its columns"),
        ('{input = "Body", output = "Team"}', "has columns and no file"),
        ('{file = "rows.csv", input = "Text", output = "Team"}', "no column 'Text' for the input"),
    ):
        with pytest.raises(SgError) as error:
            tasks.read_task(write(tmp_path, f"tests = {tests}\n" + head))
        assert words in f"{error.value.message} {error.value.hint}" and error.value.exit_code == 2


def test_examples_may_stand_in_a_file(tmp_path):
    write(tmp_path, 'Body,Team\n"a\n\nb",YES\nc,no\n', "shots.csv")
    write(tmp_path, "text,label\nd,no\n", "rows.csv")
    head = GOOD[: GOOD.index("[[examples]]")] + 'tests = "rows.csv"\nexamples = '
    found = files.read_placed_task(write(tmp_path, head + '{file = "shots.csv", input = "Body", output = "Team"}'))
    assert [(pair.input, pair.output) for pair in found.task.examples] == [("a\n\nb", "yes"), ("c", "no")]
    assert found.source.place("examples", 2).endswith("shots.csv:5") and found.source.place("tests", 1).endswith(":2")
    assert [line.partition(":")[0] for line in found.told] == ["shots.csv", "rows.csv"]
    write(tmp_path, '{"input": "a", "output": ["yes", "no"]}\n', "shots.jsonl")
    with pytest.raises(SgError, match="shots.jsonl:1: an example has one output, not 2"):
        tasks.read_task(write(tmp_path, head + '"shots.jsonl"'))
    write(tmp_path, "text,label\na,maybe\n", "shots.csv")
    with pytest.raises(SgError, match="shots.csv:2: the output 'maybe' is not a label"):
        tasks.read_task(write(tmp_path, head + '"shots.csv"'))


def test_the_columns_of_other_tests_are_told(tmp_path):
    task = tasks.read_task(write(tmp_path, GOOD))
    rows = write(tmp_path, "Body,Team\na,YES\n", "rows.csv")
    told: list[str] = []
    assert tasks.with_tests(task, rows, Columns("body", "team"), told.append).tests[0].outputs == ("yes",)
    assert told == ["rows.csv: CSV with commas, 1 row; input = Body, output = Team"]
    with pytest.raises(SgError) as error:
        tasks.with_tests(task, rows)
    assert error.value.hint == "Say it with `columns=input=Body,output=Team`."


def test_the_lines_of_a_super_ni_task_are_known(tmp_path):
    data = {**superni(3), "Negative Examples": [{"input": '"input": x', "output": "y"}]}
    found = files.read_placed_task(write(tmp_path, json.dumps(data, indent=1), "task001.json"))
    lines = found.source.text.splitlines()
    for part, text in ((("tests", 7), '"in 6"'), (("examples", 3), '"2"'), (("instruction",), "Definition")):
        assert text in lines[int(found.source.place(*part).rpartition(":")[2]) - 1]


def superni(n_outputs):
    return {
        "Definition": ["Do it."],
        "Positive Examples": [{"input": str(i), "output": f"out{i % 2}", "explanation": ""} for i in range(5)],
        "Instances": [{"id": i, "input": f"in {i}", "output": [f"out{i % n_outputs}"]} for i in range(60)],
    }


@pytest.mark.parametrize(("n_outputs", "kind", "n_labels"), [(3, "classification", 3), (40, "generation", 0)])
def test_superni_is_read_as_it_is(tmp_path, n_outputs, kind, n_labels):
    path = write(tmp_path, json.dumps(superni(n_outputs)), "task001.json")
    task = tasks.load_task(str(path), 10)
    assert (task.kind, len(task.labels), len(task.examples), len(task.tests)) == (kind, n_labels, 3, 10)
    assert tasks.load_task(str(path), 10).tests == task.tests


def test_a_json_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(SgError, match="not a Super-NaturalInstructions task"):
        tasks.read_task(write(tmp_path, '{"a": 1}', "task.json"))
