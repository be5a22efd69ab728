"""Decisions as System One clients ask for them: requests read strictly, matched with the run, answered by the wire."""

from __future__ import annotations

import dataclasses
import json

import pytest
from starlette.testclient import TestClient

import sg_local as sg
from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE, ScriptedGenerator
from sg_local.calibration import Calibration
from sg_local.decisions import MAX_QUESTIONS, Unfit, read_request, said
from sg_local.job.serving import Manner, service_of
from sg_local.records import Score
from sg_local.serve import systemone
from sg_local.serve.app import make_app
from sg_local.serve.systemone import Decider, matched

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
TEAM = {
    "type": "choice",
    "instructions": "Which team?",
    "criteria": {"billing": "Money", "delivery": None, "technical": ""},
}
ANGRY = {"type": "noul", "instructions": "The customer is angry."}
URGENCY = {"type": "score", "instructions": {"ask": "How urgent?"}, "criteria": ["can wait", {"label": "soon"}, "now"]}
JSON = {"Content-Type": "application/json"}
REQUEST = {"model": "jev-latest", "state": "I was charged twice.", "questions": {"team": TEAM}}


def text_of(prompt):
    return "".join(segment.text for segment in prompt.segments)


class Engine(ScriptedGenerator):
    """With the adapter billing is likelier by far; without it delivery, where the state says twice."""

    def __init__(self, tmp_path) -> None:
        super().__init__(tmp_path / "engine.gguf")
        self.scored = []

    def score(self, prompts):
        for prompt in prompts:
            self.scored.append((self.adapter, prompt))
            tuned, seen = self.adapter is not None, "twice" in text_of(prompt)
            lift = {"billing": 4.0} if tuned else {"delivery": 2.0} if seen else {}
            yield Score(prompt.id, tuple(lift.get(text.strip(), 0.0) - 5.0 for text in prompt.continuations))


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


@pytest.fixture
def client(tmp_path, engine, routing):
    """A client of a run of the routing task, its scores at temperature 2."""
    adapter = tmp_path / "adapter.gguf"
    adapter.write_text("adapter")
    engine.use_adapter(adapter)
    service = serve.Service("team", FORM, routing, FORM, Calibration(temperature=2.0, n=9), 0.9, adapter)
    worker = serve.Worker(engine, adapter)
    app = make_app(worker, serve.Registry.of(service), serve.Setup())
    yield TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    worker.close()


def ask(client, data, status=200):
    answer = client.post("/v1/systemone", json=data)
    assert answer.status_code == status, answer.text
    return answer.json()


# Requests


def changed(**more):
    return {**REQUEST, **more}


def asked(question):
    return changed(questions={"q": question})


REFUSED = [
    ("no state", {key: REQUEST[key] for key in ("model", "questions")}, "state"),
    ("null state", changed(state=None), "state"),
    ("a number for a state", changed(state=7), "state"),
    ("no questions", changed(questions={}), "questions"),
    ("a list of questions", changed(questions=[TEAM]), "questions"),
    ("too many questions", changed(questions={str(i): ANGRY for i in range(MAX_QUESTIONS + 1)}), "questions"),
    ("a question that is none", asked("Which team?"), "questions.q"),
    ("no type", asked({"instructions": "Refund?"}), "questions.q.type"),
    ("an unknown type", asked({**ANGRY, "type": "boolean"}), "questions.q.type"),
    ("a type that is no text", asked({**ANGRY, "type": ["noul"]}), "questions.q.type"),
    ("an unknown field", asked({**ANGRY, "criterion": {}}), "questions.q.criterion"),
    ("a choice without options", asked({**TEAM, "criteria": {}}), "questions.q.criteria"),
    ("a choice of one", asked({**TEAM, "criteria": {"billing": None}}), "questions.q.criteria"),
    ("a choice of a list", asked({**TEAM, "criteria": ["billing", "delivery"]}), "questions.q.criteria"),
    ("too many options", asked({**TEAM, "criteria": {str(i): None for i in range(256)}}), "questions.q.criteria"),
    ("options that are one", asked({**TEAM, "criteria": {"a": None, "a ": None}}), "questions.q.criteria"),
    ("a meaning that is a number", asked({**TEAM, "criteria": {"a": 1, "b": None}}), "questions.q.criteria.a"),
    ("a score of a map", asked({**URGENCY, "criteria": {"0": "calm", "1": "angry"}}), "questions.q.criteria"),
    ("a score of one", asked({**URGENCY, "criteria": ["calm"]}), "questions.q.criteria"),
    ("a score of eleven", asked({**URGENCY, "criteria": [str(i) for i in range(11)]}), "questions.q.criteria"),
    ("a level that is null", asked({**URGENCY, "criteria": ["calm", None]}), "questions.q.criteria.1"),
    ("a statement of nothing", asked({"type": "noul"}), "questions.q.instructions"),
    ("other sides", asked({**ANGRY, "criteria": {"yes": "so"}}), "questions.q.criteria"),
    ("an image", changed(assets={"x": {}}), "assets"),
    ("a model that is no text", changed(model=3), "model"),
]


