"""What the rows are worth that a model writes itself: the published settings beside ours, before anything is tuned.

    python benchmarks/rows.py [TASK ...] [--preset NAME] [--runs DIR] [--asked N] [--tests N] [--model NAME] [--full]

A TASK is what `sg-local run` takes: a shipped name, a .toml or a Super-NaturalInstructions .json file. Each task is
synthesised and filtered twice in DIR, with `--preset paper` in the chat form, as published, and with the recommended
preset. The same line again goes on where it stopped, and what is finished is only read; use another DIR for other
numbers. Without tasks: two shipped ones, few inputs asked, as a trial of the machinery; `--full` takes all that ship,
or the tasks named, with the presets' own numbers. `--asked N` asks both presets for N inputs, whatever is accepted
(rounds are of 10 and of 32: a multiple of 160 makes them equal).

The first table tells the funnel: inputs asked for, parsed, accepted and, after the votes, kept, with what each rule
took. `distinct` is the share of accepted inputs that no earlier one equals (letter case and punctuation aside),
`apart` the share that no earlier one comes near (ROUGE-L 0.7 over words; ours are so by rule), `apart/asked` the same
for each input asked for. `balance` is the entropy of labels, asked and kept, over that of an even spread.

The second table puts labelling to the test where right labels are known: test rows (drawn with a fixed seed) are
labelled by the same functions and settings as synthesised inputs. `votes` is stage B's vote, `calibrated` the best
label after the mean over the synthesised inputs, never the test rows, is taken off. Each stands with its accuracy on
all rows and on those that it would keep: a label with enough votes, or the surer half of every label (policy
`ranked`). `agrees` says how the asked labels and the better of both go together on the synthesised rows: Cohen's kappa
and its distance from chance in standard errors. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sg_local as sg
from sg_local import filters, prompts
from sg_local.filters.labels import calibrated, ranked, second_opinion
from sg_local.filters.rules import OUTPUT_RULES, RuleContext, RuleInput, first_reason
from sg_local.job.job import OpenRun
from sg_local.records import Candidate, InputRow, NoRows, SgError, row_id
from sg_local.run import CANDIDATES, INPUTS, Run
from sg_local.synth import Synthesis, write_candidates
from sg_local.tasks import load_task, shipped_tasks

FORMS = {"paper": "chat", "recommended": "auto"}
NEAR = 0.7
QUICK_TASKS = ("support_routing", "iso_date")
QUICK_ASKED, QUICK_TESTS, TESTS = 64, 24, 100


def main() -> int:
    """Run every task with both presets, print the tables and the JSON line; 1 when a task failed."""
    args = arguments()
    names = args.tasks or ([path.stem for path in shipped_tasks()] if args.full else QUICK_TASKS)
    found, failed = [], {}
    for name in names:
        for preset in args.preset or FORMS:
            try:
                found.append(measure(name, preset, args))
            except SgError as error:
                failed[f"{Path(name).stem} {preset}"] = error.message
                print(f"{Path(name).stem}, {preset}: {error.message}", file=sys.stderr)
    print_funnels(found)
    print_labels([row for row in found if row["labels"]])
    print(json.dumps({"rows": found, "failed": failed}))
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line; quick numbers where neither tasks nor --full are given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--preset", action="append", choices=list(FORMS), help="only this one; may be repeated")
    parser.add_argument("--runs", type=Path, default=Path("runs-rows"), help="folder of the runs")
    parser.add_argument("--asked", type=int, help="ask both presets for so many inputs")
    parser.add_argument("--tests", type=int, help=f"test rows to label of each task, {TESTS} unless told otherwise")
    parser.add_argument("--model", help="as in `sg-local run --model`")
    parser.add_argument("--backend", default="auto", help="as in `sg-local run --backend`")
    parser.add_argument("--full", action="store_true", help="the presets as they are")
    args = parser.parse_args()
    quick = not args.tasks and not args.full
    args.asked = args.asked or (None if args.full else QUICK_ASKED)
    args.tests = args.tests or (QUICK_TESTS if quick else TESTS)
    return args


def measure(name: str, preset: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one task with one preset, from its run, made or read back. Raises SgError."""
    task = load_task(name, args.tests)
    opened = sg.open_job(
        task,
        runs=args.runs,
        name=f"{Path(name).stem}-{preset}",
        model=args.model,
        backend=args.backend,
        form=FORMS[preset],
        preset=preset,
        settings={} if args.asked is None else {"synth": {"n_asked": args.asked, "n_inputs": None}},
    )
    with opened:
        stopped, job = synthesise(opened), opened.opened
        row = {"task": Path(name).stem, "preset": preset, "kind": task.kind, "stopped": stopped, **funnel_of(job)}
        return {**row, **pool_of(job), "labels": labels_of(job) if task.labels and not stopped else None}


