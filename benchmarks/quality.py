"""What tuning gains, task by task: the full job over a list of tasks, through the Python face, in one table.

    python benchmarks/quality.py [TASK ...] [--runs DIR] [--tests N] [--full] [-- OPTION ...]

A TASK is what `sg-local run` takes: a shipped name, a .toml or a Super-NaturalInstructions .json file. Each is one run
in DIR, so that the same line again goes on where it stopped and finished runs are only read; what a run told lies in a
log beside it. Without tasks: two shipped ones with few rows, as a trial of the machinery; `--full`
takes all that ship, with the preset as it is. Options behind `--` go to every job: settings (`train.epochs=3`) and
options of `open_job` (`preset=paper`, `seed=1`); use another DIR for other options.

Columns, percent of the task's metric on its test rows: `base` is the untuned model, greedy, in the prompt form chosen
without the test rows; `free` the strongest untuned free-text system on the test rows; `vote` the untuned model with
SELF-GUIDE's voting and filters; `any` the strongest untuned system of all, calibrated labels included; `tuned` is free
text and `labels` the tuned model restricted to the labels. `gain` is tuned - free, `gain any` the tuned model
(restricted to labels where there are some) - any, both with paired 95 % bootstrap intervals; those of a mean resample
the rows inside each task. With `-- eval.tuned_examples=true` the tune on the examples alone counts among `free`
and `any`. `free` and `any` are the best of several on the test rows themselves, which leans against us; the gain over
`base`, whose form nobody chose on test rows, stands below the table. `*` before a gain: a trivial system (copy the
input, the commonest label, a random training output) reaches it too, that is, beats the same base and is not surely
worse than the tuned model; a mean is held against the strongest trivial system of each task. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import sg_local as sg
from sg_local import metrics
from sg_local.metrics import paired, resamples
from sg_local.report import Report
from sg_local.tasks import shipped_tasks

QUICK_TASKS = ("support_routing", "iso_date")
QUICK_OPTIONS = ("synth.n_inputs=64", "train.epochs=1")
QUICK_TESTS = 24
ROUNDS = 2000
GATE_NOT_MET = 3
"""A job fails with it where no exported file kept the tuning; the adapter is evaluated all the same."""


def main() -> int:
    """Run every task, print the table and the JSON line; 1 when a task failed."""
    args = arguments()
    names = args.tasks or ([path.stem for path in shipped_tasks()] if args.full else QUICK_TASKS)
    quick = not args.tasks and not args.full
    tests = args.tests or (QUICK_TESTS if quick else None)
    options = [*(QUICK_OPTIONS if quick else ()), *args.options]
    args.runs.mkdir(parents=True, exist_ok=True)
    rows, failed = [], {}
    for name in names:
        _, report, problem = run_task(name, args.runs, tests, options)
        if report is None:
            failed[Path(name).stem] = problem
            print(f"{Path(name).stem}: {problem}", file=sys.stderr)
        else:
            rows.append(row_of(Path(name).stem, report))
            print(line_of(rows[-1]), file=sys.stderr)
    means = [mean_of(kind, rows) for kind in ("classification", "generation", "all")]
    print_table(rows, [mean for mean in means if mean])
    print(
        json.dumps({"tasks": [plain(row) for row in rows], "means": [plain(m) for m in means if m], "failed": failed})
    )
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--runs", type=Path, default=Path("runs-quality"), help="folder of the runs")
    parser.add_argument("--tests", type=int, help="test rows of each task, drawn with a fixed seed")
    parser.add_argument("--full", action="store_true", help="all shipped tasks, the preset as it is")
    own, _, options = split_at(sys.argv[1:], "--")
    args = parser.parse_args(own)
    args.options = options
    return args


def split_at(words: Sequence[str], mark: str) -> tuple[list[str], str, list[str]]:
    """The words before and after the first mark."""
    place = words.index(mark) if mark in words else len(words)
    return list(words[:place]), mark, list(words[place + 1 :])


def run_task(
    task: str, runs: Path, tests: int | Path | None, options: Sequence[str]
) -> tuple[sg.Job | None, Report | None, str]:
    """One task's run, made or read back, and its report, or what went wrong. `tests`: so many rows, or a file."""
    name, started = Path(task).stem, time.monotonic()
    settings, chosen = options_of(options)
    job = None
    with open(runs / f"{name}.log", "a") as log:
        try:
            job = sg.open_job(sg.load_task(task, tests), runs=runs, name=name, settings=settings, **chosen)
            with job:
                return job, job.run(listen=lambda event: note(event, log)), ""
        except sg.SgError as error:
            if job is not None and error.exit_code == GATE_NOT_MET:
                return job, job.report, ""
            return None, None, f"after {time.monotonic() - started:.0f} s: {error.message} {error.hint}"


def note(event: sg.Event, log: TextIO) -> None:
    """What happened, as a line of the log; every step is left out."""
    if not isinstance(event, sg.Moved):
        print(event, file=log, flush=True)


