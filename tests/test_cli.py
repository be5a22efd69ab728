"""The command line with the scripted backend: the whole job, resuming, every kind of bad input, every word."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import sg_local
from sg_local import cli
from sg_local.backends.machine import SPINS
from sg_local.backends.scripted import ScriptedGenerator
from sg_local.cli.app import COMMANDS, app, as_sg_error
from sg_local.cli.config import set_brief_waits
from sg_local.job import stages
from sg_local.records import Answer, SgError
from sg_local.run import Run
from sg_local.tasks import shipped_folder

SMALL = ("--set", "synth.n_inputs=40", "--set", "eval.resamples=50")
EXAMPLE_IDS = ["example-0", "example-1", "example-2"]
JOB = ("run", "support_routing", "--backend", "scripted", "--yes", "--name", "trial", *SMALL)
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """A folder with one finished run, made once."""
    folder = tmp_path_factory.mktemp("finished")
    before = os.getcwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, list(JOB))
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    return folder / "runs"


@pytest.fixture
def finished(finished_runs, own_folder):
    """A copy of the finished run."""
    shutil.copytree(finished_runs, own_folder / "runs")
    return Run(own_folder / "runs" / "trial")


def run(*args, code=0, **more):
    """The command's result; checks the exit code and that nothing looks like a traceback."""
    result = CliRunner().invoke(app, list(args), **more)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def lines(result):
    return result.stdout.splitlines()


# The whole job


def test_the_job_runs_and_ends_with_a_verdict(finished_runs, finished):
    result = run(*JOB)
    assert "exact match on 60 test rows" in result.stdout and "base, best prompt" in result.stdout
    assert "tuned, labels only" in result.stdout and "Next: sg-local predict trial" in result.stdout
    report = json.loads(run(*JOB, "--json").stdout)
    assert {"base", "base_vote", "tuned", "funnel", "stages"} <= set(report)


def test_a_finished_job_says_so_and_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*.jsonl")}
    result = run(*JOB)
    assert result.stderr.count("already finished") == 4
    assert {path: path.stat().st_mtime_ns for path in finished.root.rglob("*.jsonl")} == before


@pytest.mark.parametrize(("journal", "keep"), [("inputs.jsonl", 17), ("candidates.jsonl", 5), ("candidates.jsonl", 0)])
def test_a_killed_job_ends_like_an_uninterrupted_one(finished, journal, keep):
    wanted = {name: finished.path(name).read_bytes() for name in ("inputs.jsonl", "candidates.jsonl", "verdicts.jsonl")}
    report = json.loads(finished.path("report.json").read_text())
    rows = finished.path(journal).read_bytes().splitlines(keepends=True)
    finished.path(journal).write_bytes(b"".join(rows[:keep]) + rows[keep][:20])
    for path in [*finished.root.glob("stages/*"), finished.path("verdicts.jsonl"), finished.path("report.json")]:
        path.unlink()
    if journal == "inputs.jsonl":
        finished.path("candidates.jsonl").unlink()
    run(*JOB)
    assert {name: finished.path(name).read_bytes() for name in wanted} == wanted
    assert json.loads(finished.path("report.json").read_text())["systems"] == report["systems"]


def test_single_stages_do_the_same_as_run(own_folder):
    run("synth", "support_routing", "--backend", "scripted", "--name", "steps", *SMALL)
    assert "pairs kept" in run("filter", "steps").stdout
    assert "adapter.gguf" in run("train", "steps").stdout
    assert "base, best prompt" in run("eval", "steps").stdout
    assert len(lines(run("predict", "steps", "Where is my parcel?"))) == 1
    answers = run("predict", "steps", "-", input="one\n\ntwo\n")
    assert len(lines(answers)) == 3 and lines(answers)[1] == ""


def test_a_gate_that_is_not_met_exits_with_three(finished):
    run("eval", "trial", *SMALL[2:], "--gate", "tuned>=0")
    result = run("eval", "trial", *SMALL[2:], "--gate", "tuned>=101", code=3)
    assert "not met" in result.stderr


