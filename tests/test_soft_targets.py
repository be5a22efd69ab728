"""Soft targets: a row trains with each likely label, by what its scores say; people's labels stay as they are."""

from __future__ import annotations

import dataclasses

import pytest

import sg_local as sg
from sg_local import training
from sg_local.filters import Kept
from sg_local.job.train import shares_of, training_job
from sg_local.records import Candidate, Pair, Verdict
from sg_local.run import VERDICTS

SMALL = {"synth": {"n_inputs": 40, "n_asked": 160}, "eval": {"n_votes": 2}}
LABELS = ("yes", "no")


def candidate(id, direct, channel=()):
    return Candidate(id, id, "yes", {"yes": 1}, 1, 1.0, label_asked="yes", label_scores=direct, channel_scores=channel)


def kept(*candidates):
    return [Kept(row.id, Pair(row.input, "yes"), row) for row in candidates]


def open_soft(folder, **settings):
    """A job of a task with two labels, all of a target's weight by the scores."""
    task = {
        "name": "asked",
        "kind": "classification",
        "instruction": "Is it a question?",
        "labels": list(LABELS),
        "examples": [{"input": "Why?", "output": "yes"}, {"input": "So.", "output": "no"}],
    }
    tables = {"train": {"soft": 1.0}, **settings}
    return sg.open_job(task, runs=folder / "runs", name="r", backend="scripted", settings=tables)


def test_shares_are_the_probabilities_of_centred_scores(own_folder):
    rows = kept(candidate("a", (-1.0, -3.0)), candidate("b", (-1.0, -1.0)), candidate("none", ()))
    with open_soft(own_folder) as job:
        found = shares_of(job.opened, rows)
        assert found.keys() == {"a", "b"} and found["a"] == pytest.approx({"yes": 0.7311, "no": 0.2689}, abs=1e-4)
        assert found["b"] == pytest.approx({"yes": 0.2689, "no": 0.7311}, abs=1e-4)
        assert shares_of(job.opened, rows[2:]) == {}


@pytest.mark.parametrize(("evidence", "least", "most"), [("both", 0.7, 1.0), ("direct", 0.0, 0.3)])
def test_shares_go_by_the_scores_that_the_rows_are_judged_by(own_folder, evidence, least, most):
    rows = kept(candidate("a", (-1.0, -3.0), (-9.0, -9.0)), candidate("b", (-1.0, -1.0), (-1.0, -5.0)))
    with open_soft(own_folder, filter={"evidence": evidence}) as job:
        assert least < shares_of(job.opened, rows)["b"]["yes"] < most


@pytest.fixture
def soft(own_folder, routing):
    settings = {**SMALL, "train": {"soft": 0.5}}
    with sg.open_job(routing, runs="runs", name="r", backend="scripted", settings=settings) as job:
        job.synth()
        job.filter()
        yield job


def test_a_target_is_partly_the_row_s_label_and_partly_what_its_scores_say(soft):
    work = training_job(soft.opened, None)
    outputs = {row.id: row.output for row in work.rows}
    assert work.shares and all(sum(own.values()) == pytest.approx(1, abs=1e-3) for own in work.shares.values())
    assert all(share >= 0.5 for id, own in work.shares.items() for label, share in own.items() if label == outputs[id])
    sets = training.prepare(work)
    weights = {}
    for example in sets.train:
        weights[example.id] = weights.get(example.id, 0.0) + example.weight
    assert len(sets.train) > len(weights) and all(one == pytest.approx(1, abs=1e-3) for one in weights.values())
    assert all(example.weight == 1.0 for example in sets.valid)
    plain = training.prepare(dataclasses.replace(work, shares={}))
    assert [example.id for example in plain.train] == list(weights) and plain.valid == sets.valid


def test_a_row_whose_every_share_is_small_keeps_its_own_label(soft, monkeypatch):
    from sg_local.job import train

    monkeypatch.setattr(train, "LEAST_SHARE", 0.999)
    work = training_job(soft.opened, None)
    outputs = {row.id: row.output for row in work.rows}
    assert work.shares and all(own == {outputs[id]: 1.0} for id, own in work.shares.items())


def test_what_people_judged_stays_as_it_is(soft):
    judged = training_job(soft.opened, None).rows[0].id
    soft.opened.run.append(VERDICTS, [Verdict(judged, True, "me")])
    assert judged not in training_job(soft.opened, None).shares


def test_the_stage_counts_rows_and_stamps_targets_only_where_they_are_soft(soft, own_folder):
    soft.train()
    stamp = soft.opened.run.stamp("train")
    assert "shares" in stamp["settings"] and stamp["n_train"] == len(list(soft.opened.run.lines("train.jsonl")))
    with sg.open_job(soft.task, runs="runs", name="hard", backend="scripted", settings=SMALL) as hard:
        hard.synth()
        hard.filter()
        assert shares_of(hard.opened, ()) == {}
        hard.train()
        assert not {"soft", "shares"} & set(hard.opened.run.stamp("train")["settings"])
