"""Rows with likely personal data: counted and kept, or rejected where the rule is on, whoever wrote them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local import filters, review
from sg_local.cli.app import app
from sg_local.export.card import _funnel
from sg_local.filters import FilterSettings, Switch
from sg_local.job.export import provenance
from sg_local.records import LABELLED, OWN, Candidate, Funnel, Verdict
from sg_local.run import CANDIDATES, Run
from sg_local.views.review import greeting, view_of

ON = FilterSettings(personal=Switch(on=True))
PRIVATE = "Please write to me at anna.schmidt@firma.de, I was charged twice."
PLAIN = "I was charged 12.50 EUR for order 4711-0815 on 03.04.2025."


def candidate(id: str, text: str, source: str = "") -> Candidate:
    return Candidate(id, text, "billing", {"billing": 5}, 5, 1.0, "billing", source=source)


ROWS = [
    candidate("a", PRIVATE),
    candidate("b", PLAIN),
    candidate("c", f"{PRIVATE} And call 0171 1234567.", LABELLED),
    candidate("d", "My IBAN is DE89 3704 0044 0532 0130 00, where is the refund?", OWN),
]


def test_such_rows_are_kept_and_counted(run, routing):
    run.append(CANDIDATES, ROWS)
    found = filters.apply(run, routing, FilterSettings())
    assert (found.kept, found.flagged) == (4, 3) and "personal" not in found.rules
    assert found.personal == {"e-mail address": 2, "IBAN": 1}


def test_the_rule_rejects_them_whoever_wrote_them(run, routing):
    run.append(CANDIDATES, ROWS)
    found = filters.apply(run, routing, ON)
    assert (found.kept, found.flagged, found.rules) == (1, 0, {"personal": 3})
    reasons = {verdict.id: verdict.reason for verdict in filters.final_verdicts(run).values() if not verdict.keep}
    assert reasons == {"a": "e-mail address", "c": "e-mail address", "d": "IBAN"}


def test_an_input_with_personal_data_joins_no_pool_where_the_rule_is_on(routing):
    assert filters.input_gate(routing, ON)(PRIVATE, ()) == "personal: e-mail address"
    assert filters.input_gate(routing, FilterSettings())(PRIVATE, ()) == ""


def test_the_output_counts_too(fluent):
    row = Candidate("a", "Who was that?", "Anna Schmidt, account 4478123", {}, 1, 1.0, None, source=LABELLED)
    (verdict,), _ = filters.judge([row], fluent, ON)
    assert not verdict.keep and verdict.reason == "name beside a number"


def opened(**changes):
    rows = review.build_rows([*ROWS[:2], ROWS[3]], {})
    return review.open_review(rows, (), labels=("billing", "delivery"), judge="ann").but(**changes)


def test_the_review_shows_what_it_found_and_jumps_to_such_rows():
    state = opened()
    assert view_of(state, "", ()).card.personal == (("e-mail address", "anna.schmidt@firma.de"),)
    assert "2 with likely personal data: f p shows them." in greeting(state)
    for key in ("f", "p", "enter"):
        state = review.step(state, key)
    assert [row.id for row in review.visible(state)] == ["a", "d"] and review.describe(state.view) == "personal data"
    assert [row.id for row in review.visible(review.step(state, "esc"))] == ["a", "b", "d"]


def test_a_row_that_was_edited_is_judged_by_what_it_says_now():
    edited = Verdict("a", True, "ann", "review", input="Please write to me, I was charged twice.")
    state = opened(verdicts={"a": edited}, view=review.View(personal=True))
    assert [row.id for row in review.visible(state)] == ["d"]


def test_a_spreadsheet_names_it():
    assert [row["personal"] for row in review.export_rows(opened())] == ["e-mail address", "", "IBAN"]


def test_the_model_card_tells_of_it():
    told = _funnel(dataclasses.asdict(Funnel(9, 9, 9, 8, flagged=2, personal={"IBAN": 2})))
    assert "2 of the rows that the adapter was trained on hold likely personal data (IBAN 2)." in told
    assert "| flagged |" not in told


@pytest.fixture
def made(own_folder):
    """A run of the command line with a row that holds an address."""
    line = ["synth", "support_routing", "--backend", "scripted", "--name", "r", "--set", "synth.n_inputs=12"]
    assert CliRunner().invoke(app, line).exit_code == 0
    run = Run(own_folder / "runs" / "r")
    run.append(CANDIDATES, [candidate("mine", PRIVATE, LABELLED)])
    return run


def test_the_command_line_counts_them_and_rejects_them(made):
    counted = CliRunner().invoke(app, ["filter", "r"])
    assert "1 of the kept rows holds likely personal data (e-mail address 1)." in counted.output
    assert "personal" not in json.loads(made.path("stages/filter.json").read_text())["settings"]
    rejected = CliRunner().invoke(app, ["filter", "r", "--set", "personal.on=true", "--json"])
    told = json.loads(rejected.stdout)
    assert told["rules"]["personal"] == 1 and told["flagged"] == 0
    assert json.loads(made.path("stages/filter.json").read_text())["settings"]["personal"] == {"on": True}


def test_rejected_personal_data_never_travels_in_exported_files(made):
    assert CliRunner().invoke(app, ["filter", "r", "--set", "personal.on=true"]).exit_code == 0
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 12}}, name="r") as job:
        told = provenance(job.opened)
    assert told["funnel"]["rules"]["personal"] == 1 and "anna.schmidt" not in json.dumps(told)
