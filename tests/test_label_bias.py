"""Calibrated labels for other people's servers: offered where they gain, on rows that are no test rows, else said."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_llama_server import parsed
from tiny_models import TinySpec, write_model
from tiny_runs import LABELS, PAIRS, TASK, FakeGenerator, asked_input, job_of
from tiny_walk import TASK as TEAMS
from tiny_walk import small_settings

import sg_local as sg
from sg_local.cli.app import app
from sg_local.evaluate.answering import answer_room, best_label, segments
from sg_local.evaluate.job import EvalQuestion
from sg_local.evaluate.label_bias import Beginnings, LabelBias, first_tokens, label_bias
from sg_local.export.llama_server import ServedAdapter, alone, grammar, preset
from sg_local.export.scores import NO_BIAS
from sg_local.job import label_bias as kept
from sg_local.job.evaluate import evaluation_of
from sg_local.job.stages import to_come
from sg_local.prompts import answer_text
from sg_local.records import Pair, Score
from sg_local.run import Run


class Leaning(FakeGenerator):
    """Red is always likelier; blue inputs are so by less. Each asked input is kept in `seen`."""

    def __init__(self, lean):
        super().__init__({})
        self.lean, self.seen = lean, set()

    def score(self, asked):
        for one in asked:
            text = asked_input("".join(segment.text for segment in one.segments))
            self.seen.add(text)
            is_blue = Pair(text, "blue") in PAIRS
            yield Score(one.id, (-1.0, -1.0 - self.lean + (0.5 if is_blue else -0.5)))


def leaning(folder, lean, valid=PAIRS):
    return dataclasses.replace(job_of(folder, generator=Leaning(lean)), valid=valid)


def test_offsets_that_turn_a_lean_to_red_round_are_offered_and_add_up_to_none(tmp_path):
    found = label_bias(leaning(tmp_path, lean=2.0))
    assert found.is_offered and (found.plain, found.biased, found.n) == (50, 100, 4)
    assert found.bias == (-1.0, 1.0) and len(set(found.tokens)) == 2
    assert found.said.startswith("A logit bias on the labels' first tokens: 50.0 % right without, 100.0 % with")
    assert found.said.endswith("on the 4 validation rows that decided this.")


def test_offsets_that_gain_nothing_are_not_offered_and_it_is_said(tmp_path):
    found = label_bias(leaning(tmp_path, lean=0.0))
    assert not found.is_offered and "gain nothing" in found.said and found.plain == found.biased == 100


def test_test_rows_have_no_part_in_it(tmp_path):
    job = leaning(tmp_path, 2.0, valid=(*PAIRS, Pair(TASK.tests[0].input, "red")))
    assert label_bias(job).n == len(PAIRS)
    assert not job.generator.seen & {row.input for row in TASK.tests}


def test_without_validating_rows_nothing_is_offered(tmp_path):
    found = label_bias(leaning(tmp_path, 2.0, valid=()))
    assert found.said == "No logit bias for the labels: no row was used for validation."


def test_labels_that_begin_alike_have_no_offsets(tmp_path):
    task = dataclasses.replace(TASK, labels=("red", "red wine"), tests=())
    found = label_bias(job_of(tmp_path, task, Leaning(1.0)))
    assert "begin with the same token" in found.said and not found.tokens


def test_the_first_token_is_the_one_that_an_answer_begins_with(tmp_path):
    job = job_of(tmp_path)
    for label, (text, token) in zip(LABELS, first_tokens(job), strict=True):
        assert f"{job.form.lead}{label}".startswith(text) and isinstance(token, int)


def test_a_preset_tells_of_the_offsets_and_one_run_alone_gets_them_by_its_line():
    base, adapter = Path("/models/b.gguf"), Path("/runs/team/adapter.gguf")
    one = ServedAdapter("team", base, adapter, "{{ x }}", LABELS, 2048, ((11, 0.5), (12, -0.25)))
    [line] = [line for line in preset(Path("/x"), [one]).split("\n") if "label offsets to send" in line]
    body = json.loads(line.partition("request: ")[2])
    assert body["logit_bias"] == [[11, 0.5], [12, -0.25]] and "red" in body["grammar"]
    words = shlex.split(alone(Path("/x"), one))
    assert [words[i + 1] for i, word in enumerate(words) if word == "--logit-bias"] == ["11+0.5", "12-0.25"]
    assert words[words.index("--grammar") + 1] == body["grammar"]
    assert "--grammar" not in alone(Path("/x"), dataclasses.replace(one, labels=(), bias=()))
    assert "label offsets" not in preset(Path("/x"), [dataclasses.replace(one, bias=())])


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A tuned tiny run that was never exported or evaluated."""
    folder = tmp_path_factory.mktemp("office")
    base = write_model(folder / "base.gguf", TinySpec(layers=1))
    places = {"runs": folder / "runs", "name": "RUN", "home": folder / "home"}
    settings = small_settings({"types": ("Q8_0",), "min_gain": -9.0})
    with sg.open_job({**TEAMS, "name": "RUN"}, model=base, settings=settings, **places) as job:
        for stage in (job.synth, job.filter, job.train):
            stage()
    return folder


