"""report.json: what 0.1.0 wrote reads as today's, what is written reads back, what is wrong is named."""

import dataclasses
import json
from pathlib import Path

import pytest
from small_reports import report_of
from tiny_runs import REWRITE, job_of

from sg_local.evaluate import evaluate
from sg_local.records import Pair, SgError
from sg_local.report import plain, read_report, write_report
from sg_local.report.records import Excluded
from sg_local.run import REPORT, Run

OLD = Path(__file__).parent / "data" / "run_0_1_0" / "route"
NEW_KEYS = {"against", "form"}


def test_a_report_of_0_1_0_reads_like_one_of_today():
    report = read_report(Run(OLD))
    data = json.loads((OLD / REPORT).read_text())
    assert report.served == "tuned_restricted" and report.main.tuned == "tuned_restricted"
    assert [report.systems[name].against for name in ("tuned", "tuned_vote", "tuned_calibrated", "random_output")] == [
        "base",
        "base_vote",
        "base_calibrated",
        "base",
    ]
    assert report.base.metrics == {key: data["base"][key] for key in ("exact_match", "authors_label", "macro_f1")}
    assert report.excluded == Excluded() and report.rows[0].outputs == tuple(data["rows"][0]["outputs"])
    assert report.funnel.kept == data["funnel"]["kept"] and report.funnel.labels["billing"] == (
        *data["funnel"]["labels"]["billing"],
    )
    assert report.confusion.labels == tuple(data["confusion"]["labels"])


def test_a_report_of_0_1_0_is_written_again_with_every_key_it_had(tmp_path):
    old = json.loads((OLD / REPORT).read_text())
    write_report(Run(tmp_path), read_report(Run(OLD)))
    new = json.loads((tmp_path / REPORT).read_text())
    assert (new.pop("served"), new.pop("rival")) == ("tuned_restricted", "base_restricted_chat")
    assert new.pop("headline").startswith("33 -> 33 % from untuned to tuned; best untuned setup (")
    assert [new["funnel"].pop(key) for key in ("own", "labelled", "flagged", "personal")] == [0, 0, 0, {}]
    for system in (*new["systems"].values(), *(new[name] for name in ("base", "base_vote", "tuned"))):
        for key in NEW_KEYS:
            del system[key]
    assert new == old


def test_what_is_written_reads_back(tmp_path):
    report = evaluate(job_of(tmp_path, REWRITE, pairs=(Pair("SOME TEXT", "some text"),)))
    assert read_report(Run(tmp_path)) == report
    data = json.loads((tmp_path / REPORT).read_text())
    assert data["tuned"] == data["systems"]["tuned"] and data["retain"] is None and data["funnel"] == {}
    assert "confusion" not in data and "export" not in data
    assert data["served"] == "tuned" and data["systems"]["tuned"]["form"] == "chat"
    assert {key: data["verdicts"][0][key] for key in ("tuned", "base", "like")} == {
        "tuned": "tuned",
        "base": report.outcomes[0].base,
        "like": True,
    }


def test_a_broken_funnel_is_named_with_the_filters_stamp(tmp_path):
    job = job_of(tmp_path)
    job.run.write_stamp("filter", {}, funnel={"asked": 4})
    with pytest.raises(SgError, match=r"filter.json: funnel.parsed is missing"):
        evaluate(job)


def test_what_a_later_version_adds_is_passed_over(tmp_path):
    report = report_of({"base": 40.0, "tuned": 91.5})
    Run(tmp_path).write_json(REPORT, {**plain(report), "moon": "full"})
    assert read_report(Run(tmp_path)) == report


def test_a_run_without_a_report_says_what_to_do(tmp_path):
    with pytest.raises(SgError, match="no report yet") as error:
        read_report(Run(tmp_path / "trial"))
    assert f"`eval {Run(tmp_path / 'trial').typed}`" in error.value.hint


def without(key):
    def change(data):
        del data[key]

    return change


def with_system(**changes):
    def change(data):
        data["systems"]["tuned"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("n"), "n is missing"),
        (without("verdicts"), "verdicts is missing"),
        (with_system(score="high"), "systems.tuned.score is not a number"),
        (with_system(role="king"), "systems.tuned.role is 'king', not one of base, tuned, trivial"),
        (with_system(against="nobody"), "systems.nobody is missing"),
        (lambda data: data["systems"].pop("base"), "systems.base is missing"),
        (lambda data: data["systems"].update(tuned=3), "systems.tuned is not a table"),
        (lambda data: data.update(rows=[{"index": 1}]), r"rows\[0\].input is missing"),
        (lambda data: data.update(n=True), "n is not a whole number"),
        (lambda data: data.update(systems=[]), "systems is not a table"),
        (with_system(score=10**400), "systems.tuned.score is too large"),
        (lambda data: data.update(metric="beauty"), "metric is 'beauty', not one of exact_match, rouge_l"),
    ],
)
def test_what_is_wrong_in_a_report_is_named_with_its_file(tmp_path, change, said):
    data = json.loads(json.dumps(plain(report_of({"base": 40.0, "tuned": 91.5}))))
    change(data)
    Run(tmp_path).write_json(REPORT, data)
    with pytest.raises(SgError, match=said) as error:
        read_report(Run(tmp_path))
    assert str(tmp_path / REPORT) in error.value.message and "eval" in error.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(gains={}), "gains.tuned.*-.* is missing"),
        (lambda data: data["verdicts"][0].update(base="nobody"), "systems.nobody is missing"),
        (lambda data: data["rows"][0]["scores"].pop("tuned"), r"rows\[0\].scores.tuned is missing"),
    ],
)
def test_what_a_report_refers_to_is_in_it(tmp_path, change, said):
    evaluate(job_of(tmp_path))
    data = json.loads((tmp_path / REPORT).read_text())
    change(data)
    Run(tmp_path).write_json(REPORT, data)
    with pytest.raises(SgError, match=said):
        read_report(Run(tmp_path))


def test_a_report_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        report_of({"base": 40.0, "tuned": 91.5}).n = 1
