"""Whole jobs in processes that end, or meet a fault, where a test says: many, cheap, with real files.

The programs are forked off one process that has imported everything, so that a whole scripted job takes under a
second. What runs in them is the command line itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

JOURNALS = ("inputs.jsonl", "candidates.jsonl", "verdicts.jsonl", "train.jsonl", "valid.jsonl")

FORKING = """
import contextlib, fcntl, importlib, json, os, resource, signal, sys

for name in {modules}:
    importlib.import_module(name)
from sg_local.cli import main

def begin(asked, pipes):
    os.chdir(asked["cwd"])
    os.environ.update(asked["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, (read, write) in enumerate(pipes, 1):
        os.dup2(write, number)
        os.close(read)
        os.close(write)
    if asked["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"],) * 2)
    exec(asked["before"], globals())
    if asked["end_after_s"] is not None:
        signal.setitimer(signal.ITIMER_PROF, asked["end_after_s"])  # ends the process as kill -9 does: no handler runs
    main(asked["words"])

def wide_pipe():
    ends = os.pipe()
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 1 << 20)
    return ends

for line in sys.stdin:
    asked = json.loads(line)
    if "shell" in asked:
        print(os.waitstatus_to_exitcode(os.system(asked["shell"])), flush=True)
        continue
    pipes = [wide_pipe(), wide_pipe()]
    child = os.fork()
    if child == 0:
        try:
            begin(asked, pipes)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(99)
    _, status, used = os.wait4(child, 0)
    said = []
    for read, write in pipes:
        os.close(write)
        with open(read, errors="replace") as pipe:
            said.append(pipe.read())
    print(json.dumps([os.waitstatus_to_exitcode(status), *said, used.ru_utime + used.ru_stime]), flush=True)
"""
SCRIPTED_MODULES = ("sg_local.cli.app", "sg_local.cli.run", "sg_local.backends.scripted", "sg_local.report.charts")


@dataclass(frozen=True)
class Done:
    """How a program ended: its exit status (negative: the signal), what it said, its seconds of processor time."""

    status: int
    out: str
    err: str
    cpu_s: float


class Programs:
    """Runs `sg-local WORDS` in a folder, whose `home` it takes for its own."""

    def __init__(self, modules: tuple[str, ...] = SCRIPTED_MODULES, inside: tuple[str, ...] = ()) -> None:
        """`modules` are imported beforehand; `inside` is a command that makes a namespace of its own for all of it."""
        code = FORKING.replace("{modules}", repr(modules))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SG_LOCAL_", "XDG_"))}
        command = [*inside, sys.executable, "-c", code]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept)

    def run(
        self,
        folder: Path,
        *words: str,
        end_after_s: float | None = None,
        file_bytes: int | None = None,
        before: str = "",
    ) -> Done:
        """One program to its end, which comes after so many seconds of processor time where that is said.

        `file_bytes` is how large a file may grow; `before` is Python to run first.
        """
        folder.mkdir(exist_ok=True)
        asked: dict[str, Any] = {
            "words": words,
            "cwd": str(folder),
            "env": {"HOME": str(folder), "SG_LOCAL_HOME": str(folder / "home")},
            "end_after_s": end_after_s,
            "file_bytes": file_bytes,
            "before": before,
        }
        done = Done(*self._ask(asked))
        assert "Traceback" not in done.err and "Exception ignored" not in done.err, done.err
        return done

    def shell(self, command: str) -> None:
        """A command of the shell, seen by the programs alone where they are in a namespace of their own."""
        assert self._ask({"shell": command}) == 0, command

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.communicate()


OWN_MOUNTS = ("unshare", "--map-root-user", "--mount", "--")
OWN_NETWORK = ("unshare", "--map-root-user", "--net", "--")


def is_permitted(inside: tuple[str, ...]) -> bool:
    """Whether this machine lets us make such a namespace."""
    if shutil.which(inside[0]) is None:
        return False
    return subprocess.run([*inside, "true"], capture_output=True, check=False).returncode == 0


def result_of(folder: Path) -> dict[str, object]:
    """All that must not depend on interruptions: rows, verdicts, the adapter's bytes, every figure of the report."""
    run = folder / "runs" / "trial"
    report = json.loads((run / "report.json").read_text())
    answers = sorted((run / "answers.jsonl").read_text().splitlines())
    found = {name: (run / name).read_bytes() for name in JOURNALS}
    assert not list(run.rglob("*.partial"))
    return {**found, "adapter": (run / "adapter.gguf").read_bytes(), "systems": report["systems"], "answers": answers}


def job(*sets: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A run named `trial` with these settings."""
    return ("run", "support_routing", "--yes", "--name", "trial", *options, *(w for s in sets for w in ("--set", s)))


SCRIPTED = job("synth.n_inputs=70", "eval.resamples=50", "eval.chunk_size=20", options=("--backend", "scripted"))
REAL = job(
    "synth.n_inputs=24",
    "synth.n_asked=160",
    "synth.round_size=12",
    "synth.chunk_size=10",
    "synth.n_votes=2",
    "train.epochs=2",
    "train.checkpoint_every=2",
    "eval.n_votes=2",
    "eval.n_dev=6",
    "eval.n_calibration=12",
    "engine.fast_copy=false",
    options=("--tests", "12"),
)
