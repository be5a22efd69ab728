"""Trains a job that was prepared as files: `python -m sg_local.backends.mlx FOLDER`, alone or under mlx.launch.

    sg-local train NAME --trainer mlx --prepare
    mlx.launch -n 2 -- python -m sg_local.backends.mlx runs/NAME/adapter
    sg-local train NAME

The first line writes the job into the run, the second trains it on all processes, the third finds it finished. The
adapter's record is printed on stdout as JSON; steps go to stderr, or to stdout as JSON too. Exit codes are the command
line's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sg_local.backends.mlx import open_trainer
from sg_local.backends.mlx.child import MADE_OTHERWISE, MESSAGE
from sg_local.backends.training.handover import read_job
from sg_local.records import MadeOtherwise, SgError, TrainStep, to_json


def main(arguments: list[str] | None = None) -> int:
    """Run the job in the folder named on the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sg_local.backends.mlx", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with job.json, train.jsonl and valid.jsonl")
    parser.add_argument("--rows-at-once", type=int, metavar="N", help="compute at most N rows at a time")
    parser.add_argument("--steps-as-json", action="store_true", help="print each step on stdout as JSON")
    chosen = parser.parse_args(arguments)
    tell = _tell_json if chosen.steps_as_json else _tell
    try:
        job = read_job(chosen.folder)
        trainer = open_trainer(job.model)
        if not trainer.join():
            tell = _tell_nobody
        adapter = trainer.train_here(job, chosen.folder, tell, chosen.rows_at_once)
    except SgError as error:
        mark = MADE_OTHERWISE if isinstance(error, MadeOtherwise) else MESSAGE
        print(f"{mark}{error.message}", error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    if adapter.digest:
        print(to_json(adapter))
    return 0


def _tell(step: TrainStep) -> None:
    valid = "" if step.valid_loss is None else f", validation {step.valid_loss:.4f}"
    print(f"step {step.step}/{step.n_steps}: loss {step.loss:.4f}{valid}", file=sys.stderr)


def _tell_nobody(step: TrainStep) -> None:
    """The first process tells for all."""


def _tell_json(step: TrainStep) -> None:
    print(to_json(step), flush=True)


if __name__ == "__main__":
    sys.exit(main())
