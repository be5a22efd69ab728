"""Trains a job that was prepared as files: `python -m sg_local.backends.torch FOLDER`, alone or under torchrun.

    sg-local train NAME --prepare
    torchrun --nproc-per-node 2 -m sg_local.backends.torch runs/NAME/adapter
    sg-local train NAME

The first line writes the job into the run, the second trains it on all processes (NCCL on GPUs, Gloo on CPUs), the
third finds it finished. Several hosts need the folder on storage that they share, and torchrun's own options.
Steps are told on stderr, the adapter's record is printed on stdout as JSON. Exit codes are the command line's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from sg_local.backends.torch.engine import rank
from sg_local.backends.torch.trainer import open_trainer
from sg_local.backends.training.handover import read_job
from sg_local.records import SgError, TrainStep, to_json


def main(arguments: list[str] | None = None) -> int:
    """Run the job in the folder named on the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sg_local.backends.torch", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with job.json, train.jsonl and valid.jsonl")
    folder = parser.parse_args(arguments).folder
    try:
        job = read_job(folder)
        _join()
        adapter = open_trainer(job.model).train(job.train, job.valid, folder, job.settings, _tell)
    except SgError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if adapter.digest:
        print(to_json(adapter))
    return 0


def _join() -> None:
    """Join the other processes where torchrun started this one."""
    if not dist.is_torchelastic_launched():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_node_local_rank(0))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def _tell(step: TrainStep) -> None:
    if rank() == 0:
        valid = "" if step.valid_loss is None else f", validation {step.valid_loss:.4f}"
        print(f"step {step.step}/{step.n_steps}: loss {step.loss:.4f}{valid}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
