"""`serve --base --labels ensemble`: the answers of `predict`, from a run without training, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
from collections.abc import Sequence

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient
from test_serve_ensemble import FORM, TEXTS, Engine, answers, channel, long_text, way_of
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
from sg_local import serve
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.cli.app import app
from sg_local.job import job as jobs
from sg_local.job.answering import Asking, check_known
from sg_local.run import Run
from sg_local.serve.app import make_app

CHAT, TEXT, RESPONSE, DECISION = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/systemone"
BASED = ("--base", "--labels", "ensemble")


def client_of(worker, registry, setup=None):
    app = make_app(worker, registry, setup or serve.Setup())
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


def user(text):
    return {"messages": [{"role": "user", "content": text}]}


def label_of(client, text, **more):
    found = client.post(CHAT, json={**user(text), **more})
    assert found.status_code == 200, found.text
    return found.json()["choices"][0]["message"]["content"]


# One service over an engine whose scores can be worked out


@pytest.fixture
def who(tmp_path, routing):
    return serve.Answerer(Engine(tmp_path), routing, FORM)


def centred(who):
    """The ensemble with about each label's middle score of the texts taken off, so that no two labels score alike."""
    columns = zip(*(one.scores for one in answers(who, way_of(who.task), TEXTS)), strict=True)
    return way_of(who.task, tuple(statistics.median(column) - i / 9 for i, column in enumerate(columns)))


@pytest.fixture
def client(who):
    labeller = serve.Labeller(who, centred(who))
    service = serve.Service("team", FORM, who.task, FORM, labeller=labeller)
    worker = serve.Worker(who.generator)
    yield client_of(worker, serve.Registry.of(service))
    worker.close()


def test_every_endpoint_gives_the_label_that_a_file_gets(client, who):
    texts = [*TEXTS[::6], long_text(who, 1).strip()]
    wanted = answers(who, centred(who), texts)
    assert len({one.text for one in wanted}) > 1
    criteria = dict.fromkeys(who.task.labels)
    for text, answer in zip(texts, wanted, strict=True):
        assert label_of(client, text) == answer.text
        response = client.post(RESPONSE, json={"input": text}).json()
        assert response["output"][0]["content"][0]["text"] == answer.text
        asked = {"state": text, "questions": {"q": {"type": "choice", "criteria": criteria}}}
        [decided] = client.post(DECISION, json=asked).json()["answers"].values()
        assert decided["choice"] == answer.text
        assert (decided["x_model"], decided["x_calibrated"], decided["x_labels"]) == ("team", False, "ensemble")


class Exact(Engine):
    """Scores an input with all that stands behind its cue."""

    def _scores(self, prompt):
        text = "".join(segment.text for segment in prompt.segments)
        if text.endswith("\nInput:"):
            return [channel(said.removeprefix(" "), text) for said in prompt.continuations]
        return super()._scores(prompt)


def test_blanks_around_a_text_change_nothing_wherever_it_is_answered(tmp_path, routing):
    who = serve.Answerer(Exact(tmp_path), routing, FORM)
    way, criteria = centred(who), dict.fromkeys(routing.labels)
    service = serve.Service("team", FORM, routing, FORM, labeller=serve.Labeller(who, way))
    worker = serve.Worker(who.generator)
    try:
        client = client_of(worker, serve.Registry.of(service))

        def everywhere(text):
            [row] = answers(who, way, [text])
            told = [label_of(client, text)]
            for model in ("team", "base"):
                asked = {"model": model, "state": text, "questions": {"q": {"type": "choice", "criteria": criteria}}}
                told += client.post(DECISION, json=asked).json()["answers"].values()
            return row.scores, row.text, told

        for text in TEXTS[:6]:
            scores, label, told = everywhere(text)
            assert label == told[0] == told[1]["choice"] and told[2]["x_labels"] == "ensemble"
            for blank in (f" {text}", f"{text}\n", f"\n\n   {text} \t"):
                assert everywhere(blank) == (scores, label, told)
    finally:
        worker.close()


