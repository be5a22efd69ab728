"""A file of rows to a file of answers, over the scripted engine: every form, every way of asking, bad rows, kills."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

import sg_local as sg
from sg_local.cli.app import app
from sg_local.job import predict as room
from sg_local.job.answering import Asking, fingerprint
from sg_local.job.events import Ended, Moved, PredictEvent, Said
from sg_local.job.lines import looks_like_a_file
from sg_local.job.predict import FileToAnswer, predict_file

SMALL = {"synth": {"n_inputs": 24, "n_asked": 96}}
OFF = ("grounding", "copied_output", "vote_share")  # the scripted engine repeats what it was shown
LONG = "parcel " * 4000
TEXTS = ["Where is my parcel?", "I was charged twice.", "The app crashes.", "The box was wet.\nAnd empty, too."]


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """A folder with two finished runs, a classification and a generation, made once."""
    folder = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SG_LOCAL_HOME", str(folder / "home"))
        for name, task in (("team", "support_routing"), ("date", "iso_date")):
            settings = {
                **SMALL,
                "filter": {rule: {"on": False} for rule in ("grounding", "copied_output", "vote_share")},
            }
            with sg.open_job(task, backend="scripted", settings=settings, name=name) as job:
                job.run()
    return folder / "runs"


@pytest.fixture
def here(finished_runs, own_folder):
    """The folder with copies of the runs, and mails.csv in it."""
    shutil.copytree(finished_runs, own_folder / "runs")
    write_mails(own_folder / "mails.csv", TEXTS)
    return own_folder


def write_mails(path, texts):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "Body", "from"])
        writer.writerows([[i, text, f"ann{i}@example.org"] for i, text in enumerate(texts, 1)])


def rows_of(path_or_text):
    text = path_or_text if isinstance(path_or_text, str) else path_or_text.read_text()
    return list(csv.DictReader(io.StringIO(text)))


def run(*args, code=0, **more):
    """The command's result; checks the exit code and that nothing looks like a traceback."""
    result = CliRunner().invoke(app, ["predict", *args], **more)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


# Files


def test_a_file_keeps_its_columns_and_gets_the_answers(here):
    said = run("team", "mails.csv", "--out", "answers.csv", "--columns", "input=Body")
    assert said.stdout == "answers.csv\n"
    assert "mails.csv: CSV with commas, 4 rows; input = Body" in said.stderr
    assert "predict: done in" in said.stderr and "4 rows" in said.stderr
    rows = rows_of(here / "answers.csv")
    assert list(rows[0]) == ["id", "Body", "from", "answer", "seconds", "error"]
    assert [row["Body"] for row in rows] == TEXTS and [row["id"] for row in rows] == ["1", "2", "3", "4"]
    with sg.load("team") as job:
        assert [row["answer"] for row in rows] == job.predict(TEXTS)
    assert all(float(row["seconds"]) >= 0 and row["error"] == "" for row in rows)
    assert sorted(path.name for path in here.iterdir()) == ["answers.csv", "mails.csv", "runs"]


def test_the_probabilities_are_those_of_predict_proba(here):
    run("team", "mails.csv", "--out", "answers.jsonl", "--probabilities")
    rows = [json.loads(line) for line in (here / "answers.jsonl").read_text().splitlines()]
    with sg.load("team") as job:
        for row, found in zip(rows, job.predict_proba(TEXTS), strict=True):
            assert {label: row[f"p({label})"] for label in found} == pytest.approx(found, abs=1e-6)
            assert row["answer"] == max(found, key=found.get)