def options_of(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`train.epochs=3` as nested settings, `preset=paper` as an option of the job; a word without `=` switches on."""
    settings: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if "." in name:
            *groups, last = name.split(".")
            table = settings
            for group in groups:
                table = table.setdefault(group, {})
            table[last] = value
        else:
            chosen[name] = (int(value) if value.isdigit() else value) if equals else True
    return settings, chosen


def row_of(name: str, report: Report) -> dict[str, Any]:
    """One line of the table; `gaps` keeps the row differences for the means."""
    systems, tuned = report.systems, report.served
    bases = [s for s, found in systems.items() if found.role == "base"]
    free = max((s for s in bases if systems[s].family == "free"), key=lambda s: systems[s].score)
    best = max(bases, key=lambda s: systems[s].score)
    trivial = max((s for s, found in systems.items() if found.role == "trivial"), key=lambda s: systems[s].score)
    scores = {s: [row.scores[s] / 100 for row in report.rows] for s in systems}
    return {
        "task": name,
        "kind": report.kind,
        "n": report.n,
        "base": report.base.score,
        "free": systems[free].score,
        "vote": systems["base_vote"].score,
        "any": systems[best].score,
        "any_is": best,
        "tuned": report.tuned.score,
        "labels": systems[tuned].score if systems[tuned].family == "restricted" else None,
        "irrelevant": report.base.irrelevant,
        "gain": gain_of(scores, "tuned", free),
        "gain_any": gain_of(scores, tuned, best),
        "gain_base": gain_of(scores, "tuned", "base"),
        "marked": bool(report.gain("tuned", free).reached_by),
        "marked_any": bool(report.gain(tuned, best).reached_by),
        "kept": report.n_training,
        "seconds": round(sum(report.stages.values())),
        "gaps": {
            "gain": differences(scores, "tuned", free),
            "gain_any": differences(scores, tuned, best),
            "gain_base": differences(scores, "tuned", "base"),
            "over_trivial": differences(scores, "tuned", trivial),
            "over_trivial_any": differences(scores, tuned, trivial),
        },
    }


def differences(scores: dict[str, list[float]], one: str, other: str) -> list[float]:
    return [a - b for a, b in zip(scores[one], scores[other], strict=True)]


def gain_of(scores: dict[str, list[float]], one: str, other: str) -> tuple[float, float, float]:
    """Gain, low and high in points."""
    found = paired(scores[one], scores[other], resamples(len(scores[one]), seed=0, rounds=ROUNDS))
    return found.gain, found.low, found.high


def mean_of(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The mean line of a kind of task, or of all; None where there is none."""
    chosen = [row for row in rows if kind in ("all", row["kind"])]
    if not chosen:
        return None
    mean: dict[str, Any] = {
        "task": f"mean, {kind}",
        "kind": kind,
        "n": sum(row["n"] for row in chosen),
        "marked": mean_is_marked(chosen, "gain", "over_trivial"),
        "marked_any": mean_is_marked(chosen, "gain_any", "over_trivial_any"),
    }
    for column in ("base", "free", "vote", "any", "tuned", "labels", "kept", "seconds", "irrelevant"):
        values = [row[column] for row in chosen if row[column] is not None]
        mean[column] = round(sum(values) / len(values), 2) if values else None
    for column in ("gain", "gain_any", "gain_base"):
        mean[column] = mean_gain([row["gaps"][column] for row in chosen])
    return mean


def mean_is_marked(rows: Sequence[dict[str, Any]], gain: str, over_trivial: str) -> bool:
    """True where the strongest trivial systems beat the bases too and the tuned models do not surely beat them."""
    gained = mean_gain([row["gaps"][gain] for row in rows])[0]
    over, low, _ = mean_gain([row["gaps"][over_trivial] for row in rows])
    return gained > 0 and gained - over > 0 and low <= 0


def mean_gain(gaps: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean gain over tasks in points, each task weighing the same, its rows resampled."""
    draws = [np.asarray(gap)[resamples(len(gap), seed=i, rounds=ROUNDS)].mean(axis=1) for i, gap in enumerate(gaps)]
    means = 100 * np.mean(draws, axis=0)
    tail = (1 - metrics.LEVEL) / 2
    middle = 100 * float(np.mean([np.mean(gap) for gap in gaps]))
    low, high = (float(np.quantile(means, share)) for share in (tail, 1 - tail))
    return round(middle, 2), round(low, 2), round(high, 2)


HEAD = f"{'task':32} {'n':>5} {'base':>5} {'free':>5} {'vote':>5} {'any':>5} {'tuned':>5} {'labels':>6}"
HEAD += f"  {'gain [95 %]':22}  {'gain any [95 %]':22} {'kept':>5} {'time':>6}"


def line_of(row: dict[str, Any]) -> str:
    """One line of the table as text."""
    figures = " ".join(f"{row[column]:5.1f}" for column in ("base", "free", "vote", "any", "tuned"))
    labels = f"{row['labels']:6.1f}" if row["labels"] is not None else f"{'-':>6}"
    gains = " ".join(
        f"{'*' if row[mark] else ' '}{interval(row[column]):22}"
        for column, mark in (("gain", "marked"), ("gain_any", "marked_any"))
    )
    return f"{row['task'][:32]:32} {row['n']:5} {figures} {labels} {gains} {row['kept']:5.0f} {row['seconds']:5.0f}s"


def interval(gain: tuple[float, float, float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gain)


def print_table(rows: Sequence[dict[str, Any]], means: Sequence[dict[str, Any]]) -> None:
    """All rows, then the means."""
    print(HEAD)
    for row in rows:
        print(line_of(row))
    print("-" * len(HEAD))
    for mean in means:
        print(line_of(mean))
    for mean in means:
        print(f"tuned - base, its prompt chosen without the test rows, {mean['task']}: {interval(mean['gain_base'])}")


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its per-row differences."""
    return {key: value for key, value in row.items() if key != "gaps"}


if __name__ == "__main__":
    sys.exit(main())
