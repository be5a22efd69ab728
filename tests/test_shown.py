"""Fewer demonstrations for the tuned model: rows train with several numbers of them, use shows the last one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import sg_local as sg
from sg_local import prompts, training
from sg_local.backends import TrainSettings
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.export.carried import told_of_rows
from sg_local.job.export import export_job
from sg_local.job.layouts import tuned_form
from sg_local.job.train import training_job
from sg_local.prompts import PLAIN
from sg_local.records import Pair, SgError, Task

TASK = Task("t", "generation", "Say it.", tuple(Pair(f"in {i}", f"out {i}") for i in range(3)))
SMALL = {"synth": {"n_inputs": 24, "n_asked": 96}, "eval": {"n_votes": 2}}


def text(segments):
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize(("n", "seen"), [(None, [0, 1, 2]), (2, [1, 2]), (1, [2]), (0, []), (9, [0, 1, 2])])
def test_a_prompt_shows_those_nearest_to_the_input(n, seen):
    form = replace(PLAIN, n_shown=n)
    room = prompts.Room(lambda segments, *, bos=True: tuple(text(segments).split()), 200, 10)
    conversation = prompts.fitted_conversation(room, TASK, form, [{"role": "user", "content": "new"}])
    for built in (prompts.answer_prompt(TASK, form, "new"), prompts.fitted_answer(room, TASK, form, "new").segments):
        assert [i for i in range(3) if f"out {i}" in text(built)] == seen
        assert text(built) == text(conversation.segments)


def test_a_form_that_shows_all_is_stamped_as_before():
    assert "n_shown" not in PLAIN.stamped and replace(PLAIN, n_shown=0).stamped["n_shown"] == 0


def test_rows_take_turns_in_a_drawn_order():
    turns = prompts.in_turn(("all", "1", "0"), 90, 4)
    assert Counter(turns) == {None: 30, 1: 30, 0: 30} and turns == prompts.in_turn(("all", "1", "0"), 90, 4)
    assert turns != prompts.in_turn(("all", "1", "0"), 90, 5) and turns[:3] * 30 != turns
    assert prompts.in_turn(TrainSettings.shown, 4, 0) == [None] * 4


@pytest.mark.parametrize("shown", ["most", "-1", "1.5", "", "all,,x"])
def test_what_is_no_number_is_refused_at_once(own_folder, routing, shown):
    with pytest.raises(SgError, match="no list of numbers") as raised:
        sg.open_job(routing, runs="runs", backend="scripted", settings={"train": {"shown": shown}}).run()
    assert raised.value.exit_code == 2 and not list(own_folder.rglob("inputs.jsonl"))


@pytest.fixture
def lean(own_folder, routing):
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", preset="lean", settings=SMALL) as job:
        job.run()
        yield job


def test_lean_trains_with_all_one_and_none_and_is_asked_without_any(lean, monkeypatch):
    opened, built = lean.opened, []
    work = training_job(opened, None)
    monkeypatch.setattr(
        training.prompts, "fitted_answer", noted(built, prompts.fitted_answer, lambda args: text(args.segments))
    )
    training.token_examples(work)
    shown = Counter(one.count("Output:") - 1 for one in built)
    assert set(shown) == {0, 1, 3} and max(shown.values()) - min(shown.values()) <= 1
    assert opened.form.n_shown is None and tuned_form(opened).n_shown == 0
    asked = []
    monkeypatch.setattr(
        ScriptedGenerator, "score", noted(asked, ScriptedGenerator.score, lambda found: found, take_prompts=True)
    )
    lean.predict(["My parcel is late."])
    lean.predict(["My parcel is late."], base=True)
    assert [text(one.segments).count("Output:") for one in asked] == [1, 4]


def noted(kept, function, of, take_prompts=False):
    def call(*args, **more):
        if take_prompts:
            args = (args[0], list(args[1]))
            kept.extend(args[1])
            return function(*args, **more)
        found = function(*args, **more)
        kept.append(of(found))
        return found

    return call


def test_exports_carry_what_is_shown(lean):
    job = export_job(lean.opened)
    assert job.carried.examples == () and told_of_rows(job) == ""
    one = replace(job, form=replace(job.form, n_shown=1))
    assert one.carried.examples == job.task.examples[-1:] and "the task's 1 example," in told_of_rows(one)


def test_an_adapter_keeps_its_number_whatever_is_set_later(lean, own_folder, routing):
    with sg.open_job(routing, runs="runs", name="r", settings={"train": {"shown": "all"}}) as job:
        assert tuned_form(job.opened).n_shown == 0
