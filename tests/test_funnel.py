"""The funnel on the screen: live while inputs are written, and in `runs show`, with two examples for each reason."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from sg_local import filters, prompts, synth
from sg_local.backends.scripted import ScriptedGenerator, default_reply
from sg_local.cli.app import app
from sg_local.console.cards import flow
from sg_local.filters import FilterSettings
from sg_local.synth import Synthesis, SynthSettings
from sg_local.views.funnel import live_card, rule_lines


def events_of(run, task, tmp_path):
    """A synthesis in which every third input is too short."""

    def reply(prompt, rng):
        return "Hm" if rng.random() < 0.3 else default_reply(prompt, rng)

    generator = ScriptedGenerator(tmp_path / "m.gguf", reply)
    form = prompts.forms_of(generator.info)[-1]
    settings = SynthSettings(n_inputs=20, round_size=16)
    events = []
    gate = filters.input_gate(task, FilterSettings())
    synth.write_inputs(Synthesis(run, task, form, generator, settings, gate, 3), events.append)
    return events


def test_each_event_holds_the_funnel_so_far(run, routing, tmp_path):
    last = events_of(run, routing, tmp_path)[-1]
    found = filters.funnel(run, routing)
    assert (last.asked, last.parsed) == (found.asked, found.parsed)
    assert last.rejected == found.rules and last.examples == found.examples
    assert {name: n for name, (n, _) in last.labels.items()} == {name: n for name, (n, _) in found.labels.items()}
    assert sum(kept for _, kept in last.labels.values()) == found.accepted
    assert len(last.examples["input_length"]) == 2 and all(reason for _, reason in last.examples["input_length"])


def test_the_live_view_shows_steps_rules_with_two_examples_and_labels(run, routing, tmp_path):
    event = events_of(run, routing, tmp_path)[-1]
    console = Console(file=io.StringIO(), width=90, color_system=None)
    console.print(flow(live_card(event), 88))
    text = console.file.getvalue()
    assert f"asked {event.asked}" in text and "input_length" in text and text.count("Hm (2 characters") == 2
    assert all(label in text for label in routing.labels)


def test_examples_stand_behind_their_rule():
    assert rule_lines({"noise": 3, "label": 1}, {"noise": (("a", "b"), ("c", "d"))}) == (
        ("noise", 3, ("a  (b)", "c  (d)")),
        ("label", 1, ()),
    )


@pytest.fixture
def made(own_folder):
    """A run of which only the inputs and outputs are there, made by the command line."""
    line = ["synth", "support_routing", "--backend", "scripted", "--name", "r", "--set", "synth.n_inputs=20"]
    assert CliRunner().invoke(app, [*line, "--no-fast-copy"]).exit_code == 0
    return line


def test_runs_show_holds_the_funnel_before_and_after_the_filters(made):
    shown = CliRunner().invoke(app, ["runs", "show", "r"]).stdout
    assert "inputs asked for" in shown and "pairs kept" in shown and "billing" in shown
    assert CliRunner().invoke(app, ["filter", "r"]).exit_code == 0
    told = json.loads(CliRunner().invoke(app, ["runs", "show", "r", "--json"]).stdout)["funnel"]
    assert told["kept"] > 0 and told["policy"] and all(len(found) <= 2 for found in told["examples"].values())


def test_no_fast_copy_is_remembered_by_the_run(made, tmp_path):
    assert json.loads((tmp_path / "runs/r/run.json").read_text())["set"]["engine"] == {"fast_copy": "false"}
