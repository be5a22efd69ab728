"""The file that ships is the file that is scored: any GGUF on a report's rows, exported ones by themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from bounds import soon
from click.testing import CliRunner
from tiny_models import TinySpec, lora_pairs, write_lora, write_model
from tiny_runs import TASK, FakeGenerator, job_of
from tiny_walk import TASK as TEAMS
from tiny_walk import small_settings

import sg_local as sg
from sg_local.cli.app import app
from sg_local.evaluate import CHAT, AskedFile, FileFigures, evaluate, parse_gate, require, score_file, with_file
from sg_local.export.scores import with_score
from sg_local.models.alike import check_alike
from sg_local.records import Answer, SgError
from sg_local.report import read_report, render, write_report
from sg_local.run import FILE_ANSWERS, Run

FILE = AskedFile("other.gguf", Path("other.gguf"), "Q4_0", 1000, "abc")
RIGHT = {row.input: row.outputs[0] for row in TASK.tests}
ONE_WRONG = {**RIGHT, TASK.tests[0].input: "blue"}


class FileGenerator(FakeGenerator):
    """A file's engine: the adapter is inside, so it never needs to be switched on."""

    def say(self, text, prompt):
        return self.answers.get(text, "blue")


def reported(folder, answers=RIGHT, task=TASK):
    """An evaluated run, and its evaluation with a file's engine that answers so."""
    job = job_of(folder, task)
    evaluate(job)
    return dataclasses.replace(job, generator=FileGenerator(answers))


def test_a_file_is_paired_with_the_adapter_row_by_row(tmp_path):
    job = reported(tmp_path, ONE_WRONG)
    found = score_file(job, FILE, read_report(job.run))
    assert (found.systems["file"].score, found.same["file"]) == (75, 75)
    gain = found.against_adapter("file")
    assert (gain.gain, gain.high) == (-25, 0) and gain.low < -25
    assert found.gains["file-base"].gain == 25
    assert found.systems["file_restricted"].family == "restricted" and "file_restricted-tuned_restricted" in found.gains


def test_a_file_that_answers_as_the_adapter_loses_nothing(tmp_path):
    job = reported(tmp_path)
    found = score_file(job, FILE, read_report(job.run))
    assert found.same == {"file": 100, "file_restricted": 100} and found.against_adapter("file").gain == 0


def test_the_score_stands_in_the_report_and_nothing_else_of_it_changes(tmp_path):
    job = reported(tmp_path)
    before = read_report(job.run)
    found = score_file(job, FILE, before)
    write_report(job.run, with_file(with_file(before, found), found))
    after = read_report(job.run)
    assert after.files == (found,) and dataclasses.replace(after, files=None) == before
    assert evaluate(dataclasses.replace(job, generator=job_of(tmp_path).generator)).files == (found,)  # not stale


def test_what_a_file_answered_is_not_asked_again_and_other_rows_are_forgotten(tmp_path):
    job = reported(tmp_path)
    report = read_report(job.run)
    score_file(job, FILE, report)
    again = dataclasses.replace(job, generator=FileGenerator({}))
    assert score_file(again, FILE, report).systems["file"].score == 100
    assert not again.generator.asked
    fewer = dataclasses.replace(report, rows=report.rows[:2])
    score_file(again, FILE, fewer)
    assert {row.index for row in job.run.read(FILE_ANSWERS, Answer)} == {0, 1}


def test_by_its_own_template_a_file_is_asked_in_free_text_alone(tmp_path):
    job = reported(tmp_path)
    found = score_file(job, dataclasses.replace(FILE, prompt=CHAT), read_report(job.run))
    assert set(found.systems) == {"file"} and found.systems["file"].form == "chat"
    assert found.systems["file"].score == 100


def test_a_template_that_brings_the_task_along_gets_the_bare_input(tmp_path):
    job = reported(tmp_path)
    carrying = "{{ '<|im_start|>user\n" + TASK.instruction + "\n\n' + messages[-1]['content'] + '<|im_end|>' }}"
    job.generator.info = dataclasses.replace(job.generator.info, chat_template=carrying)
    score_file(job, dataclasses.replace(FILE, prompt=CHAT), read_report(job.run))
    texts = ["".join(segment.text for segment in prompt.segments) for prompt in job.generator.asked]
    assert all(text.count(TASK.instruction) == 1 and "fire engine" not in text for text in texts)


def test_without_a_template_a_file_cannot_be_asked_by_it(tmp_path):
    job = reported(tmp_path)
    job.generator.info = dataclasses.replace(job.generator.info, chat_template=None)
    with pytest.raises(SgError, match="no chat template"):
        score_file(job, dataclasses.replace(FILE, prompt=CHAT), read_report(job.run))


def test_a_gate_names_the_file_and_the_report_s_systems(tmp_path):
    job = reported(tmp_path, ONE_WRONG)
    report = read_report(job.run)
    figures = FileFigures(report, score_file(job, FILE, report))
    require(figures, [parse_gate("file>=75"), parse_gate("tuned>=100"), parse_gate("file-tuned>=-25")])
    with pytest.raises(SgError, match="not met") as caught:
        require(figures, [parse_gate("file-tuned.low>-25")])
    assert caught.value.exit_code == 3