def test_single_answers_are_shown_as_table_and_json(finished):
    report = json.loads(finished.path("report.json").read_text())
    wrong = [row["index"] for row in report["rows"] if row["scores"]["tuned_restricted"] < 100]
    rows = json.loads(run("eval", "trial", *SMALL[2:], "--show", "wrong", "--json").stdout)
    assert sorted(row["index"] for row in rows) == wrong
    shown = run("eval", "trial", *SMALL[2:], "--show", "all", "--system", "tuned").stdout
    pair = "\u201ctuned\u201d (tuned) against \u201cbase, best prompt\u201d (base)"
    assert f"all: {report['n']} of {report['n']} test rows, {pair}" in shown
    numbers = sorted(int(line.split()[0]) for line in shown.splitlines() if line.split()[0].isdigit())
    assert numbers == list(range(1, report["n"] + 1))  # as the review and `tasks check` count
    by_title = run("eval", "trial", "--show", "all", "--system", "tuned, labels only", "--json").stdout
    assert by_title == run("eval", "trial", "--show", "all", "--system", "tuned_restricted", "--json").stdout
    assert "no system named" in run("eval", "trial", "--show", "all", "--system", "x", code=2).stderr.lower()


def test_other_test_rows_and_settings_keep_the_answers_that_still_count(finished, own_folder):
    before = finished.path("answers.jsonl").read_text().splitlines()
    rows = [
        {"input": "The invoice is wrong.", "output": "Billing."},
        {"input": "My box got wet.", "output": "delivery"},
    ]
    (own_folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kept = run("eval", "trial", "--retain")
    assert "Perplexity on a neutral text" in kept.stdout
    assert set(before) < set(finished.path("answers.jsonl").read_text().splitlines())
    assert json.loads(run("eval", "trial", "--json").stdout)["retain"]["answers"]
    report = json.loads(run("eval", "trial", "--tests", "rows.jsonl", "--json").stdout)
    assert report["n"] == 2 and [row["outputs"] for row in report["rows"]] == [["billing"], ["delivery"]]
    (own_folder / "rows.jsonl").write_text('{"input": "x", "output": "sales"}')
    for line in (("eval", "trial"), ("run", "support_routing", "--backend", "scripted")):
        assert "'sales' is not a label" in run(*line, "--tests", "rows.jsonl", code=2).stderr


def test_votes_count_only_where_the_filters_let_them(finished, monkeypatch):
    def votes():
        return {row.text for row in finished.read("answers.jsonl", Answer) if row.system == "base_vote_raw"}

    assert votes() - {""}
    monkeypatch.setattr("sg_local.filters.OutputGate.__call__", lambda gate, *pair: False)
    run("eval", "trial", "--redo")
    assert votes() == {""}


def test_test_rows_come_from_a_super_natural_instructions_file(finished, own_folder):
    data = {
        "Definition": ["Which team?"],
        "Positive Examples": [{"input": "a late box", "output": "delivery"}],
        "Instances": [{"input": f"The invoice of day {i} is wrong.", "output": ["billing"]} for i in range(12)],
    }
    (own_folder / "task001_teams.json").write_text(json.dumps(data))
    report = json.loads(run("eval", "trial", "--tests", "task001_teams.json", "--json").stdout)
    assert report["n"] == 12 and report["rows"][0]["outputs"] == ["billing"]


def test_a_tune_on_the_examples_alone_comes_on_request(finished):
    report = json.loads(run("eval", "trial", "--set", "tuned_examples=true", "--json").stdout)
    assert {"tuned_examples", "tuned_examples_restricted"} <= set(report["systems"])
    assert finished.path("examples/adapter.gguf").read_text().split() == ["scripted", "adapter", *EXAMPLE_IDS]
    assert "tuned on the examples alone" in run("eval", "trial", "--gate", "tuned-tuned_examples>=-100").stdout
    run("train", "trial", "--set", "epochs=1", "--redo")
    run("eval", "trial", "--redo")
    stamps = (finished.stamp("train"), Run(finished.path("examples")).stamp("train"))
    assert stamps[1]["n_train"] == 3 and stamps[1]["settings"]["epochs"] == stamps[0]["adapter"]["n_steps"]


def test_the_verdict_shows_confusion_irrelevant_answers_and_what_was_left_out(finished, own_folder):
    example = json.loads(finished.path("run.json").read_text())["task"]["examples"][0]
    rows = [{"input": "The invoice is wrong.", "output": "billing"}, example]
    (own_folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = run("eval", "trial", "--tests", "rows.jsonl").stdout
    assert "1 test row was left out: 1 like an example, 0 like a training row." in shown
    assert "irrelevant" in shown and "right \\ tuned, labels only" in shown and "no label" in shown
    assert "never on test rows" in shown


def test_filtering_again_needs_no_redo_and_is_remembered(finished):
    before = json.loads(run("filter", "trial", "--json").stdout)["kept"]
    strict = json.loads(
        run("filter", "trial", "--set", "agreement.threshold=1", "--set", "policy=voted", "--json").stdout
    )
    assert strict != before
    assert json.loads(finished.path("run.json").read_text())["set"]["filter"]["policy"] == "voted"
    result = run("train", "trial", code=1)
    assert "--redo" in result.stderr and "Stage train" in result.stderr
    run("train", "trial", "--redo")
    assert finished.path("adapter.gguf.before").exists()


def test_run_with_redo_makes_again_only_what_differs(finished):
    run(*JOB, "--set", "eval.n_votes=3", code=1)
    result = run(*JOB, "--set", "eval.n_votes=3", "--redo")
    assert result.stderr.count("already finished") == 3 and "eval: done" in result.stderr


@pytest.mark.parametrize("redo", [(), ("--redo",)])
def test_an_evaluation_that_fails_leaves_the_finished_one(finished, redo, monkeypatch):
    def leaked(job, tell):
        job.run.append("answers.jsonl", job.run.read("answers.jsonl", Answer)[:3])
        raise SgError("All rows leaked.", "Give others.")

    monkeypatch.setitem(stages.STAGES, "eval", replace(stages.STAGES["eval"], run=leaked))
    kept = {path: path.read_bytes() for path in finished.root.rglob("*") if path.is_file()}
    assert "leaked" in run("eval", "trial", "--set", "leak_threshold=0.5", *redo, code=1).stderr
    after = {path: path.read_bytes() for path in finished.root.rglob("*") if path.is_file()}
    assert {path for path in kept if kept[path] != after.get(path)} <= {finished.path("run.json")}
    assert "has no report" not in run("report", "trial").stderr


def test_synthesis_done_again_puts_the_old_rows_and_verdicts_aside(finished):
    run("synth", "support_routing", "--name", "trial", "--set", "synth.n_inputs=33", "--redo")
    assert finished.path("candidates.jsonl.before").exists() and finished.path("verdicts.jsonl.before").exists()


def test_an_export_that_is_refused_is_evaluated_all_the_same_and_exits_with_three(finished, monkeypatch):
    def refuse(job, stage, narrate, perform=stages.perform, **more):
        if stage == "export":
            raise SgError("fused-Q4_0.gguf did not pass its gate.", "Try --type Q8_0.", exit_code=3)
        perform(job, stage, narrate, **more)

    monkeypatch.setattr(stages, "perform", refuse)
    monkeypatch.setattr(stages, "makes_weights", lambda trainer: True)
    result = run(*JOB, code=3)
    assert "The evaluation continues" in result.stderr and "eval: already finished" in result.stderr
    assert "Error: fused-Q4_0.gguf did not pass" in result.stderr and "base, best prompt" in result.stdout


# Bad input: one sentence, a hint, an exit code

BROKEN = {
    "toml.toml": 'name = "x"\nkind = \n',
    "label.toml": (
        'kind = "classification"\ninstruction = "x"\nlabels = ["a", "b"]\n[[examples]]\ninput = "i"\noutput = "c"\n'
    ),
    "examples.toml": 'kind = "generation"\ninstruction = "x"\n',
    "kind.toml": 'kind = "other"\ninstruction = "x"\n',
    "ni.json": '{"Definition": ["x"],\n oops}',
}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rnu"], "Did you mean run?"),
        (["runs", "lss"], "Did you mean ls?"),
        (["run"], "Missing argument 'TASK'"),
        (["run", "suport_routing"], "Did you mean support_routing?"),
        (["run", "nowhere.toml"], "no task file at nowhere.toml"),
        (["run", "toml.toml"], "toml.toml:2"),
        (["run", "label.toml"], "label.toml:6: the output 'c' is not in labels"),
        (["run", "examples.toml"], "no examples"),
        (["run", "kind.toml"], "kind.toml:1"),
        (["run", "ni.json"], "ni.json:2"),
        (["run", "support_routing", "--bakend", "mlx"], "Did you mean --backend?"),
        (["run", "support_routing", "--backend", "lama"], "Did you mean llama.cpp?"),
        (["run", "support_routing", "--trainer", "tourch"], "Did you mean torch?"),
        (["run", "support_routing", "--seed", "x"], "not a valid integer"),
        (["run", "support_routing", "--name", "a/b", "--backend", "scripted"], "'a/b' cannot be a run name"),
        (["run", "support_routing", "--model", "no.gguf"], "no.gguf"),
        (["run", "support_routing", "--model", "smollm"], "Did you mean"),
        (["run", "support_routing", "--preset", "best", "--backend", "scripted"], "no preset 'best'"),
        (
            ["run", "support_routing", "--backend", "scripted", "--set", "synth.n_input=3"],
            "Did you mean synth.n_inputs?",
        ),
        (["run", "support_routing", "--backend", "scripted", "--set", "snyth.n_inputs=3"], "Did you mean synth?"),
        (["run", "support_routing", "--backend", "scripted", "--set", "synth.n_inputs=x"], "synth.n_inputs"),
        (["run", "support_routing", "--backend", "scripted", "--set", "synth.n_inputs"], "has no value"),
        (["filter", "nope"], "no run named 'nope'"),
        (["review", "nope"], "no run named 'nope'"),
        (["predict", "../x", "y"], "no run named '../x'"),
        (["models", "show", "junk.gguf"], "junk.gguf"),
        (["inspect", "junk.gguf"], "junk.gguf"),
        (["inspect", "nowhere.gguf"], "nowhere.gguf"),
        (["tasks", "new", "kind.toml"], "exists"),
        (["tasks", "new", "fresh.toml"], "Add --kind"),
        (
            ["tasks", "new", "fresh.toml", "--kind", "generation", "--instruction", "x", "--example", "a", " "],
            "example 1",
        ),
        (["completion", "powershell"], "It is one of: bash, zsh, fish"),
        (["eval", "nope", "--gate", "rubbish"], "is not a gate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence_and_a_hint(own_folder, args, words):
    for name, text in BROKEN.items():
        (own_folder / name).write_text(text)
    (own_folder / "junk.gguf").write_bytes(b"junk, not a model")
    result = CliRunner().invoke(app, args)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert words in result.stderr and result.stderr.startswith("Error: ") and "\nHint: " in result.stderr
    assert not (own_folder / "fresh.toml").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "9"], "seed 0 (now 9)"),
        (["--preset", "paper"], "preset recommended (now paper)"),
        (["--set", "synth.n_inputs=41"], "n_inputs 40 (now 41)"),
    ],
)
def test_a_run_made_otherwise_says_what_differs(finished, change, words):
    assert words in run(*JOB, *change, code=1).stderr