def typed(folder, *args):
    line = [*args, "--runs", str(folder / "runs")]
    done = CliRunner().invoke(app, line, env={"SG_LOCAL_HOME": str(folder / "home")})
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def test_the_real_engine_writes_what_the_offsets_choose(office):
    """llama.cpp under grammar and bias, token by token, against the label that shifted first tokens choose."""
    import llama_cpp

    said = typed(office, "export", "RUN", "--llama-server", str(office / "out"))
    assert "logit bias" in said.stderr
    run = Run(office / "runs" / "RUN")
    found = json.loads(run.path("label_bias.json").read_text())
    with sg.load("RUN", runs=office / "runs", home=office / "home") as job:
        opened = job.opened
        assert dataclasses.asdict(kept.kept_bias(opened)) == {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        opened.adapted()
        work = evaluation_of(opened)
        questions = [EvalQuestion(i, row.input, work.task.examples) for i, row in enumerate(work.task.tests)]
        first = first_tokens(work)
        way = Beginnings(work.form, tuple(text for text, _ in first))
        scores = [one.scores for one in way.replies(work, questions, [str(i) for i in range(len(questions))])]
        bias = [3.0, 0.0, -3.0]
        wanted = [best_label(work.task.labels, row, [-b for b in bias]) for row in scores]
        ids = [work.generator.tokenize(segments(work, work.form, one, answer_room(work))) for one in questions]
        texts = tuple(answer_text(work.form, label) for label in work.task.labels)
    model = llama_cpp.Llama(
        str(office / "base.gguf"), lora_path=str(run.path("adapter.gguf")), n_ctx=512, verbose=False
    )
    held = llama_cpp.LlamaGrammar.from_string(grammar(texts), verbose=False)
    biases = {str(token): b for (_, token), b in zip(first, bias, strict=True)}
    answers = [
        model.create_completion(list(one), max_tokens=16, temperature=0.0, grammar=held, logit_bias=biases)
        for one in ids
    ]
    assert [one["choices"][0]["text"].strip() for one in answers] == wanted


def test_what_was_measured_is_not_measured_again_and_a_card_tells_of_it(office, monkeypatch):
    typed(office, "export", "RUN", "--llama-server", str(office / "out"))
    monkeypatch.setattr(kept, "label_bias", None)
    typed(office, "export", "RUN", "--llama-server", str(office / "out"))
    monkeypatch.undo()
    run = offering(office)
    typed(office, "export", "RUN")
    card = run.path("README.md").read_text()
    assert "+0.5 on token 1 (billing)" in card and "On the 9 validation rows that decided this 50.0 % are" in card
    typed(office, "export", "RUN", "--llama-server", str(office / "out"))
    body = json.loads((office / "out" / "RUN.request.json").read_text())
    assert body["logit_bias"] == [[1, 0.5], [2, -0.25], [3, -0.25]]
    assert set(parsed((office / "out" / "models.ini").read_text())["RUN"]) >= {"lora", "model"}


def offering(folder):
    """The run, as if its offsets had been worth it."""
    typed(folder, "export", "RUN", "--llama-server", str(folder / "out"))
    run = Run(folder / "runs" / "RUN")
    offered = LabelBias(("billing", "delivery", "technical"), (1, 2, 3), (0.5, -0.25, -0.25), 9, 50.0, 75.0)
    run.write_json("label_bias.json", dataclasses.asdict(offered))
    stamp = run.stamp("label_bias")
    run.write_stamp("label_bias", stamp["settings"], stamp["reads"], ("label_bias.json",))
    return run


def test_without_the_examples_there_are_no_offsets_and_it_is_said(office):
    """They were measured in prompts with the examples: neither preset nor card offers them for others."""
    run = offering(office)
    said = typed(office, "export", "RUN", "--llama-server", str(office / "bare"), "--without-demonstrations")
    assert NO_BIAS in " ".join(said.stderr.split()) and not (office / "bare" / "RUN.request.json").exists()
    assert "logit_bias" not in (office / "bare" / "models.ini").read_text()
    typed(office, "export", "RUN", "--without-demonstrations")
    card = run.path("README.md").read_text()
    assert NO_BIAS in card and "on token 1" not in card


def test_measuring_offsets_leaves_a_finished_evaluation_finished(office):
    with sg.load("RUN", runs=office / "runs", home=office / "home") as job:
        job.export(redo=True)
        job.evaluate()
    run = Run(office / "runs" / "RUN")
    for path in (*run.root.glob("*Q8_0.gguf"), run.path("label_bias.json")):
        path.unlink(missing_ok=True)  # the papers then change with the next look at them
    run.clear_stage("label_bias")
    typed(office, "export", "RUN", "--llama-server", str(office / "out"))
    assert run.path("label_bias.json").exists()
    with sg.load("RUN", runs=office / "runs", home=office / "home") as job:
        assert "eval" not in to_come(job.opened, ("eval",))