def test_one_reading_serves_all_choices_and_streams_come_in_one_piece(client, who):
    before = len(who.generator.channel)
    wanted = label_of(client, TEXTS[0])
    n_asked = len(who.generator.channel) - before
    found = client.post(CHAT, json={**user(TEXTS[0]), "n": 4, "logprobs": True, "top_logprobs": 3}).json()
    assert [one["message"]["content"] for one in found["choices"]] == [wanted] * 4
    assert len(who.generator.channel) == before + 2 * n_asked
    [said] = found["choices"][0]["logprobs"]["content"]
    assert said["token"] == wanted and len(said["top_logprobs"]) == 3
    assert found["usage"]["prompt_tokens"] > 0
    streamed = client.post(CHAT, json={**user(TEXTS[0]), "stream": True, "logprobs": True}).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    pieces = [one["choices"][0]["delta"].get("content") for one in chunks]
    assert [piece for piece in pieces if piece] == [wanted]
    [told] = [one["choices"][0]["logprobs"] for one in chunks if one["choices"][0]["logprobs"]]
    assert [one["token"] for one in told["content"]] == [wanted]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (TEXT, {"prompt": "Once"}, 400, "continues no text: use /v1/chat/completions"),
        (CHAT, {"messages": [{"role": "system", "content": "Be kind."}, *user("a")["messages"]]}, 400, "single user"),
        (CHAT, {"messages": [*user("a")["messages"], {"role": "assistant", "content": "b"}]}, 400, "single user"),
        (CHAT, {**user("a"), "response_format": {"type": "json_object"}}, 400, "no response format"),
        (CHAT, {**user("a"), "presence_penalty": 1}, 400, "nothing for penalties"),
        (CHAT, {**user("a"), "model": "other"}, 404, "There is no model 'other'"),
        (CHAT, user("parcel " * 40_000), 400, "context"),
        (DECISION, {"state": "parcel " * 40_000, "questions": {"q": {}}}, 413, "shorter state"),
    ],
)
def test_what_does_not_go_with_labels_by_ensemble_is_refused_in_a_sentence(client, who, path, body, status, said):
    if path == DECISION:
        body = {**body, "questions": {"q": {"type": "choice", "criteria": dict.fromkeys(who.task.labels)}}}
    found = client.post(path, json=body)
    assert (found.status_code, said in found.json()["error"]["message"]) == (status, True), found.text
    assert label_of(client, TEXTS[0]), "the next one is answered"


# The command, on runs without any training