@pytest.mark.parametrize(("data", "place"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_wrong_is_refused_by_its_place_in_one_sentence(client, data, place):
    found = ask(client, data, 422)
    [detail] = found["detail"]
    assert detail["loc"] == ["body", *place.split(".")] and found["error"]["param"] == place
    assert detail["msg"] == found["error"]["message"] and detail["msg"].endswith(".") and "\n" not in detail["msg"]


@pytest.mark.parametrize("place", ["state", "questions", "criteria"])
def test_half_a_character_is_refused_wherever_it_stands(client, place):
    criteria = asked({**TEAM, "criteria": {"\ud800": None, "b": None}})
    data = {"state": changed(state="\ud800"), "questions": changed(questions={"\ud800": ANGRY}), "criteria": criteria}
    answer = client.post("/v1/systemone", content=json.dumps(data[place]), headers=JSON)
    assert answer.status_code == 422 and "half of a surrogate pair" in answer.text
    with pytest.raises(Unfit, match="half a character"):
        read_request(data[place])


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "{", ""], ids=["deep", "open", "nothing"])
def test_what_is_no_json_is_refused_in_the_same_shape(client, text):
    body = json.dumps(REQUEST).replace('"I was charged twice."', text)
    answer = client.post("/v1/systemone", content=body, headers=JSON)
    assert answer.status_code == 422 and answer.json()["detail"][0]["loc"] == ["body"]


def test_fields_of_other_clients_are_passed_over():
    assert read_request({**REQUEST, "x_trace": 1, "metadata": {}}) == read_request(REQUEST)
    with pytest.raises(Unfit):
        read_request({**REQUEST, "state": None})


def test_texts_may_be_data():
    [question] = read_request(asked(URGENCY)).questions
    assert (
        question.options == ("can wait", '{"label": "soon"}', "now")
        and question.instructions == '{"ask": "How urgent?"}'
    )
    assert read_request(changed(state={"n": [1]})).state == '{"n": [1]}'


# Matching


def test_a_run_answers_the_question_whose_criteria_are_its_labels(routing):
    run = Decider("team", routing, FORM)
    question = read_request(REQUEST).questions[0]
    assert matched(question, [run]) is run
    for criteria in ({"billing": None, "delivery": None}, {"Billing": None, "delivery": None, "technical": None}):
        assert matched(read_request(asked({**TEAM, "criteria": criteria})).questions[0], [run]) is None


def test_of_several_runs_that_of_the_instructions_answers(routing):
    other = Decider("other", dataclasses.replace(routing, instruction="Which team? Say it."), FORM)
    question = read_request(REQUEST).questions[0]
    assert matched(question, [Decider("team", routing, FORM), other]) is other


