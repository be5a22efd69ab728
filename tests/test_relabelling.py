"""Rows labelled anew by a tuned model: what changes, what stays, and when another training is made from them."""

from __future__ import annotations

import csv
import dataclasses

import pytest

import sg_local as sg
from sg_local.backends.scripted import ScriptedGenerator, ScriptedTrainer
from sg_local.evaluate import EvalEvent
from sg_local.export.card import _funnel
from sg_local.filters import FilterSettings, apply
from sg_local.filters.relabelling import first_agreement, relabelled, unlabelled
from sg_local.job.export import provenance
from sg_local.job.stale import n_changed
from sg_local.records import LABELLED, Candidate, Pair, Score, Task, Verdict
from sg_local.run import CANDIDATES, VERDICTS, Run
from sg_local.training import SHARE, TrainingRow

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


@pytest.mark.parametrize(
    ("settings", "has_channel", "takes_all"),
    [
        (FilterSettings(), True, True),
        (FilterSettings(), False, False),
        (FilterSettings(evidence="direct"), True, False),
        (FilterSettings(policy="calibrated"), False, True),
        (FilterSettings(policy="ranked"), True, False),
    ],
    ids=("ensemble", "no-channel", "direct", "calibrated", "ranked"),
)
def test_rows_stay_where_the_labels_before_took_all(run, settings, has_channel, takes_all):
    rows = [candidate(i, ("yes", "no")[i % 2], (-1.0 - i % 2, -2.0 + i % 2)) for i in range(80)]
    if has_channel:
        rows = [dataclasses.replace(row, channel_scores=row.label_scores) for row in rows]
    run.replace(CANDIDATES, rows)
    apply(run, TASK, settings)
    n = len(relabelled(run, TASK, settings, scores()).rows)
    assert n == (50 if takes_all else 37)  # of 20 yes and 60 no; the surer half, and 15 at least, is 15 and 30


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


@pytest.mark.parametrize(
    ("n", "parts"), [(2, (1 / 3, 2 / 3)), (3, (1 / 4, 1 / 4, 1 / 2))], ids=("two-rounds", "three-rounds")
)
def test_trainings_in_a_row_share_epochs_and_time_and_the_last_has_most(own_folder, routing, monkeypatch, n, parts):
    given, train = [], ScriptedTrainer.train

    def noted(self, examples, valid, out, settings, on_step):
        given.append((settings.epochs, settings.time_s))
        return train(self, examples, valid, out, settings, on_step)

    monkeypatch.setattr(ScriptedTrainer, "train", noted)
    monkeypatch.setattr("sg_local.job.generations.first_agreement", lambda run, task: -1.0)
    _, _, job = generations(n, routing, monkeypatch, by_length, train={"time_s": 90.0, "epochs": 6})
    assert given == [(pytest.approx(6 * part), pytest.approx(90 * part)) for part in parts]
    stamped = job.opened.run.stamp("train")["settings"]
    assert (stamped["time_s"], stamped["epochs"], stamped[SHARE]) == (90.0, 6, pytest.approx(parts[-1]))


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
    given, train = [], ScriptedTrainer.train

    def noted(self, examples, valid, out, settings, on_step):
        given.append((settings.epochs, settings.time_s))
        return train(self, examples, valid, out, settings, on_step)

    monkeypatch.setattr(ScriptedTrainer, "train", noted)
    said, rows, job = generations(2, routing, monkeypatch, by_length, train={"time_s": 90.0})
    assert any("agree less with the asked ones" in one for one in said)
    assert given == [(1.0, 30.0), (3.0, pytest.approx(60.0))]  # all the epochs, in the time that is left
    asked = {row.id: row.label_asked for row in job.opened.run.read(CANDIDATES, Candidate)}
    assert rows and all(row.output == asked[row.id] for row in rows)


def test_a_finished_first_round_outlives_another_time_limit(own_folder, routing, monkeypatch):
    generations(2, routing, monkeypatch, by_length, train={"time_s": 90.0})
    first = own_folder / "runs" / "g2" / "generation-1" / "adapter.gguf"
    made = first.stat().st_mtime_ns
    with sg.open_job(routing, runs="runs", name="g2", backend="scripted", settings={"train": {"time_s": 50.0}}) as job:
        job.train(redo=True)
    assert first.stat().st_mtime_ns == made


def test_without_scores_of_the_untuned_model_there_is_one_round(own_folder, routing, monkeypatch):
    monkeypatch.setattr("sg_local.job.generations.first_agreement", lambda run, task: None)
    said, _, job = generations(2, routing, monkeypatch, by_length)
    assert any("no labels were scored" in one and one.endswith("training once") for one in said)
    assert not (job.folder / "generation-1").exists()


def test_the_card_tells_of_the_rows_that_trained_and_who_labelled_them(own_folder, routing, monkeypatch):
    _, rows, job = generations(2, routing, monkeypatch, by_length)
    n = len(rows) + len(job.opened.run.read("valid.jsonl", TrainingRow))
    told = provenance(job.opened)["funnel"]
    assert told["kept"] == n and told["relabelled"] and sum(kept for _, kept in told["labels"].values()) == n
    assert "The model of a first, short training gave these rows their labels." in _funnel(told)
    _, _, job = generations(1, routing, monkeypatch, by_length)
    assert "relabelled" not in provenance(job.opened)["funnel"]


def test_one_generation_makes_nothing_beside_the_run(own_folder, routing, monkeypatch):
    _, _, job = generations(1, routing, monkeypatch, by_length)
    assert not (job.folder / "generation-1").exists()
    assert "generations" not in job.opened.run.stamp("train")["settings"]
