"""What answers repeat of other rows: passages, whose they are, base against tuned, and the sentences."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_runs import PAIRS, REWRITE, TASK, FakeGenerator, job_of

from sg_local.evaluate import evaluate
from sg_local.evaluate.job import EvalQuestion
from sg_local.evaluate.memory import memory_check, passages, rows_by_kind
from sg_local.records import LABELLED, Candidate, Pair
from sg_local.report import read_report, render
from sg_local.report.memory import CHANCE, Canaries, MemoryCheck, Repeats, sentences
from sg_local.run import CANDIDATES
from sg_local.views.verdict import notes

SECRET = "The agreement with Falkenhayn ends in the spring of next year"
OWN_ROW = Pair("WHEN DOES IT END, PLEASE TELL ME", SECRET)


def test_passages_are_eight_words_short_texts_and_long_numbers():
    assert set(passages("Call 4478123 now")) == {("4478123",)}
    assert set(passages("one two three four")) == {("one", "two", "three", "four")}
    assert len(set(passages(" ".join("abcdefghij")))) == 3
    assert list(passages("yes")) == []
    assert len(list(passages("我的包裹还没有到请帮我查"))) == 5


def own_job(tmp_path, said: str):
    """A generation run with one own row, whose tuned model says `said` to every input."""

    class Parrot(FakeGenerator):
        def say(self, text, prompt):
            return said if self.adapter else text.lower()

    job = job_of(tmp_path, REWRITE, generator=Parrot({}), pairs=(OWN_ROW,))
    job.run.replace(CANDIDATES, [Candidate("0", OWN_ROW.input, OWN_ROW.output, {}, 1, 1.0, source=LABELLED)])
    return job


def test_a_tuned_model_that_repeats_an_own_row_is_told_of(tmp_path):
    job = own_job(tmp_path, f"well: {SECRET.lower()}, they say")
    report = evaluate(job)
    assert report.memory == MemoryCheck(8, Repeats(), Repeats(own=8))
    told = "Of 8 answers, the tuned model's repeat passages of other inputs' rows: your own rows in 8 (base 0), "
    assert any(note.startswith(told) for note in notes(report))
    assert told[:40].replace("'", "&#39;") in render(job.run)
    assert read_report(job.run) == report


def test_other_answers_repeat_nothing(tmp_path):
    job = own_job(tmp_path, "sentence number a")
    report = evaluate(job)
    assert report.memory == MemoryCheck(8, Repeats(), Repeats())
    assert not any("repeat" in note for note in notes(report))
    assert "None of the tuned model&#39;s 8 answers repeats a passage" in render(job.run)


def checked(job, input, answer, wanted=()):
    return memory_check(job, [EvalQuestion(0, input, (), wanted)], {"base": [""], "tuned": [answer]}).tuned


def test_what_the_own_input_or_a_right_output_says_is_no_memory(tmp_path):
    job = own_job(tmp_path, "")
    assert checked(job, "x", SECRET) == Repeats(own=1)
    assert checked(job, f"{SECRET}?", SECRET) == Repeats()
    assert checked(job, "x", SECRET, (SECRET,)) == Repeats()


def test_what_many_rows_say_is_the_tasks_way_of_talking(tmp_path):
    pairs = (Pair("A", SECRET), Pair("B", SECRET))
    assert checked(job_of(tmp_path, REWRITE, pairs=pairs), "x", SECRET) == Repeats()


def test_demonstrations_and_synthetic_rows_count_apart(tmp_path):
    task = dataclasses.replace(REWRITE, examples=(Pair("HELLO THERE", "hello there my old friend"),))
    job = job_of(tmp_path, task, pairs=(Pair("A", SECRET),))
    assert checked(job, "x", "hello there, my old friend!") == Repeats(examples=1)
    assert checked(job, "x", SECRET) == Repeats(synthetic=1)


def test_labels_are_no_passages(tmp_path):
    pairs = tuple(Pair(pair.input, "a label of many words") for pair in PAIRS)
    assert rows_by_kind(job_of(tmp_path, TASK, pairs=pairs))["synthetic"] == [(pair.input,) for pair in PAIRS]


def test_exposure_is_that_of_the_secret_sharer():
    found = Canaries(256, {"output": {"base": (128, 64), "tuned": (1, 2)}})
    assert found.exposure("output", "base") == 1.5 and found.exposure("output", "tuned") == 7.5
    assert found.first("output", "tuned") == 1 and pytest.approx(1.4427, abs=1e-4) == CHANCE
    said = sentences(MemoryCheck(3, Repeats(), Repeats(), found))
    assert said[1].startswith(
        "2 secrets planted in the answers of a copy of the training: exposure 7.5 bits (base 1.5;"
    )