def test_a_statement_needs_the_run_of_its_instructions(routing):
    task = dataclasses.replace(routing, labels=("yes", "no"), instruction=f"{ANGRY['instructions']}\n\nSay yes or no.")
    run = Decider("angry", task, FORM)
    [mine] = read_request(asked(ANGRY)).questions
    [another] = read_request(asked({**ANGRY, "instructions": "The customer is happy."})).questions
    assert matched(mine, [run]) is run and matched(another, [run]) is None
    assert matched(another, [run], named=True) is run


# Answers


def test_the_run_s_answer_has_the_wire_s_form_and_calibrated_numbers(client):
    found = ask(client, REQUEST)
    assert set(found) == {"model", "answers", "usage"} and found["model"] == "team"
    answer = found["answers"]["team"]
    likely = Calibration(temperature=2.0).probabilities((-1.0, -5.0, -5.0))
    assert answer["probabilities"] == {
        label: round(p, 4) for label, p in zip(("billing", "delivery", "technical"), likely, strict=True)
    }
    assert (answer["type"], answer["choice"]) == ("choice", "billing")
    assert answer["confidence"] == pytest.approx((likely[0] - 1 / 3) / (2 / 3), abs=1e-4)
    assert answer["x_model"] == "team" and answer["x_calibrated"] and answer["x_unsure"]
    assert found["usage"]["output_tokens"] == 0 and found["usage"]["input_tokens"] > 10


def test_options_come_back_as_they_were_sent(client):
    question = {**TEAM, "criteria": {" technical": None, "delivery": None, "billing ": "Money"}}
    answer = ask(client, asked(question))["answers"]["q"]
    assert list(answer["probabilities"]) == [" technical", "delivery", "billing "] and answer["choice"] == "billing "


def test_other_questions_go_to_the_base_and_say_so(client, engine):
    found = ask(client, changed(questions={"team": TEAM, "angry": ANGRY, "urgent": URGENCY}))
    assert found["model"] == "team+base" and list(found["answers"]) == ["team", "angry", "urgent"]
    angry, urgent = found["answers"]["angry"], found["answers"]["urgent"]
    assert set(angry) == {"type", "noul", "x_model", "x_calibrated", "x_labels"} and 0 <= angry["noul"] <= 1
    assert angry["x_model"] == "base" and not angry["x_calibrated"] and angry["x_labels"] == "ensemble"
    assert urgent["legend"] == {"0": "can wait", "1": {"label": "soon"}, "2": "now"}
    assert urgent["score"] == pytest.approx(sum(int(i) * p for i, p in urgent["probabilities"].items()), abs=1e-3)
    assert {bool(adapter) for adapter, prompt in engine.scored if "angry" in text_of(prompt)} == {False}
    assert {bool(adapter) for adapter, prompt in engine.scored if "message" in text_of(prompt)} == {True}
    assert ask(client, REQUEST)["answers"]["team"] == found["answers"]["team"]  # the adapter is on again


def test_the_base_s_guesses_are_softened(client):
    answer = ask(client, changed(model="base"))["answers"]["team"]
    likely = Calibration(temperature=2.0).probabilities((0.0, 2.0, 0.0))
    assert list(answer["probabilities"].values()) == [round(p, 4) for p in likely] and answer["choice"] == "delivery"


def test_many_options_are_scored_directly(client):
    criteria = {f"queue {i}": None for i in range(20)}
    answer = ask(client, asked({**TEAM, "criteria": criteria}))["answers"]["q"]
    assert answer["x_labels"] == "direct" and len(answer["probabilities"]) == 20


def test_as_many_options_as_the_wire_allows_fit_a_small_context(client):
    criteria = {f"queue {i}": f"Mails of customers whose number ends with {i}" for i in range(255)}
    assert len(ask(client, asked({**TEAM, "criteria": criteria}))["answers"]["q"]["probabilities"]) == 255


