"""What inputs and labels cost: a tune on our rows beside tunes on real inputs, with our labels and with right ones.

    python benchmarks/ceiling.py [TASK ...] [--seeds N] [--runs DIR] [--tests N] [--real N] [--full] [-- OPTION ...]

A TASK is what `sg-local run` takes: a shipped name, a .toml or a Super-NaturalInstructions .json file. Its right rows
are parted with a fixed seed: some are tested, of the others up to `--real` are real inputs, near copies of test rows
and demonstrations left out. The same line again goes on where it stopped, and what is finished is only read; use
another DIR for other numbers. Without tasks: one shipped one with few rows, as a trial of the machinery; `--full` takes
all that ship, or the tasks named, with the preset's numbers. Options behind `--` go to every job: settings
(`train.lr=5e-4`) and options of `open_job` (`model=NAME`).

For each task and seed the model writes its inputs once, and answers the real ones once. Three arms share them and the
base's answers, and train for the same number of steps at most, whatever rows the filters leave each:

    ours           inputs that the model wrote, labels as the filters choose them
    our labels     real inputs, labels as the filters choose them
    right labels   real inputs with their right outputs: the ceiling

`score` is that of the answers which `predict` and `serve` give, in percent of the task's metric; `base` is the untuned
model as it comes, `untuned` the strongest untuned system, picked on the test rows. `closed` is the share of the gap
that tuning on our rows closes: (ours - base) / (right labels - base), from means over seeds; none where the ceiling is
less than ROOM points above the base, and where it is below `untuned` the task leaves nothing to tune for. `inputs cost`
is our labels - ours, `labels cost` right labels - our labels, paired by test row, means over seeds, with 95 % bootstrap
intervals; the pooled ones resample the tasks, and the rows inside each. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from own_data import (
    Rows,
    Setting,
    end_with,
    labelled,
    measure_all,
    own_job,
    own_rows,
    parsed,
    parted,
    place,
    pooled_gain,
    print_gains,
    shared,
)
from quality import note, options_of

import sg_local as sg
from sg_local import filters
from sg_local.backends.training.lora import BatchPlan
from sg_local.job.presets import merged
from sg_local.records import SgError
from sg_local.report import Report
from sg_local.report.records import is_untuned
from sg_local.run import ANSWERS, TRAIN
from sg_local.tasks import shipped_tasks
from sg_local.validation import split_rows

OURS, OUR_LABELS, RIGHT = ARMS = ("ours", "our labels", "right labels")
COSTS = {"inputs cost": (OURS, OUR_LABELS), "labels cost": (OUR_LABELS, RIGHT)}
ROOM = 5.0
QUICK_TASK, QUICK_TESTS, QUICK_REAL, REAL = "support_routing", 20, 30, 160


def main() -> int:
    """Measure every task and seed, print the tables and the JSON line; 1 when something failed or nothing was there."""
    args = arguments()
    args.runs.mkdir(parents=True, exist_ok=True)

    def measured(name: str, seed: int) -> Iterator[dict[str, Any]]:
        for row in measure(setting_of(name, seed, args)):
            yield {"task": Path(name).stem, "seed": seed, **row}

    rows, failed = measure_all(args.tasks, args.seeds, measured, line_of)
    tasks = [summary(task, rows) for task in dict.fromkeys(row["task"] for row in rows)]
    costs = [{"cost": name, **found} for name in COSTS if (found := pooled_cost(name, rows)) is not None]
    print_tables(rows, tasks, costs)
    return end_with(rows, failed, {"tasks": tasks, "costs": costs})


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--real", type=int, help="real inputs of each task at most")
    args = parsed(parser, "ceiling", "all shipped tasks", QUICK_TESTS)
    args.tasks = args.tasks or ([path.stem for path in shipped_tasks()] if args.full else [QUICK_TASK])
    args.real = args.real or (REAL if args.full else QUICK_REAL)
    return args


def setting_of(name: str, seed: int, args: argparse.Namespace) -> Setting:
    """A task with its test rows, at most half of its right ones, and its real inputs. Raises SgError without any."""
    task = sg.load_task(name)
    tests, rest = parted(task.tests, min(args.tests, len(task.tests) // 2))
    settings, options = options_of(args.options)
    task = replace(task, tests=tests)
    real = own_rows(task, rest, seed, args.real)
    if not tests or not real:
        raise SgError(f"Task {task.name} has too few right rows.", "Give a task with some dozens of test rows.")
    return Setting(f"{Path(name).stem}-s{seed}", task, real, args.runs, {**options, "seed": seed}, settings)


def measure(at: Setting) -> Iterator[dict[str, Any]]:
    """One row of the table for each arm, made or read back. Raises SgError."""
    with open(at.runs / f"{at.name}.log", "a", encoding="utf-8") as log:

        def hear(event: sg.Event) -> None:
            note(event, log)

        written, answered = shared(at.job("written"), hear), shared(own_job(at), hear)
        rows = {OURS: written, OUR_LABELS: answered, RIGHT: labelled(at, at.own)}
        n_first = 0
        for arm in ARMS:
            n_kept = kept_by(at, arm, rows[arm], hear)
            n_first = n_first or n_kept
            with at.job(arm, settings=in_as_many_steps(at, n_first, n_kept)) as job:
                report = job.run(listen=hear)
                assert report is not None
                yield row_of(arm, report, job)


def kept_by(at: Setting, arm: str, rows: Rows, hear: Any) -> int:
    """How many of an arm's rows the filters keep; the rows become its synthesis."""
    with at.job(arm) as job:
        place(job, rows, at.runs / f"{at.name}-{OURS}" / ANSWERS)
        job.filter()
        return max(1, len(filters.kept_rows(job.opened.run)))