def test_answers_that_are_gone_are_named(tmp_path):
    job = reported(tmp_path)
    report = read_report(job.run)
    job.run.replace("answers.jsonl", [])
    with pytest.raises(SgError, match="lacks answers of"):
        score_file(job, FILE, report)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.write_text("<html>"), "an HTML page"),
        (lambda path: write_lora(path, lora_pairs(TinySpec()), 8.0), "of type 'adapter'"),
        (lambda path: write_model(path, TinySpec(architecture="qwen2")), "architecture 'qwen2'"),
        (lambda path: write_model(path, TinySpec(tokenizer="spm")), "its tokenizer is 'llama', not 'gpt2'"),
    ],
)
def test_a_file_that_cannot_stand_in_for_the_base_is_refused_soon(tmp_path, make, message):
    base, path = write_model(tmp_path / "base.gguf"), tmp_path / "other.gguf"
    make(path)
    with soon(), pytest.raises(SgError, match=message) as caught:
        check_alike(path, base)
    assert caught.value.exit_code == 2


def test_other_types_and_weights_of_the_same_model_are_let_in(tmp_path):
    base = write_model(tmp_path / "base.gguf")
    other = write_model(tmp_path / "other.gguf", TinySpec(type="Q8_0", seed=5))
    assert check_alike(other, base).size_bytes == other.stat().st_size


# A real tiny model from training to a scored file


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A tuned tiny run that was exported before it was evaluated, as `run` does it."""
    folder = tmp_path_factory.mktemp("office")
    base = write_model(folder / "base.gguf", TinySpec(layers=1))
    settings = small_settings({"types": ("Q8_0",), "min_gain": -9.0})
    places = {"runs": folder / "runs", "name": "RUN", "home": folder / "home"}
    with sg.open_job({**TEAMS, "name": "RUN"}, model=base, settings=settings, **places) as job:
        job.run()
    return folder


def typed(folder, *args, code=0):
    done = CliRunner().invoke(app, [*args, "--runs", str(folder / "runs")], env={"SG_LOCAL_HOME": str(folder / "home")})
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_an_exported_file_is_scored_once_the_run_is_evaluated(office):
    run = Run(office / "runs" / "RUN")
    report, fused = read_report(run), json.loads(run.path("export.json").read_text())["fused"][0]
    (found,) = report.files
    assert (found.file, found.sha256, found.prompt) == (fused["file"], fused["sha256"], "run")
    assert [c["name"] for c in fused["checks"]][-2:] == ["score on test rows", "score, labels only"]
    assert fused["passed"] and "held-out rows" in run.path("README.md").read_text()
    assert "| score on test rows |" in run.path("README.md").read_text()
    page = render(run)
    assert "Files that answered the same rows" in page and f'dir="auto">{found.file}</th>' in page


def test_any_file_is_scored_from_the_command_line_and_the_run_stays_finished(office):
    other = write_model(office / "other.gguf", TinySpec(layers=1, type="Q8_0"))
    said = typed(office, "eval", "RUN", "--file", str(other))
    assert "points against the adapter" in said.stdout and "eval: already finished" in said.stderr
    shown = typed(office, "eval", "RUN")
    assert "already finished" in shown.stderr and "other.gguf" in shown.stdout
    rows = json.loads(typed(office, "eval", "RUN", "--file", str(other), "--prompt", "chat", "--json").stdout)
    assert rows["prompt"] == "chat" and rows["gains"]["file-tuned"]["gain"] <= 100
    typed(office, "eval", "RUN", "--file", str(other), "--gate", "file>100", code=3)
    with soon():
        assert "There is no file" in typed(office, "eval", "RUN", "--file", "nope.gguf", code=2).stderr
    assert "need a run" in typed(office, "eval", "RUN", "--base", "--file", str(other), code=2).stderr


def test_the_face_scores_a_file_too(office):
    with sg.load("RUN", runs=office / "runs", home=office / "home") as job:
        found = job.evaluate_file(office / "base.gguf")
        assert found.systems["file"].n == job.report.n and found in job.report.files
        with soon(), pytest.raises(SgError, match="not asked in 'mine' prompts"):
            job.evaluate_file(office / "base.gguf", prompt="mine")


def test_a_second_export_scores_its_file_at_once_and_an_old_score_does_not_stay(office):
    said = typed(office, "export", "RUN", "--type", "F16", "--set", "min_equal=0", "--set", "min_gain=-9")
    assert "score on test rows" in said.stdout
    run = Run(office / "runs" / "RUN")
    made = {row["file"] for row in json.loads(run.path("export.json").read_text())["fused"]}
    assert len(made) == 2 and {one.file for one in read_report(run).files} >= made
    assert "already finished" in typed(office, "eval", "RUN").stderr


def test_a_score_of_other_bytes_leaves_the_table(tmp_path):
    from test_export import make_job

    from sg_local import export

    job = make_job(tmp_path, TinySpec(layers=1))
    file = export.export(job).fused[0]
    scored = score_file(reported(tmp_path / "run2"), FILE, read_report(job_of(tmp_path / "run2").run))
    shown = with_score(file, {file.sha256: scored})
    assert len(shown.checks) == len(file.checks) + 2 and shown.passed
    assert with_score(shown, {"another": scored}) == file
