"""Rows of a chat form end as the template ends a turn, wherever they are trained, scored, served and measured.

The model's end-of-sequence is another token than its template's end of a turn, as in many downloads. A run of 0.1.0,
whose rows ended with end-of-sequence, goes on as it was made.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sg_local import filters, synth, training
from sg_local.evaluate.answering import Restricted
from sg_local.evaluate.job import held_out_questions
from sg_local.job.begun import job_for_run, job_for_task
from sg_local.job.evaluate import evaluation_of
from sg_local.job.export import export_job
from sg_local.job.options import Home, Options
from sg_local.job.train import training_job
from sg_local.records import Candidate, InputRow, Prompt, Sampling, Segment, Verdict
from sg_local.run import CANDIDATES, RUN, VERDICTS
from sg_local.serve.answers import task_ask
from tests.test_gguf_config import write_variant

pytest.importorskip("llama_cpp")
TURN, SEQUENCE = "<|im_end|>", "<|endoftext|>"
SETTINGS = {"engine": {"fast_copy": False, "n_ctx": 512, "n_parallel": 4}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("ends") / "m.gguf"
    return write_variant(path, fields=[("tokenizer.ggml.eos_token_id", 0)])


@pytest.fixture
def begin(tmp_path, routing, model):
    """Opens the run, as a new one or as 0.1.0 would have begun it, in a form."""
    opened = []

    def open_one(form="chat", *, old=False):
        runs, home = tmp_path / f"runs-{len(opened)}", Home(tmp_path / "home")
        asked = Options(runs=runs, name="r", model=str(model), form=form, trainer="torch", settings=SETTINGS)
        with job_for_task(routing, asked, home) as job, job.lock():
            rows = [Candidate(str(i), f"Message number {i}.", "billing", {}, 1, 1.0) for i in range(4)]
            job.run.append(CANDIDATES, rows)
            job.run.append(VERDICTS, [Verdict(row.id, keep=True, judge="filters") for row in rows])
        if old:
            data = json.loads(job.run.path(RUN).read_text())
            del data["turn_end"]
            job.run.path(RUN).write_text(json.dumps(data))
        opened.append(job_for_run("r", replace(asked, given=frozenset()), home))
        return opened[-1]

    yield open_one
    for job in opened:
        job.close()


CASES = pytest.mark.parametrize(
    ("form", "old", "end"), (("chat", False, TURN), ("chat", True, SEQUENCE), ("plain", False, SEQUENCE))
)


@CASES
def test_training_rows_end_so(begin, form, old, end):
    job = begin(form, old=old)
    wanted = job.generator.tokenize((Segment(end),), bos=False)
    examples = training.token_examples(training_job(job, None))
    assert len(examples) == 4 and {example.tokens[-1:] for example in examples} == {wanted}


@CASES
def test_scores_of_synthesis_serving_evaluation_and_gate_end_so(begin, monkeypatch, form, old, end):
    job = begin(form, old=old)
    asked = []
    score = job.generator.score
    monkeypatch.setattr(job.generator, "score", lambda prompts: score(asked.append(one) or one for one in prompts))
    settings = replace(job.plan["synth"], n_votes=1, channel=False)
    gate = filters.input_gate(job.task, job.plan["filter"])
    work = synth.Synthesis(job.run, job.task, job.form, job.generator, settings, gate, 0)
    list(synth.outputs.answer(work, [InputRow("a", 0, 0, 1, "Where is my box?")]))
    asked.append(task_ask(job.generator, job.task, job.form, "Where is my box?", job.serve_settings()))
    found = evaluation_of(job)
    questions = held_out_questions(found, [False] * len(job.task.tests))
    Restricted(job.form).replies(found, questions, [str(one.index) for one in questions])
    assert len(asked) == 1 + 1 + len(questions)
    assert {(one.end, one.ending or SEQUENCE) for one in asked} == {(True, end)}


def test_the_run_says_how_its_turns_end_and_an_old_one_is_not_told(begin):
    assert begin().record["turn_end"] == TURN
    assert "turn_end" not in begin(old=True).record


def test_every_form_of_an_old_run_ends_with_the_sequence(begin):
    assert [form.end for form in begin(old=True).forms] == ["", ""]
    assert [form.end for form in begin().forms] == [TURN, ""]


@CASES
def test_exports_are_made_with_the_rows_end(begin, form, old, end):
    assert (export_job(begin(form, old=old)).form.end or SEQUENCE) == end


def test_an_answer_stops_at_either_end(begin):
    """What was trained to end a turn ends one, and so does the model's own end."""
    job = begin()
    for end in (TURN, SEQUENCE):
        (token,) = job.generator.tokenize((Segment(end),), bos=False)
        assert token in job.generator._vocab.ends
    segments = (Segment("Where is my box?"),)
    done = next(iter(job.generator.generate([Prompt("a", segments, Sampling(max_tokens=3))])))
    assert TURN not in done.text and SEQUENCE not in done.text


def test_stamps_of_a_form_tell_the_ends_apart(begin):
    new, old = begin(), begin(old=True)
    assert new.form.stamped["end"] == TURN and "end" not in old.form.stamped
