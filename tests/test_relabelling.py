"""Rows labelled anew by a tuned model: what changes, what stays, and when another training is made from them."""

from __future__ import annotations

import csv
import dataclasses

import pytest

import sg_local as sg
from sg_local.backends.scripted import ScriptedGenerator, ScriptedTrainer
from sg_local.evaluate import EvalEvent
from sg_local.filters import FilterSettings, apply
from sg_local.filters.relabelling import first_agreement, relabelled, unlabelled
from sg_local.job.stale import n_changed
from sg_local.records import LABELLED, Candidate, Pair, Score, Task, Verdict
from sg_local.run import CANDIDATES, VERDICTS, Run
from sg_local.training import TrainingRow

WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ocean plain quay".split()
TASK = Task("t", "classification", "Say.", (Pair("shown one", "yes"), Pair("shown two", "no")), ("yes", "no"))
LOOSE = FilterSettings(policy="asked")


def text(i):
    return f"{WORDS[i % 17]} {WORDS[(i * i + 3) % 17]} {WORDS[(i * 7 + i // 17) % 17]} of {i}"


def candidate(i, asked, scores=(-1.0, -1.0), source=""):
    return Candidate(f"c{i}", text(i), asked, {asked: 5}, 5, 1.0, label_asked=asked, label_scores=scores, source=source)


@pytest.fixture
def run(tmp_path):
    """Eighty rows asked for yes and no in turn, whose tuned model knows better about every fourth."""
    run = Run(tmp_path / "r")
    run.root.mkdir()
    run.append(CANDIDATES, [candidate(i, ("yes", "no")[i % 2], (-1.0 - i % 2, -2.0 + i % 2)) for i in range(80)])
    apply(run, TASK, LOOSE)
    return run


def truth(i):
    return ("yes", "no")[(i + (i % 4 == 0)) % 2]


def scores(n=80, sign=1):
    return {f"c{i}": ((-1.0, -2.0) if truth(i) == "yes" else (-2.0, -1.0))[::sign] for i in range(n)}


def test_every_row_gets_the_label_that_the_scores_give(run):
    found = relabelled(run, TASK, LOOSE, scores())
    assert found.rows and all(row.pair.output == truth(int(row.id[1:])) for row in found.rows)
    changed = [row for row in found.rows if int(row.id[1:]) % 4 == 0]
    counts = [sum(row.pair.output == label for row in found.rows) for label in TASK.labels]
    assert changed and max(counts) <= 1.5 * min(counts)
    assert 0 < found.kappa < first_agreement(run, TASK) == 1.0


def test_scores_that_contradict_what_was_asked_agree_less_than_chance(run):
    assert relabelled(run, TASK, LOOSE, scores(sign=-1)).kappa < 0


def test_scores_of_the_model_before_do_not_stay_with_the_new_ones(run):
    run.replace(CANDIDATES, [dataclasses.replace(candidate(i, "yes"), channel_scores=(-1.0, -2.0)) for i in range(80)])
    found = relabelled(run, TASK, LOOSE, scores())
    assert found.rows and all(row.candidate.channel_scores == () for row in found.rows)


def test_what_people_judged_and_labelled_stays(run):
    run.append(CANDIDATES, [candidate(90, "no", source=LABELLED)])
    run.append(
        VERDICTS, [Verdict("c0", True, "me", output="yes"), Verdict("c1", False, "me"), Verdict("c90", True, "filters")]
    )
    assert "c90" not in {row.id for row in unlabelled(run)}
    rows = {row.id: row.pair.output for row in relabelled(run, TASK, LOOSE, scores()).rows}
    assert rows["c0"] == "yes" and "c1" not in rows and rows["c90"] == "no"


SMALL = {"synth": {"n_inputs": 60, "n_asked": 240}, "filter": {"policy": "asked", "input_length": {"on": False}},
         "eval": {"n_votes": 2}}  # fmt: skip


