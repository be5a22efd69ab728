"""One prompt near a full context: synthesis, evaluation, serving and training ask a long input in the same tokens."""

from dataclasses import replace
from pathlib import Path

import pytest

from sg_local import filters, prompts, serve
from sg_local.backends import TrainSettings
from sg_local.backends.scripted import ScriptedGenerator, ScriptedTrainer
from sg_local.evaluate import EvalSettings, Evaluation
from sg_local.evaluate.answering import Greedy, Restricted, Vote
from sg_local.evaluate.job import EvalQuestion
from sg_local.export import Export, ExportSettings, gate
from sg_local.prompts import Room, TooLong, answer_prompt, fitted_answer
from sg_local.records import InputRow, Pair, Sampling, SgError
from sg_local.serve.answers import task_ask
from sg_local.synth import Synthesis, SynthSettings, answer
from sg_local.training import Training, TrainingRow, token_examples, usable

N_CTX = 200
LENGTHS = range(0, 200, 3)  # in words


class Spy(ScriptedGenerator):
    """A scripted generator that keeps what it was asked to score as well."""

    def __init__(self, path):
        super().__init__(path)
        self.scored = []

    def score(self, asked):
        for one in asked:
            self.scored.append(one)
            yield from super().score([one])


@pytest.fixture(params=["routing", "fluent"])
def task(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["chat", "plain"])
def form(request, scripted):
    return prompts.form_named(prompts.forms_of(scripted.info), request.param)


@pytest.fixture
def spy(tmp_path):
    return Spy(tmp_path / "m.gguf")


def long_input(n_words):
    """Two tokens a word: itself and a space."""
    return ("word " * n_words + "end").strip()


def by_synthesis(run, task, form, spy, text):
    settings = SynthSettings(n_ctx=N_CTX, n_votes=1, channel=False)
    job = Synthesis(run, task, form, spy, settings, filters.input_gate(task, filters.FilterSettings()), seed=1)
    list(answer(job, [InputRow("a", 0, 0, 1, text)]))
    return asked(spy)


def by_evaluation(run, task, form, spy, text):
    job = Evaluation(run, task, form, (form,), spy, EvalSettings(n_ctx=N_CTX), ())
    for system in (Greedy(form), Vote(form, 1, 0.3, 10), *([Restricted(form)] if task.labels else [])):
        system.replies(job, [EvalQuestion(0, text, task.examples)], ["a"])
    return asked(spy)


def by_serving(run, task, form, spy, text):
    for restricted in (True, False):
        list(serve.predict(spy, task, form, [text], serve.ServeSettings(n_ctx=N_CTX, restricted=restricted)))
    return asked(spy)


def asked(spy):
    """The token ids of everything that was asked, and the longest answer it may have."""
    (tokens,) = {spy.tokenize(one.segments) for one in [*spy.asked, *spy.scored]}
    (n_new,) = {prompt.sampling.max_tokens for prompt in spy.asked}
    spy.asked.clear(), spy.scored.clear()
    return tokens, n_new


def job_of(run, task, form, spy, rows):
    return Training(run, task, form, spy, ScriptedTrainer(spy.info.path), rows, TrainSettings(), n_ctx=N_CTX)


def by_training(run, task, form, spy, text):
    job = job_of(run, task, form, spy, (TrainingRow("a", text, task.examples[0].output),))
    (example,) = token_examples(job)
    if example is None:
        raise TooLong("dropped")
    return example.tokens[: example.n_prompt], job.room.n_new


ROOMS = [by_synthesis, by_evaluation, by_serving, by_training]


def test_every_room_asks_a_long_input_in_the_same_tokens(run, task, form, spy):
    seen = set()
    for n_words in LENGTHS:
        text = long_input(n_words)
        found = [outcome(ask, run, task, form, spy, text) for ask in ROOMS]
        assert found == found[:1] * 4, f"at {n_words} words"
        if found[0] is None:
            seen.add("too long")
            continue
        tokens, n_new = found[0]
        n_dropped = n_left_out(task, form, spy, text, tokens)
        assert len(tokens) + n_new <= N_CTX
        assert n_dropped == 0 or len(whole(task, form, spy, text, n_dropped - 1)) + n_new > N_CTX, "dropped too many"
        seen.add(n_dropped)
    assert seen == {*range(len(task.examples) + 1), "too long"}


def outcome(ask, *args):
    try:
        return ask(*args)
    except SgError:
        args[3].asked.clear(), args[3].scored.clear()
        return None


def whole(task, form, spy, text, n_dropped):
    return spy.tokenize(answer_prompt(task, form, text, task.examples[n_dropped:]))


def n_left_out(task, form, spy, text, tokens):
    """How many demonstrations, from the first on, the prompt lacks."""
    (found,) = [n for n in range(len(task.examples) + 1) if whole(task, form, spy, text, n) == tokens]
    return found


def test_an_export_is_held_to_rows_as_they_were_trained(run, task, form, spy):
    for n_words in LENGTHS:
        text = long_input(n_words)
        valid = (Pair(text, task.examples[0].output),)
        settings = ExportSettings(n_ctx=N_CTX)
        job = Export(run, task, form, Path("base"), "digest", Path("adapter"), valid, settings)
        trained = outcome(by_training, run, task, form, spy, text)
        if trained is None:
            with pytest.raises(TooLong):
                gate.greedy_answers(job, spy)
            continue
        gate.mean_nll(job, spy), gate.greedy_answers(job, spy)
        gate.near_ties(job, spy, ["one"], ["other"])
        assert asked(spy) == trained


def test_rooms_agree_before_anything_is_set():
    rooms = (SynthSettings(), EvalSettings(), serve.ServeSettings(), Training)
    assert {room.n_ctx for room in rooms} == {2048}
    assert {room.max_tokens for room in rooms} == {prompts.MAX_TOKENS}


def test_no_room_is_larger_than_what_the_model_was_trained_for(run, routing, spy):
    form = prompts.forms_of(spy.info)[0]
    spy.info = replace(spy.info, n_ctx_train=60)
    for ask in ROOMS:
        assert outcome(ask, run, routing, form, spy, long_input(40)) is None


def test_a_request_may_ask_for_a_shorter_answer_but_never_for_a_longer_one(routing, spy):
    form, settings = prompts.forms_of(spy.info)[0], serve.ServeSettings(restricted=False)
    limit = prompts.answer_room(spy.tokenize, routing, 2048, prompts.MAX_TOKENS).n_new
    asks = [task_ask(spy, routing, form, "x", settings, sampling=Sampling(max_tokens=n)) for n in (3, 10**6)]
    assert [ask.sampling.max_tokens for ask in asks] == [3, limit]


def test_an_edited_answer_beyond_the_limit_takes_its_room_from_the_demonstrations(run, routing, spy):
    form = prompts.forms_of(spy.info)[0]
    output = long_input(60)
    rows = tuple(TrainingRow(f"r{i}", "hello", output) for i in range(3))
    kept, (example, *_), dropped = usable(job_of(run, routing, form, spy, rows))
    assert len(kept) == 3 and dropped == ()
    assert example.n_prompt < len(whole(routing, form, spy, "hello", 0)) and len(example.tokens) <= N_CTX


def test_a_prompt_that_cannot_fit_says_what_it_takes(routing, spy):
    room = Room(spy.tokenize, 50, 8, stage="synth")
    with pytest.raises(TooLong, match=r"answer of task routing may take 8.*context of 50 tokens \('word ") as error:
        fitted_answer(room, routing, prompts.PLAIN, long_input(90))
    assert "`synth.n_ctx`" in error.value.hint