@pytest.fixture
def untested(own_folder):
    """A task file without a test row."""
    text = (shipped_folder("tasks") / "support_routing.toml").read_text()
    (own_folder / "mine.toml").write_text(text[: text.index("[[tests]]")])
    return "mine.toml"


def test_a_job_without_test_rows_ends_with_its_files_and_says_that_nothing_was_measured(untested):
    job = ("run", untested, "--backend", "scripted", "--yes", "--name", "bare", *SMALL)
    done = run(*job)
    assert "eval: skipped: the task has no test rows" in done.stderr
    assert (
        "There are no test rows, so nothing was measured." in done.stdout
        and "sg-local eval bare --tests" in done.stdout
    )
    assert "adapter.gguf" in done.stdout and not os.path.exists("runs/bare/report.json")
    assert json.loads(run(*job, "--json").stdout)["unmeasured"] and "bare" in run("runs", "ls").stdout
    assert "stage train" in run("runs", "show", "bare").stdout
    assert "no test rows" in run("eval", "bare", code=2).stderr


def test_a_report_of_test_rows_that_are_gone_is_put_aside(untested):
    job = ("run", untested, "--backend", "scripted", "--yes", "--name", "bare", *SMALL)
    with open("rows.jsonl", "w") as file:
        file.writelines(json.dumps({"input": f"Refund {i}?", "output": "billing"}) + "\n" for i in range(5))
    assert "5 test rows" in run(*job, "--tests", "rows.jsonl").stdout
    assert "nothing was measured" in run(*job, "--tests", "task").stdout
    assert os.path.exists("runs/bare/report.json.before") and not os.path.exists("runs/bare/report.json")


