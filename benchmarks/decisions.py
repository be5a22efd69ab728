"""What a tuned model's decisions are worth, and how long one takes: probabilities on test rows, latency of a choice.

    python benchmarks/decisions.py [TASK ...] [--runs DIR] [--tests N] [--requests N] [--full] [-- OPTION ...]

A TASK is what `sg-local run` takes, with labels and test rows. Each is one run in DIR, made as benchmarks/quality.py
makes it: finished runs there are only read, and evaluated again from their answers where their report tells no
reliability yet. Without tasks: one shipped task with few rows, as a trial of the machinery; `--full` takes all shipped
tasks with labels. Options behind `--` go to every job, as there.

Columns, over the test rows, of what `serve` answers with (tuned, labels only): `right` is the accuracy; `T` the
temperature and `fit` the rows that it was fitted on; `before` and `after` the expected calibration error in points at
temperature 1 and at T, over ten bins of equal width; `Brier` after; `> 0.9` the share of the answers at least that sure
and `of them` how many of those are right. A task is hopeless where the interval of its accuracy does not lie wholly
above a trivial system (the commonest label); it is marked `-` and left out of the summary. Means are over tasks, the
share right above 0.9 over all such answers.

Latency: a server of its own for the first task with three labels (else the first), one client, one connection, a choice
of all labels for each test row in turn, after ten requests to warm up; on a machine with nothing else to do. The last
line is one JSON object; `above_right` has the goal of 95 or more, `p95_choice_ms` of less than 60.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quality import QUICK_OPTIONS, QUICK_TESTS, run_task, split_at

import sg_local as sg
from sg_local.job.stages import forgotten
from sg_local.report import Report
from sg_local.tasks import shipped_tasks

QUICK_TASKS = ("support_routing",)
WARM_UP = 10
PROGRAM = "from sg_local.cli import main; main()"
GOALS = {"above_right": 95.0, "p95_choice_ms": 60.0}


def main() -> int:
    """Judge every task, measure one server, print the table and the JSON line; 1 when a task failed."""
    args = arguments()
    names = args.tasks or (labelled() if args.full else QUICK_TASKS)
    quick = not args.tasks and not args.full
    tests = args.tests or (QUICK_TESTS if quick else None)
    options = [*(QUICK_OPTIONS if quick else ()), *args.options]
    args.runs.mkdir(parents=True, exist_ok=True)
    rows, failed = [], {}
    print(HEAD)
    for name in names:
        job, problem = judged(name, args.runs, tests, options)
        if job is None:
            failed[name] = problem
            print(f"{name}: {problem}")
            continue
        rows.append(row_of(job))
        print(line(rows[-1]), flush=True)
    found = {**summary(rows), "rows": rows, "failed": failed}
    if rows and args.requests:
        found |= latency(timed(rows), args.runs, args.requests)
    print(json.dumps(found))
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The words of the command line; those behind `--` are options of every job."""
    mine, _, theirs = split_at(sys.argv[1:], "--")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--runs", type=Path, default=Path("runs-decisions"), metavar="DIR")
    parser.add_argument("--tests", type=int, metavar="N")
    parser.add_argument("--requests", type=int, default=200, metavar="N", help="0: measure no latency")
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args(mine)
    args.options = theirs
    return args


def labelled() -> list[str]:
    """The shipped tasks that have labels and test rows."""
    tasks = {path.stem: sg.load_task(path.stem) for path in shipped_tasks()}
    return [name for name, task in tasks.items() if task.labels and task.tests]


def judged(task: str, runs: Path, tests: int | None, options: Sequence[str]) -> tuple[sg.Job | None, str]:
    """One task's run with a report that tells its reliability, or what went wrong."""
    try:
        if not sg.load_task(task).labels:
            return None, "the task has no labels"
    except sg.SgError as error:
        return None, f"{error.message} {error.hint}"
    job, report, problem = run_task(task, runs, tests, options)
    if job is None or report is None:
        return None, problem or "there are no test rows"
    if report.systems[report.served].reliability is None:
        with forgotten(job.opened, "eval"):
            job.evaluate()
        job.close()
    return job, ""


