"""Which labels to train on: untuned labellers on test rows, and models tuned on the same inputs labelled in other ways.

    python benchmarks/labels.py [TASK ...] [--seeds N] [--runs DIR] [--tests N] [--full] [--arm ARM ...] [-- OPTION ...]

A TASK is what `sg-local run` takes and has labels; without one: all shipped ones that have. For each task and seed the
model writes and answers its inputs once, with scores both ways: how likely a label is after the input (direct), and the
input after a label (channel). Each arm filters these rows by other settings, trains, and is evaluated by itself. The
same line again goes on where it stopped; use another DIR for other numbers. The default is a trial of the machinery:
one task, few rows, two arms; `--full` takes all tasks and arms with the preset's numbers. `--arm "NAME: SETTING ..."`
adds an arm with other settings of filters and training, such as `--arm "fast: train.lr=1e-3"`, or takes one of the
usual arms by its name, and then only those named are made besides `auto`. Options behind `--` are those of
benchmarks/own_data.py.

The first table holds the labels that the untuned model gives the test rows, in percent right: by direct scores as they
are (likeliest) and less each label's mean over written inputs (calibrated), by centred channel scores over one to three
orders of the demonstrations, and by the sum of both (ensemble). The second holds the models tuned by arm; `score` is
that of the answers which `predict` and `serve` give. `gain` is arm - auto on the same test rows, the mean over seeds,
with a 95 % bootstrap interval that resamples the tasks, and the rows inside each. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
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
    measure_all,
    parsed,
    parted,
    place,
    pooled_gain,
    print_gains,
    shared,
)
from quality import note, options_of

import sg_local as sg
from sg_local import filters, prompts
from sg_local.channel import Channel, channel_scores, orders_of
from sg_local.job.presets import merged
from sg_local.records import ScoredPrompt, SgError
from sg_local.report import Report
from sg_local.run import ANSWERS
from sg_local.tasks import shipped_tasks

FIRST = "auto"
ARMS = {
    FIRST: "",
    "auto, direct": "filter.evidence=direct",
    "agree": "filter.policy=agree",
    "ranked": "filter.policy=ranked",
    "ranked, direct": "filter.policy=ranked filter.evidence=direct",
    "asked": "filter.policy=asked",
}
"""What each arm sets."""
CHANNEL = ("synth.channel=true", "synth.n_orders=1")
N_KNOWN, MOST_ORDERS = 64, 3


def main() -> int:
    """Measure every task and seed, print the tables and the JSON line; 1 when something failed or nothing was there."""
    args = arguments()
    args.runs.mkdir(parents=True, exist_ok=True)
    untuned: list[dict[str, Any]] = []

    def measured(name: str, seed: int) -> Iterator[dict[str, Any]]:
        about = {"task": Path(name).stem, "seed": seed}
        return measure(setting_of(name, seed, args), args.arms, about, untuned)

    rows, failed = measure_all(args.tasks, args.seeds, measured, line_of)
    pooled = [one for arm in args.arms if (one := pooled_gain(arm, rows, FIRST)) is not None]
    print_tables(untuned, rows, pooled)
    return end_with(rows, failed, {"untuned": untuned, "pooled": pooled})


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--arm", action="append", help="an arm by name, or as NAME: SETTING ...; may be repeated")
    args = parsed(parser, "labels", "all tasks and arms")
    with_labels = [path.stem for path in shipped_tasks() if sg.load_task(path.stem).labels]
    args.tasks = args.tasks or (with_labels if args.full else with_labels[:1])
    args.options = [*CHANNEL, *args.options]
    args.arms = arms_of(args.arm) if args.arm else [*ARMS] if args.full else [*ARMS][:2]
    return args


def arms_of(given: Sequence[str]) -> list[str]:
    """The arms that were named, the first before them; new ones are added to the table."""
    for arm in given:
        name, colon, what = arm.partition(":")
        if colon:
            ARMS[name] = what
    return [FIRST, *(arm.partition(":")[0] for arm in given)]


def setting_of(name: str, seed: int, args: argparse.Namespace) -> Setting:
    """A task with its test rows, and the options of its jobs. Raises SgError for one without labels."""
    task = sg.load_task(name)
    if not task.labels:
        raise SgError(f"Task {task.name} has no labels.", "Give tasks of classification.")
    settings, options = options_of(args.options)
    task = replace(task, tests=parted(task.tests, args.tests)[0])
    return Setting(f"{Path(name).stem}-s{seed}", task, (), args.runs, {**options, "seed": seed}, settings)


def measure(
    at: Setting, arms: Sequence[str], about: dict[str, Any], untuned: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """One row of the table for each arm, made or read back; adds the untuned labellers'. Raises SgError."""
    with open(at.runs / f"{at.name}.log", "a", encoding="utf-8") as log:

        def hear(event: sg.Event) -> None:
            note(event, log)

        written = shared(at.job("written"), hear)
        untuned.append({**about, **labellers(at, written)})
        for arm in arms:
            with at.job(run_name(arm), settings=merged(at.settings, options_of(ARMS[arm].split())[0])) as job:
                place(job, written, at.runs / f"{at.name}-{run_name(FIRST)}" / ANSWERS)
                report = job.run(listen=hear)
                assert report is not None
                yield {**about, **row_of(arm, report, job)}


