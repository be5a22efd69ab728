"""What the page tells, gathered from the run folder: plain values for the template, charts as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sg_local.calibration import BINS, Reliability
from sg_local.files import file_digest
from sg_local.personal import sentence
from sg_local.records import Funnel, Verdict
from sg_local.report import figure
from sg_local.report.answers import groups
from sg_local.report.confusion import MOST_LABELS, columns, confused
from sg_local.report.file import read_report
from sg_local.report.memory import sentences
from sg_local.report.records import BASE, FAMILIES, FIELD_METRICS, METRICS, Gain, Report, SystemResult
from sg_local.review import person_verdicts
from sg_local.run import ADAPTER, FUSED, STAGES, TRAIN, VALID, VERDICTS, Run

N_KEPT = 12
N_IN_SIGHT = 4
"""Rows of an example table that are not folded away."""


@dataclass(frozen=True)
class GainLine:
    """A line of the table of gains, systems under their names for people; `why` says what makes this base worth it."""

    tuned: str
    base: str
    why: str
    gain: Gain
    reached: str


def gather(run: Run) -> dict[str, Any]:
    """Everything that the template shows. Raises SgError where the run has no report.json."""
    report = read_report(run)
    trained = list(run.lines(TRAIN))
    rows = [*trained, *run.lines(VALID)]
    return {
        "report": report,
        "metric": METRICS[report.metric],
        "settings": run.settings,
        "figure": figure.before_after(report),
        "interval": figure.interval,
        "bars": figure.bars,
        "gained": report.gains.get(f"{report.served}-{BASE}"),
        "answers": groups(run, report),
        "systems": systems_by_family(report),
        "gains": (gains := list(gain_lines(report))),
        "gain_span": _span(gains),
        "n_trained": len(trained),
        "charts": {name: Markup(svg) for name, svg in _charts(run, report, rows)},
        "kept": [(row["input"], row["output"]) for row in _spread(rows, N_KEPT)],
        "by_people": len(person_verdicts(run.read(VERDICTS, Verdict))),
        "memory": () if report.memory is None else sentences(report.memory),
        "personal": "" if report.funnel is None else sentence(report.funnel.flagged, report.funnel.personal),
        "steps": {} if report.funnel is None else _steps(report.funnel),
        "rejected": [] if report.funnel is None else _rejected(report.funnel),
        "n_in_sight": N_IN_SIGHT,
        "confusions": confused(report),
        "columns": columns(report),
        "most_labels": MOST_LABELS,
        "field_metrics": {} if report.systems[report.served].by_field is None else FIELD_METRICS,
        "field_lines": _field_lines(report),
        "reliabilities": reliability_lines(report),
        "n_bins": BINS,
        "stages": list(_stages(run)),
        "files": list(_files(run)),
    }


def systems_by_family(report: Report) -> dict[str, SystemResult]:
    """Every system by name: those in free text, those held to labels, the trivial ones."""
    return dict(sorted(report.systems.items(), key=lambda one: FAMILIES.index(one[1].family)))


def gain_lines(report: Report) -> Iterator[GainLine]:
    """Each tuned system against the base that answers alike, against the strongest of its family, against the rival."""
    for outcome in report.outcomes:
        alike = report.systems[outcome.tuned].against
        rivals = {alike: "answers alike", outcome.base: "strongest on the test rows"}
        if outcome.tuned == report.served and report.main is not None:
            rivals[report.rival] = report.rival_words
        for base, why in rivals.items():
            gain = report.gain(outcome.tuned, base)
            tuned_title, base_title = report.titles(outcome.tuned, base)
            yield GainLine(tuned_title, base_title, why, gain, ", ".join(report.titles(*gain.reached_by)))


def reliability_lines(report: Report) -> dict[str, Reliability]:
    """How far the probabilities of the served system and its base mean what they say, by title; the base first."""
    served = report.systems[report.served]
    systems = (report.systems[served.against], served)
    return {one.title: one.reliability for one in systems if one.reliability is not None}


def _charts(run: Run, report: Report, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    from sg_local.report import charts

    if reliabilities := reliability_lines(report):
        yield "reliability", charts.reliability(reliabilities)
    curve = (run.stamp("train") or {}).get("curve", [])
    if curve:
        yield "losses", charts.losses(curve)
    texts = {
        "inputs, synthetic": [row["input"] for row in rows],
        "inputs, test": [row.input for row in report.rows],
        "outputs, synthetic": [row["output"] for row in rows],
        "outputs, test": [row.outputs[0] for row in report.rows],
    }
    shown = [group for group in texts if not (report.kind == "classification" and group.startswith("outputs"))]
    yield "lengths", charts.lengths({group: texts[group] for group in shown if texts[group]})


def _steps(funnel: Funnel) -> dict[str, int]:
    """How many rows were left after each step; what a person gave comes first, where there was any."""
    given = {"labelled rows": funnel.labelled, "own inputs": funnel.own}
    counts = {"asked": funnel.asked, "parsed": funnel.parsed, "accepted": funnel.accepted, "kept": funnel.kept}
    return {name: n for name, n in given.items() if n} | counts


def _rejected(funnel: Funnel) -> list[tuple[str, str, str]]:
    """Rule, row and reason of rejected rows: the first of each rule before the second of any."""
    found = [(i, rule, row) for rule, rows in funnel.examples.items() for i, row in enumerate(rows)]
    return [(rule, row[0], row[1]) for _, rule, row in sorted(found, key=lambda one: one[0])]


def _span(gains: Sequence[GainLine]) -> tuple[float, float]:
    """A scale with zero in its middle on which every interval of a gain has room, in points."""
    most = max((abs(end) for line in gains for end in (line.gain.low, line.gain.high)), default=0.0)
    return -max(most, 1.0), max(most, 1.0)


def _field_lines(report: Report) -> tuple[tuple[str, ...], list[tuple[str, list[float]]]] | None:
    """The titles of the served system and its base, and for each field the scores of both; None without a schema."""
    systems = [report.systems[name] for name in (report.systems[report.served].against, report.served)]
    tables = [system.by_field for system in systems if system.by_field is not None]
    if len(tables) < len(systems):
        return None
    lines = [(path, [table.get(path, 0.0) for table in tables]) for path in dict.fromkeys([*tables[0], *tables[1]])]
    return tuple(system.title for system in systems), lines


def _stages(run: Run) -> Iterator[dict[str, Any]]:
    """Each finished stage: seconds and settings, nested ones under dotted names."""
    for stage in STAGES:
        stamp = run.stamp(stage)
        if stamp is not None:
            yield {"name": stage, "seconds": stamp.get("seconds"), "settings": dict(dotted(stamp["settings"]))}


def dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested tables with its dotted name."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _files(run: Run) -> Iterator[dict[str, Any]]:
    """The files that a run hands out, with sizes and SHA-256."""
    for pattern in (ADAPTER, FUSED, "Modelfile", TRAIN, VALID):
        for path in sorted(run.root.glob(pattern)):
            yield {"name": path.name, "size": path.stat().st_size, "sha256": file_digest(path)}


def _spread(rows: Sequence[Any], n: int) -> list[Any]:
    """At most n rows, evenly spread."""
    return [rows[i * len(rows) // n] for i in range(n)] if len(rows) > n else list(rows)
