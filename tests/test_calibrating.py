"""One calibration for predict, predict_proba, serve and eval: the same numbers, kept with the run."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_models import TinySpec, write_model
from tiny_runs import PAIRS, TASK, FakeGenerator, job_of

import sg_local as sg
from sg_local.calibration import bins_of
from sg_local.evaluate import evaluate
from sg_local.evaluate.calibrating import known_rows, label_means
from sg_local.evaluate.journal import AnswerJournal
from sg_local.job.answering import Asking, answerer, temperature_of
from sg_local.job.calibrating import calibration_of, read_kept
from sg_local.records import Candidate, Pair
from sg_local.run import CANDIDATES
from sg_local.serve import Question, answer_rows

SMALL = {"synth": {"n_inputs": 40, "n_asked": 160}}
OFF = {rule: {"on": False} for rule in ("grounding", "copied_output", "vote_share")}


@pytest.fixture
def done(own_folder):
    with sg.open_job("support_routing", backend="scripted", settings={**SMALL, "filter": OFF}, name="team") as job:
        job.run()
    return sg.load("team")


def certainties(job, probabilities):
    """Each test row's confidence and whether it is right, from probabilities of the face."""
    right = {row.input: row.outputs for row in job.task.tests}
    texts = [row.input for row in job.report.rows]
    return [
        (max(found.values()), max(found, key=found.get) in right[text])
        for text, found in zip(texts, probabilities, strict=True)
    ]


def test_the_report_s_numbers_are_those_of_predict_proba(done):
    texts = [row.input for row in done.report.rows]
    served = done.report.systems[done.report.served].reliability
    assert served.n == len(texts) and served.n_fitted == len(valid_of(done)) > 0 and served.temperature != 1
    assert bins_of(certainties(done, done.predict_proba(texts))) == served.bins
    kept = calibration_of(done.opened, "likeliest", base=False)
    assert (kept.temperature, kept.n) == (served.temperature, served.n_fitted)


def test_calibrated_labels_have_the_report_s_numbers_too(done):
    texts, asking = [row.input for row in done.report.rows], Asking(labels="calibrated", probabilities=True)
    who, way = answerer(done.opened, asking)
    from sg_local.calibration import shares

    temperature = temperature_of(done.opened, asking)
    rows = [shares(one.scores, temperature) for one in answer_rows(who, way, map(Question, texts))]
    named = [dict(zip(done.task.labels, row, strict=True)) for row in rows]
    calibrated = [one for one in done.report.systems.values() if one.title == "tuned, calibrated labels"]
    assert bins_of(certainties(done, named)) == calibrated[0].reliability.bins


def valid_of(job):
    return (job.folder / "valid.jsonl").read_text().splitlines()


def test_the_evaluation_keeps_it_and_nobody_fits_it_again(done, monkeypatch):
    assert read_kept(done.opened)["tuned"].keys() == {"likeliest", "calibrated"}
    stamp = json.loads((done.folder / "stages" / "calibrate.json").read_text())
    assert set(stamp["reads"]) == {"adapter.gguf", "candidates.jsonl", "valid.jsonl"}
    assert set(stamp["made"]) == {"calibration.json"}
    monkeypatch.setattr("sg_local.evaluate.fit", None)
    assert done.predict_proba(["Where is it?"])


@pytest.mark.parametrize("harm", ["gone", "changed", "other adapter"])
def test_what_no_longer_fits_is_fitted_anew(done, harm):
    before = done.predict_proba(["Where is it?"])
    path = done.folder / "calibration.json"
    if harm == "gone":
        path.unlink()
    elif harm == "changed":
        path.write_text(path.read_text().replace("temperature", "temperament"))
    else:
        (done.folder / "adapter.gguf").write_text("another adapter")
    assert read_kept(done.opened) == {}
    assert done.predict_proba(["Where is it?"]) == before  # the scripted engine does not read the adapter
    assert read_kept(done.opened)["tuned"]


def test_a_run_that_another_process_holds_answers_all_the_same(done):
    wanted = done.predict_proba(["Where is it?"])
    (done.folder / "calibration.json").unlink()
    with done.opened.run.lock(), sg.load("team") as other:
        assert other.predict_proba(["Where is it?"]) == wanted
    assert not (done.folder / "calibration.json").exists()


def test_the_base_has_a_temperature_of_its_own(done):
    calibration_of(done.opened, "likeliest", base=True)
    assert read_kept(done.opened).keys() == {"base", "tuned"}


def test_the_base_is_asked_without_the_adapter(done, monkeypatch):
    done.predict(["Where is it?"])
    assert done.opened.generator.adapter is not None
    done.predict(["Where is it?"], base=True)
    assert done.opened.generator.adapter is None
    done.predict_proba(["Where is it?"], base=True)
    assert done.opened.generator.adapter is None


