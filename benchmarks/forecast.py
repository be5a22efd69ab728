"""What a job was expected to take against what it took: memory and seconds of each stage.

    python benchmarks/forecast.py [--task TASK] [--inputs N] [--tests N] [--model NAME|PATH]

A small job runs twice, each in a process of its own, with a cache of its own for both: the first is told from the
engine's trial and a probe of the machine, the second from what the first took. `memory` is taken over expected, the
worst stage; `time_first` and `time_again` are the worst stage's factor, the larger over the smaller, of the stages
that take five seconds or more; `whole_first` and `whole_again` the same of the whole job. Wanted: memory within 20 %,
time within a factor of 1.5. Run it on a quiet machine: four minutes or so on two cores. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sg_local as sg
from sg_local.backends.machine import SPINS

SHORT_S = 5.0  # stages below are mostly loading
ROUNDS = ("first", "again")


def run(arguments: argparse.Namespace) -> None:
    """One job in this process."""
    settings = {"synth": {"n_inputs": arguments.inputs}, "train": {"epochs": 1.0}}
    places = {"runs": arguments.folder / "runs", "home": arguments.folder / "home", "name": arguments.run}
    task = sg.load_task(arguments.task, arguments.tests)
    with sg.open_job(task, model=arguments.model, settings=settings, **places) as job:
        job.run(listen=lambda event: print(event, flush=True) if isinstance(event, sg.Ended) else None)


def stages_of(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Each stage of a run: what it took and what had been expected, from run.json."""
    facts = json.loads((folder / "runs" / name / "run.json").read_text())
    told = facts["forecast"]["stages"]
    return {stage: {**told[stage], "took": took} for stage, took in facts["measured"].items() if stage in told}


def factor(a: float, b: float) -> float:
    """How many times as large the larger of the two is."""
    return round(max(a, b) / max(1e-9, min(a, b)), 3)


def figures(rounds: dict[str, dict[str, dict[str, Any]]]) -> dict[str, float]:
    """The worst of all stages."""
    found: dict[str, float] = {}
    shares = [one["took"]["peak_bytes"] / one["memory_bytes"] for each in rounds.values() for one in each.values()]
    found["memory"] = round(max(shares, key=lambda share: factor(share, 1.0)), 3)
    for name, stages in rounds.items():
        pairs = [(one["seconds"] or 0.0, one["took"]["seconds"]) for one in stages.values()]
        found[f"time_{name}"] = max([factor(*pair) for pair in pairs if pair[1] >= SHORT_S], default=1.0)
        found[f"whole_{name}"] = factor(*(sum(column) for column in zip(*pairs, strict=True)))
    return found


def show(name: str, stages: dict[str, dict[str, Any]]) -> None:
    """A table of one run."""
    print(f"{name:8} {'expected s':>11} {'took s':>8} {'expected MB':>12} {'took MB':>8}")
    for stage, one in stages.items():
        memory = (one["memory_bytes"] / 1e6, one["took"]["peak_bytes"] / 1e6)
        print(f"{stage:8} {one['seconds'] or 0:11.1f} {one['took']['seconds']:8.1f} {memory[0]:12.0f} {memory[1]:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="support_routing")
    parser.add_argument("--inputs", type=int, default=64)
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--model", default=None)
    parser.add_argument("--run", choices=ROUNDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments)
        return
    began, rounds = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ROUNDS:
            line = [sys.executable, __file__, *sys.argv[1:], "--run", name, "--folder", folder]
            subprocess.run(line, check=True, env={"GOMP_SPINCOUNT": SPINS, **os.environ})
            rounds[name] = stages_of(Path(folder), name)
            show(name, rounds[name])
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"benchmark": "forecast", **figures(rounds), "stages": rounds, "seconds": seconds}))


if __name__ == "__main__":
    main()
