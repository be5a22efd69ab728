"""Every command of README and docs/ is run by a test, or its section says why not (`*Not run by a test: ...*`).

Pages that are one walk have a test file of their own; the others are walked here, command by command, with the scripted
backend or a tiny random model. Commands inside a sentence are held to the options that there are.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
import test_docs_decisions
import test_docs_own_data
import test_docs_privacy
import test_docs_scale
from click.testing import CliRunner
from pages import CODE, PAGES, ROOT
from terminal import Terminal
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
from sg_local.cli.app import app

PROGRAM = "from sg_local.cli import main; main()"
PROGRAMS = (
    *(
        "sg-local",
        "python",
        "python3",
        "pip",
        "pip-audit",
        "curl",
        "ollama",
        "llama-server",
        "llama-gguf-split",
        "vllm",
    ),
    *("npm", "torchrun", "mlx.launch", "printf", ".venv/bin/pip", ".venv/bin/sg-local", "asciinema"),
)
MADE = ("commands.md", "settings.md", "json.md")
"""Pages made from the program itself."""
NOT_RUN = re.compile(r"^\*Not run by a test: .+\*$", re.MULTILINE)
README = {
    "python3": ".ci/run runs the second line; the first one is what docs/screens/session.svg shows",
    "ollama": "needs Ollama",
}
"""What of README is not run by a test, and why."""
READERS = {
    "serve.md": ("curl",),  # test_serve_endpoints.py sends each
    "decisions.md": ("curl",),
    "own_data.md": ("curl",),
}
SETTINGS = 'backend = "scripted"\n[synth]\nn_inputs = 40\nn_asked = 160\n[eval]\nresamples = 20\n[train]\nepochs = 1\n'
OFF = "".join(f"[filter.{rule}]\non = false\n" for rule in ("grounding", "copied_output", "vote_share", "consistency"))


def commands(text: str) -> list[tuple[str, str]]:
    """The command lines of a page's blocks, each with the text of its section."""
    found = []
    for section in re.split(r"^(?=#{1,4} )", re.sub(r"\\\n\s*", "", text), flags=re.MULTILINE):
        fence = None
        for line in section.splitlines():
            if line.startswith("```"):
                fence = line[3:] if fence is None else None
            elif fence in ("", "sh", "bash") or (fence is None and line.startswith("    ")):
                command = re.sub(r"\s{2,}#.*", "", line.strip())
                if command.split(" ")[0] in PROGRAMS:
                    found.append((command, section))
    return found


def lines_of(name: str) -> list[str]:
    """The `sg-local` lines of a page, without the program's name."""
    page = ROOT / "README.md" if name == "README.md" else ROOT / "docs" / name
    pairs = commands(page.read_text(encoding="utf-8"))
    return [re.sub(r".*?sg-local ", "", command) for command, _ in pairs if re.match(r"sg-local|printf", command)]


WALKED = {
    "decisions.md": [shlex.join(words) for words in test_docs_decisions.COMMANDS],
    "own_data.md": test_docs_own_data.COMMANDS,
    "privacy.md": test_docs_privacy.COMMANDS,
    "scale.md": [shlex.join(words) for words in (test_docs_scale.SERVE, test_docs_scale.RUN)],
    **{
        name: lines_of(name)
        for name in ("README.md", "tutorial.md", "own_rows.md", "predict.md", "runs.md", "review.md")
    },
    **{name: lines_of(name) for name in ("serve.md", "tasks.md", "file_scores.md")},
    "other_servers.md": [line for line in lines_of("other_servers.md") if line.startswith("export")],
}
"""By page, the commands that a test runs: of the first four the page's own test, of the others this file's."""