def synthesise(job: sg.Job) -> str:
    """Synthesis, unless finished before, and filters; why it stopped early, or an empty string."""
    print(f"{job.name}:", file=sys.stderr)
    try:
        job.synth(listen=tell)
    except NoRows as error:
        return error.message
    job.filter(redo=True, listen=tell)  # takes no model, and the rules may have changed
    return ""


def tell(event: sg.Event) -> None:
    """A line on stderr when a stage begins, ends or need not run."""
    if isinstance(event, sg.Began):
        print(f"{event.stage}: started", file=sys.stderr)
    elif isinstance(event, sg.Ended):
        print(f"{event.stage}: done in {event.seconds:.1f} s, {event.note}", file=sys.stderr)
    elif isinstance(event, sg.Skipped):
        print(f"{event.stage}: {event.note}", file=sys.stderr)


def funnel_of(job: OpenRun) -> dict[str, Any]:
    """The funnel, the label policy and the balance of labels, asked and kept."""
    funnel = asdict(filters.funnel(job.run, job.task))
    told = (job.run.stamp("filter") or {}).get("funnel", {})
    labels = funnel["labels"]
    return {
        **{name: funnel[name] for name in ("asked", "parsed", "accepted", "kept", "rules")},
        "by_label": labels,
        "balance_asked": evenness([asked for asked, _ in labels.values()]),
        "balance_kept": evenness([kept for _, kept in labels.values()]),
        "policy": told.get("policy", ""),
        "why": told.get("why", ""),
        "seconds": (job.run.stamp("synth") or {}).get("seconds"),
    }


def evenness(counts: Sequence[int]) -> float | None:
    """Entropy of the counts' shares over that of an even spread: 1 is even, 0 is one label only; None for no rows."""
    total = sum(counts)
    if len(counts) < 2 or not total:
        return None
    entropy = sum(n / total * math.log(total / n) for n in counts if n)
    return round(entropy / math.log(len(counts)), 3)


def pool_of(job: OpenRun) -> dict[str, Any]:
    """Shares of the accepted inputs that are distinct, and that are near no earlier one."""
    rows = job.run.read(INPUTS, InputRow)
    accepted = [row.input for row in rows if not row.rejected]
    apart: list[str] = []
    for text in accepted:
        if not filters.nearest(text, apart, NEAR)[1]:
            apart.append(text)
    n = max(1, len(accepted))
    distinct = len({prompts.normalise(text) for text in accepted})
    return {
        "distinct": round(distinct / n, 3),
        "apart": round(len(apart) / n, 3),
        "apart_of_asked": round(len(apart) / max(1, len(rows)), 3),
    }