def row_of(job: sg.Job) -> dict[str, Any]:
    """One line of the table."""
    report = job.report
    served = report.systems[report.served]
    found = served.reliability
    assert found is not None
    n_above = round(found.sure.coverage * found.n / 100)
    return {
        "task": job.name,
        "labels": len(job.task.labels),
        "n": found.n,
        "right": served.score,
        "temperature": found.temperature,
        "n_fitted": found.n_fitted,
        "ece_before": found.ece_before,
        "ece_after": found.ece,
        "brier": found.brier,
        "above": found.sure.coverage,
        "above_right": found.sure.right,
        "n_above": n_above,
        "n_above_right": round(n_above * (found.sure.right or 0.0) / 100),
        "hopeless": is_hopeless(report),
    }


def is_hopeless(report: Report) -> bool:
    """Whether the served system is not surely better than always saying the commonest label."""
    trivial = max((one.score for one in report.systems.values() if one.role == "trivial"), default=0.0)
    return report.systems[report.served].low <= trivial


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the tasks that are not hopeless; of the answers above 0.9, the share right over all together."""
    counted = [row for row in rows if not row["hopeless"]]
    n_above = sum(row["n_above"] for row in counted)
    right = sum(row["n_above_right"] for row in counted)
    means = {
        name: round(sum(row[name] for row in counted) / len(counted), 2) if counted else None
        for name in ("ece_before", "ece_after", "brier", "above")
    }
    share = round(100 * right / n_above, 1) if n_above else None
    return {"n_tasks": len(counted), **means, "n_above": n_above, "above_right": share}


HEAD = (
    f"{'task':28} {'n':>5} {'right':>6} {'T':>5} {'fit':>4} "
    f"{'before':>6} {'after':>6} {'Brier':>6} {'> 0.9':>6} {'of them':>7}"
)


def line(row: dict[str, Any]) -> str:
    """A row as text; `-` before a task that is hopeless."""
    right = "" if row["above_right"] is None else f"{row['above_right']:.1f}"
    name = f"{'- ' if row['hopeless'] else ''}{row['task']}"
    return (
        f"{name:28} {row['n']:5} {row['right']:6.1f} {row['temperature']:5.2f} {row['n_fitted']:4} "
        f"{row['ece_before']:6.1f} {row['ece_after']:6.1f} {row['brier']:6.3f} {row['above']:6.1f} {right:>7}"
    )


# Latency


def timed(rows: Sequence[dict[str, Any]]) -> str:
    """The run whose server is measured: the first with three labels, else the first."""
    return next((row["task"] for row in rows if row["labels"] == 3), rows[0]["task"])


def latency(name: str, runs: Path, n: int) -> dict[str, Any]:
    """Milliseconds of a choice of all labels by the served run, one client: median and 95th percentile."""
    job = sg.load(name, runs=runs)
    criteria = dict.fromkeys(job.task.labels)
    texts = itertools.cycle([row.input for row in job.task.tests])
    seconds = []
    with serving(name, runs) as (host, port):
        client = http.client.HTTPConnection(host, port, timeout=120)
        for number in range(WARM_UP + n):
            question = {"type": "choice", "criteria": criteria}
            body = json.dumps({"state": next(texts), "questions": {"q": question}})
            started = time.perf_counter()
            client.request("POST", "/v1/systemone", body, {"Content-Type": "application/json"})
            answer = json.loads(client.getresponse().read())
            if number >= WARM_UP:
                seconds.append(time.perf_counter() - started)
            assert answer["answers"]["q"]["x_model"] == name, answer
        client.close()
    p50, p95 = (round(1000 * at(seconds, share), 1) for share in (0.5, 0.95))
    print(f"a choice of {len(criteria)} by {name}, one client, {n} requests: p50 {p50} ms, p95 {p95} ms")
    return {"p50_choice_ms": p50, "p95_choice_ms": p95, "n_requests": n, "n_labels": len(criteria)}


def at(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def serving(name: str, runs: Path) -> Iterator[tuple[str, int]]:
    """A server of the run in a process of its own, its log of requests left out: host and port."""
    words = [sys.executable, "-c", PROGRAM, "serve", name, "--runs", str(runs), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[0]
            host, _, port = url.removeprefix("http://").removesuffix("/v1").rpartition(":")
            yield host, int(port)
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