def test_a_base_alone_has_probabilities_as_the_model_gives_them(own_folder):
    with sg.open_job("support_routing", backend="scripted", base=True) as job:
        assert sum(job.predict_proba(["Where is it?"])[0].values()) == pytest.approx(1)
        assert calibration_of(job.opened, "likeliest", base=True).n == 0
    assert not (own_folder / "runs").exists()


def test_with_a_real_engine_the_report_and_predict_proba_agree(own_folder):
    base = write_model(own_folder / "tiny.gguf", TinySpec())
    with sg.open_job(TASK, model=base, base=True, form="chat") as job:
        found = job.evaluate_base()
        [name] = [name for name in found.chosen if name.endswith("restricted")]
        assert found.chosen[name] == job.opened.form.name
        likely = job.predict_proba([row.input for row in TASK.tests])
        hits = [
            (max(one.values()), max(one, key=one.get) in row.outputs)
            for one, row in zip(likely, TASK.tests, strict=True)
        ]
        [mine], [theirs] = bins_of(hits), found.systems[name].reliability.bins
        assert (mine.n, mine.right) == (theirs.n, theirs.right) == (4, 50.0)
        assert mine.confidence == pytest.approx(theirs.confidence, abs=0.1)


# In the evaluation


@pytest.mark.parametrize(("apart", "form", "n_asked"), [(0.2, "chat", 8), (0.6, "chat", 24), (0.2, "plain", 24)])
def test_scores_that_synthesis_left_are_not_asked_for_again(tmp_path, apart, form, n_asked):
    """Where eight of them, in the same prompt, come out the same."""
    pairs = [Pair(f"synthetic {i}", "red") for i in range(24)]
    left = {pair.input: (-1.0 - i / 10, -2.0 + i / 10) for i, pair in enumerate(pairs)}
    generator = FakeGenerator({}, {text: (one + apart, other) for text, (one, other) in left.items()})
    job = job_of(tmp_path, generator=generator, pairs=pairs)
    job.run.write_json("run.json", {**job.run.settings, "form": form})
    rows = job.run.read(CANDIDATES, Candidate)
    job.run.replace(CANDIDATES, [dataclasses.replace(row, label_scores=left[row.input]) for row in rows])
    means = label_means(AnswerJournal(job, lambda event: None), "base", job.forms[0])
    assert job.forms[0].name == "chat" and generator.n_scored >= n_asked
    n_new = 8 if n_asked == 8 else 24
    assert means == pytest.approx((-1.0 - 2.3 / 2 + apart * n_new / 24, -2.0 + 2.3 / 2), abs=1e-4)
    known, generator.n_scored = means, 0
    journal = AnswerJournal(job, lambda event: None)
    assert label_means(journal, "base", job.forms[0]) == known and generator.n_scored == 0
    assert label_means(journal, "base", job.forms[0]) == known


def test_test_rows_are_never_fitted_on(tmp_path):
    job = dataclasses.replace(job_of(tmp_path), valid=(*PAIRS, Pair(" Test number ONE!", "red"), Pair("odd", "green")))
    assert [row.input for row in known_rows(job)] == [pair.input for pair in PAIRS]


def test_the_report_tells_the_reliability_of_base_and_tuned(tmp_path):
    scores = {row.input: (-1.0, -6.0) for row in TASK.tests} | {pair.input: (-1.0, -6.0) for pair in PAIRS}
    job = dataclasses.replace(job_of(tmp_path, generator=FakeGenerator({}, scores)), valid=PAIRS)
    report = evaluate(job)
    with_it = {name for name, one in report.systems.items() if one.reliability is not None}
    assert with_it == {"base_restricted", "base_calibrated", "tuned_restricted", "tuned_calibrated"}
    found = report.systems["tuned_restricted"].reliability
    assert found.temperature > 1 and found.ece < found.ece_before and found.brier < found.brier_before
    again = evaluate(dataclasses.replace(job_of(tmp_path), valid=PAIRS))
    assert again == report


def test_the_report_tells_what_a_threshold_leaves(tmp_path):
    job = job_of(tmp_path)
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, abstain=0.7))
    left = evaluate(job).systems["tuned_restricted"].reliability.abstain
    assert (left.threshold, left.coverage, left.right) == (0.7, 100.0, 50.0)


def test_an_evaluation_from_before_there_was_a_threshold_is_finished(tmp_path):
    evaluate(job_of(tmp_path))
    assert "abstain" not in json.loads((tmp_path / "stages" / "eval.json").read_text())["settings"]


# Unsure


def test_an_answer_that_is_not_sure_enough_is_unsure(done):
    texts = [row.input for row in done.report.rows]
    likely = done.predict_proba(texts)
    middle = sorted(max(one.values()) for one in likely)[len(texts) // 2]
    found = done.predict(texts, abstain=middle)
    assert [one == "unsure" for one in found] == [max(one.values()) < middle for one in likely]
    assert set(found) > {"unsure"}
    for nonsense in ({"abstain": 1.5}, {"abstain": 0.5, "free": True}):
        with pytest.raises(sg.SgError):
            done.predict(texts, **nonsense)