def test_an_answer_below_the_threshold_is_unsure_in_every_form(here):
    with sg.load("team") as job:
        likely = [max(one.values()) for one in job.predict_proba(TEXTS)]
        plain, middle = job.predict(TEXTS), sorted(likely)[2]
        wanted = ["unsure" if p < middle else label for p, label in zip(likely, plain, strict=True)]
        assert job.predict(TEXTS, abstain=middle) == wanted and wanted.count("unsure") == 2
    run("team", "mails.csv", "--out", "answers.csv", "--abstain", str(middle), "--probabilities")
    rows = rows_of(here / "answers.csv")
    assert [row["answer"] for row in rows] == wanted and all(float(row["p(billing)"]) > 0 for row in rows)
    run("team", "mails.csv", "--out", "bare.csv", "--abstain", str(middle))
    assert [row["answer"] for row in rows_of(here / "bare.csv")] == wanted and "p(billing)" not in rows_of(
        here / "bare.csv"
    )[0]
    lines = "".join(f"{text}\n" for text in TEXTS[:3])
    assert run("team", "-", "--abstain", str(middle), input=lines).stdout.splitlines() == wanted[:3]
    objects = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    said = run("team", "-", "--jsonl", "--abstain", str(middle), input=objects).stdout.splitlines()
    assert [json.loads(line)["answer"] for line in said] == wanted
    [first] = run("team", TEXTS[0], "--abstain", "1", "--json").stdout.splitlines()
    assert json.loads(first) == {"output": "unsure"}


@pytest.mark.parametrize(
    "words",
    [("date", "x", "--abstain", "0.5"), ("team", "x", "--abstain", "1.5"), ("team", "x", "--abstain", "0.5", "--free")],
    ids=["generation", "beyond 1", "free"],
)
def test_a_threshold_needs_probabilities(here, words):
    assert run(*words, code=2).stdout == ""


def test_kept_answers_count_under_any_threshold(here):
    with sg.load("team") as job:
        both = [fingerprint(job.opened, Asking(abstain=abstain)) for abstain in (0.0, 0.9)]
    assert both[0] == both[1]


def test_votes_give_their_share(here):
    run("date", "mails.csv", "--out", "answers.csv", "--votes", "4")
    rows = rows_of(here / "answers.csv")
    assert all(float(row["share"]) in (0.0, 0.25, 0.5, 0.75, 1.0) and row["answer"] for row in rows)


def test_calibrated_labels_are_those_of_the_evaluation(here):
    with sg.load("team") as job:
        texts = [row.input for row in job.task.tests]
        answers = {row["index"]: row["text"] for row in lines_of(job.folder / "answers.jsonl", "tuned_calibrated")}
        plain = {row["index"]: row["text"] for row in lines_of(job.folder / "answers.jsonl", "tuned_restricted")}
    write_mails(here / "tests.csv", texts)
    run("team", "tests.csv", "--out", "answers.csv", "--labels", "calibrated")
    found = {i: row["answer"] for i, row in enumerate(rows_of(here / "answers.csv")) if i in answers}
    assert found == answers != plain


@pytest.mark.parametrize("base", [(), ("--base",)])
def test_labels_by_ensemble_need_no_training(here, base):
    run("team", "mails.csv", "--out", "answers.csv", "--labels", "ensemble", "--probabilities", *base)
    rows = rows_of(here / "answers.csv")
    assert [bool(row["answer"]) for row in rows] == [bool(text.strip()) for text in TEXTS]
    told = run("support_routing", "mails.csv", "--base", "--backend", "scripted", "--labels", "ensemble", code=2)
    assert "need a run's inputs" in told.stderr and "sg-local synth support_routing" in told.stderr


def lines_of(path, system):
    rows = map(json.loads, path.read_text().splitlines())
    return [row for row in rows if row["system"] == system]


def test_a_row_that_cannot_be_answered_says_so_in_its_own_line(here):
    write_mails(here / "mails.csv", ["a", LONG, "", "b"])
    said = run("team", "mails.csv", "--out", "answers.csv", code=4)
    assert "2 of 4 rows could not be answered." in said.stderr
    rows = rows_of(here / "answers.csv")
    assert [bool(row["answer"]) for row in rows] == [True, False, False, True]
    assert rows[1]["error"].startswith("line 3: The prompt has") and "is empty" in rows[2]["error"]
    assert [row["from"] for row in rows] == [f"ann{i}@example.org" for i in (1, 2, 3, 4)]


