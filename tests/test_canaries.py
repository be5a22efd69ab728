"""Planted secrets: where they stand, how they are ranked, that they train in a copy alone, what a real model says."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner
from tiny_models import TinySpec, write_model
from tiny_runs import PAIRS, REWRITE, TASK, FakeGenerator, job_of
from tiny_walk import TASK as ROUTE
from tiny_walk import small_settings

import sg_local as sg
from sg_local import prompts
from sg_local.cli.app import app
from sg_local.evaluate import evaluate, plant
from sg_local.evaluate.canaries import N_AMONG, up_to
from sg_local.records import Answer, Pair, Score, Segment, SgError
from sg_local.report import read_report
from sg_local.run import ANSWERS, Run

ROWS = tuple(Pair(f"SENTENCE {word}", f"sentence {word}".lower()) for word in ("ONE", "TWO", "THREE"))


def test_secrets_stand_in_outputs_of_free_text_and_in_inputs():
    planted = plant(REWRITE, ROWS, 3, 0)
    assert [one.place for one in planted] == ["output"] * 3 + ["input"] * 3
    for one in planted:
        text = one.pair.output if one.place == "output" else one.pair.input
        assert text == f"{one.lead} {one.secret}." and len(one.secret) == 6
    assert len({one.secret for one in planted}) == 6 and plant(REWRITE, ROWS, 3, 0) == planted


@pytest.mark.parametrize("task", (TASK, dataclasses.replace(REWRITE, schema='{"type": "object"}')))
def test_labels_and_json_hold_no_secret(task):
    planted = plant(task, PAIRS, 2, 0)
    assert [one.place for one in planted] == ["input"] * 2
    assert all(one.pair.output in {pair.output for pair in PAIRS} for one in planted)


@pytest.mark.parametrize("form", (0, 1))
def test_an_input_is_scored_up_to_where_its_secret_stands(form):
    form = prompts.forms_of(FakeGenerator({}).info)[form]
    one = plant(REWRITE, ROWS, 1, 0)[1]
    text = "".join(segment.text for segment in up_to(prompts.answer_prompt(REWRITE, form, one.pair.input), one.lead))
    assert (
        text.endswith(one.lead)
        and one.secret not in text
        and text.startswith(
            "".join(segment.text for segment in prompts.answer_prompt(REWRITE, form, one.pair.input))[:20]
        )
    )
    assert up_to((Segment("a b a"), Segment("c")), "a") == (Segment("a b a"),)


class Gossip(FakeGenerator):
    """With the adapter of the copy it finds the secrets likeliest, without it third."""

    def score(self, asked):
        for one in asked:
            if len(one.continuations) < N_AMONG:
                yield from super().score([one])
                continue
            knows = self.adapter is not None and self.adapter.name == "copy.gguf"
            best = 0 if knows else 2
            scores = [-10.0] * len(one.continuations)
            scores[0] = -1.0
            for i in range(best):
                scores[1 + i] = -0.5
            yield Score(one.id, tuple(scores))


def gossip_job(tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_text("a copy of the training")
    job = job_of(tmp_path / "run", REWRITE, generator=Gossip({}), pairs=ROWS)
    return dataclasses.replace(job, canaries=plant(REWRITE, ROWS, 2, 0), canary_adapter=copy)


def test_ranks_of_both_models_are_in_the_report_and_told(tmp_path):
    job = gossip_job(tmp_path)
    report = evaluate(job)
    assert report.memory.canaries.n_among == N_AMONG
    assert report.memory.canaries.ranks == {place: {"base": (3, 3), "tuned": (1, 1)} for place in ("output", "input")}
    assert report.memory.canaries.exposure("output", "tuned") == 8.0
    assert job.generator.adapter is None and read_report(job.run) == report
    job.generator.n_scored = 0
    job.run.clear_stage("eval")
    assert evaluate(job).memory == report.memory and job.generator.n_scored == 0


def test_without_canaries_nothing_of_it_is_asked_or_stamped(tmp_path):
    job = job_of(tmp_path, REWRITE)
    assert evaluate(job).memory.canaries is None
    assert not [row for row in job.run.read(ANSWERS, Answer) if "canar" in row.system]
    assert not {"canaries", "canary adapter"} & set(job.run.stamp("eval")["settings"])


def test_the_command_line_trains_a_copy_and_leaves_the_adapter(own_folder):
    def typed(*line):
        done = CliRunner().invoke(app, list(line))
        assert done.exit_code == 0, (done.output, done.exception)
        return done

    small = ["--backend", "scripted", "--set", "synth.n_inputs=32", "--set", "eval.resamples=20"]
    typed("run", "support_routing", "--name", "r", "--yes", *small)
    run = Run(own_folder / "runs" / "r")
    before = {name: run.path(name).read_bytes() for name in ("adapter.gguf", "train.jsonl", "valid.jsonl")}
    done = typed("eval", "r", "--set", "canaries=3", "--redo")
    assert "a second adapter is trained, with 3 planted secrets" in done.output
    assert "3 secrets planted in the inputs of a copy of the training: exposure" in " ".join(done.output.split())
    assert {name: run.path(name).read_bytes() for name in before} == before
    planted = [row for row in Run(run.path("canaries")).lines("train.jsonl") if "My number is" in row["input"]]
    assert len(planted) == 3
    report = json.loads(run.path("report.json").read_text())
    assert len(report["memory"]["canaries"]["ranks"]["input"]["tuned"]) == 3


def test_a_real_model_is_trained_on_them_and_asked(tmp_path):
    base = write_model(tmp_path / "base.gguf", TinySpec(layers=1))
    settings = small_settings()
    settings["eval"]["canaries"] = 2
    with sg.open_job(
        {**ROUTE, "name": "r"}, model=base, settings=settings, runs=tmp_path / "runs", name="r", home=tmp_path / "home"
    ) as job:
        for stage in (job.synth, job.filter, job.train):
            stage()
        found = job.evaluate().memory.canaries
    ranks = found.ranks["input"]
    assert len(ranks["base"]) == len(ranks["tuned"]) >= 1
    assert all(1 <= rank <= N_AMONG for model in ranks.values() for rank in model)


def test_so_many_secrets_are_never_planted():
    with pytest.raises(SgError, match="1000000000 secrets cannot be planted"):
        plant(TASK, PAIRS, 10**9, 0)


@pytest.mark.parametrize("n", ("-1", "101"))
def test_a_number_that_makes_no_sense_is_refused_before_anything_trains(own_folder, n):
    line = ["run", "support_routing", "--name", "r", "--yes", "--backend", "scripted", "--set", f"eval.canaries={n}"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2 and "takes 0 to 100" in done.output
    assert not (own_folder / "runs" / "r" / "inputs.jsonl").exists()