class Listening:
    """What the command would serve, behind a test's client in place of a port."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.labels, self.models = texts, [], []

    def __call__(self, generator, registry, setup, on_ready):
        worker = serve.Worker(generator)
        try:
            client = client_of(worker, registry, setup)
            self.labels = [label_of(client, text) for text in self.texts]
            self.models = [one["id"] for one in client.get("/v1/models").json()["data"]]
        finally:
            worker.close()


def invoked(*args, code=0):
    found = CliRunner().invoke(app, [str(one) for one in args])
    assert found.exit_code == code, found.output
    return found


def predicted(folder, texts, *asked):
    with open(folder / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["input"], *([text] for text in texts)])
    invoked("predict", "r", "texts.csv", *asked, "--out", "labels.csv", "--redo")
    with open(folder / "labels.csv", newline="") as file:
        return [row["answer"] for row in csv.DictReader(file)]


def served(monkeypatch, texts, *asked):
    listening = Listening(texts)
    monkeypatch.setattr(serve, "serve", listening)
    invoked("serve", "r", *asked)
    return listening


@pytest.fixture
def untrained(own_folder, routing):
    with sg.open_job(routing, name="r", backend="scripted", settings={"synth": {"n_inputs": 24}}) as job:
        job.synth()
        job.filter()
    return own_folder


@pytest.mark.parametrize("labels", ["ensemble", "calibrated", "likeliest"])
def test_an_untrained_run_is_served_with_the_labels_of_predict(untrained, monkeypatch, labels):
    texts = ["Where is my parcel?", "I was charged twice.", "It crashes.", "The box was wet."]
    asked = ("--base", "--labels", labels)
    found = served(monkeypatch, texts, *asked)
    assert found.labels == predicted(untrained, texts, *asked)
    assert found.models == ["r"]


def test_what_every_question_begins_with_is_kept_for_a_few_labels_alone(who):
    labeller = serve.Labeller(who, centred(who))
    asks = labeller.reading(TEXTS[0])
    built = [build(who.generator) for build in asks.builds]
    assert labeller.heads[0] == () and [head[0] for head in labeller.heads[1:]] == [one.segments for one in built[1:]]
    many = dataclasses.replace(who, task=dataclasses.replace(who.task, labels=tuple("abcdefghi")))
    assert set(serve.Labeller(many, centred(who)).heads) == {()}


def test_real_scores_give_the_labels_of_predict(own_folder, monkeypatch):
    base = write_model(own_folder / "base.gguf", TinySpec(layers=1))
    settings = {**small_settings(), "eval": {"n_calibration": 16}}
    with sg.open_job({**TASK, "name": "route"}, model=base, settings=settings, name="r") as job:
        job.synth()
        job.filter()
    texts = [f"{a} {b}" for a in ("My parcel", "The page", "I was charged", "?") for b in ("came", "twice", "is white")]
    found = served(monkeypatch, texts, *BASED)
    assert found.labels == predicted(own_folder, texts, *BASED) and found.models == ["r"]


def test_too_few_inputs_to_calibrate_with_are_told_by_the_setting(own_folder):
    settings = {"synth": {"n_inputs": 20}, "eval": {"n_calibration": 4}}
    with sg.open_job("support_routing", name="few", backend="scripted", settings=settings) as job:
        job.synth()
        with pytest.raises(sg.SgError, match="this run takes 4") as caught:
            check_known(job.opened, Asking(base=True, labels="ensemble"))
    assert "`eval.n_calibration=8`" in caught.value.hint


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("bare", *BASED), "Labels by ensemble need a run's inputs, and run bare has none."),
        (("r", "--labels", "ensemble"), "Labels by ensemble are served from the untuned model."),
        (("r", *BASED, "--free"), "--free and --labels contradict each other"),
    ],
)
def test_what_cannot_be_served_so_is_told_before_anything_is_loaded(untrained, monkeypatch, args, said):
    with sg.open_job("support_routing", name="bare", backend="scripted") as job:
        with job.opened.lock():
            job.opened.worked = True
    assert Run(untrained / "runs" / "bare").exists()
    monkeypatch.setattr(jobs, "open_generator", lambda *args: pytest.fail("loaded"))
    refused = invoked("serve", *args, code=2).stderr
    assert said in refused and len(refused.splitlines()) <= 3
    if args[0] == "bare":
        assert "sg-local synth support_routing" in refused
        assert said in invoked("predict", "bare", "a text", *BASED, code=2).stderr


def test_a_base_is_asked_in_the_other_prompt_format_and_nothing_of_that_is_kept(untrained, monkeypatch):
    asked, score = [], ScriptedGenerator.score

    def noting(self, prompts):
        prompts = list(prompts)
        asked.extend("".join(segment.text for segment in prompt.segments) for prompt in prompts)
        return score(self, prompts)

    monkeypatch.setattr(ScriptedGenerator, "score", noting)
    record, texts = (
        (untrained / "runs" / "r" / "run.json").read_bytes(),
        ["Where is my parcel?", "I was charged twice."],
    )
    own = json.loads(record)["form"]
    other = "plain" if own == "chat" else "chat"
    way = ("--base", "--labels", "calibrated")
    predicted(untrained, texts, *way)
    kept = (untrained / "runs" / "r" / "calibration.json").read_bytes()
    for form in (other, own):
        asked.clear()
        assert (
            predicted(untrained, texts, *way, "--form", form) == served(monkeypatch, texts, *way, "--form", form).labels
        )
        assert {"<|im_start|>" in prompt for prompt in asked} == {form == "chat"}
    assert (untrained / "runs" / "r" / "calibration.json").read_bytes() == kept
    assert (untrained / "runs" / "r" / "run.json").read_bytes() == record