def run_name(arm: str) -> str:
    """What the run of an arm is called."""
    return arm.replace(", ", "-").replace(" ", "-")


def row_of(arm: str, report: Report, job: sg.Job) -> dict[str, Any]:
    """The figures of an arm; `scores` keeps each test row's, by its place in the task."""
    kept = filters.kept_rows(job.opened.run)
    as_asked = [row.pair.output == row.candidate.label_asked for row in kept]
    return {
        "arm": arm,
        "n": report.n,
        "score": report.systems[report.served].score,
        "free": report.systems["tuned"].score,
        "calibrated": report.systems["base_calibrated"].score,
        "kept": len(kept),
        "as_asked": round(100 * sum(as_asked) / max(1, len(as_asked)), 1),
        "policy": (job.opened.run.stamp("filter") or {}).get("funnel", {}).get("policy", ""),
        "scores": {row.index: row.scores[report.served] / 100 for row in report.rows},
    }


# Untuned labellers


def labellers(at: Setting, written: Rows) -> dict[str, float]:
    """The share of test rows, in percent, that each untuned labeller is right about; kept beside the runs."""
    path = at.runs / f"{at.name}-labellers.json"
    if not path.exists():
        with at.job("written") as job:
            path.write_text(json.dumps(scored(at, job, written)))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def scored(at: Setting, job: sg.Job, written: Rows) -> dict[str, float]:
    """What every labeller gets right, centred on written inputs where it is centred."""
    known = [row.input for row in written[1]]
    known = random.Random(0).sample(known, min(N_KNOWN, len(known)))
    texts = [*known, *(row.input for row in at.task.tests)]
    direct = direct_scores(job, texts)
    most = min(MOST_ORDERS, len(job.task.examples))
    by_order = [channel(job, texts, k) for k in range(most)]
    found = {"likeliest": direct, "calibrated": centred(direct, len(known))}
    for n in range(1, most + 1):
        mean = np.mean(by_order[:n], axis=0)
        found[f"channel {n}"] = centred(mean, len(known))
        found[f"ensemble {n}"] = centred(direct + mean, len(known))
    return {name: right(at, scores[len(known) :]) for name, scores in found.items()}


def direct_scores(job: sg.Job, texts: Sequence[str]) -> np.ndarray:
    """log P(label | text) in nats, (texts, labels)."""
    opened = job.opened
    room = prompts.answer_room(opened.generator.tokenize, job.task, opened.room, opened.plan["eval"].max_tokens)
    answers = tuple(prompts.answer_text(opened.form, label) for label in job.task.labels)
    asks = [
        ScoredPrompt(str(i), prompts.fitted_answer(room, job.task, opened.form, text).segments, answers, end=True)
        for i, text in enumerate(texts)
    ]
    found = {one.prompt_id: one.logprobs for one in opened.generator.score(asks)}
    return np.array([found[str(i)] for i in range(len(texts))])


def channel(job: sg.Job, texts: Sequence[str], k: int) -> np.ndarray:
    """log P(text | label) in nats in one order of the demonstrations, (texts, labels)."""
    opened = job.opened
    room = prompts.answer_room(opened.generator.tokenize, job.task, opened.room, opened.plan["eval"].max_tokens)
    order = orders_of(job.task.examples, MOST_ORDERS)[k]
    return np.array(channel_scores(opened.generator, Channel(job.task, room, (order,)), texts))


def centred(scores: np.ndarray, n_known: int) -> np.ndarray:
    """Each label's mean over the first rows taken off."""
    return scores - scores[:n_known].mean(axis=0)


def right(at: Setting, scores: np.ndarray) -> float:
    """The share of test rows, in percent, whose best label is a right one."""
    labels = at.task.labels
    best = [labels[k] for k in scores.argmax(axis=1)]
    return round(100 * float(np.mean([one in row.outputs for one, row in zip(best, at.task.tests, strict=True)])), 1)


# Figures


def line_of(row: dict[str, Any]) -> str:
    """One line of the second table."""
    figures = f"{row['n']:4} {row['calibrated']:10.1f} {row['free']:6.1f} {row['score']:6.1f} {row['kept']:5}"
    return f"{row['task'][:24]:24} {row['seed']:4} {row['arm']:14} {figures} {row['as_asked']:8.1f}  {row['policy']}"


def print_tables(
    untuned: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], pooled: Sequence[dict[str, Any]]
) -> None:
    """The untuned labellers; every arm of every task and seed; the gains over `auto`, pooled and by task."""
    names = [name for name in (untuned[0] if untuned else {}) if name not in ("task", "seed")]
    print(f"{'task':24} {'seed':>4} {' '.join(f'{name:>11}' for name in names)}")
    for one in untuned:
        print(f"{one['task'][:24]:24} {one['seed']:4} {' '.join(f'{one.get(name, 0):11.1f}' for name in names)}")
    print(f"{'mean':29} {' '.join(f'{np.mean([one.get(name, 0) for one in untuned]):11.1f}' for name in names)}\n")
    print(f"{'task':24} seed {'arm':14} {'n':>4} calibrated   free  score  kept as asked  policy")
    for row in rows:
        print(line_of(row))
    print(f"\ngain over {FIRST}, points [95 %]")
    print_gains({one["arm"]: one for one in pooled})


if __name__ == "__main__":
    sys.exit(main())