@dataclass(frozen=True)
class Labelled:
    """One way of labelling on the test rows: each row's label by id, and the ids that it would keep."""

    labels: Mapping[str, str | None]
    kept: frozenset[str]

    def judged(self, rows: Sequence[Candidate], right: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Accuracy in percent on all rows and on those kept, how many are kept, and the spread of labels given."""
        hits = [self.labels.get(row.id) in right[row.id] for row in rows]
        kept = [hit for row, hit in zip(rows, hits, strict=True) if row.id in self.kept]
        given = Counter(str(self.labels.get(row.id) or "none") for row in rows)
        return {"accuracy": percent(hits), "kept": len(kept), "accuracy_kept": percent(kept), "given": dict(given)}


def percent(hits: Sequence[bool]) -> float | None:
    return round(100 * sum(hits) / len(hits), 1) if hits else None


def labels_of(job: OpenRun) -> dict[str, Any]:
    """The accuracy of votes and of calibrated labels on the test rows, beside chance and the commonest label."""
    task, made, tests = job.task, job.run.read(CANDIDATES, Candidate), label_tests(job)
    right = {row.id: test.outputs for row, test in zip(tests, task.tests, strict=True)}
    opinion = second_opinion(made, task.labels)
    best = calibrated(tests, task.labels, over=made)
    sure = ranked([replace(row, label_asked=best.get(row.id)) for row in tests], task.labels, over=made)
    ways = {
        "votes": Labelled({row.id: row.output for row in tests}, enough_votes(job, tests)),
        "calibrated": Labelled(best, frozenset(id for id, label in sure.items() if label is not None)),
    }
    commonest = Counter(label for test in task.tests for label in test.outputs).most_common(1)[0][1]
    return {
        "n": len(tests),
        "chance": round(100 / len(task.labels), 1),
        "commonest": round(100 * commonest / len(tests), 1),
        **{name: way.judged(tests, right) for name, way in ways.items()},
        "opinion": opinion.name,
        "kappa": round(opinion.agreement.kappa, 3),
        "standard_errors": round(opinion.agreement.z, 1),
    }


def label_tests(job: OpenRun) -> list[Candidate]:
    """The test rows as stage B answers synthesised inputs, in a journal of their own inside the run."""
    run = Run(job.run.path(f"tests-{len(job.task.tests)}"))
    rows = [
        InputRow(row_id(job.task.digest, "test", i, job.seed), 0, i, job.seed, test.input)
        for i, test in enumerate(job.task.tests)
    ]
    if not run.path(INPUTS).exists():
        run.root.mkdir(parents=True, exist_ok=True)
        run.replace(INPUTS, rows)
    if len(run.read(CANDIDATES, Candidate)) < len(rows):
        gate = filters.input_gate(job.task, job.plan["filter"])
        work = Synthesis(run, job.task, job.form, job.generator, job.plan["synth"], gate, job.seed)
        write_candidates(work, lambda event: None)
    return run.read(CANDIDATES, Candidate)


def enough_votes(job: OpenRun, rows: Sequence[Candidate]) -> frozenset[str]:
    """The ids of those rows that the rules on outputs let pass with their voted label."""
    context = RuleContext(job.task, job.plan["filter"])
    passed = (
        row for row in rows if not first_reason(OUTPUT_RULES, RuleInput("", row.output, row.vote_share), context)[0]
    )
    return frozenset(row.id for row in passed)


def print_funnels(found: Sequence[dict[str, Any]]) -> None:
    """The first table, in Markdown."""
    print("| task | preset | asked | parsed | accepted | kept | distinct | apart | apart/asked |", end=" ")
    print("balance asked, kept | policy | rejected by |\n|" + " --- |" * 12)
    for row in found:
        balance = "" if row["balance_asked"] is None else f"{row['balance_asked']:.2f}, {shown(row['balance_kept'])}"
        rules = ", ".join(f"{rule} {n}" for rule, n in row["rules"].items())
        shares = " | ".join(f"{100 * row[name]:.0f} %" for name in ("distinct", "apart", "apart_of_asked"))
        counts = " | ".join(str(row[name]) for name in ("asked", "parsed", "accepted", "kept"))
        policy = "stopped early" if row["stopped"] else row["policy"]
        print(f"| {row['task']} | {row['preset']} | {counts} | {shares} | {balance} | {policy} | {rules} |")


def print_labels(found: Sequence[dict[str, Any]]) -> None:
    """The second table, in Markdown."""
    print("\n| task | preset | n | chance | commonest | votes | kept of them | calibrated | surer half |", end=" ")
    print("policy | agrees |\n|" + " --- |" * 11)
    for row in found:
        told = row["labels"]
        ways = " | ".join(
            f"{told[way]['accuracy']} | {told[way]['accuracy_kept']} ({told[way]['kept']})"
            for way in ("votes", "calibrated")
        )
        agrees = f"{told['opinion']} {told['kappa']:.2f} ({told['standard_errors']:.1f})"
        head = f"{row['task']} | {row['preset']} | {told['n']} | {told['chance']} | {told['commonest']}"
        print(f"| {head} | {ways} | {row['policy']} | {agrees} |")


def shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
