"""The instant mode: rows labelled by the untuned model, what their scores are held against, and no run begun."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.cli.app import app
from sg_local.job import predict as room
from sg_local.job.events import Moved, Said
from sg_local.job.known import MOST_KNOWN, drawn
from sg_local.job.labelling import ask_instantly, instant, label_file
from sg_local.job.predict import FileToAnswer
from sg_local.records import Score

BILLS = [f"invoice {i} was charged twice" for i in range(6)]
BOXES = [f"parcel {i} never came" for i in range(6)]
TEAM = {
    "name": "team",
    "kind": "classification",
    "instruction": "Decide which team should answer.",
    "labels": ["billing", "delivery"],
    "examples": [
        {"input": "I paid two times.", "output": "billing"},
        {"input": "Nobody rang the bell.", "output": "delivery"},
    ],
}


def label(*args, code=0, **more):
    """The command's result; checks the exit code and that nothing looks like a traceback."""
    result = CliRunner().invoke(app, ["label", *map(str, args)], **more)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


class Biased(ScriptedGenerator):
    """Scores that always name billing, and know by one nat less what is a parcel; an empty input looks like a bill."""

    def score(self, prompts):
        for prompt in prompts:
            asked = "".join(segment.text for segment in prompt.segments).rstrip().splitlines()
            knows = 1.0 if any("parcel" in line for line in asked[-3:]) else 0.0
            yield Score(prompt.id, (-1.0 - knows, -6.0 + knows))


@pytest.fixture
def biased(monkeypatch):
    monkeypatch.setattr("sg_local.job.job.open_generator", lambda name, path, settings: Biased(path))


@pytest.fixture
def mails(own_folder):
    """A file of twelve rows of two kinds."""
    with open(own_folder / "mails.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "Body"], *enumerate([*BILLS, *BOXES], 1)])
    return own_folder / "mails.csv"


SCRIPTED = ("--backend", "scripted")
ROWS = instant("calibrated", "rows")


def test_a_file_gets_labels_and_no_run_is_begun(mails, own_folder):
    said = label("support_routing", mails, *SCRIPTED, "--out", "labels.csv", "--probabilities")
    assert said.stdout == "labels.csv\n" and "by ensemble, calibrated with inputs that the model wrote" in said.stderr
    rows = rows_of((own_folder / "labels.csv").read_text())
    labels = sg.load_task("support_routing").labels
    assert [row["Body"] for row in rows] == [*BILLS, *BOXES] and {row["answer"] for row in rows} <= set(labels)
    for row in rows:
        likely = {name: float(row[f"p({name})"]) for name in labels}
        assert sum(likely.values()) == pytest.approx(1, abs=1e-5) and row["answer"] == max(likely, key=likely.get)
    assert sorted(path.name for path in own_folder.iterdir() if path.name != "home") == ["labels.csv", "mails.csv"]


def test_inputs_are_written_once_for_a_task_and_only_the_user_may_read_them(mails, own_folder, monkeypatch):
    first = label("support_routing", mails, *SCRIPTED)
    assert "Writing 64 inputs" in first.stderr
    [kept] = (own_folder / "home").rglob("known/*.json")
    assert len(json.loads(kept.read_text())) == MOST_KNOWN and kept.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("sg_local.synth.write_inputs", None)
    again = label("support_routing", mails, *SCRIPTED)
    assert again.stdout.split("seconds")[0] == first.stdout.split("seconds")[0] and "writes" not in again.stderr
    assert "inputs for calibrating labels" in CliRunner().invoke(app, ["cache", "ls"]).stdout


def test_the_rows_own_mean_undoes_a_model_that_always_says_the_same(mails, biased):
    wanted = ["billing"] * 6 + ["delivery"] * 6
    with sg.open_job(TEAM, backend="scripted", base=True) as job:
        assert job.label([*BILLS, *BOXES], labels="calibrated", against="rows") == wanted
        assert job.label([*BILLS, *BOXES], labels="likeliest") == ["billing"] * 12
        assert job.label([*BILLS, *BOXES], against="nothing") == wanted  # they look like bills, too
        assert job.predict([*BILLS, *BOXES], base=True) == ["billing"] * 12
        calibrated = {"labels": "calibrated", "against": "rows"}
        done = job.label_file(mails, "labels.csv", columns={"input": "Body"}, **calibrated)
    assert [row["answer"] for row in rows_of(done.path.read_text())] == wanted


def test_a_text_and_lines_are_labelled(own_folder):
    said = label("support_routing", "Where is my parcel?", *SCRIPTED, "--json", "--probabilities")
    found = json.loads(said.stdout)
    assert found["output"] in found["probabilities"] and sum(found["probabilities"].values()) == pytest.approx(1)
    lines = label("support_routing", "-", *SCRIPTED, "--against", "rows", input="a parcel\na bill\n")
    assert len(lines.stdout.splitlines()) == 2 and "calibrated with inputs without content" in lines.stderr
    assert not (own_folder / "runs").exists()


def test_a_run_s_own_inputs_are_taken_first_and_it_stays_as_it_is(mails, own_folder):
    made = ["synth", "support_routing", *SCRIPTED, "--name", "early", "--set", "synth.n_inputs=12"]
    assert CliRunner().invoke(app, made).exit_code == 0
    before = {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()}
    said = label("early", mails, "--labels", "ensemble")
    assert "calibrated with the run's inputs" in said.stderr and len(rows_of(said.stdout)) == 12
    assert {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()} == before


def test_against_nothing_a_run_of_the_task_changes_no_probability(own_folder):
    said = ("Where is my parcel?", "--against", "nothing", "--probabilities", "--json")
    alone = json.loads(label("support_routing", *said, *SCRIPTED).stdout)
    made = ["synth", "support_routing", *SCRIPTED, "--set", "synth.n_inputs=12"]
    assert CliRunner().invoke(app, made).exit_code == 0
    [run] = (own_folder / "runs").iterdir()
    for name in ("support_routing", run.name):
        again = json.loads(label(name, *said, *(SCRIPTED if name != run.name else ())).stdout)
        assert again["probabilities"] == alone["probabilities"]


def test_likeliest_labels_of_a_trained_run_are_not_fitted_and_nothing_is_kept(own_folder):
    said = ("Where is my parcel?", "--labels", "likeliest", "--probabilities", "--json")
    alone = json.loads(label("support_routing", *said, *SCRIPTED).stdout)
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 40}}, name="r") as job:
        job.run()
    before = {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()}
    assert json.loads(label("r", *said).stdout)["probabilities"] == alone["probabilities"]
    assert {path: path.read_bytes() for path in (own_folder / "runs").rglob("*") if path.is_file()} == before


