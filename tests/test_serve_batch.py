"""Answers to many inputs: every way of answering over scripted engines, in order, nothing lost to a bad row."""

from __future__ import annotations

from itertools import islice

import pytest

from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE, ScriptedGenerator
from sg_local.records import Score, SgError
from sg_local.serve import Answerer, Likeliest, Question, RowAnswer, Voted, Written, answer_rows

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]
LONG = "parcel " * 4000


def asked_input(prompt: str) -> str:
    return prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]


class Engine(ScriptedGenerator):
    """Writes what `replies` gives for an input, one after the other; labels score by their place in the text."""

    def __init__(self, tmp_path, replies=None) -> None:
        super().__init__(tmp_path / "engine.gguf", lambda prompt, rng: self.say(asked_input(prompt)))
        self.replies = {text: iter(said) for text, said in (replies or {}).items()}

    def say(self, text):
        return next(self.replies[text]) if text in self.replies else text.upper()

    def score(self, prompts):
        for prompt in prompts:
            text = asked_input("".join(segment.text for segment in prompt.segments))
            yield Score(prompt.id, tuple(-float(text.find(choice.strip()) + 1) for choice in prompt.continuations))


class AtOnce(Engine):
    """Takes all prompts that there are for now, and ends them the wrong way round, as an engine may."""

    def generate(self, prompts):
        source = iter(prompts)
        while True:
            taken = []
            for prompt in source:
                if prompt is None:
                    break
                taken.append(prompt)
            if not taken:
                return
            yield from reversed(list(super().generate(taken)))


def answers(who, way, texts):
    return list(answer_rows(who, way, [Question(text) for text in texts]))


def elect(input, votes):
    return prompts.majority({output: n for output, n in votes.items() if output != "never"})


@pytest.mark.parametrize("engine", [Engine, AtOnce])
def test_a_row_that_cannot_be_answered_is_passed_over(tmp_path, fluent, engine):
    who = Answerer(engine(tmp_path), fluent, FORM)
    wrong = SgError("mails.csv:3: no text.")
    questions = [Question("one"), Question(LONG), Question("", wrong), Question(" "), Question("two")]
    found = list(answer_rows(who, Written(), questions))
    assert [one.text for one in found] == ["ONE", "", "", "", "TWO"]
    assert [one.failed is None for one in found] == [True, False, False, True, True]
    assert isinstance(found[1].failed, prompts.TooLong) and found[2].failed is wrong


def test_labels_come_with_their_scores(tmp_path, routing):
    found = answers(Answerer(Engine(tmp_path), routing, FORM), Likeliest(), [" technical billing ", "delivery"])
    assert [one.text for one in found] == ["delivery", "billing"]
    assert found[0].scores == (-11.0, 0.0, -1.0) and found[0].share is None


def test_blank_inputs_have_scores_too(tmp_path, routing):
    assert list(serve.label_scores(Engine(tmp_path), routing, FORM, ["", "billing"])) == [(0, 0, 0), (-1, 0, 0)]


def test_means_are_taken_off_before_the_label_is_chosen(tmp_path, routing):
    found = answers(Answerer(Engine(tmp_path), routing, FORM), Likeliest((-20.0, 0.0, 0.0)), ["technical billing"])
    assert found == [RowAnswer("billing", (9.0, 0.0, -1.0), seconds=found[0].seconds)]


def test_a_label_may_be_written_freely(tmp_path, routing):
    replies = {"where is it": ["Output: DELIVERY."]}
    found = answers(Answerer(Engine(tmp_path, replies), routing, FORM), Written(), ["where is it"])
    assert [(one.text, one.scores) for one in found] == [("delivery", ())]


@pytest.mark.parametrize("engine", [Engine, AtOnce])
def test_the_votes_elect_and_say_how_many_agreed(tmp_path, fluent, engine):
    replies = {"a": ["x", "y", "y"], "b": ["never", "never", "z"], "c": ["never", "never", "never", "greedy"]}
    generator = engine(tmp_path, replies)
    way = Voted(3, 0.7, 5, elect)
    found = answers(Answerer(generator, fluent, FORM), way, ["a", LONG, "b", "c", "c2"])
    assert [(one.text, one.share) for one in found] == [
        ("y", pytest.approx(2 / 3)),
        ("", None),
        ("z", pytest.approx(1 / 3)),
        ("greedy", 0.0),
        ("C2", 1.0),
    ]
    sampled = [prompt.sampling for prompt in generator.asked]
    assert [(one.temperature, one.top_k) for one in sampled].count((0.7, 5)) == 12
    assert [one.temperature for one in sampled].count(0.0) == 1


def test_the_same_input_draws_the_same_samples(tmp_path, fluent):
    generator = Engine(tmp_path)
    answers(Answerer(generator, fluent, FORM), Voted(2, 0.7, 5, elect), ["a", "b", "a"])
    seeds = [prompt.seed for prompt in generator.asked]
    assert seeds[:2] == seeds[4:] and len(set(seeds)) == 4


def test_votes_on_labels_are_written_and_those_on_json_stay_bound(tmp_path, routing, fluent):
    generator = Engine(tmp_path)
    answers(Answerer(generator, routing, FORM), Voted(2, 0.7, 5, elect), ["a"])
    assert len(generator.asked) == 2
    from dataclasses import replace

    answers(Answerer(generator, replace(fluent, schema="{}"), FORM), Voted(2, 0.7, 5, elect), ["a"])
    assert [prompt.sampling.schema for prompt in generator.asked] == [None, None, "{}", "{}"]


def test_answers_come_before_the_last_input_is_read(tmp_path, fluent):
    def questions():
        yield from [Question("a"), Question("b")]
        pytest.fail("read ahead of a lazy engine")

    for way in (Written(), Voted(2, 0.7, 5, elect)):
        found = islice(answer_rows(Answerer(Engine(tmp_path), fluent, FORM), way, questions()), 1)
        assert [one.text for one in found] == ["A"]