def test_a_run_remembers_its_test_rows(untested):
    job = ("run", untested, "--backend", "scripted", "--yes", "--name", "bare", *SMALL)
    for name, n in (("five.jsonl", 5), ("six.jsonl", 6)):
        with open(name, "w") as file:
            file.writelines(json.dumps({"input": f"Refund {i}?", "output": "billing"}) + "\n" for i in range(n))
    assert "5 test rows" in run(*job, "--tests", "five.jsonl").stdout
    again = run(*job)
    assert "5 test rows" in again.stdout and "the rows of five.jsonl, as given before" in again.stderr
    assert "6 test rows" in run("eval", "bare", "--tests", "six.jsonl").stdout
    assert "6 test rows" in run("eval", "bare").stdout and "6 test rows" in run(*job).stdout
    assert "2 test rows" in run("eval", "bare", "--tests", "2").stdout
    assert "6 test rows" in run("eval", "bare").stdout  # a number is for once


def test_what_filtering_again_makes_out_of_date_is_marked_everywhere(finished):
    fresh = run("runs", "show", "trial")
    assert "ut of date" not in fresh.output and json.loads(run("runs", "show", "trial", "--json").stdout)["stale"] == []
    filtered = run("filter", "trial", "--set", "agreement.threshold=1", "--set", "policy=voted")
    assert filtered.stderr.endswith("Next: sg-local review trial, or sg-local train trial --redo\n")
    for line in (("runs", "show", "trial"), ("predict", "trial", "x"), ("report", "trial"), ("eval", "trial")):
        said = run(*line)
        assert "Out of date: train" in said.output and "`sg-local train trial --redo`" in said.output, line
    assert "Out of date: train" in Path("trial.html").read_text()
    stale = json.loads(run("runs", "show", "trial", "--json").stdout)["stale"]
    assert [one["stage"] for one in stale] == ["train", "eval"] and stale[0]["command"] == "train trial --redo"
    run("train", "trial", "--redo")
    assert "ut of date" not in run("predict", "trial", "x").output
    assert "Out of date: eval" in run("runs", "show", "trial").output
    run("eval", "trial")
    assert "ut of date" not in run("runs", "show", "trial").output


