"""Writing beside busy neighbours: what our engine gets of the share of the processors that is fair.

    python benchmarks/busy.py [--rows N] [--rounds N] [--model FILE.gguf]

Two engines on the same file and prompts take turns, alone and beside one and two processes that never rest:

    ours     as the command line runs it: on two cores two contexts of a thread each, on more cores as many threads as
             neighbours leave processors for, which wait briefly
    plain    one context with as many threads as there are cores, which wait as the library's default says

With c cores, k neighbours that take one core each leave a fair share of c / (c + k). `share_of_fair_1` and
`share_of_fair_2` are ours beside one and two neighbours over that share of plain's quiet speed; `ratio_quiet` is ours
over plain on a quiet machine. Run it on one: what else works there is a neighbour, too. Some two minutes on two cores.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from synth import embedded_model, work_on
from synth_systems import ours

from sg_local.backends import EngineSettings, open_generator
from sg_local.backends.machine import SPINS, physical_cores

NEIGHBOURS = (0, 1, 2)
WAITING = {"ours": {"GOMP_SPINCOUNT": SPINS}, "plain": {}}
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
"""Never rests, and ends with the process that began it."""


@contextlib.contextmanager
def neighbours(n: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


@contextlib.contextmanager
def engine(name: str, arguments: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """An engine in a process of its own, since OpenMP reads how to wait when it is loaded."""
    kept = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    line = [sys.executable, __file__, "--engine", name, "--model", str(arguments.model), "--rows", str(arguments.rows)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([*line, "--cache", arguments.cache], env={**kept, **WAITING[name]}, **pipes)
    try:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n", f"{name} did not start"
        yield worker
    finally:
        worker.kill()
        worker.wait()


def turn(worker: subprocess.Popen[str]) -> float:
    """Tokens a second of one turn."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def serve(name: str, model: Path, cache: Path, n_rows: int) -> None:
    """One engine: a turn for each line on standard input, answered with its tokens a second."""
    work = work_on(model, cache, n_rows)
    settings = EngineSettings(n_ctx=1024, n_parallel=32, fast_copy=False, cache=cache)
    if name == "plain":
        settings = dataclasses.replace(settings, n_threads=physical_cores(), n_replicas=1)
    generator = open_generator("llama.cpp", model, settings)
    one = ours(generator)
    one(work.part(4))
    print("ready", flush=True)
    for _ in sys.stdin:
        done = one(work)
        print(done.tokens / done.seconds, flush=True)
    generator.close()


def measure(arguments: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Tokens a second of each engine by the number of neighbours, the medians of all rounds."""
    found: dict[str, dict[int, list[float]]] = {name: {n: [] for n in NEIGHBOURS} for name in WAITING}
    with engine("ours", arguments) as our, engine("plain", arguments) as plain:
        for _ in range(arguments.rounds):
            for n in NEIGHBOURS:
                with neighbours(n):
                    for name, worker in (("ours", our), ("plain", plain)):
                        found[name][n].append(turn(worker))
                        print(f"{n} neighbours, {name:5} {found[name][n][-1]:8.1f} tokens/s", flush=True)
    return {name: {n: statistics.median(each) for n, each in one.items()} for name, one in found.items()}


def report(speeds: dict[str, dict[int, float]], cores: int) -> dict[str, float]:
    """The three figures."""
    quiet, ours_at = speeds["plain"][0], speeds["ours"]
    shares = {f"share_of_fair_{n}": ours_at[n] / (quiet * cores / (cores + n)) for n in NEIGHBOURS if n}
    return {name: round(value, 3) for name, value in {**shares, "ratio_quiet": ours_at[0] / quiet}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--engine", choices=tuple(WAITING), help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = arguments.model or embedded_model()
    if arguments.engine:
        serve(arguments.engine, arguments.model, Path(arguments.cache), arguments.rows)
        return
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        arguments.cache = cache
        speeds = measure(arguments)
    cores = physical_cores()
    told = {"benchmark": "busy", **report(speeds, cores), "cores": cores, "tokens_per_s": speeds}
    print(json.dumps({**told, "rows": arguments.rows, "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
