"""What a person's own data is worth: tuned models with and without it, on tasks whose right answers are known.

    python benchmarks/own_data.py FOLDER [--task NUMBER ...] [--seeds N] [--runs DIR] [--tests N] [--full]
                                  [-- OPTION ...]

FOLDER holds Super-NaturalInstructions JSON files under their own names; the development tasks of the paper that are
there are measured, or those that `--task` names. Test rows are drawn with a fixed seed; own data comes from the other
instances, near copies of test rows left out. The same line again goes on where it stopped, and what is finished is only
read; use another DIR for other numbers. The default is a trial of the machinery: one task, few rows, two arms.
`--full` takes all tasks and arms with the preset's numbers. Options behind `--` go to every job: settings
(`train.epochs=2`) and options of `open_job` (`model=NAME`).

For each task and seed the model writes its inputs once, and answers up to 200 own inputs once. The arms share them:
`synthetic` has the written ones alone; `inputs K` has K own inputs and as many written ones as are then missing (none
where K is more than the job wants); `rows K` has K own labelled rows beside the written ones, weighed as a job weighs
them. Where a task has fewer than K, the arm has all there are. Each arm is filtered, trained and evaluated by itself,
with the demonstrations as they are. In a job, stage A goes on from the own inputs that there are; here it knows none,
so that all arms can share what it wrote.

`score` is that of the answers which `predict` and `serve` give, in percent of the task's metric. `gain` is arm -
synthetic on the same test rows, the mean over seeds, with a 95 % bootstrap interval; that of the pooled lines resamples
the tasks, and the rows inside each. `right` is the score of the outputs that own rows were trained on, 100 where all
are right. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from paper import Entry, paper_tasks
from quality import interval, note, options_of, split_at

import sg_local as sg
from sg_local import filters, metrics
from sg_local.job.synth import synth_settings
from sg_local.records import LABELLED, OWN, Candidate, InputRow, SgError, Task, TestRow, row_id
from sg_local.report import Report
from sg_local.run import ANSWERS, CANDIDATES, INPUTS
from sg_local.tasks import read_task

INPUT_SIZES, ROW_SIZES = (25, 50, 100, 200), (10, 30, 100)
QUICK_SIZES, QUICK_TASKS, QUICK_TESTS, TESTS = (25, 10), 1, 24, 100
QUICK = ("synth.n_inputs=48", "synth.n_asked=128", "synth.n_votes=3", "train.epochs=1", "eval.n_votes=2")
QUICK += ("eval.n_dev=8", "eval.n_calibration=16")
COMMON = ("export.types=none", "eval.tuned_vote=false")
LEAK, ROUNDS = 0.9, 4000
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Arm:
    """One way of using own data: `kind` is synthetic, inputs or rows, `size` how many own ones."""

    kind: str
    size: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.size}" if self.size else self.kind


@dataclass(frozen=True)
class Setting:
    """One task and seed: the task with its test rows, the own rows with their right answers, and the jobs' options."""

    name: str
    task: Task
    own: tuple[TestRow, ...]
    runs: Path
    options: dict[str, Any]
    settings: dict[str, Any]

    def job(self, part: str, **more: Any) -> sg.Job:
        """The job of a part of this setting: what all arms share, or an arm."""
        name = f"{self.name}-{part.replace(' ', '-')}"
        settings = {**self.settings, **more.pop("settings", {})}
        return sg.open_job(self.task, runs=self.runs, name=name, settings=settings, **self.options, **more)


def main() -> int:
    """Measure every task and seed, print the tables and the JSON line; 1 when something failed or nothing was there."""
    args = arguments()
    args.runs.mkdir(parents=True, exist_ok=True)
    entries = {entry.name: entry for entry in entries_of(args)}

    def measured(name: str, seed: int) -> Iterator[dict[str, Any]]:
        for row in measure(setting_of(entries[name], seed, args), args.arms):
            yield {"task": name, "kind": entries[name].kind, "seed": seed, **row}

    rows, failed = measure_all(entries, args.seeds, measured, line_of)
    names = dict.fromkeys(row["arm"] for row in rows)
    pooled = [one for name in names if (one := pooled_gain(name, rows)) is not None]
    print_tables(rows, pooled)
    return end_with(rows, failed, {"pooled": pooled})