def test_the_next_command_finds_a_run_that_is_elsewhere(own_folder):
    line = ("synth", "support_routing", "--backend", "scripted", "--name", "a", "--runs", "else/where", *SMALL[:2])
    assert run(*line).stderr.splitlines()[-1] == "Next: sg-local filter else/where/a"
    assert "Next: sg-local review else/where/a, or sg-local train else/where/a" in run("filter", "else/where/a").stderr


def test_no_command_comes_next_where_no_pair_is_left(finished):
    none = run("filter", "trial", "--set", "input_length.sigmas=0", "--set", "input_length.widest=1")
    assert json.loads(run("filter", "trial", "--json").stdout)["kept"] == 0 and "Next:" not in none.stderr


def test_a_run_made_from_a_changed_task_stops(finished, own_folder):
    (own_folder / "support_routing.toml").write_text(
        'kind = "generation"\ninstruction = "Other."\n[[examples]]\ninput = "a"\noutput = "b"\n'
    )
    result = run("run", "support_routing.toml", "--name", "trial", "--yes", code=1)
    assert "another version of task" in result.stderr and "--name" in result.stderr


def test_two_processes_do_not_share_a_run(finished):
    with finished.lock():
        assert "in use by process" in run("filter", "trial", "--redo", code=1).stderr


