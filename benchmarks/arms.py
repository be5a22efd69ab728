"""What settings of filters and training are worth: models tuned on the same synthesised rows, one for each arm.

    python benchmarks/arms.py [TASK ...] --arm "train.lr=1e-3" --arm "NAME: train.epochs=6 train.lr=5e-4" ...
                              [--seeds N] [--runs DIR] [--tests N] [--full] [-- OPTION ...]

A TASK is what `sg-local run` takes: a shipped name, a .toml or a Super-NaturalInstructions .json file. Each `--arm`
names settings of the stages behind synthesis; before them comes the arm `as is`, with the preset's. For each task and
seed the model writes its rows once (in the run that benchmarks/ceiling.py makes in the same DIR with the same numbers,
where there is one). `as is` is evaluated in full, so that every untuned system answers once; a further arm costs its
filters, one training, its greedy text on the test rows and what `predict` and `serve` answer with. The same line again
goes on where it stopped, also with more arms, tasks or seeds; use another DIR for other numbers. Without tasks: one
shipped one with few rows, as a trial of the machinery; `--full` takes all that ship, or the tasks named, with the
preset's numbers. Options behind `--` go to every job: settings (`synth.n_inputs=80`, `eval.mbr=16`) and options of
`open_job` (`model=NAME`).

`prompt` is the tokens of the tuned model's prompts on the mean. `free` is the tuned model's greedy text and `served`
what `predict` gives, in percent of the task's metric; `untuned` the strongest untuned system of the task, picked on the
test rows by its mean over seeds. Gains are paired by test row, means over seeds, with 95 % bootstrap intervals that
resample the tasks, and the rows inside each: over the arm `as is` and over the strongest untuned system, for
classification, generation and all tasks. An arm that fails on a task (a training that diverges) is named at the end,
and has no part in that task. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from own_data import (
    Rows,
    Setting,
    end_with,
    interval,
    measure_all,
    parsed,
    parted,
    place,
    pooled_gain,
    shared,
)
from quality import note, options_of

import sg_local as sg
from sg_local import filters, metrics, prompts
from sg_local.evaluate.answering import answer_room
from sg_local.evaluate.journal import AnswerJournal
from sg_local.evaluate.rounds import Contest, answer, bind
from sg_local.evaluate.stage import clean_questions
from sg_local.evaluate.systems import SYSTEMS, served
from sg_local.job.evaluate import evaluation_of
from sg_local.job.presets import merged
from sg_local.records import SgError, digest
from sg_local.report.records import TUNED, is_untuned
from sg_local.run import ADAPTER, ANSWERS, TRAIN
from sg_local.tasks import shipped_tasks

AS_IS = "as is"
UNTUNED = "untuned"
STAGES = ("own", "filter", "train")
QUICK_TASK, QUICK_ARM = "support_routing", "train.lr=5e-4"
KINDS = ("classification", "generation")
LONGEST_NAME = 40

Scores = dict[str, dict[int, float]]
"""Each test row's score, 0 to 1, by system and by the row's place in the task."""


@dataclass(frozen=True)
class Arm:
    """Some settings by a name of their own."""

    name: str
    settings: dict[str, Any]

    @property
    def run(self) -> str:
        """What its runs are called."""
        safe = re.sub(r"[^A-Za-z0-9._]+", "-", self.name).strip("-._")
        return f"arm-{safe}" if len(safe) <= LONGEST_NAME else f"arm-{safe[:LONGEST_NAME]}-{digest(self.name)[:6]}"


def main() -> int:
    """Measure every task and seed, print the tables and the JSON line; 1 when something failed or nothing was there."""
    args = arguments()
    args.runs.mkdir(parents=True, exist_ok=True)

    def measured(name: str, seed: int) -> Iterator[dict[str, Any]]:
        at = setting_of(name, seed, args)
        for row in measure(at, args.arms):
            yield {"task": Path(name).stem, "kind": at.task.kind, "seed": seed, **row}

    rows, failed = measure_all(args.tasks, args.seeds, measured, line_of)
    tasks = [task for name in dict.fromkeys(row["task"] for row in rows) if (task := summary(name, rows)) is not None]
    pooled = pooled_gains([arm.name for arm in args.arms], rows, {task["task"]: task["untuned_is"] for task in tasks})
    print_tables(rows, tasks, pooled)
    return end_with(rows, failed, {"tasks": tasks, "pooled": pooled})


def arguments() -> argparse.Namespace:
    """The command line, everything behind `--` apart. Raises SgError for an arm that cannot be one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--arm", action="append", help="SETTING=VALUE ... or NAME: SETTING=VALUE ...; may be repeated")
    args = parsed(parser, "arms", "all shipped tasks")
    args.tasks = args.tasks or ([path.stem for path in shipped_tasks()] if args.full else [QUICK_TASK])
    args.arms = [Arm(AS_IS, {}), *map(arm_of, args.arm or ([] if args.full else [QUICK_ARM]))]
    return args


