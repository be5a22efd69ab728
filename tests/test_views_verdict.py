"""The card at the end of a run, from its report."""

import dataclasses
import html
import json

import pytest
from small_reports import report_of
from tiny_runs import SETTINGS, TASK, job_of

from sg_local.evaluate import SYSTEMS, compare, evaluate
from sg_local.records import TestRow
from sg_local.report import figure, read_report, render, write_report
from sg_local.report.records import Excluded, ScoredRow
from sg_local.run import REPORT, Run
from sg_local.views.verdict import commands, end_card, notes, verdict_card
from sg_local.views.ways import TYPED, served_note, uses


@pytest.fixture
def run(tmp_path):
    """A finished run with one test row that leaked, in which the served system was no better than its base."""
    job = job_of(
        tmp_path,
        dataclasses.replace(TASK, tests=(*TASK.tests, TestRow("A fire engine!", ("red",)))),
        settings=dataclasses.replace(SETTINGS, retain=True),
    )
    evaluate(job)
    return job.run


def test_systems_stand_in_the_tables_order_and_lost_prompt_forms_are_left_out(run):
    titles = [system.name for system in verdict_card(run).systems]
    assert titles == [system.title for system in SYSTEMS if system.title in titles]
    assert "base, best prompt" in titles and "base (chat prompt)" not in titles


def test_what_is_served_is_marked_once_among_systems_and_gains(run):
    card = verdict_card(run)
    assert [system.name for system in card.systems if system.chosen] == ["tuned, labels only"]
    assert [gain.tuned for gain in card.gains if gain.chosen] == ["tuned, labels only"]
    assert card.outcome == "open" and not card.marked and card.confusion.title == "tuned, labels only"


def test_a_base_is_named_without_its_prompt_form(run):
    gains = {gain.tuned: gain.base for gain in verdict_card(run).gains}
    assert gains["tuned"] in ("base", "base, best prompt") and not any("prompt)" in base for base in gains.values())


def test_a_gain_over_a_tune_on_the_examples_says_so(run):
    report = read_report(run)
    examples = dataclasses.replace(report.base, title="tuned on the examples alone", score=100.0)
    rows = [dataclasses.replace(row, scores={**row.scores, "tuned_examples": 0.0}) for row in report.rows]
    systems = {**report.systems, "tuned_examples": examples}
    write_report(run, dataclasses.replace(report, systems=systems, rows=tuple(rows)))
    card = verdict_card(run)
    assert card.rival == "training on the examples alone"
    assert card.headline.endswith("; training on the examples alone (tuned on the examples alone): 100 %.")


def test_the_notes_tell_the_prompt_what_leaked_and_what_was_forgotten(run):
    served, *said = verdict_card(run).notes
    assert served.startswith("predict and serve use \u201ctuned, labels only\u201d")
    assert len(said) == 4 and "1 test row was left out: 1 like an example, 0 like a training row." in said
    assert said[2].startswith(
        "Calibrated probabilities (temperature 1.00, fitted on 0 validation rows): calibration error"
    )
    assert "Perplexity on a neutral text:" in said[3]


def test_nothing_left_out_and_nothing_measured_need_no_note():
    assert len(notes(report_of({"base": 40.0, "tuned": 91.5}, excluded=Excluded()))) == 1


def test_a_run_of_which_nothing_is_known_about_the_served_system_is_open(tmp_path):
    run = Run(tmp_path)
    run.write_json("run.json", {"model": {"name": "fake"}})
    write_report(run, report_of({"base": 40.0, "tuned": 91.5}))
    assert verdict_card(run).outcome == "open"


def scored(run, **scores):
    """The report of a run with other scores of some systems."""
    report = read_report(run)
    systems = {name: dataclasses.replace(one, score=scores.get(name, 10.0)) for name, one in report.systems.items()}
    return dataclasses.replace(report, systems=systems)


