"""The table of systems is whole, and nobody else tells a system by its name."""

import ast
import dataclasses
from pathlib import Path

import pytest
from tiny_runs import REWRITE, SETTINGS, TASK, job_of

from sg_local.evaluate import SYSTEMS, System, evaluate, judged_rows, on_the_card, rounds, systems
from sg_local.evaluate.rounds import WAYS
from sg_local.evaluate.systems import EACH, MODELS, SAME, TRAINED, served
from sg_local.records import Answer
from sg_local.report.records import BASE, FAMILIES, TUNED, is_untuned
from sg_local.run import ANSWERS, Run

PACKAGE = Path(__file__).parent.parent / "sg_local"
MAY_SPELL = {
    "evaluate/systems.py": "the table",
    "report/file.py": "the form of report.json: the systems at its top",
    "evaluate/job.py": "a setting is named like the system that it asks for",
    "job/evaluate.py": "a setting is named like the system that it asks for",
    "job/meanings.py": "a setting is named like the system that it asks for",
}
ROLES_TOO = {"base", "tuned"}
"""Names of systems that are roles as well, and words for much else."""


def test_every_system_has_a_name_of_its_own_a_title_a_role_and_a_way():
    assert len({system.name for system in SYSTEMS}) == len({system.title for system in SYSTEMS}) == len(SYSTEMS)
    for system in SYSTEMS:
        assert system.title and system.role in ("base", "tuned", "trivial") and system.family in FAMILIES
        assert system.way in WAYS and system.model in MODELS
        assert system.form in (("",) if system.role == "trivial" else (EACH, TRAINED, SAME))


def test_a_system_builds_on_one_that_answers_before_it_with_the_same_weights():
    before = {}
    for system in SYSTEMS:
        assert not system.on or before[system.on].model == system.model
        before[system.name] = system


def test_one_tuned_system_is_served_for_each_kind_of_task():
    assert (served("classification"), served("generation")) == ("tuned_restricted", "tuned")
    for task in (TASK, REWRITE):
        system = next(system for system in SYSTEMS if system.name == served(task.kind))
        assert system.role == "tuned" and system.answers(task, SETTINGS)


@pytest.mark.parametrize(
    ("name", "against"),
    [
        ("tuned", "base"),
        ("tuned_vote", "base_vote"),
        ("tuned_restricted", "base_restricted"),
        ("tuned_examples_calibrated", "base_calibrated"),
        ("base_vote", "base"),
        ("random_output", "base"),
    ],
)
def test_a_system_is_held_against_the_base_that_answers_alike(name, against):
    assert next(system for system in SYSTEMS if system.name == name).against == against


def test_a_system_held_to_one_form_is_named_and_titled_after_it():
    by_name = {system.name: system for system in SYSTEMS}
    chat = by_name["base_calibrated"].in_form("chat")
    assert (chat.name, chat.title, chat.on) == (
        "base_calibrated_chat",
        "base, calibrated labels (chat prompt)",
        "base_restricted_chat",
    )
    assert by_name["base"].in_form("plain").title == "base (plain prompt)"
    trial = chat.on_trial()
    assert (trial.name, trial.on, trial.title) == (
        "dev_calibrated_chat",
        "dev_restricted_chat",
        "choosing the prompt: base, calibrated labels (chat prompt)",
    )


def test_a_tune_on_the_examples_is_no_untuned_base():
    assert is_untuned("base_chat") and all(is_untuned(one.name) == (one.model == BASE) for one in SYSTEMS)


def test_a_new_row_is_a_new_system_everywhere(tmp_path, monkeypatch):
    row = System("tuned_again", "tuned", "free", "tuned, asked again", "vote", TUNED, TRAINED, on=TUNED)
    for module in (systems, rounds):
        monkeypatch.setattr(module, "SYSTEMS", (*SYSTEMS, row))
    seen = set()
    report = evaluate(job_of(tmp_path), lambda event: seen.add(event.title))
    found = report.systems["tuned_again"]
    assert (found.title, found.role, found.family, found.form) == ("tuned, asked again", "tuned", "free", "chat")
    assert found.against == "base_vote" and report.gain("tuned_again", "base").like
    assert report.outcomes[-1].tuned == "tuned_again" and "tuned_again" in report.confusion.tables
    assert list(on_the_card(report.systems))[-1] == "tuned_again" and "tuned, asked again" in seen
    assert {row.index for row in judged_rows(Run(tmp_path), "all", "tuned_again")} == {0, 1, 2, 3}


def test_one_prompt_form_is_chosen_without_asking(tmp_path):
    job = job_of(tmp_path)
    report = evaluate(dataclasses.replace(job, form=job.forms[1], forms=job.forms[1:]))
    assert set(report.chosen.values()) == {"plain"} == {report.base.form, report.tuned.form}
    assert not [answer for answer in job.run.read(ANSWERS, Answer) if answer.system.startswith("dev_")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_spells_the_name_of_a_system(path):
    if str(path.relative_to(PACKAGE)) in MAY_SPELL:
        return
    names = {system.name for system in SYSTEMS} - ROLES_TOO
    words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not names & {word for word in words if isinstance(word, str)}
