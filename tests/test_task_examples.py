"""More demonstrations than a prompt should hold: which are shown, in what order, and in the runs made of them."""

from collections import Counter
from dataclasses import replace

import pytest

from sg_local import prompts, tasks
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.job.begun import job_for_task
from sg_local.job.events import Said
from sg_local.job.options import Home, Options
from sg_local.job.stages import perform
from sg_local.prompts import PLAIN, Room
from sg_local.records import Pair
from sg_local.tasks.examples import by_weight


@pytest.fixture
def many(routing):
    """Twelve demonstrations: nine of one label, two of the second, one of the last."""
    labels = ["billing"] * 9 + ["delivery"] * 2 + ["technical"]
    return replace(routing, examples=tuple(Pair(f"message number {i}", label) for i, label in enumerate(labels)))


def options(tmp_path, **given) -> Options:
    settings = given.pop("settings", {})
    chosen = {"backend": "scripted", "form": "plain", **given}
    return Options(runs=tmp_path / "runs", settings=settings, given=frozenset(given), **chosen)


def test_three_stay_as_they_were_written(routing, fluent):
    assert tasks.drawn(routing) is routing and tasks.drawn(fluent, 1) is fluent


def test_one_of_each_label_stands_last_and_is_left_out_last(many):
    shown = tasks.drawn(many).examples
    assert len(shown) == 12 and Counter(shown) == Counter(many.examples)
    assert {pair.output for pair in shown[-3:]} == set(many.labels)
    assert Counter(pair.output for pair in shown[-5:]) == {"billing": 2, "delivery": 2, "technical": 1}


def test_every_label_is_shown_in_a_prompt_that_holds_few(many, tmp_path):
    generator = ScriptedGenerator(tmp_path / "g.gguf")
    task = tasks.drawn(many)
    whole = len(generator.tokenize(prompts.answer_prompt(task, PLAIN, "text")))
    fitted = prompts.fitted_answer(Room(generator.tokenize, whole * 6 // 10, 4), task, PLAIN, "text")
    text = "".join(segment.text for segment in fitted.segments)
    assert 0 < fitted.n_dropped <= 9 and all(f"Output: {label}" in text for label in task.labels)


def test_free_text_keeps_what_was_written_first(fluent):
    pairs = tuple(Pair(f"in {i}", f"out {i}") for i in range(5))
    assert by_weight(pairs, is_labelled=False) == list(pairs)
    assert tasks.drawn(replace(fluent, examples=pairs), 4).examples == pairs[3::-1]


def test_a_run_shows_as_many_as_half_of_the_context_holds_and_says_so(many, tmp_path):
    heard = []
    long = replace(many, examples=tuple(Pair(f"{pair.input} and more" * 40, pair.output) for pair in many.examples))
    any_length = {"filter": {"input_length": {"on": False}}, "synth": {"n_inputs": 8}}
    with job_for_task(long, options(tmp_path, settings=any_length), Home(tmp_path)) as job, job.lock():
        n = len(job.task.examples)
        assert 3 <= n < 12 and {pair.output for pair in job.task.examples} == set(many.labels)
        perform(job, "synth", heard.append)
    assert f"{n} examples are shown in every prompt, {12 - n} are not" in next(e.text for e in heard if type(e) is Said)
    with job_for_task(long, options(tmp_path), Home(tmp_path)) as again:
        assert again.task == job.task and not again.said


def test_all_are_shown_where_they_fit_and_three_as_published(many, tmp_path):
    with job_for_task(many, options(tmp_path), Home(tmp_path)) as job:
        assert job.task == tasks.drawn(many) and not job.said
    with job_for_task(many, options(tmp_path, preset="paper"), Home(tmp_path)) as job:
        assert {pair.output for pair in job.task.examples} == set(many.labels) and len(job.task.examples) == 3
        assert job.said and "as published" in job.said[0]