def measure_all(
    names: Iterable[str],
    n_seeds: int,
    measure: Callable[[str, int], Iterator[dict[str, Any]]],
    line_of: Callable[[dict[str, Any]], str],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows of every task and seed, told as they come; and what went wrong, by task and seed."""
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name in names:
        for seed in range(n_seeds):
            try:
                for row in measure(name, seed):
                    rows.append(row)
                    print(line_of(row), file=sys.stderr, flush=True)
            except SgError as error:
                failed[f"{name} seed {seed}"] = f"{error.message} {error.hint}"
                print(f"{name}, seed {seed}: {error.message}", file=sys.stderr)
    return rows, failed


def end_with(rows: Sequence[dict[str, Any]], failed: dict[str, str], more: dict[str, Any]) -> int:
    """Print the JSON line; the exit code: 1 when something failed or nothing was there."""
    told = [{key: value for key, value in row.items() if key != "scores"} for row in rows]
    print(json.dumps({"rows": told, **more, "failed": failed}))
    return 0 if rows and not failed else 1


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Super-NaturalInstructions JSON files")
    parser.add_argument("--task", type=int, action="append", metavar="NUMBER", help="only this one; may be repeated")
    args = parsed(parser, "own-data", "all tasks and arms")
    sizes = (INPUT_SIZES, ROW_SIZES) if args.full else ((QUICK_SIZES[0],), (QUICK_SIZES[1],))
    arms = [Arm(kind, size) for kind, each in zip(("inputs", "rows"), sizes, strict=True) for size in each]
    args.arms = [Arm(SYNTHETIC), *arms]
    return args


def parsed(parser: argparse.ArgumentParser, name: str, full: str, quick_tests: int = QUICK_TESTS) -> argparse.Namespace:
    """The command line of a benchmark of arms: its own words, those that all have, and the options behind `--`.

    `full` says what `--full` takes; without it a task has `quick_tests` test rows.
    """
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds of each task, from 0")
    parser.add_argument("--runs", type=Path, default=Path(f"runs-{name}"), help="folder of the runs")
    parser.add_argument("--tests", type=int, help="test rows of each task, drawn with a fixed seed")
    parser.add_argument("--full", action="store_true", help=f"{full}, the preset as it is")
    own, _, options = split_at(sys.argv[1:], "--")
    args = parser.parse_args(own)
    args.tests = args.tests or (TESTS if args.full else quick_tests)
    args.options = [*COMMON, *(() if args.full else QUICK), *options]
    return args


def entries_of(args: argparse.Namespace) -> list[Entry]:
    """The tasks to measure, those without a file named and left out."""
    asked = [e for e in paper_tasks(args.folder) if (e.number in args.task if args.task else e.split == "dev")]
    missing = [entry.name for entry in asked if entry.path is None]
    if missing:
        print(f"Not in {args.folder}, left out: {', '.join(missing)}.", file=sys.stderr)
    found = [entry for entry in asked if entry.path is not None]
    return found if args.full or args.task else found[:QUICK_TASKS]


def setting_of(entry: Entry, seed: int, args: argparse.Namespace) -> Setting:
    """A task's test rows and own rows, apart: own ones are drawn from the other instances for each seed."""
    assert entry.path is not None
    task = read_task(entry.path)
    tests, rest = parted(task.tests, args.tests)
    task = replace(task, tests=tests)
    own = own_rows(task, rest, seed, max(arm.size for arm in args.arms))
    settings, options = options_of(args.options)
    return Setting(f"{entry.name}-s{seed}", task, own, args.runs, {**options, "seed": seed}, settings)


def parted(rows: Sequence[TestRow], n: int) -> tuple[tuple[TestRow, ...], list[TestRow]]:
    """So many test rows, drawn with a fixed seed, and the others."""
    drawn = random.Random(0).sample(rows, min(n, len(rows)))
    chosen = {row.input for row in drawn}
    return tuple(drawn), [row for row in rows if row.input not in chosen]


def own_rows(task: Task, rest: Sequence[TestRow], seed: int, n: int) -> tuple[TestRow, ...]:
    """At most n own rows: no test row, no demonstration, nothing like one, each input once."""
    leaks = filters.leak_check(task, LEAK)
    shown = filters.leak_check(replace(task, tests=tuple(TestRow(p.input, (p.output,)) for p in task.examples)), LEAK)
    distinct = list({row.input: row for row in rest}.values())
    usable = (row for row in random.Random(seed).sample(distinct, len(distinct)))
    found: list[TestRow] = []
    for row in usable:
        if len(found) < n and not leaks(row.input) and not shown(row.input):
            found.append(row)
    return tuple(found)


# The rows that arms share


def measure(at: Setting, arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """One row of the table for each arm, made or read back. Raises SgError."""
    with open(at.runs / f"{at.name}.log", "a", encoding="utf-8") as log:

        def hear(event: sg.Event) -> None:
            note(event, log)

        written = shared(at.job("written"), hear)
        answered = shared(own_job(at), hear) if any(arm.kind == "inputs" for arm in arms) else ([], [])
        for arm in dict.fromkeys(replace(arm, size=min(arm.size, len(at.own))) for arm in arms):
            with at.job(arm.name) as job:
                place(job, composed(at, arm, written, answered), at.runs / f"{at.name}-{SYNTHETIC}" / ANSWERS)
                report = job.run(listen=hear)
                assert report is not None
                yield row_of(arm, report, at, job)


Rows = tuple[list[InputRow], list[Candidate]]


def shared(job: sg.Job, hear: Any) -> Rows:
    """The inputs and candidates of a run, synthesised unless it was."""
    with job:
        job.synth(listen=hear)
        return job.opened.run.read(INPUTS, InputRow), job.opened.run.read(CANDIDATES, Candidate)


def own_job(at: Setting) -> sg.Job:
    """The job that answers every own input and writes none."""
    path = at.runs / f"{at.name}-own.jsonl"
    lines = [json.dumps({"input": row.input}, ensure_ascii=False) for row in at.own]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    synth = {**at.settings.get("synth", {}), "n_inputs": len(at.own), "n_asked": len(at.own)}
    return at.job("own", settings={"synth": synth}, inputs=path)


def composed(at: Setting, arm: Arm, written: Rows, answered: Rows) -> Rows:
    """The journals of an arm: own rows first, then written ones until there are as many as a job wants."""
    mine: Rows = ([], [])
    if arm.kind == "inputs":
        mine = taken(answered, arm.size)
    elif arm.kind == "rows":
        mine = labelled(at, at.own[: arm.size])
    wanted = sum(not row.rejected for row in written[0])
    theirs = taken(written, wanted - (len(mine[1]) if arm.kind == "inputs" else 0))
    return [*mine[0], *theirs[0]], [*mine[1], *theirs[1]]


def taken(rows: Rows, n: int) -> Rows:
    """The first n accepted inputs with their candidates, and the inputs that were refused on the way."""
    inputs: list[InputRow] = []
    for row in rows[0]:
        if sum(not one.rejected for one in inputs) >= n:
            break
        inputs.append(row)
    texts = {row.input for row in inputs if not row.rejected}
    return inputs, [row for row in rows[1] if row.input in texts]


def labelled(at: Setting, rows: Sequence[TestRow]) -> Rows:
    """Own labelled rows as a job journals them."""
    ids = [row_id(at.name, "labelled", row.input) for row in rows]
    pairs = [(id, row.input, row.outputs[0]) for id, row in zip(ids, rows, strict=True)]
    return (
        [InputRow(id, -1, i, 0, text, output, source=LABELLED) for i, (id, text, output) in enumerate(pairs)],
        [Candidate(id, text, output, {output: 1}, 1, 1.0, source=LABELLED) for id, text, output in pairs],
    )


def place(job: sg.Job, rows: Rows, answers: Path) -> None:
    """Give a run these rows as its synthesis, unless it has them; and what the base answered in another arm."""
    opened = job.opened
    if opened.run.stamp("synth") is not None:
        return
    with opened.lock():
        opened.run.replace(INPUTS, rows[0])
        opened.run.replace(CANDIDATES, rows[1])
        if answers.exists() and not opened.run.path(ANSWERS).exists():
            opened.run.path(ANSWERS).write_bytes(answers.read_bytes())
        opened.run.write_stamp("synth", synth_settings(opened), (), seconds=0.0)
        opened.worked = True


# Figures


def row_of(arm: Arm, report: Report, at: Setting, job: sg.Job) -> dict[str, Any]:
    """The figures of an arm; `scores` keeps each test row's, by its place in the task."""
    kept = filters.kept_rows(job.opened.run)
    return {
        "arm": arm.name,
        "n": report.n,
        "score": report.systems[report.served].score,
        "base": report.base.score,
        "kept": len(kept),
        "kept_own": sum(bool(row.candidate.source) for row in kept),
        "right": right_share(at, kept),
        "policy": (job.opened.run.stamp("filter") or {}).get("funnel", {}).get("policy", ""),
        "scores": {row.index: row.scores[report.served] / 100 for row in report.rows},
    }


def right_share(at: Setting, kept: Sequence[filters.Kept]) -> float | None:
    """The score, in percent, of the outputs that own rows train on; None where there are none."""
    score = metrics.metrics_of(at.task.kind, at.task.labels)[at.task.metric]
    right = {row.input: row.outputs for row in at.own}
    found = [
        score(row.pair.output, right[row.pair.input])
        for row in kept
        if row.candidate.source in (OWN, LABELLED) and row.pair.input in right
    ]
    return round(100 * sum(found) / len(found), 1) if found else None


def gaps_of(arm: str, rows: Sequence[dict[str, Any]], first: str = SYNTHETIC) -> dict[str, list[float]]:
    """Arm - `first` of each test row that both answered, the mean over seeds, by task."""
    base = {(row["task"], row["seed"]): row["scores"] for row in rows if row["arm"] == first}
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        other = base.get((row["task"], row["seed"]))
        if row["arm"] == arm and other is not None:
            for index in sorted(row["scores"].keys() & other.keys()):
                found.setdefault(row["task"], {}).setdefault(index, []).append(row["scores"][index] - other[index])
    return {task: [sum(gap) / len(gap) for gap in by_row.values()] for task, by_row in found.items()}


def pooled_gain(arm: str, rows: Sequence[dict[str, Any]], first: str = SYNTHETIC) -> dict[str, Any] | None:
    """The gain of an arm over `first`, over all tasks, each weighing the same; None for that one and without rows."""
    gaps = gaps_of(arm, rows, first)
    if arm == first or not gaps:
        return None
    each = {task: gain_of([values]) for task, values in gaps.items()}
    return {"arm": arm, "n_tasks": len(gaps), "gain": gain_of(list(gaps.values())), "tasks": each}


def gain_of(gaps: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean gain over tasks in points with its interval: tasks are resampled, then the rows inside each."""
    rng = np.random.default_rng(0)
    means = np.empty(ROUNDS)
    arrays = [np.asarray(gap, dtype=float) for gap in gaps]
    for i in range(ROUNDS):
        drawn = rng.integers(0, len(arrays), len(arrays))
        means[i] = np.mean([arrays[k][rng.integers(0, len(arrays[k]), len(arrays[k]))].mean() for k in drawn])
    tail = (1 - metrics.LEVEL) / 2
    low, high = np.quantile(100 * means, [tail, 1 - tail])
    middle = 100 * float(np.mean([array.mean() for array in arrays]))
    return round(middle, 2), round(float(low), 2), round(float(high), 2)


HEAD = (
    f"{'task':10} {'seed':>4} {'arm':12} {'n':>4} {'base':>6} {'score':>6} {'kept':>5} {'own':>4} {'right':>6}  policy"
)


def line_of(row: dict[str, Any]) -> str:
    """One line of the first table."""
    right = f"{row['right']:6.1f}" if row["right"] is not None else f"{'-':>6}"
    figures = f"{row['n']:4} {row['base']:6.1f} {row['score']:6.1f} {row['kept']:5} {row['kept_own']:4} {right}"
    return f"{row['task']:10} {row['seed']:4} {row['arm']:12} {figures}  {row['policy']}"


def print_tables(rows: Sequence[dict[str, Any]], pooled: Sequence[dict[str, Any]]) -> None:
    """Every arm of every task and seed; then the gains over synthetic rows, pooled and by task."""
    print(HEAD)
    for row in rows:
        print(line_of(row))
    print("\ngain over synthetic rows alone, points [95 %]")
    print_gains({one["arm"]: one for one in pooled})


def print_gains(pooled: Mapping[str, dict[str, Any]]) -> None:
    """A line for each pooled gain, by name: over all tasks, then by task."""
    for name, one in pooled.items():
        by_task = ", ".join(f"{task} {interval(gain)}" for task, gain in one["tasks"].items())
        print(f"{name:14} {interval(one['gain']):22} over {one['n_tasks']}: {by_task}")


if __name__ == "__main__":
    sys.exit(main())