def is_run(name: str, command: str) -> bool:
    program, _, words = command.partition(" ")
    if program in READERS.get(name, ()) or (name == "README.md" and program in README):
        return True
    words = re.sub(r".*?sg-local ", "", words) if program == "printf" else words
    return program in ("sg-local", "printf") and shlex.split(words) in [
        shlex.split(line) for line in WALKED.get(name, [])
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_command_is_run_or_its_section_says_why_not(page):
    if page.name in MADE:
        return
    silent = [
        command
        for command, section in commands(page.read_text(encoding="utf-8"))
        if not is_run(page.name, command) and not NOT_RUN.search(section)
    ]
    assert silent == []


def in_sentences():
    """The commands that stand in the text of a page."""
    for page in [ROOT / "README.md", *PAGES]:
        if page.name not in MADE:
            for code in CODE.findall(page.read_text(encoding="utf-8")):
                if code.startswith("`sg-local ") and "..." not in code:
                    yield page.name, code.strip("`").removeprefix("sg-local ")


@pytest.mark.parametrize(("page", "line"), sorted(set(in_sentences())))
def test_a_command_in_a_sentence_has_the_options_that_there_are(page, line):
    group, words = app, shlex.split(re.sub(r"\s+", " ", line))
    context = click.Context(app, **app.context_settings)  # a command's first context settles its --help
    while words and (words[0].startswith("-") or isinstance(group, click.Group)):
        word = words.pop(0)
        if word.startswith("-"):
            assert word in {opt for param in group.get_params(context) for opt in param.opts}, word
        else:
            found = group.resolve_command(context, [word])[1]
            group, context = found, click.Context(found, context, word)
            if word == "help":
                return
    options = {opt for param in group.get_params(context) for opt in (*param.opts, *param.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in options] == []


def typed(*words: str, given: str | None = None) -> str:
    """What a command prints; it must succeed."""
    done = CliRunner().invoke(app, list(words), input=given)
    assert done.exit_code == 0 and "Traceback" not in done.output, (words, done.output, done.exception)
    return done.output


def walk(name: str, leave_out: tuple[str, ...] = ("serve",)) -> None:
    """Type the commands of a page in this folder, one after the other."""
    for line in WALKED[name]:
        words = shlex.split(line.partition(" > ")[0])
        if words[0] not in leave_out:
            typed(*words, given='{"id": 7, "text": "one\\ntwo"}\n' if "--jsonl" in words else None)


@contextlib.contextmanager
def served(words: list[str], folder: Path):
    """`sg-local serve ...` at a free port: the first line that it prints."""
    if "--port" in words:
        words = [*words[: words.index("--port")], *words[words.index("--port") + 2 :]]
    command = [sys.executable, "-c", PROGRAM, *words, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def serve_all(name: str, folder: Path) -> None:
    for line in WALKED[name]:
        if line.startswith("serve"):
            with served(shlex.split(line), folder) as said:
                assert re.match(r"http://[\d.:]+/v1", said), line


@pytest.fixture
def office(own_folder, monkeypatch):
    """A folder with small settings, and the files that pages speak of."""
    (own_folder / "home").mkdir()
    (own_folder / "home" / "config.toml").write_text(SETTINGS + OFF, encoding="utf-8")
    monkeypatch.setenv("SG_LOCAL_HOME", str(own_folder / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    names = [team for team, _ in zip([*test_docs_own_data.TEAMS] * 17, range(50), strict=False)]
    rows = [[f"{n}.1.", test_docs_own_data.mail(team, n), team] for n, team in enumerate(names)]
    test_docs_own_data.write_sheet(own_folder / "mails.csv", ["Received", "Body", "Team"], rows)
    new = [[str(n), test_docs_own_data.mail(team, 100 + n)] for n, team in enumerate(test_docs_own_data.TEAMS)]
    test_docs_own_data.write_sheet(own_folder / "new.csv", ["No", "Body"], new)
    return own_folder


def run_named(*names: str, task: str = "support_routing") -> None:
    for name in names:
        typed("run", task, "--yes", "--name", name)


def test_readme(office):
    sheet = (office / "mails.csv").read_text(encoding="utf-8-sig")
    (office / "mails.csv").write_text(sheet.replace("Team", "Category", 1), encoding="utf-8")
    new, *rest = WALKED["README.md"]
    typed(*shlex.split(new), "--instruction", "Say which team answers: Billing, Delivery or Technical.")
    run = next(line for line in rest if line.startswith("run"))
    typed(*shlex.split(run), "--name", "teams", "--yes")
    for line in rest:
        if line != run and not line.startswith("serve"):
            typed(*shlex.split(line))
    serve_all("README.md", office)


def test_tutorial(office):
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (office / "tone.toml").write_text(re.search(r"```toml\n(.+?)```", text, re.DOTALL)[1], encoding="utf-8")
    walk("tutorial.md")
    serve_all("tutorial.md", office)


def test_own_rows(office):
    task = typed("tasks", "show", "support_routing", "--toml")
    (office / "team.toml").write_text(task, encoding="utf-8")
    (office / "labelled.csv").write_text(
        "input,output\nWhere is my refund?,billing\nNo parcel yet.,delivery\n", "utf-8"
    )
    for n, line in enumerate(WALKED["own_rows.md"]):
        typed(*shlex.split(line), "--name", f"r{n}", "--yes")


def test_predict(office):
    run_named("RUN")
    (office / "mails.csv").write_text("Body\nWhere is my parcel?\nI was charged twice.\n", encoding="utf-8")
    walk("predict.md")
    assert (office / "voted.xlsx").is_file() and "p(billing)" in (office / "answers.csv").read_text(encoding="utf-8")


def test_runs(office):
    run_named("support_routing-smollm2-135m-instruct", "RUN", "OTHER", "THIRD")
    rename = next(line for line in WALKED["runs.md"] if line.startswith("runs rename"))
    for line in sorted(WALKED["runs.md"], key=lambda line: line == rename):
        typed(*shlex.split(line))
    assert (office / "runs" / "mails-v2").is_dir()


def test_review(office):
    run_named("RUN")
    shutil.copytree(office / "runs", office.parent / "their" / "runs")
    for line in WALKED["review.md"]:
        words = shlex.split(line)
        if {"--export", "--import", "--merge"} & set(words):
            typed(*words)
        else:
            terminal = Terminal(words, office, (100, 30), SG_LOCAL_HOME=str(office / "home"))
            terminal.wait("billing")
            terminal.press("q")
            assert terminal.end() == 0, terminal.text()


def test_serve(office):
    run_named("support_routing-smollm2")
    run_named("subject_line-smollm2", task="subject_line")
    serve_all("serve.md", office)


def test_tasks(office):
    whole = re.search(r"```toml\n(# mood\.toml\n.+?)```", (ROOT / "docs" / "tasks.md").read_text("utf-8"), re.DOTALL)[1]
    for line in WALKED["tasks.md"]:
        words = shlex.split(line)
        if words == ["tasks", "new", "mood.toml"]:  # the form: test_terminal.py fills it in
            (office / "mood.toml").write_text(whole, encoding="utf-8")
        else:
            typed(*words, *(("--yes",) if words[0] == "run" else ()))
    assert (office / "teams.tests.jsonl").is_file()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny random model and a run of it, trained, exported and measured."""
    folder = tmp_path_factory.mktemp("tiny")
    base = write_model(folder / "base.gguf", TinySpec(layers=1))
    place = {"runs": folder / "runs", "home": folder / "home", "name": "RUN"}
    with sg.open_job(
        {**TASK, "name": "RUN"}, model=base, settings=small_settings({"types": ("Q8_0",), "min_gain": -9.0}), **place
    ) as job:
        for stage in (job.synth, job.filter, job.train, job.export, job.evaluate):
            stage()
    return folder


@pytest.fixture
def weights(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    monkeypatch.setenv("SG_LOCAL_HOME", str(tiny / "home"))
    (tiny / "my-quantisation.gguf").write_bytes(next((tiny / "runs" / "RUN").glob("*-Q8_0.gguf")).read_bytes())
    return tiny


@pytest.mark.parametrize("line", WALKED["file_scores.md"])
def test_file_scores(weights, line):
    done = CliRunner().invoke(app, shlex.split(line))
    may_fail = "--gate" in line or "--may-lose" in line  # random weights need not meet a gate
    assert done.exit_code in ((0, 3) if may_fail else (0,)), done.output


@pytest.mark.parametrize("line", WALKED["other_servers.md"])
def test_other_servers(weights, line):
    shutil.rmtree(weights / "DIR", ignore_errors=True)  # each stands for a folder of its own
    typed(*shlex.split(line))
    assert (weights / "DIR").is_dir()
