"""Decision requests as tasks: criteria become labels, instructions the instruction, an answered state the example."""

import dataclasses
import json

import pytest

from sg_local.decisions import read_request
from sg_local.prompts import PLAIN
from sg_local.records import SgError
from sg_local.serve.systemone import Decider, matched
from sg_local.tasks.begin import begun
from sg_local.tasks.draft import Draft

CRITERIA = {"billing": "Invoices and\n refunds.", "delivery": None, "technical": "The app."}
CHOICE = {"type": "choice", "instructions": "Which team answers?", "criteria": CRITERIA}
REQUEST = {"model": "jev", "state": "I was charged twice.", "questions": {"team": CHOICE}}
ANSWER = {"type": "choice", "choice": "billing", "probabilities": {"billing": 0.9, "delivery": 0.1}, "confidence": 0.9}


@pytest.fixture
def made(tmp_path):
    """The draft that a request becomes."""

    def make(data, draft=None, question=None) -> Draft:
        (tmp_path / "request.json").write_text(json.dumps(data), encoding="utf-8")
        return begun(tmp_path / "request.json", draft or Draft("team"), None, question).draft

    return make


def test_a_choice_becomes_a_classification_task(made):
    draft = made(REQUEST)
    assert (draft.kind, draft.labels) == ("classification", ("billing", "delivery", "technical"))
    lines = ["Which team answers?", "", "Answer with one of these:", "- billing: Invoices and refunds.", "- delivery"]
    assert draft.instruction.split("\n") == [*lines, "- technical: The app."]
    assert draft.examples == () and not draft.is_complete


@pytest.mark.parametrize(
    "data",
    [
        {**REQUEST, "answers": {"team": ANSWER}},
        {"request": REQUEST, "response": {"model": "jev", "answers": {"team": ANSWER}}},
        {"request": REQUEST, "response": {"answers": {"team": {"type": "choice", "probabilities": {"billing": 1}}}}},
        {"state": REQUEST["state"], "instructions": "Which team?", "criteria": CRITERIA, "answer": "billing"},
    ],
    ids=("beside", "logged", "likeliest", "flat"),
)
def test_an_answered_state_is_the_example(made, data):
    draft = made(data)
    assert draft.examples == (("I was charged twice.", "billing"),) and draft.is_complete


def test_a_state_of_data_is_an_input_of_json(made):
    flat = {"state": {"subject": "Größe", "n": [1]}, "instructions": {"ask": "Which?"}, "criteria": ["low", "high"]}
    draft = made({**flat, "answer": "low"})
    assert draft.examples == (('{"subject": "Größe", "n": [1]}', "low"),)
    assert draft.labels == ("low", "high") and draft.instruction.startswith('{"ask": "Which?"}\n')


@pytest.mark.parametrize(("p", "label"), [(0.8, "yes"), (0.2, "no")])
def test_a_statement_is_answered_yes_or_no(made, p, label):
    question = {"type": "noul", "instructions": "The customer is angry."}
    draft = made({"state": "Hm.", "questions": {"q": question}, "answers": {"q": {"type": "noul", "noul": p}}})
    assert draft.labels == ("yes", "no") and draft.examples == (("Hm.", label),)


def test_the_sides_of_a_statement_are_told_as_the_wire_names_them(made):
    sides = {"true": {"examples": ["refund me"]}, "false": None}
    draft = made({"state": "Hm.", "questions": {"q": {"type": "noul", "instructions": "Money?", "criteria": sides}}})
    assert draft.instruction.endswith('- yes: {"examples": ["refund me"]}\n- no')


def test_what_the_server_answers_becomes_a_task_that_it_matches(made, routing):
    """One reading of requests: the labels and the instruction of the task are those of the question."""
    draft = made({**REQUEST, "answers": {"team": ANSWER}})
    task = dataclasses.replace(routing, instruction=draft.instruction, labels=draft.labels)
    [question] = read_request(REQUEST).questions
    assert draft.instruction == question.told
    run = Decider("team", task, PLAIN)
    assert matched(question, [Decider("other", routing, PLAIN), run]) is run


def test_of_several_questions_one_is_named(made):
    several = {**REQUEST, "questions": {"team": CHOICE, "angry": {"type": "noul", "instructions": "Is angry."}}}
    with pytest.raises(SgError, match="several questions: team, angry") as refused:
        made(several)
    assert "`question=team`" in refused.value.hint
    assert made(several, question="angry").labels == ("yes", "no")
    with pytest.raises(SgError, match="no question 'tema'") as wrong:
        made(several, question="tema")
    assert wrong.value.hint == "Did you mean team?"


def test_what_is_given_beside_the_request_stands(made):
    given = Draft("x", instruction="Sort it.", examples=(("a", "delivery"),))
    draft = made({**REQUEST, "answers": {"team": ANSWER}}, given)
    assert draft.instruction == "Sort it." and draft.examples == given.examples and draft.labels[0] == "billing"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"type": "rank"}, "type is not one of choice, noul, score"),
        ({"instructions": ""}, "no instructions"),
        ({"criteria": {"one": None}}, "2 to 255 options"),
        ({"criteria": {"one": 1, "two": 2}}, "criteria.one: this is neither a text"),
        ({"criteria": ["a", "b"]}, "2 to 255 options"),
        ({"type": "score", "criteria": ["low"]}, "2 to 10 levels"),
        ({"type": "score", "criteria": [1, 2]}, "criteria.0: this is neither a text"),
    ],
)
def test_a_malformed_question_is_refused(made, changed, says):
    with pytest.raises(SgError, match=says) as refused:
        made({**REQUEST, "questions": {"team": {**CHOICE, **changed}}})
    assert "request.json" in refused.value.message and refused.value.exit_code == 2


@pytest.mark.parametrize("data", [{"questions": {}}, {"questions": []}, {"questions": {"a": 5}, "state": ""}], ids=str)
def test_questions_are_objects_by_their_ids(made, data):
    with pytest.raises(SgError, match=r"request\.json"):
        made(data)
