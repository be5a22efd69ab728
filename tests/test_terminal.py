"""Other commands as they look on a terminal: the form of a new task, tables at 80 columns, errors, a run under way."""

from __future__ import annotations

import pytest
from terminal import Terminal

import sg_local as sg


@pytest.fixture
def start(tmp_path):
    """Starts a command in an empty folder."""
    begun = []

    def begin(*args, size=(80, 40), **env):
        begun.append(Terminal(args, tmp_path, size, SG_LOCAL_HOME=str(tmp_path / "home"), **env))
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.child.close(force=True)


def test_a_task_is_written_by_answering_questions(start, tmp_path):
    form = start("tasks", "new", "mood")
    for question, answer in (
        ("What should the model do?", "Say whether the review is happy or sad."),
        ("c for classification", "c"),
        ("The labels", "happy"),
        ("Two labels at least.", "happy, sad"),
        ("Example 1, input:", "I love it."),
        ("Example 1, output", "glad"),
        ("not one of the labels", "Happy"),
        ("Example 2, input", "It broke at once."),
        ("Example 2, output", "sad"),
        ("Example 3, input", ""),
    ):
        form.wait(question)
        form.press(f"{answer}\r")
    assert form.end() == 0
    shown = form.text()
    for words in (
        "The prompt",
        "Input: It broke at once.",
        "Only 2 examples are given",
        "Next: sg-local run mood.toml",
    ):
        assert words in shown
    assert 'labels = ["happy", "sad"]' in (tmp_path / "mood.toml").read_text()


def test_a_form_that_is_left_leaves_no_file(start, tmp_path):
    form = start("tasks", "new", "mood")
    form.wait("What should the model do?")
    form.press("\x03")
    assert form.end() == 130 and not list(tmp_path.glob("mood*"))


def test_an_error_is_a_card_with_a_hint(start):
    wrong = start("run", "suport_routing")
    assert wrong.end() == 2
    assert "─ Error ─" in wrong.text() and "Hint: Did you mean support_routing?" in wrong.text()


@pytest.mark.parametrize("group", [(), ("runs",), ("tasks",), ("models",), ("config",)], ids=str)
def test_a_command_without_arguments_shows_its_help(start, group):
    bare = start(*group, size=(80, 60))
    assert bare.end() == 2
    assert "Usage: sg-local" in bare.text() and "Examples:" in bare.text() and "Error" not in bare.text()


def test_a_run_shows_its_stages_and_ends_with_the_verdict(start):
    small = ("--set", "synth.n_inputs=60", "--set", "eval.resamples=50")
    run = start("run", "support_routing", "--backend", "scripted", "--yes", "--name", "trial", *small, size=(80, 60))
    assert run.end() == 0
    text = run.text()
    for words in ("✔ synth", "✔ filter", "✔ train", "✔ eval", "gain of", "irrelevant", "sg-local predict trial"):
        assert words in text
    listed = start("runs", "ls")
    assert listed.end() == 0
    row = next(line for line in listed.text().splitlines() if line.startswith(" trial"))
    assert "eval" in row and "kB" in row and "support_routing on scripted" in " ".join(listed.text().split())


def test_a_file_is_answered_under_a_bar_and_a_missing_one_asked_about(start, tmp_path, own_folder):
    with sg.open_job("support_routing", backend="scripted", settings={"synth": {"n_inputs": 60}}, name="trial") as job:
        for stage in (job.synth, job.filter, job.train):
            stage()
    (tmp_path / "mails.csv").write_text("id,Body\n1,Where is it?\n2,\n3,It broke.\n")
    done = start("predict", "trial", "mails.csv", "--out", "answers.csv")
    assert done.end() == 4
    for words in (
        "\u2714 predict",
        "3 rows, 1 could not be answered",
        "1 of 3 rows could not be answered.",
        "answers.csv",
    ):
        assert words in done.text()
    for key, code in (("n", 2), ("y", 0)):
        asked = start("predict", "trial", "mails2.csv")
        asked.wait("There is no file mails2.csv. Answer this as a text? [y/N]:")
        asked.press(f"{key}\r")
        assert asked.end() == code


def test_the_report_is_opened_in_the_browser_of_the_user(start, tmp_path):
    small = ("--set", "synth.n_inputs=60", "--set", "eval.resamples=50")
    made = start("run", "support_routing", "--backend", "scripted", "--yes", "--name", "trial", *small)
    assert made.end() == 0
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    opening = start("report", "trial", "--open", BROWSER=str(browser))
    assert opening.end() == 0 and "No browser" not in opening.text()
    assert (tmp_path / "opened").read_text() == (tmp_path / "trial.html").as_uri()