def test_the_models_are_listed_for_both_kinds_of_client(client):
    found = client.get("/v1/models").json()
    assert [one["name"] for one in found["models"]] == [one["id"] for one in found["data"]]
    for one in found["models"]:
        assert set(one) == {"name", "description", "release_date"} and len(one["release_date"]) == 10


@pytest.mark.parametrize("model", [None, "", "team", "jev-1.13.0"])
def test_the_hosted_names_stand_for_the_run(client, model):
    assert ask(client, changed(model=model))["model"] == "team"


def test_the_base_can_be_named_and_others_are_not_there(client):
    assert ask(client, changed(model="base"))["model"] == "base"
    found = ask(client, changed(model="clef"), 404)
    assert found["detail"]["error_type"] == "model_not_found" and "team, base" in found["detail"]["message"]


def test_a_state_beyond_the_context_is_refused(client):
    for question in (TEAM, ANGRY):
        found = ask(client, {"state": "parcel " * 4000, "questions": {"q": question}}, 413)
        assert found["detail"]["error_type"] == "context_length_exceeded" and found["error"]["param"] == "state"


def test_neither_the_id_nor_the_others_change_an_answer(client):
    alone = ask(client, asked(TEAM))["answers"]["q"]
    beside = ask(client, changed(questions={"x": ANGRY, "\u8cea\u554f": TEAM}))["answers"]["\u8cea\u554f"]
    assert alone == beside


def test_confidence_is_the_wire_s():
    [choice] = read_request(REQUEST).questions
    assert said(choice, (1 / 3, 1 / 3, 1 / 3))["confidence"] == 0 and said(choice, (0.0, 1.0, 0.0))["confidence"] == 1
    [score] = read_request(asked(URGENCY)).questions
    assert said(score, (0.0, 0.0, 1.0))["confidence"] == 1
    assert said(score, (0.5, 0.0, 0.5))["confidence"] == 0 and said(score, (0.5, 0.0, 0.5))["score"] == 1.0
    assert said(score, (0.1, 0.8, 0.1))["confidence"] == pytest.approx(1 - 0.2 / (2 / 3), abs=1e-4)


def test_served_probabilities_are_those_of_predict_proba(own_folder):
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 40}}, name="r") as job:
        job.run()
        texts = [row.input for row in job.task.tests[:3]]
        wanted, answers = job.predict_proba(texts), job.predict(texts, abstain=0.5)
        service = service_of(job.opened, Manner(abstain=0.5))
        worker = serve.Worker(job.opened.adapted(), service.adapter)
        client = TestClient(
            make_app(worker, serve.Registry.of(service), serve.Setup(job.opened.serve_settings())),
            base_url="http://127.0.0.1:8080",
        )
        criteria = dict.fromkeys(job.task.labels)
        try:
            for text, likely, wanted_text in zip(texts, wanted, answers, strict=True):
                request = {"state": f" {text}\n", "questions": {"q": {"type": "choice", "criteria": criteria}}}
                answer = ask(client, request)["answers"]["q"]
                assert answer["probabilities"] == {label: round(p, 4) for label, p in likely.items()}
                assert answer["x_calibrated"]
                chat = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]})
                assert chat.json()["choices"][0]["message"]["content"] == wanted_text
        finally:
            worker.close()


def test_a_run_without_labels_leaves_all_to_the_base(engine, fluent):
    worker = serve.Worker(engine)
    app = make_app(worker, serve.Registry.of(serve.Service("free", FORM, fluent, FORM)), serve.Setup())
    try:
        assert ask(TestClient(app, base_url="http://127.0.0.1:8080"), REQUEST)["model"] == "base"
    finally:
        worker.close()


def test_the_route_stays_when_a_question_fails(client):
    ask(client, changed(state="parcel " * 4000), 413)
    assert ask(client, REQUEST)["model"] == systemone.read(REQUEST).model.replace("jev-latest", "team")
