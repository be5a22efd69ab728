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
        ("Labels, separated", "happy"),
        ("Give at least two labels.", "happy, sad"),
        ("Example 1, input:", "I love it."),
        ("Example 1, output", "glad"),
        ("not one of the labels", "Happy"),
        ("Example 2, input", "It broke at once."),
        ("Example 2, output", "sad"),
        ("Example 3, input", ""),
        ("Test row 1, input", ""),
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


MAIL = 'Dear team,\r\n\r\nthe "box" was empty.\r\n.\r\nAnn'
HEAD = (
    ("What should the model do?", "Say who answers."),
    ("c for classification", "c"),
    ("Labels, separated", "post, bank"),
)


def answer(form, *answers):
    for question, text in answers:
        form.wait(question)
        form.press(f"{text}\r")


def pastes_plainly(form):
    """Whether bracketed paste was switched on, and off again."""
    return form.raw.rfind(b"\x1b[?2004l") > form.raw.rfind(b"\x1b[?2004h") > 0


def test_a_pasted_mail_is_an_example_as_it_is(start, tmp_path):
    form = start("tasks", "new", "mail")
    answer(
        form,
        *HEAD,
        ("Example 1, input:", f"\x1b[200~{MAIL}\r\n\x1b[201~."),
        ("Example 1, output (1 post, 2 bank)", "1"),
    )
    answer(form, ("Example 2, input", f"{MAIL.replace('empty', 'full')}".replace("\r\n", "\r")))
    form.wait("| Ann", gone="Example 2, output")
    form.press(".\r")
    answer(form, ("Example 2, output", "bank"), ("Example 3, input", ""), ("Test row 1, input", "And now?"))
    answer(form, ("Test row 1, output", "2"), ("Test row 2, input", ""))
    assert form.end() == 0 and pastes_plainly(form)
    text = (tmp_path / "mail.toml").read_text()
    mail = MAIL.replace("\r\n", "\n")
    assert f"input = '''\n{mail}'''\noutput = \"post\"" in text
    assert f"input = '''\n{mail.replace('empty', 'full')}'''\noutput = \"bank\"" in text
    assert '[[tests]]\ninput = "And now?"\noutput = "bank"' in text


def test_the_form_goes_back_and_takes_a_text_from_the_editor(start, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\ncat $1 >> seen\nprintf 'Written\\n\\nat length.\\n' > $1\n")
    editor.chmod(0o755)
    form = start("tasks", "new", "mail", EDITOR=str(editor), VISUAL=str(editor))
    answer(form, *HEAD, ("Example 1, input:", "A slip."), ("Example 1, output", "<"), ("Before: A slip.", "e"))
    answer(form, ("at length.", "post"), ("Example 2, input", ""), ("Test row 1", ""))
    assert form.end() == 0
    assert (tmp_path / "seen").read_text() == "A slip."
    assert "input = '''\nWritten\n\nat length.'''" in (tmp_path / "mail.toml").read_text()


def test_a_form_that_is_left_goes_on_where_it_was(start, tmp_path):
    form = start("tasks", "new", "mail")
    answer(form, *HEAD, ("Example 1, input:", "Where is it?"), ("Example 1, output", "post"))
    form.wait("Example 2, input")
    form.press("Half a sent")
    form.wait("Half a sent")
    form.press("\x03")
    assert form.end() == 130 and pastes_plainly(form) and not (tmp_path / "mail.toml").exists()
    again = start("tasks", "new", "mail")
    answer(again, ("Continue it?", "y"), ("Before: Half a sent", ""), ("Example 2, output", "2"))
    answer(again, ("Example 3, input", ""), ("Test row 1, input", ""))
    assert again.end() == 0
    text = (tmp_path / "mail.toml").read_text()
    assert 'input = "Where is it?"' in text and 'input = "Half a sent"' in text
    assert sorted(path.name for path in tmp_path.glob("mail*")) == ["mail.toml"]


def test_a_schema_is_offered_for_json(start, tmp_path):
    form = start("tasks", "new", "order")
    answer(
        form,
        ("What should the model do?", "Read the order."),
        ("c for classification", "g"),
        ("Example 1, input", "2 x tea"),
    )
    answer(
        form,
        ("Example 1, output", '{"n": 2, "what": "tea"}'),
        ("by a schema?", ""),
        ("Example 2, input", ""),
        ("Test", ""),
    )
    assert form.end() == 0
    assert '"additionalProperties": false' in (tmp_path / "order.toml").read_text()


def test_rows_lack_the_instruction_alone(start, tmp_path):
    rows = "".join(f"mail {n} {n * n} {n**3},{'a' if n % 2 else 'b'}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}")
    form = start("tasks", "new", "mail", "--from", "rows.csv")
    answer(form, ("What should the model do?", "Sort it."))
    assert form.end() == 0 and "Next: sg-local run mail.toml" in form.text()
    assert 'instruction = "Sort it."' in (tmp_path / "mail.toml").read_text()


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
        asked.wait("There is no file mails2.csv. Treat it as text? [y/N]:")
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
