"""What the page tells, gathered from the run folder: plain values for the template, charts as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sg_local.records import Answer, Verdict
from sg_local.report.differing import compare
from sg_local.run import ADAPTER, ANSWERS, REPORT, STAGES, TRAIN, VALID, VERDICTS, Run, file_digest, read_json

METRICS = {"exact_match": "exact match", "rouge_l": "ROUGE-L"}
FAMILIES = ("free", "restricted", "trivial")
N_KEPT = 12
N_ANSWERS = 60


def gather(run: Run) -> dict[str, Any]:
    """Everything that the template shows. Raises SgError where the run has no report.json."""
    report = read_json(run.path(REPORT))
    order = sorted(report["systems"].items(), key=lambda item: FAMILIES.index(item[1]["family"]))
    report["systems"] = dict(order)
    rows = [*run.lines(TRAIN), *run.lines(VALID)]
    return {
        "report": report,
        "metric": METRICS[report["metric"]],
        "settings": run.settings,
        "systems": list(report["systems"].values()),
        "gains": list(gain_rows(report)),
        "served": "tuned_restricted" if "tuned_restricted" in report["systems"] else "tuned",
        "n_trained": sum(1 for _ in run.lines(TRAIN)),
        "charts": {name: Markup(svg) for name, svg in _charts(run, report, rows)},
        "kept": _spread(rows, N_KEPT),
        "edited": sum(v.judge != "filters" for v in run.read(VERDICTS, Verdict)),
        "rejected": report["funnel"].get("examples", {}),
        "answers": answer_rows(run, report)[:N_ANSWERS],
        "confusions": _confusions(report),
        "stages": list(_stages(run)),
        "files": list(_files(run)),
    }


def gain_rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each tuned system against the base that answers alike, and against the strongest of its family."""
    titles = {name: system["title"] for name, system in report["systems"].items()}
    for verdict in report["verdicts"]:
        tuned = verdict["tuned"]
        alike = tuned.replace("tuned", "base", 1)
        bases = {alike if alike in titles else "base": "answers alike", verdict["base"]: "strongest on the test rows"}
        for base, why in bases.items():
            reached = ", ".join(titles[name] for name in report["gains"][f"{tuned}-{base}"]["reached_by"])
            yield {
                **report["gains"][f"{tuned}-{base}"],
                "tuned": titles[tuned],
                "base": titles[base],
                "why": why,
                "reached": reached,
            }


def answer_rows(run: Run, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Test rows with the base's and the tuned model's answers, those first on which they differ most in score."""
    texts = {(a.system, a.index): a.text for a in run.read(ANSWERS, Answer) if a.system in ("base", "tuned")}
    found = []
    for row in report["rows"]:
        base, tuned = (texts.get((system, row["index"]), "") for system in ("base", "tuned"))
        base_pieces, tuned_pieces = compare(base, tuned)
        change = row["scores"]["tuned"] - row["scores"]["base"]
        found.append({**row, "base": base_pieces, "tuned": tuned_pieces, "change": change})
    return sorted(found, key=lambda row: -abs(row["change"]))


def _charts(run: Run, report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    from sg_local.report import charts

    titles = {name: system["title"] for name, system in report["systems"].items()}
    funnel = report["funnel"]
    yield "scores", charts.scores(report["systems"], METRICS[report["metric"]])
    if report["verdicts"]:
        yield "gains", charts.gains(report["verdicts"], titles)
    curve = (run.stamp("train") or {}).get("curve", [])
    if curve:
        yield "losses", charts.losses(curve)
    if funnel:
        steps = {step: funnel[step] for step in ("asked", "parsed", "accepted", "kept")}
        yield "funnel", charts.bars(steps, "Rows left after each step", "rows")
    if funnel.get("rules"):
        yield "rules", charts.bars(funnel["rules"], "Rows rejected by each rule", "rows rejected")
    if funnel.get("labels"):
        yield "balance", charts.balance(funnel["labels"])
    groups = {
        "inputs, synthetic": [row["input"] for row in rows],
        "inputs, test": [row["input"] for row in report["rows"]],
        "outputs, synthetic": [row["output"] for row in rows],
        "outputs, test": [row["outputs"][0] for row in report["rows"]],
    }
    shown = [group for group in groups if not (report["kind"] == "classification" and group.startswith("outputs"))]
    yield "lengths", charts.lengths({group: groups[group] for group in shown if groups[group]})


def _confusions(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The confusion tables of the systems in the verdict, the base before the tuned model."""
    tables = report.get("confusion", {}).get("tables", {})
    names = dict.fromkeys(name for verdict in report["verdicts"] for name in (verdict["base"], verdict["tuned"]))
    return [{"title": report["systems"][name]["title"], "rows": tables[name]} for name in names if name in tables]


def _stages(run: Run) -> Iterator[dict[str, Any]]:
    """Each finished stage: seconds and settings, nested ones under dotted names."""
    for stage in STAGES:
        stamp = run.stamp(stage)
        if stamp is not None:
            yield {"name": stage, "seconds": stamp.get("seconds"), "settings": dict(_dotted(stamp["settings"]))}


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _files(run: Run) -> Iterator[dict[str, Any]]:
    """The files that a run hands out, with sizes and SHA-256."""
    for pattern in (ADAPTER, "fused-*.gguf", "Modelfile", TRAIN, VALID):
        for path in sorted(run.root.glob(pattern)):
            yield {"name": path.name, "size": path.stat().st_size, "sha256": file_digest(path)}


def _spread(rows: Sequence[Any], n: int) -> list[Any]:
    """At most n rows, evenly spread."""
    return [rows[i * len(rows) // n] for i in range(n)] if len(rows) > n else list(rows)