def test_what_has_no_labels_or_too_few_rows_is_refused_with_what_helps(mails, own_folder):
    told = label("iso_date", mails, *SCRIPTED, code=2).stderr
    assert "has no labels" in told and "sg-local predict iso_date FILE" in told
    few = ("support_routing", "one text", *SCRIPTED, "--labels", "ensemble", "--against", "rows")
    assert "there are too few" in label(*few, code=2).stderr
    enough = label("support_routing", mails, *SCRIPTED, "--labels", "ensemble", "--against", "rows")
    assert len(rows_of(enough.stdout)) == 12 and "calibrated with the rows themselves" in enough.stderr
    assert "neither a run nor a task" in label("nothing", mails, *SCRIPTED, code=2).stderr
    (own_folder / "labels.csv").write_text("mine")
    assert "--redo" in label("support_routing", mails, *SCRIPTED, "--out", "labels.csv", code=2).stderr
    with (
        sg.open_job(TEAM, backend="scripted", base=True) as job,
        pytest.raises(sg.SgError, match="cannot be calibrated with"),
    ):
        job.label(["x"], against="all")


def test_a_model_that_writes_nothing_usable_is_held_against_the_rows(mails, own_folder, biased):
    """Every input that this one writes is refused by a rule."""
    with sg.open_job(TEAM, backend="scripted", base=True, settings={"synth": {"max_tokens": 1}}) as job:
        heard = []
        job.opened.generator.reply = lambda prompt, rng: "I paid two times."
        asking = ask_instantly(job.opened, [*BILLS, *BOXES], tell=heard.append)
        assert sorted(asking.known) == sorted([*BILLS, *BOXES])
    said = [event for event in heard if isinstance(event, Said)]
    assert said[1].warning and said[1].text.startswith("That failed: ") and "the rows themselves" in said[2].text


def test_known_inputs_are_distinct_bounded_and_the_same_in_any_order():
    texts = [f"text {i}" for i in range(200)]
    found = drawn([*texts, *texts, " ", ""], 0)
    assert len(found) == len(set(found)) == MOST_KNOWN and drawn(reversed(texts), 0) == found != drawn(texts, 1)
    assert drawn(["A", "a", "b"], 0) == drawn(["b", "a", "A"], 0)


def test_the_first_of_the_known_inputs_are_not_those_that_come_first_in_the_alphabet():
    """An ensemble takes the first half of them."""
    first = drawn([f"{letter} {i}" for letter in "az" for i in range(MOST_KNOWN // 2)], 0)[: MOST_KNOWN // 2]
    assert {text[0] for text in first} == {"a", "z"}


@pytest.mark.parametrize("kept", ['"twelve letters"', '{"a": 1, "b": 2}', "[1, 2, 3]", "not JSON"])
def test_kept_inputs_that_are_no_list_of_texts_are_written_anew(kept, own_folder):
    said = ("support_routing", "Where is my parcel?", *SCRIPTED)
    label(*said)
    [entry] = (own_folder / "home").rglob("known/*.json")
    written = entry.read_text()
    entry.write_text(kept)
    assert "Writing 64 inputs" in label(*said).stderr and entry.read_text() == written


class Killed(BaseException):
    """Ends the work at once, as a signal would."""


def test_killed_work_goes_on_and_asks_nothing_twice(mails, own_folder, biased, monkeypatch):
    monkeypatch.setattr(room, "KEEP_S", 0.0)

    def die(event):
        if isinstance(event, Moved) and event.at.done == 5:
            raise Killed

    file = FileToAnswer(mails, own_folder / "labels.csv")
    with sg.open_job(TEAM, backend="scripted", base=True) as job:
        with pytest.raises(Killed):
            label_file(job.opened, file, ROWS, die)
        done = label_file(job.opened, file, ROWS)
        assert (done.n, done.n_kept, done.n_failed) == (12, 5, 0)
        assert [row["answer"] for row in rows_of(file.out.read_text())] == job.label(
            [*BILLS, *BOXES], labels="calibrated", against="rows"
        )
    assert not file.journal.exists()
