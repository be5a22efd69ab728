"""Jobs whose base writes at an endpoint: the same rows and journals, trained and answered here, nobody else asked."""

from __future__ import annotations

import json

import pytest
from bounds import soon
from click.testing import CliRunner
from endpoint_server import Endpoint, Manner, TinyModel, serving
from tiny_models import TinySpec, write_model
from tiny_walk import TASK, small_settings

import sg_local as sg
from sg_local.backends.openai import calls
from sg_local.cli.app import app
from sg_local.job.presets import preset_toml
from sg_local.records import SgError

SPEC = TinySpec(type="F32", head_type="F32", width=64, ffn=128)
KEY = "sk-never-to-be-written"
TASK_FILE = """name = "route"
kind = "classification"
instruction = "Answer with one word: billing or delivery."
labels = ["billing", "delivery"]
examples = [
    { input = "I was charged twice.", output = "billing" },
    { input = "My parcel is late.", output = "delivery" },
]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("endpoint") / "tiny.gguf", SPEC)


@pytest.fixture(scope="module")
def tiny(base):
    found = TinyModel(base)
    yield found
    found.close()


@pytest.fixture
def endpoint(tiny, monkeypatch):
    monkeypatch.setattr(calls, "USUAL", calls.Patience(tries=3, first_s=0.01, longest_s=0.05))
    monkeypatch.setenv("SG_LOCAL_ENDPOINT_KEY", KEY)
    tiny.manner = Manner()
    with serving(Endpoint(tiny)) as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One for all: what was tried in a process of its own is not tried again."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def job(base, endpoint, tmp_path, home):
    """Opens a job of this name on the endpoint."""

    def opened(name: str = "r", **options):
        settings = small_settings()
        settings["synth"] |= {"n_asked": 16}
        settings["engine"] = {"n_ctx": 512, "n_threads": 1, "fast_copy": False, "n_parallel": 4}
        chosen = {"backend": "openai", "endpoint": endpoint.address, "settings": settings, **options}
        return sg.open_job(TASK, model=base, runs=tmp_path / "runs", name=name, home=home, **chosen)

    return opened


def journals(folder):
    return [(folder / name).read_bytes() for name in ("inputs.jsonl", "candidates.jsonl")]


def test_a_run_is_written_there_and_trained_measured_and_answered_here(job, endpoint, tmp_path, home):
    with job() as made:
        told = []
        made.synth(listen=told.append)
        made.filter()
        assert any(endpoint.address in getattr(event, "text", "") for event in told)
        made.train()
        n = len(endpoint.written)
        report = made.evaluate()
        kept = json.loads((made.folder / "run.json").read_text())["engine"]
        assert kept["format"] and kept["n_parallel"] != 4  # requests at a time; the engine here chose its sequences
        assert len(endpoint.written) > n and {"base", "base_vote", "tuned"} <= set(report.systems)
        n = len(endpoint.asked)
        assert made.predict(["My parcel is late."])[0] in TASK["labels"]
        assert len(endpoint.asked) == n
        record = json.loads((made.folder / "run.json").read_text())
        assert record["backend"] == "openai" and record["set"]["engine"]["endpoint"] == endpoint.address
    assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [path for folder in (tmp_path, home) for path in folder.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_a_run_that_broke_off_ends_with_the_same_bytes(job, endpoint):
    with job("whole") as made:
        made.synth()
        wanted = journals(made.folder)
    with job("broken") as made:
        endpoint.faults = [None] * 24 + [500] * 9
        with pytest.raises(SgError, match="gave no answer"):
            made.synth()
        endpoint.faults = [429, "cut", None, 503]
        made.synth()
        assert journals(made.folder) == wanted


def test_without_scores_labels_are_chosen_without_them_and_it_is_said(job, endpoint, tiny):
    tiny.manner.echoes = False
    with job() as made:
        told = []
        rows = made.synth(listen=told.append)
        assert rows and "without scores" in " ".join(getattr(event, "text", "") for event in told)
        candidates = [json.loads(line) for line in (made.folder / "candidates.jsonl").read_text().splitlines()]
        assert not any(row["label_scores"] for row in candidates)
    with job() as again:
        again.synth()  # finished with the same settings


def test_with_scores_every_row_has_them(job):
    with job() as made:
        made.synth()
        candidates = [json.loads(line) for line in (made.folder / "candidates.jsonl").read_text().splitlines()]
        assert candidates and all(len(row["label_scores"]) == 3 for row in candidates)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "http://10.1.2.3:8000/v1"}, "another machine"),
        ({"endpoint": "ftp://here"}, "not the address"),
        ({"endpoint": "http://127.0.0.1:1/v1"}, "gave no answer"),
        ({"endpoint": None}, "needs an endpoint"),
        ({"backend": "llama.cpp"}, "does not"),
    ],
)
def test_what_cannot_work_is_refused_before_a_row_is_written(job, endpoint, tmp_path, options, said):
    with soon(), pytest.raises(SgError, match=said):
        with job(**options) as made:
            made.synth()
    assert not list((tmp_path / "runs").glob("*/inputs.jsonl"))
    assert not endpoint.asked


def test_a_password_goes_into_no_run_json(job):
    with job() as made:
        made.synth()
    secret = "http://u:hunter2@127.0.0.1/v1"
    with pytest.raises(SgError, match="password"), job(endpoint=secret) as again:
        again.filter()
    assert "hunter2" not in (made.folder / "run.json").read_text()


def typed(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_line_takes_an_endpoint_and_offline_takes_none(own_folder, base, endpoint):
    (own_folder / "route.toml").write_text(TASK_FILE)
    (own_folder / "home").mkdir()
    settings = small_settings()
    settings["synth"] |= {"n_asked": 16, "n_inputs": "none", "n_votes": 1}
    settings["engine"] = {"n_ctx": 512}
    (own_folder / "home" / "config.toml").write_text(preset_toml(settings, "", "").partition("\n")[2])
    there = ("--backend", "openai", "--endpoint", endpoint.address, "--model", str(base))
    line = ("synth", "route.toml", "--name", "r", *there)
    refused = typed("--offline", *line, code=2)
    assert "may ask nobody" in refused and not endpoint.asked
    remote = [word.replace("127.0.0.1", "10.9.9.9") for word in line]
    assert "allow it with `--allow-remote`" in typed(*remote, code=2)
    assert endpoint.address in typed(*line)
    assert KEY not in (own_folder / "runs" / "r" / "run.json").read_text()
    assert "--endpoint" in typed("run", "--help")
    assert "needs the network" in typed("--offline", "models", "pull", "owner/repo/file.gguf", code=2)


def test_label_takes_an_endpoint_and_another_machine_only_where_allowed(own_folder, base, endpoint):
    (own_folder / "route.toml").write_text(TASK_FILE)
    line = ("label", "route.toml", "A lamp is broken.", "--against", "nothing", "--set", "engine.n_ctx=512")
    there = ("--backend", "openai", "--endpoint", endpoint.address, "--model", str(base))
    remote = [word.replace("127.0.0.1", "10.9.9.9") for word in (*line, *there)]
    assert "allow it with `--allow-remote`" in typed(*remote, code=2)
    assert not endpoint.asked
    assert "--allow-remote" in typed("label", "--help")
    assert typed(*line, *there) and endpoint.asked
