"""Which ways of answering a person can really use, and which of them is the strongest.

A way is a system of the evaluation with the command that gives its answers, in the prompt form that the run has. The
base in another form and trivial systems are measured, but cannot be typed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.evaluate import SYSTEMS, EvalSettings
from sg_local.report import Report
from sg_local.report.records import BASE
from sg_local.run import Run

TYPED = {
    "likeliest": "",
    "calibrated": "--labels calibrated",
    "ensemble": "--labels ensemble",
    "free": "--free",
    "votes": "--votes {n_votes}",
}
"""How `predict` is asked for a system's answers, by what the table of systems calls it."""


@dataclass(frozen=True)
class Use:
    """A system that a person can use: its name in the report, its title, its score in percent, the command."""

    name: str
    title: str
    score: float
    command: str


def uses(run: Run, report: Report) -> list[Use]:
    """Every system that `predict` can answer as, the strongest first; among equals the one that is served."""
    n_votes = (run.stamp("eval") or {}).get("settings", {}).get("n_votes", EvalSettings.n_votes)
    found = []
    for one in SYSTEMS:
        names = [name for name in (one.name, one.in_form(report.form).name) if name in report.systems]
        name = next((name for name in names if report.systems[name].form in ("", report.form)), None)
        if name is not None and one.asked:
            typed = TYPED[one.asked].format(n_votes=n_votes)
            if report.kind == "generation":  # nothing is restricted there but JSON, as it was when it was measured
                typed = typed.replace(TYPED["free"], "")
            words = ("sg-local predict", run.typed, "--base" if one.model == BASE else "", typed, "FILE")
            system = report.systems[name]
            found.append(Use(name, system.title, system.score, " ".join(filter(None, words))))
    return sorted(found, key=lambda use: (-use.score, use.name != report.served))


def served_note(run: Run, report: Report) -> str:
    """Which way predict and serve answer, and why, or which one is stronger on the test rows."""
    served, strongest = report.systems[report.served], next(iter(uses(run, report)), None)
    said = f"predict and serve use \u201c{served.title}\u201d"
    if strongest is None or strongest.score <= served.score:
        return f"{said}, the strongest system available on these test rows."
    gain = report.gains.get(f"{report.served}-{strongest.name}")
    if gain is None:  # of two tuned systems only the scores are compared
        sure = "the difference was not tested"
    else:
        sure = "significant" if gain.outcome == "worse" else "may be chance"
    better = f"\u201c{strongest.title}\u201d scores higher on these test rows, {strongest.score:.1f} against"
    return f"{said}; {better} {served.score:.1f} ({sure}): {strongest.command}"