def test_the_headline_is_against_the_model_as_it_comes_and_the_best_untrained_way(run):
    report = scored(run, base=38.0, tuned_restricted=97.2, base_calibrated=90.0, tuned=98.0, majority_label=99.0)
    wanted = "38 -> 97 % from untuned to tuned; best untuned setup (base, calibrated labels): 90 %."
    assert report.headline == wanted
    write_report(run, report)
    assert verdict_card(run).headline == wanted
    written = dataclasses.replace(report, metric="rouge_l")
    assert written.headline.startswith("38 -> 97 ROUGE-L from untuned")


def test_where_another_family_is_stronger_every_place_names_it(run):
    """The served labels beat the base's labels, and lose to its free text with votes."""
    report = scored(run, base=38.0, base_calibrated=50.0, tuned_restricted=70.0, base_vote=80.0)
    worse = dataclasses.replace(report.gain(report.served, "base_vote"), gain=-10.0, outcome="worse")
    write_report(run, dataclasses.replace(report, gains={**report.gains, f"{report.served}-base_vote": worse}))
    card, page, data = verdict_card(run), html.unescape(render(run)), json.loads(run.path(REPORT).read_text())
    said = "; best untuned setup (base, voting): 80 %."
    assert card.headline == data["headline"] and card.headline.endswith(said) and card.headline in page
    assert data["rival"] == "base_vote" and (card.outcome, card.rival) == ("worse", "the best untuned setup")
    assert [(gain.base, gain.gain) for gain in card.gains if gain.chosen] == [("base, voting", -10.0)]
    sentence = "\u201ctuned, labels only\u201d is worse than \u201cbase, voting\u201d: -10.0 points"
    assert any(one.startswith(sentence) for one in card.sentences) and sentence in page
    shown = [(one.words, one.system.title) for one in figure.lines(read_report(run))]
    assert shown[1] == ("The best untuned setup", "base, voting")
    compared = compare([run]).runs[0]
    assert (compared.base, compared.gain) == ("base, voting", -10.0)


def test_the_strongest_way_is_one_that_can_be_typed(run):
    form = read_report(run).form
    other = next(name for name in ("chat", "plain") if name != form)
    scores = {f"base_calibrated_{form}": 90.0, "base_calibrated": 90.0, "majority_label": 99.0}
    report = scored(run, tuned_restricted=70.0, **scores)
    report = in_forms(report, base_calibrated=form)
    found = uses(run, report)
    assert [use.score for use in found] == sorted((use.score for use in found), reverse=True)
    assert (found[0].name, found[0].score) == ("base_calibrated", 90.0)
    said = served_note(run, report)
    assert "predict and serve use \u201ctuned, labels only\u201d" in said
    asked = f"{run.typed} --base --labels calibrated"
    assert said.endswith(f"sg-local predict {asked} FILE (or sg-local serve {asked})")
    stronger = uses(run, in_forms(scored(run, **scores, **{f"base_{other}": 99.0}), base=form))[0]
    assert stronger.command == f"sg-local predict {run.typed} --base --form {other} --free FILE"
    assert stronger.serving == f"sg-local serve {run.typed} --base --form {other} --free"


def in_forms(report, **forms):
    """The report with these systems' best prompt forms."""
    best = {name: dataclasses.replace(report.systems[name], form=form) for name, form in forms.items()}
    return dataclasses.replace(report, systems={**report.systems, **best})


@pytest.mark.parametrize("form", ["chat", "plain"])
def test_an_untuned_rival_has_a_command_whatever_its_form_and_way(run, form):
    report = read_report(run)
    other = "plain" if form == "chat" else "chat"
    for name in ("base", "base_vote", "base_restricted", "base_calibrated"):
        best = in_forms(scored(run, **{name: 99.0}), **{name: form})
        lost = in_forms(scored(run, **{f"{name}_{form}": 99.0}), **{name: other})
        for strongest in (best, lost)[: 1 if name == "base_vote" else 2]:
            found = {use.name: use for use in uses(run, strongest)}[strongest.rival]
            assert found.score == 99.0 and found.name in (name, f"{name}_{form}")
            assert (f"--form {form}" in found.command) == (form != report.form)
            assert bool(found.serving) == (name != "base_vote")