def test_a_full_disk_is_one_sentence():
    found = as_sg_error(OSError(errno.ENOSPC, "No space left on device", "x"))
    assert "disk is full" in found.message and "kept" in found.hint
    assert "x" in as_sg_error(PermissionError(errno.EACCES, "Permission denied", "x")).message


def test_a_full_disk_stops_the_job_and_loses_nothing(own_folder, monkeypatch):
    run("synth", "support_routing", "--backend", "scripted", "--name", "full", *SMALL)
    made = Run(own_folder / "runs" / "full")
    before = made.path("candidates.jsonl").read_bytes()

    def refuse(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        assert "The disk is full" in run("filter", "full", code=1).stderr
    assert made.path("candidates.jsonl").read_bytes() == before
    run("filter", "full")


def test_memory_that_runs_out_outside_of_a_stage_is_one_sentence(finished, monkeypatch):
    def failing(error):
        def fail(self, asked):
            raise error

        monkeypatch.setattr(ScriptedGenerator, "score", fail)

    failing(MemoryError())
    done = run("predict", "trial", "x", code=1)
    assert done.stderr.startswith("Error: Memory ran out, and ") and "ulimit -v" in done.stderr
    assert json.loads(run("predict", "trial", "x", "--json", code=1).stderr)["about"] == "too-little-memory"
    failing(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert json.loads(run("predict", "trial", "x", "--json", code=1).stderr)["about"] == "too-little-memory"
    failing(RuntimeError("another"))
    assert isinstance(CliRunner().invoke(app, ["predict", "trial", "x"]).exception, RuntimeError)


def test_a_broken_pipe_is_no_traceback(finished):
    command = f"{sys.executable} -c 'from sg_local.cli import main; main()' config show | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert "setting" in done.stdout and "Traceback" not in done.stderr


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sg_local.tasks.shipped_tasks", interrupt)
    assert "Interrupted" in run("tasks", "ls", code=130).stderr


# Help


def commands(group=app, path=()):
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_and_examples_that_parse(path, command):
    text = run(*path, "--help").stdout
    assert "Examples:" in text and text.startswith("Usage: ")
    for line in command.examples:
        assert "sg-local" in line or line.startswith("curl")


def test_the_list_of_commands_says_what_each_says_of_itself():
    ctx = click.Context(app)
    for name, entry in COMMANDS.items():
        command = app.get_command(ctx, name)
        assert command.help.splitlines()[0] == entry.summary, name


def test_windows_is_told_of_wsl_before_anything_is_imported(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "sg_local.cli.app", None)  # importing it would fail
    with pytest.raises(SystemExit, match="wsl --install"):
        cli.main(["doctor"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["help"], ["--help"]),
        (["help", "run"], ["run", "--help"]),
        (["help", "runs", "ls"], ["runs", "ls", "--help"]),
        (["runs", "help"], ["runs", "--help"]),
        (["runs", "help", "rm"], ["runs", "rm", "--help"]),
        (["predict", "help"], ["predict", "--help"]),
        (["version"], ["--version"]),
    ],
)
def test_help_and_version_are_words_too(words, option):
    assert run(*words).stdout.strip() == run(*option).stdout.strip()
    assert "help " not in run("--help").stdout.split("Manage")[1]


def test_options_stand_in_groups_the_common_ones_first():
    text = run("run", "--help").stdout
    headings = ["Options:", "Your own data:", "Limits:", "Settings and engines:", "Output:", "Examples:"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places) and text.count("--seed") == 2  # once in an example
    assert text.index("--yes") < places[1] < text.index("--rows") < places[2] < text.index("--ram") < places[3]
    assert places[3] < text.index("--preset") < text.index("--set ") < text.index("--endpoint") < places[4]
    assert "Output:" not in run("runs", "ls", "--help").stdout


def test_help_tells_every_environment_variable_that_is_read():
    told = run("help", "environment").stdout
    sources = "".join(path.read_text() for path in Path(sg_local.__file__).parent.rglob("*.py"))
    read = set(re.findall(r"\bSG_LOCAL_[A-Z_]*[A-Z]\b", sources))
    assert {"SG_LOCAL_HOME", "SG_LOCAL_LOG", "SG_LOCAL_API_KEY"} <= read and all(name in told for name in read)
    assert "SG_LOCAL_MODEL" in run("run", "--help").stdout


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("runs", "show", "nope", "--json"), 2),
        (("run", "--seed", "x", "y", "--json"), 2),
        (("tasks", "ls", "x", "--json"), 2),
    ],
)
def test_with_json_an_error_is_one_line_of_it(args, code):
    failed = run(*args, code=code)
    told = json.loads(failed.stderr)
    assert failed.stdout == "" and set(told) == {"error", "hint", "exit_code", "about"} and told["exit_code"] == code


