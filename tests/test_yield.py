"""The yield that collapses, on the command line: which rule eats the rows, what to change, exit 1, everything kept."""

import json

import pytest
from click.testing import CliRunner

from sg_local.cli.app import app
from sg_local.cli.hints import on_the_command_line
from sg_local.synth.inputs import ADVICE

CASES = {
    "near_duplicate": ("filter.near_duplicate.threshold=0.01",),
    "input_length": ("filter.input_length.widest=1.001", "filter.input_length.sigmas=0"),
}
pytestmark = pytest.mark.usefixtures("own_folder")


def synth(*sets, name="r"):
    line = ["synth", "support_routing", "--backend", "scripted", "--name", name]
    return CliRunner().invoke(app, [*line, *(part for one in sets for part in ("--set", one))])


@pytest.mark.parametrize("rule", CASES)
def test_a_collapse_names_the_rule_and_what_to_change(own_folder, rule):
    result = synth(*CASES[rule])
    assert result.exit_code == 1 and f"rule {rule} rejected" in result.stderr
    assert on_the_command_line(ADVICE[rule], ()) in result.stderr and "`--name`" in result.stderr
    rows = [json.loads(line) for line in (own_folder / "runs/r/inputs.jsonl").read_text().splitlines()]
    assert len(rows) >= 128 and sum(row["rejected"].startswith(rule) for row in rows) > 64


def test_after_the_advice_a_new_run_goes_through(own_folder):
    assert synth(*CASES["near_duplicate"]).exit_code == 1
    before = (own_folder / "runs/r/inputs.jsonl").read_bytes()
    assert synth("synth.n_inputs=20", name="other").exit_code == 0
    assert (own_folder / "runs/r/inputs.jsonl").read_bytes() == before


def test_nothing_accepted_of_few_inputs_stops_with_the_rule_too(own_folder):
    result = synth("filter.copied_example.threshold=0", "synth.n_asked=32")
    assert result.exit_code == 1 and "Only 0 of 32" in result.stderr
    assert "Raise the temperature: `--set synth.temperature=1.0`" in result.stderr


@pytest.mark.parametrize(
    ("rule", "changes", "hint"),
    [
        ("vote_share", ("filter.vote_share.threshold=1.1",), "filter.vote_share.threshold=0.2"),
        ("balance", ("filter.balance.ratio=0", "filter.balance.at_least=0"), "filter.balance.on=false"),
    ],
)
def test_pairs_that_the_filters_eat_name_the_rule_before_training(rule, changes, hint):
    sets = ("synth.n_inputs=20", "synth.round_size=10", "filter.policy=voted", *changes)
    line = ["run", "support_routing", "--backend", "scripted", "--name", "r", "--yes"]
    result = CliRunner().invoke(app, [*line, *(part for one in sets for part in ("--set", one))])
    assert result.exit_code == 1 and "0 are kept" in result.stderr
    assert f"by rule {rule}" in result.stderr and f"sg-local filter r --set {hint}" in result.stderr