def generations(n, routing, monkeypatch, knows, heard=None, **more):
    """A scripted run of so many generations, whose models score as `knows` says; what it said and its rows."""
    monkeypatch.setattr(ScriptedGenerator, "score", lambda self, asked: (Score(one.id, knows(one)) for one in asked))
    heard = [] if heard is None else heard
    settings = {**SMALL, "train": {"generations": n, **more.pop("train", {})}}
    with sg.open_job(routing, runs="runs", name=f"g{n}", backend="scripted", settings=settings, **more) as job:
        job.run(listen=heard.append)
        said = [event.text for event in heard if isinstance(event, sg.Said)]
        return said, job.opened.run.read("train.jsonl", TrainingRow), job


def by_length(one):
    """Scores that follow the input's length, whatever was asked."""
    n = len("".join(segment.text for segment in one.segments))
    return tuple(-float((n + k) % 5) for k in range(len(one.continuations)))


def test_a_second_generation_trains_on_labels_of_the_first(own_folder, routing, monkeypatch):
    said, rows, job = generations(2, routing, monkeypatch, by_length)
    assert (
        any("training 1 of up to 2" in one for one in said) and (job.folder / "generation-1" / "adapter.gguf").exists()
    )
    asked = {row.id: row.label_asked for row in job.opened.run.read(CANDIDATES, Candidate)}
    assert rows and any(row.output != asked[row.id] for row in rows)
    assert job.opened.run.stamp("train")["settings"]["generations"] == 2
    before = (job.folder / "adapter.gguf").read_bytes()
    with sg.load("g2") as again:
        again.run()
    assert (job.folder / "adapter.gguf").read_bytes() == before
    assert n_changed(job.opened.run) == 0
    job.opened.run.append(VERDICTS, [Verdict(rows[0].id, False, "me")])
    assert n_changed(job.opened.run) == 1


def test_every_training_has_an_equal_share_of_the_time(own_folder, routing, monkeypatch):
    given, train = [], ScriptedTrainer.train

    def noted(self, examples, valid, out, settings, on_step):
        given.append(settings.time_s)
        return train(self, examples, valid, out, settings, on_step)

    monkeypatch.setattr(ScriptedTrainer, "train", noted)
    _, _, job = generations(2, routing, monkeypatch, by_length, train={"time_s": 90.0})
    assert given == [45.0, 45.0] and job.opened.run.stamp("train")["settings"]["time_s"] == 90.0


def test_labelling_the_rows_anew_tells_where_it_stands(own_folder, routing, monkeypatch):
    heard = []
    generations(2, routing, monkeypatch, by_length, heard)
    at = [event.at for event in heard if isinstance(event, sg.Moved) and event.stage == "train"]
    anew = [one for one in at if isinstance(one, EvalEvent)]
    assert anew and anew[-1].done == anew[-1].wanted > 0 and anew[-1].title == "labelling the rows anew"


def test_own_inputs_alone_are_trained_on_once_in_all_the_time(own_folder, routing, monkeypatch):
    given = []
    monkeypatch.setattr(ScriptedTrainer, "train", lambda *asked: given.append(asked[4].time_s) or 1 / 0)
    with open("own.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[f"My {text(i)} parcel has a problem."] for i in range(80)]])
    heard = []
    with pytest.raises(ZeroDivisionError):
        generations(2, routing, monkeypatch, by_length, heard, inputs="own.csv", train={"time_s": 90.0})
    said = [event.text for event in heard if isinstance(event, sg.Said)]
    assert given == [90.0] and not any("training 1 of" in one for one in said)
    assert sum("no labels were asked for" in one and one.endswith("training once") for one in said) == 1


def test_labels_that_agree_less_than_the_untuned_model_s_end_it(own_folder, routing, monkeypatch):
    from sg_local.job import generations as module

    monkeypatch.setattr(module, "first_agreement", lambda run, task: 1.0)
    said, rows, job = generations(2, routing, monkeypatch, by_length)
    assert any("agree less with the asked ones" in one for one in said)
    asked = {row.id: row.label_asked for row in job.opened.run.read(CANDIDATES, Candidate)}
    assert rows and all(row.output == asked[row.id] for row in rows)


def test_one_generation_makes_nothing_beside_the_run(own_folder, routing, monkeypatch):
    _, _, job = generations(1, routing, monkeypatch, by_length)
    assert not (job.folder / "generation-1").exists()
    assert "generations" not in job.opened.run.stamp("train")["settings"]
