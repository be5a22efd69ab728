"""What the page tells, gathered from the run folder: plain values for the template, charts as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sg_local.calibration import BINS, Reliability
from sg_local.files import file_digest
from sg_local.personal import sentence
from sg_local.records import Answer, Verdict
from sg_local.report.differing import Piece, compare
from sg_local.report.file import read_report
from sg_local.report.memory import sentences
from sg_local.report.records import BASE, FAMILIES, FIELD_METRICS, METRICS, TUNED, Gain, Report, ScoredRow, SystemResult
from sg_local.run import ADAPTER, ANSWERS, FUSED, STAGES, TRAIN, VALID, VERDICTS, Run

N_KEPT = 12
N_ANSWERS = 60


@dataclass(frozen=True)
class GainLine:
    """A line of the table of gains, systems under their names for people; `why` says what makes this base worth it."""

    tuned: str
    base: str
    why: str
    gain: Gain
    reached: str


@dataclass(frozen=True)
class AnswerLine:
    """A test row answered before and after tuning, what differs marked."""

    row: ScoredRow
    base: Sequence[Piece]
    tuned: Sequence[Piece]

    @property
    def scores(self) -> tuple[float, float]:
        """The base's score and the tuned model's, in percent."""
        return self.row.scores[BASE], self.row.scores[TUNED]


@dataclass(frozen=True)
class Counts:
    """A system's confusion table under its name for people."""

    title: str
    rows: tuple[tuple[int, ...], ...]


def gather(run: Run) -> dict[str, Any]:
    """Everything that the template shows. Raises SgError where the run has no report.json."""
    report = read_report(run)
    trained = list(run.lines(TRAIN))
    rows = [*trained, *run.lines(VALID)]
    return {
        "report": report,
        "metric": METRICS[report.metric],
        "settings": run.settings,
        "systems": systems_by_family(report),
        "gains": list(gain_lines(report)),
        "n_trained": len(trained),
        "charts": {name: Markup(svg) for name, svg in _charts(run, report, rows)},
        "kept": _spread(rows, N_KEPT),
        "edited": sum(v.judge != "filters" for v in run.read(VERDICTS, Verdict)),
        "memory": () if report.memory is None else sentences(report.memory),
        "personal": "" if report.funnel is None else sentence(report.funnel.flagged, report.funnel.personal),
        "rejected": report.funnel.examples if report.funnel is not None else {},
        "answers": answer_lines(run, report)[:N_ANSWERS],
        "confusions": _confusions(report),
        "field_metrics": {} if report.systems[report.served].by_field is None else FIELD_METRICS,
        "field_lines": _field_lines(report),
        "reliabilities": reliability_lines(report),
        "n_bins": BINS,
        "stages": list(_stages(run)),
        "files": list(_files(run)),
    }


def systems_by_family(report: Report) -> list[SystemResult]:
    """Every system: those in free text, those held to labels, the trivial ones."""
    return sorted(report.systems.values(), key=lambda system: FAMILIES.index(system.family))


def gain_lines(report: Report) -> Iterator[GainLine]:
    """Each tuned system against the base that answers alike, and against the strongest of its family."""
    for outcome in report.outcomes:
        alike = report.systems[outcome.tuned].against
        for base, why in {alike: "answers alike", outcome.base: "strongest on the test rows"}.items():
            gain = report.gain(outcome.tuned, base)
            tuned_title, base_title = report.titles(outcome.tuned, base)
            yield GainLine(tuned_title, base_title, why, gain, ", ".join(report.titles(*gain.reached_by)))


def reliability_lines(report: Report) -> dict[str, Reliability]:
    """How far the probabilities of the served system and its base mean what they say, by title; the base first."""
    served = report.systems[report.served]
    systems = (report.systems[served.against], served)
    return {one.title: one.reliability for one in systems if one.reliability is not None}


def answer_lines(run: Run, report: Report) -> list[AnswerLine]:
    """Every test row, those on which the score changed most first."""
    texts = {(a.system, a.index): a.text for a in run.read(ANSWERS, Answer) if a.system in (BASE, TUNED)}
    found = [
        AnswerLine(row, *compare(*(texts.get((system, row.index), "") for system in (BASE, TUNED))))
        for row in report.rows
    ]
    return sorted(found, key=lambda line: -abs(line.scores[1] - line.scores[0]))


def _charts(run: Run, report: Report, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    from sg_local.report import charts

    funnel = report.funnel
    yield "scores", charts.scores(systems_by_family(report), METRICS[report.metric])
    if report.outcomes:
        yield "gains", charts.gains({" \u2212 ".join(report.titles(v.tuned, v.base)): v for v in report.outcomes})
    if reliabilities := reliability_lines(report):
        yield "reliability", charts.reliability(reliabilities)
    curve = (run.stamp("train") or {}).get("curve", [])
    if curve:
        yield "losses", charts.losses(curve)
    if funnel is not None:
        given = {"labelled rows": funnel.labelled, "own inputs": funnel.own}
        steps = {name: n for name, n in given.items() if n} | {
            "asked": funnel.asked,
            "parsed": funnel.parsed,
            "accepted": funnel.accepted,
            "kept": funnel.kept,
        }
        yield "funnel", charts.bars(steps, "Rows left after each step", "rows")
    if funnel is not None and funnel.rules:
        yield "rules", charts.bars(funnel.rules, "Rows rejected by each rule", "rows rejected")
    if funnel is not None and funnel.labels:
        yield "balance", charts.balance(funnel.labels)
    groups = {
        "inputs, synthetic": [row["input"] for row in rows],
        "inputs, test": [row.input for row in report.rows],
        "outputs, synthetic": [row["output"] for row in rows],
        "outputs, test": [row.outputs[0] for row in report.rows],
    }
    shown = [group for group in groups if not (report.kind == "classification" and group.startswith("outputs"))]
    yield "lengths", charts.lengths({group: groups[group] for group in shown if groups[group]})


def _field_lines(report: Report) -> tuple[tuple[str, ...], list[tuple[str, list[float]]]] | None:
    """The titles of the served system and its base, and for each field the scores of both; None without a schema."""
    systems = [report.systems[name] for name in (report.systems[report.served].against, report.served)]
    tables = [system.by_field for system in systems if system.by_field is not None]
    if len(tables) < len(systems):
        return None
    lines = [(path, [table.get(path, 0.0) for table in tables]) for path in dict.fromkeys([*tables[0], *tables[1]])]
    return tuple(system.title for system in systems), lines


def _confusions(report: Report) -> list[Counts]:
    """The confusion tables of the systems in the verdict, the base before the tuned model."""
    tables = report.confusion.tables if report.confusion is not None else {}
    names = dict.fromkeys(name for outcome in report.outcomes for name in (outcome.base, outcome.tuned))
    return [Counts(report.systems[name].title, tables[name]) for name in names if name in tables]


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