def test_help_on_what_is_no_command_suggests_the_nearest():
    assert "Did you mean train?" in run("help", "trian", code=2).stderr


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "sg_local", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sg-local ")


def test_a_run_goes_by_the_beginning_of_its_name_and_by_its_folder(finished):
    for name in ("tri", "runs/trial", "runs/trial/"):
        assert json.loads(run("runs", "show", name, "--json").stdout)["run"] == "trial"
        assert len(lines(run("predict", name, "Where is my parcel?"))) == 1
    assert lines(run("report", "runs/trial")) == ["trial.html"]
    assert "full name" in run("runs", "rm", "tri", "--yes", code=2).stderr
    assert finished.exists()


def test_version():
    assert run("--version").stdout.startswith("sg-local 0.")


# Looking around


@pytest.mark.parametrize(
    "args",
    [["tasks", "ls"], ["models", "ls"], ["runs", "ls"], ["config", "show"], ["doctor"], ["tasks", "check", "iso_date"]],
    ids=" ".join,
)
def test_tables_are_json_where_asked(finished, args):
    assert isinstance(json.loads(run(*args, "--json").stdout), list)
    run(*args)


def test_tasks_are_listed_with_their_summary_beside_one_that_cannot_be_read(own_folder):
    assert "Route a customer's message" in run("tasks", "ls").stdout
    (own_folder / "mine").mkdir()
    shutil.copy(shipped_folder("tasks") / "iso_date.toml", own_folder / "mine")
    (own_folder / "mine" / "broken.toml").write_text("kind = \n")
    listed = run("tasks", "ls", "mine")
    assert "Find the date in a line of text" in listed.stdout and "broken.toml:1" in listed.stderr
    rows = {row["name"]: row for row in json.loads(run("tasks", "ls", "mine", "--json").stdout)}
    assert rows["iso_date"]["fault"] == "" and "broken.toml:1" in rows["broken"]["fault"]


def test_runs_are_shown_and_removed(finished):
    assert "trial" in run("runs", "ls").stdout
    shown = json.loads(run("runs", "show", "trial", "--json").stdout)
    assert shown["settings"]["task"]["name"] == "support_routing" and "synth" in shown["stages"]
    assert "Add --yes" in run("runs", "rm", "trial", code=2).stderr and finished.exists()
    run("runs", "rm", "trial", "--yes")
    assert not finished.root.exists()


