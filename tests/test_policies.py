"""The best of several training sets: which rows each policy has, what the examples decide, what is left to the run."""

from __future__ import annotations

import pytest

import sg_local as sg
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.filters import FilterSettings, apply, kept_rows
from sg_local.filters.policies import rows_under
from sg_local.job.stale import n_changed
from sg_local.records import LABELLED, Candidate, Pair, Score, SgError, Task, Verdict
from sg_local.run import CANDIDATES, VERDICTS, Run
from sg_local.training import TrainingRow

TASK = Task("t", "classification", "Say.", (Pair("shown one", "yes"), Pair("shown two", "no")), ("yes", "no"))
SMALL = {"synth": {"n_inputs": 60, "n_asked": 240}, "filter": {"policy": "asked", "input_length": {"on": False}},
         "eval": {"n_votes": 2}}  # fmt: skip


def test_rows_under_another_policy_leave_to_people_what_they_judged(tmp_path):
    run = Run(tmp_path / "r")
    run.root.mkdir()
    words = "amber birch cedar delta ember fjord grove heath inlet jetty".split()
    rows = [
        Candidate(
            f"c{i}", f"{words[i]} {i} {words[-1 - i] * 2}", "yes", {"yes": 5}, 5, 1.0, label_asked=("yes", "no")[i % 2]
        )
        for i in range(10)
    ]
    run.append(CANDIDATES, [*rows, Candidate("own", "one of mine", "no", {"no": 1}, 1, 1.0, source=LABELLED)])
    settings = FilterSettings(policy="asked")
    apply(run, TASK, settings)
    run.append(VERDICTS, [Verdict("c0", True, "me", output="no"), Verdict("c2", False, "me")])
    before = run.path(VERDICTS).read_bytes()
    found = {row.id: row.pair.output for row in rows_under(run, TASK, FilterSettings(policy="voted"))}
    assert found == {"c0": "no", **{f"c{i}": "yes" for i in range(1, 10) if i != 2}, "own": "no"}
    assert [row.id for row in rows_under(run, TASK, settings)] == [row.id for row in kept_rows(run)]
    assert run.path(VERDICTS).read_bytes() == before


def tried(routing, monkeypatch, likes, policies=("voted",), **more):
    """A scripted run that tries these policies, where the adapter in a folder makes the examples as likely as `likes`
    says; what it said, the rows that trained, and the job."""
    using = []
    monkeypatch.setattr(ScriptedGenerator, "use_adapter", lambda self, path: using.append(path))

    def score(self, asked):
        here = str(using[-1].parent.name) if using and using[-1] else ""
        return (Score(one.id, (likes.get(here, -1.0),) * len(one.continuations)) for one in asked)

    monkeypatch.setattr(ScriptedGenerator, "score", score)
    heard = []
    settings = {**SMALL, "train": {"policies": policies, **more}}
    with sg.open_job(routing, runs="runs", name="p", backend="scripted", settings=settings) as job:
        job.run(listen=heard.append)
        said = [event.text for event in heard if isinstance(event, sg.Said)]
        return said, job.opened.run.read("train.jsonl", TrainingRow), job


@pytest.mark.parametrize("best", ["filtered", "voted"])
def test_the_rows_stay_whose_adapter_finds_the_examples_likeliest(own_folder, routing, monkeypatch, best):
    likes = {"policy-filtered": -2.0, "policy-voted": -2.0, f"policy-{best}": -0.5}
    said, rows, job = tried(routing, monkeypatch, likes)
    assert any(f"training on the rows of {best}: these are kept" in one for one in said)
    right = {
        row.id: row.label_asked if best == "filtered" else row.output
        for row in job.opened.run.read(CANDIDATES, Candidate)
    }
    assert rows and all(row.output == right[row.id] for row in rows)
    assert (job.folder / "policy-voted" / "adapter.gguf").exists() and n_changed(job.opened.run) == 0
    before = (job.folder / "adapter.gguf").read_bytes()
    with sg.load("p") as again:
        again.run()
    assert (job.folder / "adapter.gguf").read_bytes() == before


def test_policies_that_keep_the_same_rows_train_once(own_folder, routing, monkeypatch):
    said, _, job = tried(routing, monkeypatch, {}, policies=("asked",))
    assert any("keep the same rows: training once" in one for one in said)
    assert not list(job.folder.glob("policy-*")) and n_changed(job.opened.run) == 0


@pytest.mark.parametrize(("kind", "policy"), [("routing", "mbr"), ("fluent", "ranked"), ("routing", "best")])
def test_a_policy_that_the_task_does_not_have_is_refused_at_once(own_folder, request, kind, policy):
    task = request.getfixturevalue(kind)
    settings = {"train": {"policies": ["asked", policy]}}
    with sg.open_job(task, runs="runs", backend="scripted", settings=settings) as job:
        with pytest.raises(SgError, match=f"no policy '{policy}'") as raised:
            job.run()
    assert raised.value.exit_code == 2 and not list(own_folder.glob("runs/*/inputs.jsonl"))