def in_as_many_steps(at: Setting, n_first: int, n_kept: int) -> dict[str, Any]:
    """The settings with so many epochs that an arm trains for as many steps as the first."""
    with at.job(OURS) as job:
        train = job.opened.plan["train"]

    def plan(n: int) -> BatchPlan:
        n_train = len(split_rows([""] * n, 0).train)
        return BatchPlan((1,) * n_train, train.batch_size * train.grad_accumulation, 0)

    epochs = plan(n_first).n_steps(train.epochs) / plan(n_kept).steps_per_epoch
    return merged(at.settings, {"train": {"epochs": epochs}})


def row_of(arm: str, report: Report, job: sg.Job) -> dict[str, Any]:
    """The figures of an arm; `scores` keeps each test row's, by its place in the task."""
    untuned = [one.score for name, one in report.systems.items() if one.role == "base" and is_untuned(name)]
    return {
        "arm": arm,
        "n": report.n,
        "score": report.systems[report.served].score,
        "free": report.tuned.score,
        "base": report.base.score,
        "untuned": max(untuned),
        "kept": len(filters.kept_rows(job.opened.run)),
        "trained": len(list(job.opened.run.lines(TRAIN))),
        "steps": (job.opened.run.stamp("train") or {}).get("adapter", {}).get("n_steps"),
        "policy": (job.opened.run.stamp("filter") or {}).get("funnel", {}).get("policy", ""),
        "scores": {row.index: row.scores[report.served] / 100 for row in report.rows},
    }


# Figures


def summary(task: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A task's means over seeds, the share of the gap that is closed, and whether anything is left to tune for."""
    mine = [row for row in rows if row["task"] == task]
    means = {arm: float(np.mean(found)) for arm in ARMS if (found := [r["score"] for r in mine if r["arm"] == arm])}
    base, untuned = (float(np.mean([row[name] for row in mine])) for name in ("base", "untuned"))
    ceiling = means.get(RIGHT, base)
    closed = (means[OURS] - base) / (ceiling - base) if ceiling - base >= ROOM and OURS in means else None
    return {
        "task": task,
        "base": round(base, 1),
        "untuned": round(untuned, 1),
        **{arm: round(mean, 1) for arm, mean in means.items()},
        "closed": None if closed is None else round(100 * closed, 1),
        "leaves_room": ceiling > untuned,
    }


def pooled_cost(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What one thing costs over all tasks; None without rows of both arms."""
    first, second = COSTS[name]
    return pooled_gain(second, rows, first)


def line_of(row: dict[str, Any]) -> str:
    """One line of the first table."""
    figures = f"{row['n']:4} {row['base']:6.1f} {row['untuned']:7.1f} {row['free']:6.1f} {row['score']:6.1f}"
    training = f"{row['kept']:5} {row['steps'] or 0:5}  {row['policy']}"
    return f"{row['task'][:24]:24} {row['seed']:4} {row['arm']:12} {figures} {training}"


def print_tables(
    rows: Sequence[dict[str, Any]], tasks: Sequence[dict[str, Any]], costs: Sequence[dict[str, Any]]
) -> None:
    """Every arm of every task and seed; the share closed by task; what inputs and labels cost, pooled and by task."""
    print(f"{'task':24} seed {'arm':12} {'n':>4} {'base':>6} untuned   free  score  kept steps  policy")
    for row in rows:
        print(line_of(row))
    print(f"\n{'task':24} {'base':>6} untuned {' '.join(f'{arm:>12}' for arm in ARMS)}  closed")
    for one in tasks:
        arms = " ".join(f"{one.get(arm, float('nan')):12.1f}" for arm in ARMS)
        closed = "no room" if one["closed"] is None else f"{one['closed']:.0f} %"
        hopeless = "" if one["leaves_room"] else ", the untuned model does as well as the ceiling"
        print(f"{one['task'][:24]:24} {one['base']:6.1f} {one['untuned']:7.1f} {arms}  {closed}{hopeless}")
    print("\npoints [95 %]")
    print_gains({one["cost"]: one for one in costs})


if __name__ == "__main__":
    sys.exit(main())