def test_flag_wins_over_environment_over_file_over_default(own_folder, monkeypatch):
    def shown(*args):
        rows = json.loads(run("config", "show", "--json", *args).stdout)
        return {row["setting"]: (row["value"], row["source"].split()[0]) for row in rows}

    assert shown()["trainer"] == ("auto", "default")
    config = own_folder / "home" / "config.toml"
    config.parent.mkdir()
    config.write_text('trainer = "mlx"\nseed = 4\n[synth]\nn_inputs = 7\n[filter.near_duplicate]\nthreshold = 0.6\n')
    found = shown()
    assert found["trainer"] == ("mlx", "file") and found["seed"] == (4, "file")
    assert found["synth.n_inputs"] == (7, "file") and found["filter.near_duplicate.threshold"] == (0.6, "file")
    monkeypatch.setenv("SG_LOCAL_TRAINER", "torch")
    assert shown()["trainer"] == ("torch", "environment")
    found = shown("--trainer", "mlx", "--set", "synth.n_inputs=9", "--preset", "paper")
    assert found["trainer"] == ("mlx", "flag") and found["synth.n_inputs"] == (9, "--set")
    text = run("config", "show", "train").stdout
    told = ("Learning rate at its peak.", "Passes over the training rows, those of all rounds together.")
    assert all(one in text for one in told)
    assert found["synth.style"] == ("paper", "preset") and found["synth.n_ctx"][1] == "default"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainer = \n", "config.toml:1"),
        ('modle = "x"\n', "unknown key 'modle'"),
        ("[sinth]\nx = 1\n", "stage 'sinth'"),
    ],
)
def test_a_broken_config_file_is_named(own_folder, text, words):
    (own_folder / "home").mkdir()
    (own_folder / "home" / "config.toml").write_text(text)
    assert words in run("config", "show", code=2).stderr
    assert "Usage" in run("--help").stdout


def test_completion_scripts_name_the_program():
    for shell in ("bash", "zsh", "fish"):
        assert "_SG_LOCAL_COMPLETE" in run("completion", shell).stdout


# Tasks


def test_a_task_written_by_options_reads_back(own_folder):
    run("tasks", "new", "mood", "--kind", "classification", "--label", "yes", "--label", "no", "--instruction",
        'Say "it"\n.', "--example", "What\ta day!\x7f", "yes")  # fmt: skip
    shown = json.loads(run("tasks", "show", "mood.toml", "--json").stdout)
    assert shown["labels"] == ["yes", "no"] and shown["examples"][0]["input"] == "What\ta day!\x7f"
    assert shown["instruction"] == 'Say "it"\n.'


def test_a_task_written_from_json_reads_back(own_folder):
    data = {"kind": "generation", "instruction": "Shorten.", "examples": [{"input": "a b", "output": "a"}]}
    (own_folder / "draft.json").write_text(json.dumps(data))
    run("tasks", "new", "short.toml", "--from", "draft.json")
    assert json.loads(run("tasks", "show", "short.toml", "--json").stdout)["kind"] == "generation"
    (own_folder / "bad.json").write_text("{}")
    assert "does not describe a task" in run("tasks", "new", "x.toml", "--from", "bad.json", code=2).stderr


def test_check_finds_what_misleads(own_folder):
    (own_folder / "leaky.toml").write_text(
        'kind = "classification"\ninstruction = "x"\nlabels = ["a", "b", "A!"]\n'
        '[[examples]]\ninput = "One."\noutput = "a"\n[[examples]]\ninput = "one"\noutput = "a"\n'
        '[[tests]]\ninput = "ONE"\noutput = "a"\n[[tests]]\ninput = "one!"\noutput = "a"\n'
    )
    found = run("tasks", "check", "leaky.toml", code=1).stdout
    for words in ("2 test rows stand among", "same but for letter case", "Two examples have the same", "more than once",
                  "All examples have the label a", "2 test rows", "No test row has the label"):  # fmt: skip
        assert words in found


@pytest.mark.parametrize("own", ({}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}))
def test_threads_wait_briefly_unless_the_environment_says_otherwise(monkeypatch, own):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    kept = {**os.environ}
    monkeypatch.setattr(os, "environ", kept)
    set_brief_waits()
    found = {name: kept[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in kept}
    assert found == (own or {"GOMP_SPINCOUNT": SPINS})