def test_other_forms_go_in_and_out_and_values_stay_what_they_are(here):
    rows = [{"id": 7, "input": "a", "tags": ["x"]}, {"id": 8, "input": 5, "tags": []}, {"id": 9, "input": "b"}]
    (here / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("team", "in.jsonl", "--out", "out/answers.jsonl", code=4)
    found = [json.loads(line) for line in (here / "out" / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == [7, 8, 9] and found[0]["tags"] == ["x"]
    assert found[1]["answer"] == "" and found[1]["error"].startswith("line 2: ")
    said = run("team", "in.jsonl", code=4)
    assert [json.loads(line)["id"] for line in said.stdout.splitlines()] == [7, 8, 9]


def test_names_that_are_taken_stay_the_file_s_own(here):
    (here / "gold.csv").write_text("text,answer,error\nhello,mine,none\n")
    run("team", "gold.csv", "--out", "answers.csv")
    row = rows_of(here / "answers.csv")[0]
    assert (row["answer"], row["error"], row["error 2"]) == ("mine", "none", "") and row["answer 2"]


def test_a_file_without_out_goes_to_stdout(here):
    said = run("team", "mails.csv")
    assert [row["Body"] for row in rows_of(said.stdout)] == TEXTS and "4 rows" in said.stderr
    assert [json.loads(line)["id"] for line in run("team", "mails.csv", "--json").stdout.splitlines()] == list("1234")


def test_what_is_there_is_not_replaced_unasked(here):
    (here / "answers.csv").write_text("mine")
    assert "--redo" in run("team", "mails.csv", "--out", "answers.csv", code=2).stderr
    assert "is the file to be answered" in run("team", "mails.csv", "--out", "mails.csv", "--redo", code=2).stderr
    assert (here / "answers.csv").read_text() == "mine" and rows_of(here / "mails.csv")
    run("team", "mails.csv", "--out", "answers.csv", "--redo")
    assert len(rows_of(here / "answers.csv")) == 4


def test_the_base_alone_answers_files_of_a_task_without_a_run(here):
    said = run("support_routing", "mails.csv", "--base", "--backend", "scripted", "--out", "answers.csv")
    assert "4 rows" in said.stderr and all(row["answer"] for row in rows_of(here / "answers.csv"))
    said = run("support_routing", "mails.csv", "--base", "--backend", "scripted", "--labels", "calibrated")
    assert len(rows_of(said.stdout)) == 4  # calibrated on inputs that say nothing
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["date", "team"]


# Resuming


class Killed(BaseException):
    """Ends the work at once, as a signal would."""


def killed_after(n):
    def tell(event):
        if isinstance(event, Moved) and event.at.done == n:
            raise Killed

    return tell


def test_a_killed_work_goes_on_and_asks_nothing_twice(here, monkeypatch):
    monkeypatch.setattr(room, "KEEP_S", 0.0)
    file, heard = FileToAnswer(here / "mails.csv", here / "answers.csv"), []
    with sg.load("team") as job, pytest.raises(Killed):
        predict_file(job.opened, file, tell=killed_after(3))
    assert not file.out.exists() and file.journal.exists()
    with open(file.journal, "ab") as journal:
        journal.write(b'{"id": "tor')
    with sg.load("team") as job:
        done = predict_file(job.opened, file, tell=heard.append)
        assert [row["answer"] for row in rows_of(file.out)] == job.predict(TEXTS)
    assert (done.n, done.n_kept, done.n_failed) == (4, 3, 0)
    assert Said("3 rows were answered by an earlier try.") in heard
    assert [event.at for event in heard if isinstance(event, Moved)] == [PredictEvent(1, 1, 0, heard[-2].at.latest)]
    assert isinstance(heard[-1], Ended) and not file.journal.exists()


DEADLY = """
import os, signal, sys
from sg_local.job import predict
from sg_local.journals import JournalFile
from sg_local.cli import main

predict.KEEP_ROWS, append, left = 1, JournalFile.append, 3

def append_or_die(self, text):
    global left
    left -= 1
    append(self, text if left else text[:-20])
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

JournalFile.append = append_or_die
main(sys.argv[1:])
"""


def test_a_process_killed_while_it_writes_ends_like_an_undisturbed_one(here):
    args = ("predict", "team", "mails.csv", "--probabilities", "--out")
    done = subprocess.run([sys.executable, "-c", DEADLY, *args, "answers.csv"], timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL and not (here / "answers.csv").exists()
    again = run(*args[1:], "answers.csv")
    assert "2 rows were answered by an earlier try." in again.stderr
    run(*args[1:], "undisturbed.csv")
    one, other = (
        [{**row, "seconds": ""} for row in rows_of(here / name)] for name in ("answers.csv", "undisturbed.csv")
    )
    assert one == other
    assert sorted(path.name for path in here.iterdir()) == ["answers.csv", "mails.csv", "runs", "undisturbed.csv"]


def test_kept_answers_count_for_their_texts_alone(here, monkeypatch):
    file = FileToAnswer(here / "mails.csv", here / "answers.csv")
    with sg.load("team") as job, pytest.raises(Killed):
        predict_file(job.opened, file, tell=killed_after(3))
    write_mails(here / "mails.csv", ["something new", *reversed(TEXTS)])
    with sg.load("team") as job:
        assert predict_file(job.opened, file, tell=lambda event: None).n_kept == 3
        assert [row["answer"] for row in rows_of(file.out)] == job.predict(["something new", *reversed(TEXTS)])


def test_answers_of_another_way_do_not_count(here):
    file = FileToAnswer(here / "mails.csv", here / "answers.csv")
    with sg.load("team") as job:
        marks = [
            fingerprint(job.opened, asking)
            for asking in (Asking(), Asking(base=True), Asking(votes=2), Asking(votes=3), Asking(labels="calibrated"))
        ]
        assert len(set(marks)) == 5
        assert fingerprint(job.opened, Asking(probabilities=True)) == marks[0]
        with pytest.raises(Killed):
            predict_file(job.opened, file, Asking(base=True), killed_after(3))
        assert predict_file(job.opened, file).n_kept == 0
    adapter = job.folder / "adapter.gguf"
    adapter.write_text(adapter.read_text() + "\n")
    with sg.load("team") as job:
        assert fingerprint(job.opened, Asking()) != marks[0]
        assert fingerprint(job.opened, Asking(base=True)) == marks[1]


def test_the_same_text_is_asked_once(here):
    write_mails(here / "mails.csv", ["a", "b", "a", "a"])
    heard = []
    with sg.load("team") as job:
        predict_file(job.opened, FileToAnswer(here / "mails.csv", here / "answers.csv"), tell=heard.append)
    assert [event.at.done for event in heard if isinstance(event, Moved)] == [1, 2]
    assert len({row["answer"] for row in rows_of(here / "answers.csv")[::2]}) == 1


def test_two_at_once_are_refused(here):
    file = FileToAnswer(here / "mails.csv", here / "answers.csv")

    def meanwhile(event):
        if isinstance(event, Moved) and event.at.done == 1:
            with sg.load("team") as other, pytest.raises(sg.SgError, match=r"answers\.csv is in use by process"):
                predict_file(other.opened, file)

    with sg.load("team") as job:
        predict_file(job.opened, file, tell=meanwhile)
    assert len(rows_of(file.out)) == 4


# Lines and texts


def test_a_line_that_is_too_long_is_passed_over(here):
    said = run("team", "-", input=f"a\n{LONG}\n\nb\n", code=4)
    answers = said.stdout.splitlines()
    assert len(answers) == 4 and answers[0] and answers[3] and answers[1:3] == ["", ""]
    assert "Line 2: The prompt has" in said.stderr and "1 of 4 rows could not be answered." in said.stderr
    said = run("team", "-", "--json", input=f"a\n{LONG}\n", code=4)
    assert [sorted(json.loads(line)) for line in said.stdout.splitlines()] == [["output"], ["error", "output"]]
    assert "The prompt has" in run("team", LONG, code=1).stderr


def test_inputs_of_several_lines_come_as_json(here):
    rows = [{"id": 1, "Body": "one\ntwo"}, "plain\ntext", "not json", {"x": 1, "y": 2}, {"Body": "three"}]
    text = "\n".join(row if row == "not json" else json.dumps(row) for row in rows)
    said = run("team", "-", "--jsonl", "--columns", "input=Body", input=f"{text}\n\n", code=4)
    found = [json.loads(line) for line in said.stdout.splitlines()]
    assert [bool(row["answer"]) for row in found] == [True, True, False, False, True]
    assert (found[0]["id"], found[0]["Body"]) == (1, "one\ntwo") and found[1]["input"] == "plain\ntext"
    assert found[2]["error"].startswith("line 3: ") and "no column 'Body'" in found[3]["error"]
    assert "2 of 5 rows" in said.stderr
    assert "--columns input=" in run("team", "-", "--jsonl", input='{"x": "1", "y": "2"}\n', code=2).stderr


def test_one_answer_comes_with_what_speaks_for_it(here):
    answer, _, chance = run("team", "hello", "--probabilities").stdout.rstrip("\n").partition("\t")
    with sg.load("team") as job:
        [found] = job.predict_proba(["hello"])
        assert (answer, float(chance)) == (job.predict(["hello"])[0], pytest.approx(max(found.values()), abs=1e-6))
    data = json.loads(run("team", "hello", "--probabilities", "--json").stdout)
    assert data["output"] == answer and data["probabilities"] == pytest.approx(found, abs=1e-6)
    assert set(json.loads(run("date", "tomorrow", "--votes", "2", "--json").stdout)) == {"output", "share"}
    assert "\t" not in run("team", "hello").stdout


@pytest.mark.parametrize("text", ["mails2.csv", "./x/y.jsonl", "~/my mails.XLSX", "/a b/c.csv.gz"])
def test_a_name_of_no_file_is_not_answered(here, text):
    assert looks_like_a_file(text)
    assert "add --text to treat it as text" in run("team", text, code=2).stderr
    assert run("team", text, "--text").stdout


@pytest.mark.parametrize("text", ["Where is my parcel?", "Please open mails2.csv", "3.5", "e.g.", "and/or", "a.b"])
def test_a_text_is_a_text(here, text):
    assert not looks_like_a_file(text) and run("team", text).stdout


def test_a_file_may_be_taken_as_a_text(here):
    assert len(run("team", "mails.csv", "--text").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["team", "hello", "--out", "a.csv"], "--out needs a file of rows"),
        (["team", "-", "--out", "a.csv"], "--out needs a file of rows"),
        (["team", "hello", "--jsonl"], "--jsonl is for standard input"),
        (["team", "mails.csv", "--out", "a.pdf"], "a.pdf: rows are not written to such a file"),
        (["team", "mails.csv", "--columns", "input=Boddy"], "Did you mean Body?"),
        (["date", "mails.csv", "--probabilities"], "Task iso_date has no labels"),
        (["date", "hello", "--labels", "calibrated"], "Task iso_date has no labels"),
        (["date", "hello", "--labels", "ensemble"], "Task iso_date has no labels"),
        (["team", "hello", "--votes", "3", "--labels", "ensemble"], "Votes are written answers, not ensemble"),
        (["team", "hello", "--votes", "3", "--probabilities"], "have no label probabilities"),
        (["team", "hello", "--free", "--probabilities"], "have no label probabilities"),
        (["team", "hello", "--votes", "3", "--labels", "calibrated"], "Votes are written answers, not calibrated"),
        (["team", "hello", "--free", "--labels", "calibrated"], "contradict each other"),
        (["team", "hello", "--votes", "1"], "'--votes'"),
    ],
)
def test_what_does_not_go_together_is_refused(here, args, said):
    assert said in run(*args, code=2).stderr
    assert not (here / "a.csv").exists()


# From Python


def test_the_face_answers_files_too(here):
    with sg.load("team") as job:
        done = job.predict_file("mails.csv", "answers.csv", columns={"input": "from"}, probabilities=True)
        assert (done.path.name, done.n, done.n_failed, done.n_kept) == ("answers.csv", 4, 0, 0)
        assert rows_of(here / "answers.csv")[0]["answer"] == job.predict(["ann1@example.org"])[0]
        with pytest.raises(sg.SgError, match="predict_file has no option 'vote'"):
            job.predict_file("mails.csv", "b.csv", vote=3)
        with pytest.raises(sg.SgError, match="columns has no option 'text'"):
            job.predict_file("mails.csv", "b.csv", columns={"text": "Body"})
