"""What rows say before they train: agreement beyond chance, the least that labels are right, and what follows."""

from __future__ import annotations

import dataclasses
import random

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local.cli import run as run_module
from sg_local.cli.app import app
from sg_local.job.prospect import ENOUGH_RIGHT, prospect
from sg_local.records import LABELLED, Candidate
from sg_local.run import CANDIDATES
from sg_local.views.prospect import prospect_lines, untuned_commands, weighed_lines

LABELS = ("billing", "delivery", "technical")
SMALL = ("--set", "synth.n_inputs=24", "--set", "synth.n_asked=96")
LINE = ("run", "support_routing", "--backend", "scripted", "--name", "r", *SMALL)


def rows(n, right, seed=0):
    """Rows asked for in turn, of which the scores name the label asked for with this probability, else any other."""
    rng = random.Random(seed)
    for i in range(n):
        asked = i % len(LABELS)
        named = asked if rng.random() < right else (asked + rng.choice((1, 2))) % len(LABELS)
        scores = tuple(-1.0 if k == named else -4.0 for k in range(len(LABELS)))
        yield Candidate(f"c{i}", f"text {i}", LABELS[0], {LABELS[0]: 5}, 5, 1.0, LABELS[asked], scores)


def told(own_folder, candidates, task="support_routing", **options):
    with sg.open_job(task, backend="scripted", runs=own_folder / "runs", name="r", **options) as job:
        with job.opened.lock():
            job.opened.run.replace(CANDIDATES, list(candidates))
            job.opened.worked = True
        return prospect(job.opened)


@pytest.mark.parametrize("seed", range(3))
def test_a_labeller_that_is_right_is_sure_and_never_promised_more_than_it_is(own_folder, seed):
    found = told(own_folder, rows(150, 0.8, seed))
    assert found.judge == "calibrated" and found.is_sure and not found.is_doubtful
    assert found.at_least < found.agreed and found.at_least <= 80 and found.z > 2 and found.kappa > 0.5
    assert "knows something" in prospect_lines(found)[1]


@pytest.mark.parametrize("seed", range(3))
def test_guesses_are_doubtful_and_the_way_without_training_is_named(own_folder, seed):
    found = told(own_folder, rows(150, 1 / 3, seed))
    assert found.is_doubtful and not found.is_sure and found.z < 2
    said = weighed_lines("r", found)
    assert "may not help" in said[1]
    assert said[2].endswith("sg-local label r FILE (or sg-local serve r --base --labels calibrated)")


def test_channel_scores_are_no_evidence_and_their_labels_are_what_is_offered(own_folder):
    made = [
        dataclasses.replace(row, label_scores=(0.0,) * 3, channel_scores=row.label_scores) for row in rows(150, 0.8)
    ]
    found = told(own_folder, made)
    assert found.is_doubtful and found.judge in ("voted", "calibrated")
    ways = "sg-local label r FILE --labels ensemble (or sg-local serve r --base --labels ensemble)"
    assert weighed_lines("r", found)[-1].endswith(ways)
    assert untuned_commands("r", found)[1][0] == "sg-local serve r --base --labels ensemble"
    assert untuned_commands("r", found)[0][0].startswith("sg-local label r FILE --labels ensemble --out")
    direct = told(own_folder / "direct", made, settings={"filter": {"evidence": "direct"}})
    assert "sg-local label r FILE (or" in weighed_lines("r", direct)[-1]


def test_a_person_s_own_rows_are_worth_training_on(own_folder):
    right = [Candidate(f"l{i}", f"mine {i}", LABELS[0], {}, 0, 1.0, source=LABELLED) for i in range(ENOUGH_RIGHT)]
    found = told(own_folder, [*rows(150, 1 / 3), *right])
    assert (found.n, found.n_right, found.is_doubtful, found.is_sure) == (150, ENOUGH_RIGHT, False, False)
    assert "rows have labels of your own" in prospect_lines(found)[1]


def test_nothing_is_said_of_few_rows_and_of_free_text(own_folder):
    assert told(own_folder, rows(12, 1.0)) is None
    made = [dataclasses.replace(row, label_scores=()) for row in rows(60, 1.0)]
    assert told(own_folder / "other", made, "iso_date") is None


def test_run_says_it_once_between_filtering_and_training_and_trains(own_folder):
    result = CliRunner().invoke(app, [*LINE, "--yes"])
    assert result.exit_code == 0, result.output
    said = result.stderr
    assert said.count("standard errors from chance") == 1
    assert said.index("filter: done") < said.index("standard errors from chance") < said.index("train: started")
    again = CliRunner().invoke(app, [*LINE, "--yes"])
    assert again.exit_code == 0 and "standard errors" not in again.stderr
    with sg.load("r") as job:
        assert job.prospect().n >= 20


def test_from_python_it_is_an_event_and_stops_nothing(own_folder):
    heard = []
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 24}}) as job:
        assert job.run(listen=heard.append) is not None
        assert [event.prospect for event in heard if isinstance(event, sg.Weighed)] == [job.prospect()]


@pytest.fixture
def asked(own_folder, monkeypatch):
    """A run whose rows are guesses, on a terminal; the answers to its questions are given as text."""
    result = CliRunner().invoke(app, ["synth", "support_routing", "--backend", "scripted", "--name", "r", *SMALL])
    assert result.exit_code == 0
    found = told(own_folder, rows(150, 1 / 3))
    assert found.is_doubtful
    monkeypatch.setattr(run_module, "prospect", lambda job: found)
    monkeypatch.setattr(run_module, "_review", lambda job, environment: True)

    def answer(text, *more):
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "_asks", lambda yes: not yes)
            return CliRunner().invoke(app, [*LINE, *more], input=text)

    return answer


def test_a_no_ends_well_with_what_else_to_do_and_a_yes_goes_on(asked, own_folder):
    stopped = asked("n\n")
    assert stopped.exit_code == 0 and "may not help" in stopped.stderr
    assert "Next: sg-local label r FILE --out labels.csv" in stopped.stdout
    assert "train: started" not in stopped.stderr and not (own_folder / "runs" / "r" / "adapter.gguf").exists()
    assert "train: started" in asked("y\n").stderr


def test_tune_anyway_asks_nothing_and_says_it_all_the_same(asked):
    done = asked("", "--tune-anyway")
    assert done.exit_code == 0 and "may not help" in done.stderr and "Go on" not in done.stderr
