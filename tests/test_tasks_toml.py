"""A task written as a TOML file: easy to read, and the very same task when it is read back."""

import dataclasses
import tomllib

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from sg_local import tasks
from sg_local.cli.app import app
from sg_local.parsing import indented
from sg_local.records import Pair, SgError, Task, TestRow
from sg_local.tasks.draft import Draft, files_of, write_task
from sg_local.tasks.toml import task_toml, toml_string

MAIL = "Hello,\n\n  the box was \"empty\" \\ broken.\n\n[[tests]]\n\nAnn\n.\nSent from 'my' phone"
PIECES = st.sampled_from(
    ["'''", '"""', '"', "'", "\\", "\n", "\r", "\t", "\x00", "\x7f", "\x85", "\u2028", "a", " ", "#"]
)
TEXTS = st.text() | st.lists(PIECES).map("".join)


@given(TEXTS)
@example('"""')
@example('a\n\'\'\'\n""""')
@example("\n\n")
def test_every_text_reads_back_the_same(text):
    assert tomllib.loads(f"key = {toml_string(text)}\n") == {"key": text}


@given(st.lists(TEXTS.filter(lambda text: text.strip()), min_size=4, max_size=4), st.lists(TEXTS, max_size=3))
def test_every_task_reads_back_the_same(tmp_path_factory, texts, outputs):
    instruction, *others = texts
    first, second, third = map(indented, others)
    rows = (TestRow(third, tuple(text.strip() for text in outputs)),) if outputs else ()
    task = Task("one", "generation", instruction.strip(), (Pair(first, second),), tests=rows)
    path = tmp_path_factory.getbasetemp() / "one.toml"
    path.write_text(task_toml(task), encoding="utf-8")
    assert tasks.read_task(path) == task


@pytest.mark.parametrize("path", tasks.shipped_tasks(), ids=lambda path: path.stem)
def test_the_shipped_tasks_are_shown_as_files_that_read_back(path, tmp_path):
    shown = CliRunner().invoke(app, ["tasks", "show", path.stem, "--toml"])
    (tmp_path / path.name).write_text(shown.stdout, encoding="utf-8")
    assert shown.exit_code == 0 and tasks.read_task(tmp_path / path.name) == tasks.read_task(path)


def test_a_mail_stands_in_the_file_as_it_is(routing):
    task = dataclasses.replace(routing, examples=(Pair(MAIL, routing.labels[0]),), tests=())
    assert f"input = '''\n{MAIL}'''\n" in task_toml(task)
    assert "# [[tests]]" in task_toml(task)


def test_many_labels_stand_one_a_line_and_a_schema_stands_open(routing):
    labels = tuple(f"a rather long label {number}" for number in range(9))
    assert 'labels = [\n    "a rather long label 0",\n' in task_toml(dataclasses.replace(routing, labels=labels))
    schema = '{"type": "object", "properties": {"a": {"type": "string"}}}'
    task = Task("x", "generation", "Do it.", (Pair("a", '{"a": "b"}'),), schema=schema)
    assert 'schema = \'\'\'\n{\n  "type": "object",\n' in task_toml(task)


def test_test_rows_are_written_to_a_file_beside_the_task(routing, tmp_path):
    several = dataclasses.replace(routing.tests[0], input=MAIL, outputs=routing.labels[:2])
    task = dataclasses.replace(routing, tests=(several, *routing.tests))
    draft = Draft("", **{name: getattr(task, name) for name in ("kind", "instruction", "labels", "schema", "tests")})
    pairs = tuple((pair.input, pair.output) for pair in task.examples)
    files = files_of(
        dataclasses.replace(draft, name=task.name, examples=pairs, tests_beside=True), tmp_path / "mine.toml"
    )
    write_task(files)
    assert tasks.read_task(tmp_path / "mine.toml") == task
    assert 'tests = "mine.tests.jsonl"\n\n[[examples]]' in (tmp_path / "mine.toml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.tests.jsonl", "mine.toml"]


@pytest.mark.parametrize("changed", [{"instruction": "a\udc80"}, {"labels": ("one",)}, {"examples": ()}], ids=str)
def test_a_task_that_would_not_read_back_leaves_no_file(routing, tmp_path, changed):
    with pytest.raises(SgError) as error:
        write_task({tmp_path / "mine.toml": task_toml(dataclasses.replace(routing, **changed)), tmp_path / "rows": ""})
    assert ("instruction" in changed) == ("would contain what is not text" in error.value.message)
    assert error.value.exit_code == 2 and str(tmp_path / "mine.toml") in error.value.message
    assert ".partial" not in error.value.message and list(tmp_path.iterdir()) == []