def arm_of(text: str) -> Arm:
    """`NAME: SETTING=VALUE ...`, or the settings alone. Raises SgError for what synthesis or a job would have to do."""
    name, colon, what = text.partition(":")
    settings, options = options_of((what if colon else text).split())
    other = [*options, *(stage for stage in settings if stage not in STAGES)]
    if other or not settings:
        hint = f"An arm sets {', '.join(STAGES)}; what all arms share stands behind `--`."
        raise SgError(f"{text!r} is no arm.", hint, exit_code=2)
    return Arm(" ".join((name if colon else text).split()), settings)


def setting_of(name: str, seed: int, args: argparse.Namespace) -> Setting:
    """A task with its test rows, and the options of its jobs. Raises SgError for one without test rows."""
    task = sg.load_task(name)
    settings, options = options_of(args.options)
    task = replace(task, tests=parted(task.tests, args.tests)[0])
    if not task.tests:
        raise SgError(f"Task {task.name} has no test rows.", "Give a task with some dozens of them.")
    return Setting(f"{Path(name).stem}-s{seed}", task, (), args.runs, {**options, "seed": seed}, settings)


# One arm


def measure(at: Setting, arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """One row of the table for each arm, made or read back. Raises SgError, at the end for arms that failed."""
    problems = []
    with open(at.runs / f"{at.name}.log", "a", encoding="utf-8") as log:

        def hear(event: sg.Event) -> None:
            note(event, log)

        written = shared(at.job("written"), hear)
        for arm in arms:
            try:
                yield tuned(at, arm, written, hear)
            except SgError as error:
                if arm.name == AS_IS:
                    raise
                problems.append(f"{arm.name}: {error.message}")
    if problems:
        raise SgError(" ".join(problems), "The other arms are measured.")


def tuned(at: Setting, arm: Arm, written: Rows, hear: Any) -> dict[str, Any]:
    """The figures of one arm; `scores` keeps each test row's. Raises SgError."""
    with at.job(arm.run, settings=merged(at.settings, arm.settings)) as job:
        place(job, written, answered_before(at))
        if arm.name == AS_IS:
            report = job.run(listen=hear)
            assert report is not None
            scores = {name: {row.index: row.scores[name] / 100 for row in report.rows} for name in report.systems}
        else:
            job.filter(listen=hear)
            job.train(listen=hear)
            scores = answers_of(job)
        return row_of(arm, scores, job, prompt_tokens(job))


def answered_before(at: Setting) -> Path:
    """The answers of the first seed: those of the untuned model are the same whatever the seed, but for its votes."""
    first = f"{at.name.rpartition('-s')[0]}-s0"
    return at.runs / f"{first}-{Arm(AS_IS, {}).run}" / ANSWERS


def answers_of(job: sg.Job) -> Scores:
    """The scores of the tuned model's greedy text and of what is served, its answers journalled in the run."""
    with job.opened.lock():
        work = evaluation_of(job.opened)
        questions, _ = clean_questions(work)
        contest = Contest(AnswerJournal(work, lambda event: None), questions)
        contest.journal.use_adapter(work.run.path(ADAPTER))
        systems = [one for one in SYSTEMS if one.name in (TUNED, served(work.task.kind))]
        bind(contest, systems)
        for system in systems:
            answer(contest, system)
    score = metrics.metrics_of(work.task.kind, work.task.labels)[work.task.metric]
    return {
        system.name: {one.index: score(row.text, one.wanted) for one, row in zip(questions, rows, strict=True)}
        for system, rows in contest.journal.public.items()
    }


def prompt_tokens(job: sg.Job) -> float:
    """The tokens of the prompt that asks the tuned model about a test row, on the mean."""
    work = evaluation_of(job.opened)
    room = answer_room(work)
    built = (prompts.fitted_answer(room, work.task, work.form, text).segments for text in work.test_inputs)
    return round(float(np.mean([len(room.tokenize(one)) for one in built])), 1)


def row_of(arm: Arm, scores: Scores, job: sg.Job, n_tokens: float) -> dict[str, Any]:
    """The figures of an arm; `systems` are means in percent."""
    run = job.opened.run
    means = {name: round(100 * float(np.mean(list(found.values()))), 2) for name, found in scores.items()}
    return {
        "arm": arm.name,
        "n": len(scores[TUNED]),
        "free": means[TUNED],
        "served": means[served(job.task.kind)],
        "kept": len(filters.kept_rows(run)),
        "trained": len(list(run.lines(TRAIN))),
        "steps": ((run.stamp("train") or {}).get("adapter") or {}).get("n_steps"),
        "seconds": (run.stamp("train") or {}).get("seconds"),
        "prompt": n_tokens,
        "policy": (run.stamp("filter") or {}).get("funnel", {}).get("policy", ""),
        "systems": means,
        "scores": scores,
    }


# Figures


def summary(task: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A task's means over seeds: the base, the strongest untuned system, each arm; None without the arm `as is`."""
    mine = [row for row in rows if row["task"] == task]
    first = [row for row in mine if row["arm"] == AS_IS]
    if not first:
        return None
    untuned = {one.name for one in SYSTEMS if one.role == "base" and is_untuned(one.name)} & first[0]["systems"].keys()
    means = {name: float(np.mean([row["systems"][name] for row in first])) for name in untuned}
    best = max(sorted(means), key=means.__getitem__)
    arms = dict.fromkeys(row["arm"] for row in mine)
    return {
        "task": task,
        "kind": first[0]["kind"],
        "base": round(means["base"], 1),
        "untuned": round(means[best], 1),
        "untuned_is": best,
        **{
            which: {arm: round(float(np.mean([r[which] for r in mine if r["arm"] == arm])), 1) for arm in arms}
            for which in ("free", "served")
        },
    }


def pooled_gains(arms: Sequence[str], rows: Sequence[dict[str, Any]], untuned: dict[str, str]) -> list[dict[str, Any]]:
    """Every arm's gain over the first and over the untuned, in greedy text and as served, by kind and over all."""
    found = []
    for which in ("free", "served"):
        seen = as_scored(which, rows, untuned)
        for kind in (*KINDS, "all"):
            mine = [row for row in seen if kind in (row["kind"], "all")]
            for over in (AS_IS, UNTUNED):
                gains = (pooled_gain(arm, mine, over) for arm in arms)
                found += [{"of": which, "over": over, "kind": kind, **one} for one in gains if one is not None]
    return found


def as_scored(which: str, rows: Sequence[dict[str, Any]], untuned: dict[str, str]) -> list[dict[str, Any]]:
    """The rows with their scores in greedy text (free) or as served, and the untuned as an arm beside them."""
    system = {"free": lambda kind: TUNED, "served": served}[which]
    seen = [{**row, "scores": row["scores"][system(row["kind"])]} for row in rows]
    first = [row for row in rows if row["arm"] == AS_IS]
    return seen + [{**row, "arm": UNTUNED, "scores": row["scores"][untuned[row["task"]]]} for row in first]


def line_of(row: dict[str, Any]) -> str:
    """One line of the first table."""
    figures = f"{row['n']:4} {row['free']:6.1f} {row['served']:6.1f} {row['trained']:5} {row['steps'] or 0:5}"
    costs = f"{row['prompt']:6.0f} {row['seconds'] or 0:6.0f}s"
    return f"{row['task'][:24]:24} {row['seed']:4} {row['arm'][:36]:36} {figures} {costs}"


def print_tables(
    rows: Sequence[dict[str, Any]], tasks: Sequence[dict[str, Any]], pooled: Sequence[dict[str, Any]]
) -> None:
    """Every arm of every task and seed; each task's means; the gains by arm, over all tasks and by task."""
    print(f"{'task':24} seed {'arm':36} {'n':>4}   free served  rows steps prompt   took")
    for row in rows:
        print(line_of(row))
    print(f"\n{'task':24} {'base':>6} untuned, which of them        free as is, and of each arm")
    for one in tasks:
        arms = " ".join(f"{score:6.1f}" for score in one["free"].values())
        print(f"{one['task'][:24]:24} {one['base']:6.1f} {one['untuned']:7.1f} {one['untuned_is']:20} {arms}")
    heads = dict.fromkeys((one["of"], one["over"], one["kind"]) for one in pooled)
    for of, over, kind in heads:
        print(f"\n{of}, {kind}: gain over {over}, points [95 %]")
        for one in pooled:
            if (one["of"], one["over"], one["kind"]) == (of, over, kind):
                by_task = "" if kind == "all" else ": " + by_task_of(one["tasks"])
                print(f"{one['arm'][:36]:36} {interval(one['gain']):22} over {one['n_tasks']}{by_task}")


def by_task_of(gains: dict[str, tuple[float, float, float]]) -> str:
    """The gain on each task, in points."""
    return ", ".join(f"{task[:16]} {gain[0]:+.1f}" for task, gain in gains.items())


if __name__ == "__main__":
    sys.exit(main())
