"""Labels that a prompt would never name, in the task and in the runs made of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sg_local import tasks
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.options import Home, Options
from sg_local.records import Pair, SgError
from sg_local.run import RUN
from sg_local.tasks.labels import unnamed_labels
from sg_local.tasks.lint import lint

LABELS = ("billing", "delivery", "technical", "C", "C++", "refund")
LINE = "\nAnswer with one of these: billing, delivery, technical, C, C++, refund"
OLD = Path(__file__).parent / "data" / "run_0_1_0"


@pytest.fixture
def many(routing):
    """Six labels, of which the demonstrations show three and the instruction names one more."""
    return replace(routing, labels=LABELS, instruction="Say what the message is about: C++ or another subject.")


def options(tmp_path, **given) -> Options:
    return Options(runs=tmp_path / "runs", backend="scripted", form="plain", given=frozenset(given), **given)


def test_labels_are_named_where_neither_instruction_nor_demonstrations_do(many, routing):
    assert unnamed_labels(many) == ("C", "C++", "refund")
    assert tasks.with_labels_named(many).instruction == many.instruction + LINE
    assert tasks.with_labels_named(routing) is routing
    assert tasks.with_labels_named(tasks.with_labels_named(many)) == tasks.with_labels_named(many)


def test_labels_of_a_script_without_spaces_are_found_in_the_instruction(routing):
    asked = replace(routing, labels=("是", "否"), instruction="回答是或否", examples=(Pair("好吗？", "是"),))
    assert unnamed_labels(asked) == ()


def test_a_word_of_the_instruction_is_no_list_of_labels(routing):
    letters = [Pair("Which is a bird? A: trout B: owl", "B"), Pair("Which is a fish? A: trout B: owl", "A")]
    choice = replace(routing, labels=("A", "B", "C"), examples=tuple(letters))
    assert unnamed_labels(replace(choice, instruction="Read a question and choose.")) == ("C",)
    assert unnamed_labels(replace(choice, instruction="Read a question; see A, B. and C.")) == ()


def test_a_prompt_without_demonstrations_names_all_labels(routing, tmp_path):
    bare = replace(routing, instruction="Who should answer?")
    assert tasks.with_labels_named(bare) is bare and unnamed_labels(bare, 0) == bare.labels
    assert tasks.with_labels_named(routing, 0) is routing
    pairs = [Pair(f"text {i}", label) for i, label in enumerate(("billing", "delivery", "billing", "technical"))]
    assert unnamed_labels(replace(bare, examples=tuple(pairs)), 2) == ("delivery",)
    for preset, is_named in (("lean", True), ("recommended", False)):
        with job_for_task(bare, options(tmp_path, preset=preset, name=preset), Home(tmp_path)) as job:
            assert ("Answer with one of these: " in job.task.instruction) == is_named


def test_the_check_says_that_labels_are_never_named(many):
    (found,) = [item for item in lint(many) if "name" in item.finding]
    assert found.level == "warning" and "3 labels, such as C." in found.finding


def test_a_new_run_names_them_and_goes_on_with_the_task_as_it_is_written(many, tmp_path):
    with job_for_task(many, options(tmp_path), Home(tmp_path)) as job, job.lock():
        name = job.run.name
        assert job.task.instruction.endswith(LINE)
        assert job.record["task_digest"] == tasks.with_labels_named(many).digest
        (job.run.root / "inputs.jsonl").write_text("")
    with job_for_task(many, options(tmp_path), Home(tmp_path)) as again:
        assert again.task == tasks.with_labels_named(many)
    with job_for_run(name, options(tmp_path), Home(tmp_path)) as known:
        assert known.task == tasks.with_labels_named(many)


def test_as_published_the_prompt_stays_as_the_task_says(many, tmp_path):
    with job_for_task(many, options(tmp_path, preset="paper"), Home(tmp_path)) as job:
        assert job.task == many


def test_a_run_begun_before_keeps_its_prompt(many, tmp_path):
    folder = shutil.copytree(OLD / "route", tmp_path / "runs" / "route")
    data = json.loads((folder / RUN).read_text())
    data["task"] |= {"labels": LABELS, "instruction": many.instruction}
    task = replace(many, name=data["task"]["name"], examples=tuple(Pair(**pair) for pair in data["task"]["examples"]))
    (folder / RUN).write_text(json.dumps({**data, "task_digest": task.digest}))
    with job_for_task(task, options(tmp_path, name="route"), Home(tmp_path)) as job:
        assert job.task == task and tasks.with_labels_named(task) != task


@pytest.mark.parametrize(
    ("labels", "says"), [(("billing", "delivery", "technical", "Billing."), "letter case"), (None, "stands among")]
)
def test_what_would_mislead_is_refused_before_a_run_begins(routing, tmp_path, labels, says):
    leaked = replace(routing.tests[0], input=routing.examples[0].input)
    task = replace(routing, labels=labels) if labels else replace(routing, tests=(leaked,))
    with pytest.raises(SgError, match=says) as refused:
        job_for_task(task, options(tmp_path), Home(tmp_path))
    assert refused.value.exit_code == 2 and refused.value.hint
    assert not (tmp_path / "runs").exists()
    assert [item.level for item in lint(task)][0] == "error"
