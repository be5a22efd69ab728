"""The ranges of settings: what lies outside is refused before any work, wherever it was set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sg_local import filters
from sg_local.job.begun import job_for_task
from sg_local.job.filter import refilter
from sg_local.job.options import Home, Options
from sg_local.job.plan import flat, make_plan, stage_defaults
from sg_local.job.presets import PRESETS, nested
from sg_local.job.ranges import RANGES, check_ranges
from sg_local.records import Candidate, SgError

OUT = [
    *("synth.n_inputs=0", "synth.n_asked=0", "synth.round_size=0", "synth.n_per_draw=0", "synth.n_orders=0"),
    *("synth.chunk_size=0", "synth.chunk_size=-1", "synth.n_votes=0", "synth.n_pool=-1", "synth.temperature=-0.1"),
    *("synth.style=foo", "synth.top_p=1.5", "engine.n_parallel=0", "engine.n_replicas=0", "own.share=-1"),
    *("own.valid=2", "own.weight=0", "filter.policy=bogus", "filter.evidence=bogus", "filter.input_length.widest=0"),
    *("filter.vote_share.threshold=-1", "eval.n_votes=0", "eval.resamples=0", "eval.chunk_size=-1"),
    *("eval.ensemble=-1", "eval.n_context=-1", "eval.abstain=2", "export.n_rows=0", "export.n_answers=0"),
    *("export.min_gain=90", "export.may_lose=-1", "serve.tokens=0", "serve.idle_s=0"),
]


GIVEN = Options(backend="scripted", trainer="scripted", form="plain")


def row_of(text: str) -> Candidate:
    return Candidate(text, text, "an answer", {"an answer": 5}, 5, 1.0, "an answer")


def tables(setting: str) -> dict:
    name, value = setting.split("=")
    return nested({name: value})


@pytest.mark.parametrize("setting", OUT)
def test_what_is_out_of_range_is_refused_with_the_range(setting):
    with pytest.raises(SgError, match=r"is out of range\.") as caught:
        make_plan([("given", tables(setting))])
    assert caught.value.message.startswith(setting.split("=")[0]) and caught.value.hint.startswith("It must be ")
    assert caught.value.exit_code == 2


def test_what_a_run_began_with_need_not_lie_in_today_s_ranges():
    plan = make_plan([("runs/r/run.json", {"eval": {"n_votes": 0}}), ("given", {"synth": {"n_votes": 3}})])
    assert plan["eval"].n_votes == 0
    with pytest.raises(SgError, match=r"eval\.n_votes"):
        make_plan([("runs/r/run.json", {"eval": {"n_votes": 0}}), ("given", {"eval": {"n_votes": 0}})])
    assert make_plan([("given", {"synth": {"top_k": -1}, "eval": {"leak_threshold": 1.1}})])["synth"].top_k == -1


def test_the_layer_that_holds_it_is_named():
    with pytest.raises(SgError, match=r"^eval\.n_votes = 0 is out of range \(my file\)\.$"):
        make_plan([("my file", {"eval": {"n_votes": 0}}), ("given", {"synth": {"n_votes": 3}})])


def test_defaults_and_presets_lie_within_and_every_range_is_of_a_setting():
    names = {name for stage, own in stage_defaults().items() for name, _ in flat(own, stage)}
    assert names >= RANGES.keys()
    for kinds in PRESETS.values():
        for preset in kinds.values():
            make_plan([("preset", preset)])
    check_ranges([("synth.n_inputs", None), ("train.lr", -1.0)])  # none is always within; training checks its own


@pytest.mark.parametrize(("kind", "policy"), [("routing", "mbr"), ("fluent", "calibrated"), ("fluent", "ensemble")])
def test_a_policy_of_the_other_kind_of_task_is_refused_before_work(kind, policy, request, tmp_path):
    task = request.getfixturevalue(kind)

    def opened(**settings):
        given = Options(runs=tmp_path / "runs", backend="scripted", trainer="scripted", form="plain", settings=settings)
        return job_for_task(task, given, Home(tmp_path / "home"), ("synth", "filter"))

    with pytest.raises(SgError, match="has no policy") as caught:
        opened(filter={"policy": policy})
    assert "`filter.policy` takes auto, voted" in caught.value.hint and not (tmp_path / "runs").exists()
    home = Home(tmp_path / "home", layers=[("config.toml", {"filter": {"policy": policy}})])
    if kind == "fluent":  # a config is for tasks of both kinds
        with job_for_task(task, replace(GIVEN, runs=tmp_path / "runs"), home, ("synth", "filter")) as job:
            assert filters.judge([row_of("a text")], task, job.plan["filter"])[1].policy == "agree"
    with opened() as job, job.lock():
        job.run.path("candidates.jsonl").write_text("")
        with pytest.raises(SgError, match="has no policy"):
            refilter(job, {"policy": policy})
        assert job.plan["filter"].policy == "auto"
        with pytest.raises(SgError, match="out of range"):
            refilter(job, {"vote_share": {"threshold": -1}})
        assert "set" not in job.record or "policy" not in job.record["set"].get("filter", {})


def test_the_ensemble_s_policy_needs_rows_with_both_scores(routing, tmp_path):
    settings = {"filter": {"policy": "ensemble"}, "synth": {"channel": False}}
    given = Options(runs=tmp_path / "runs", backend="scripted", trainer="scripted", form="plain", settings=settings)
    with pytest.raises(SgError, match="needs both scores") as caught:
        job_for_task(routing, given, Home(tmp_path / "home"), ("synth", "filter"))
    assert "`synth.channel`" in caught.value.hint