def test_a_stronger_base_in_another_form_than_its_best_is_held_against_that_form_s_gain(run):
    report = scored(run, tuned_restricted=70.0)
    name = f"base_calibrated_{report.form}"
    systems = dict(report.systems)
    systems["base_calibrated"] = dataclasses.replace(systems["base_calibrated"], form="other")
    systems[name] = dataclasses.replace(systems["base_calibrated"], form=report.form, score=90.0)
    gain = report.gain(report.served, "base_calibrated")

    def said(in_form, at_best):
        outcomes = {name: in_form, "base_calibrated": at_best}
        gains = {f"{report.served}-{base}": dataclasses.replace(gain, outcome=one) for base, one in outcomes.items()}
        changed = dataclasses.replace(report, systems=systems, gains=gains)
        assert uses(run, changed)[0].name == name
        return served_note(run, changed)

    assert "(significant)" in said("worse", "open") and "(may be chance)" in said("open", "worse")


def test_of_a_stronger_tuned_way_it_is_said_that_chance_was_not_tested(run):
    said = served_note(run, scored(run, tuned_restricted=70.0, tuned_calibrated=80.0))
    assert "80.0 against 70.0 (the difference was not tested)" in said
    asked = f"{run.typed} --labels calibrated"
    assert said.endswith(f"sg-local predict {asked} FILE (or sg-local serve {asked})")


def test_every_command_finds_the_run_where_it_lies(run):
    cards = (verdict_card(run), end_card(run, "There are no test rows."))
    typed = [line for card in cards for line, _ in card.commands]
    assert len(typed) == 6 and all(str(run.root) in line for line in typed)


def test_where_tuning_made_it_worse_the_better_way_comes_first(run):
    report = scored(run, tuned_restricted=50.0, base_calibrated=90.0)
    worse = dataclasses.replace(report.gain(report.served, report.rival), outcome="worse")
    gains = {**report.gains, f"{report.served}-{report.rival}": worse}
    write_report(run, dataclasses.replace(report, gains=gains))
    line, what = verdict_card(run).commands[0]
    assert line.endswith(f"{run.typed} --base --labels calibrated 'TEXT'") and "better" in what
    assert verdict_card(run).commands[1][0] == f"sg-local serve {run.typed} --base --labels calibrated"
    assert verdict_card(run).commands[2:] == commands(run)[2:]


def test_where_nothing_is_stronger_the_served_way_stands(run):
    assert served_note(run, scored(run, tuned_restricted=70.0, tuned=70.0)).endswith("available on these test rows.")


def test_every_way_of_asking_can_be_typed_and_a_plain_question_gets_what_is_served():
    assert {system.asked for system in SYSTEMS} - {""} == set(TYPED)
    plain = {one.name for one in SYSTEMS if one.asked and not TYPED[one.asked] and one.role == "tuned"}
    assert plain == {one.name for one in SYSTEMS if one.serves == "classification"}


def test_repeated_inputs_are_told_where_any_answer_is_one():
    report = report_of(
        {"base": 40.0, "tuned": 50.0}, rows=(ScoredRow(0, "a", ("a",), {}), ScoredRow(1, "b", ("c",), {}))
    )

    def told(base, tuned):
        found = {"base": base, "tuned": tuned}
        systems = {name: dataclasses.replace(report.systems[name], copied=found[name]) for name in found}
        return [one for one in notes(dataclasses.replace(report, systems=systems)) if "repeat the input" in one]

    assert told(None, None) == told(0.0, 0.0) == []
    assert told(2.0, 31.2) == ["Answers that repeat the input as it stands, in percent: 31 (base 2; right answers 50)."]
