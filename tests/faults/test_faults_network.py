"""No network: every command heard by an audit of sockets, and whole jobs where there is no interface at all."""

from __future__ import annotations

import socket

import pytest

from sg_local.cli.app import COMMANDS
from tests.endpoint_server import Endpoint, TinyModel, serving
from tests.faults.jobs import OWN_NETWORK, SCRIPTED, Programs, is_permitted, result_of
from tests.tiny_models import TinySpec, write_model

# Notes who is asked for beyond this machine, and lets nothing out.
AUDIT = """
import os, sys

HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)
PLACES = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.connect": 1, "socket.sendto": 1}

def heard(event, args):
    if event in PLACES:
        place = args[PLACES[event]]
        host = place[0] if isinstance(place, tuple) else place
        if host not in HERE and not str(host).startswith("/"):
            with open("asked.txt", "a") as file:
                file.write(f"{event} {host}\\n")
            raise OSError(101, "Network is unreachable")

sys.addaudithook(heard)
"""
# Asks the server that this process is about to be, and ends it.
ASK_AND_STOP = """
import json, signal, threading, time, urllib.request

def ask():
    request = urllib.request.Request("http://127.0.0.1:{port}/v1/chat/completions", method="POST")
    request.data = json.dumps({{"messages": [{{"role": "user", "content": "Where is it?"}}]}}).encode()
    request.add_header("Content-Type", "application/json")
    for _ in range(600):
        try:
            answer = json.load(urllib.request.urlopen(request, timeout=60))
            break
        except OSError:
            time.sleep(0.05)
    with open("answered.txt", "w") as file:
        file.write(answer["choices"][0]["message"]["content"])
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask, daemon=True).start()
"""
FEW = ("--set", "synth.n_inputs=20", "--set", "eval.resamples=20", "--tests", "6")
FEW_REQUESTS = (
    *("synth.n_inputs=none", "synth.n_asked=8", "synth.round_size=8", "synth.n_votes=1", "synth.collapse_share=0"),
    *("synth.temperature=6", "synth.top_p=1", "engine.n_ctx=1024"),
)
TRIED = {
    "run": [SCRIPTED],
    "synth": [("synth", "support_routing", "--name", "trial", "--backend", "scripted")],
    "filter": [("filter", "trial")],
    "review": [("review", "trial", "--export", "sheet.csv")],
    "train": [("train", "trial")],
    "export": [("export", "trial")],
    "eval": [("eval", "trial")],
    "tune-settings": [("tune-settings", "support_routing", "--backend", "scripted", "--epochs", "1", *FEW)],
    "serve": [],  # below
    "label": [("label", "support_routing", "Where is my parcel?", "--backend", "scripted")],
    "predict": [("predict", "trial", "Where is my parcel?"), ("predict", "trial", "sheet.csv")],
    "report": [("report", "trial"), ("report", "trial", "--json")],
    "inspect": [("inspect", "tiny.gguf")],
    "runs": [("runs", "ls"), ("runs", "show", "trial")],
    "tasks": [("tasks", "ls"), ("tasks", "show", "support_routing"), ("tasks", "check", "support_routing")],
    "models": [("models", "ls"), ("models", "ls", "--found"), ("models", "show", "vicuna-7b-v1.5")],
    "cache": [("cache", "ls"), ("cache", "clear", "--yes")],
    "doctor": [("doctor",)],
    "config": [("config", "show"), ("config", "path")],
    "completion": [("completion", "bash")],
}


def test_no_command_asks_the_network_but_pull(programs, tmp_path):
    assert set(TRIED) == set(COMMANDS)
    write_model(tmp_path / "tiny.gguf", TinySpec(layers=1))
    for words in (words for lines in TRIED.values() for words in lines):
        done = programs.run(tmp_path, *words, before=AUDIT)
        assert done.status == (words[0] == "export"), (words, done.err)  # a scripted adapter holds no weights
        assert not (tmp_path / "asked.txt").exists(), (words, (tmp_path / "asked.txt").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = programs.run(tmp_path, "serve", "trial", "--port", str(port), before=AUDIT + ASK_AND_STOP.format(port=port))
    assert done.status == 0 and (tmp_path / "answered.txt").read_text() in ("billing", "delivery", "technical")
    assert not (tmp_path / "asked.txt").exists()
    refused = programs.run(tmp_path, "models", "pull", "owner/repo/file.gguf", before=AUDIT)
    assert refused.status == 1 and "could not be fetched" in refused.err
    assert "huggingface.co" in (tmp_path / "asked.txt").read_text()


def test_an_endpoint_is_the_only_place_that_a_job_asks(programs, tmp_path):
    base = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1))
    few = [word for setting in FEW_REQUESTS for word in ("--set", setting)]
    line = ["synth", "support_routing", "--model", str(base), "--backend", "openai", *few]
    tiny = TinyModel(base)
    with serving(Endpoint(tiny)) as endpoint:
        there = ("--endpoint", endpoint.address)
        offline = programs.run(tmp_path, "--offline", *line, "--name", "none", *there, before=AUDIT)
        assert offline.status == 2 and not endpoint.asked
        done = programs.run(tmp_path, *line, "--name", "here", *there, before=AUDIT)
        assert done.status == 0 and endpoint.written, done.err
    tiny.close()
    away = (*line, "--name", "away", "--endpoint", "http://10.9.9.9:8000/v1")
    refused = programs.run(tmp_path, *away, before=AUDIT)
    assert refused.status == 2 and "another machine" in refused.err
    assert not (tmp_path / "asked.txt").exists()
    allowed = programs.run(tmp_path, *away, "--allow-remote", before=AUDIT)
    assert allowed.status == 1 and "gave no answer" in allowed.err
    assert {line.split()[1] for line in (tmp_path / "asked.txt").read_text().splitlines()} == {"10.9.9.9"}


JOB_FROM_PYTHON = """
import os, sys
os.environ["HF_HUB_OFFLINE"] = "0"
import sg_local as sg

with sg.open_job("support_routing", backend="scripted", name="trial", settings={"synth": {"n_inputs": 20}}) as made:
    made.run()
    made.predict(["Where is my parcel?"])
from huggingface_hub import constants
print(os.environ["HF_HUB_OFFLINE"], os.environ["DO_NOT_TRACK"], constants.HF_HUB_DISABLE_TELEMETRY)
sys.exit(0)
"""


def test_a_job_from_python_asks_nobody_and_leaves_the_network_to_its_program(programs, tmp_path):
    done = programs.run(tmp_path, before=AUDIT + JOB_FROM_PYTHON)
    assert done.status == 0, done.err
    assert done.out.split() == ["0", "1", "True"]
    assert not (tmp_path / "asked.txt").exists()


@pytest.mark.skipif(not is_permitted(OWN_NETWORK), reason="this machine permits no network namespaces")
def test_the_whole_scripted_job_runs_where_there_is_no_interface(wanted, tmp_path):
    with Programs(inside=OWN_NETWORK) as alone:
        there = "import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError as e: print(e.errno)"
        assert alone.run(tmp_path / "none", "--version", before=there).out.startswith("101\n")  # ENETUNREACH
        assert alone.run(tmp_path / "alone", *SCRIPTED).status == 0
    assert result_of(tmp_path / "alone") == wanted
