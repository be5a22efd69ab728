"""Which ways of answering a person can really use, and which of them is the strongest.

A way is a system of the evaluation with the commands that give its answers. Trivial systems are measured, but cannot be
typed; neither can what the base makes of many samples, or of synthetic rows in its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from sg_local.evaluate import SYSTEMS, EvalSettings
from sg_local.evaluate.systems import System
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
"""How `predict` and `serve` are asked for a system's answers, by what the table of systems calls it."""
UNSERVED = ("votes",)
FORMS = ("chat", "plain")


@dataclass(frozen=True)
class Use:
    """A system that a person can use: its name in the report, its title, its score in percent, the commands.

    `serving` is empty where `serve` cannot answer so.
    """

    name: str
    title: str
    score: float
    command: str
    serving: str = ""

    @property
    def typed(self) -> str:
        """What to type, in words."""
        return f"{self.command} (or {self.serving})" if self.serving else self.command


def uses(run: Run, report: Report) -> list[Use]:
    """Every system that `predict` can answer as, the strongest first; among equals the one that is served.

    Of a base in several prompt forms each is one; its best form stands under the name without a form.
    """
    found = []
    for one in SYSTEMS:
        forms = {report.systems[name].form: name for name in _names(one, report)} if one.asked else {}
        for form, name in forms.items():
            typed = _typed(run, report, one, "" if form == report.form else form)
            system = report.systems[name]
            serving = "" if one.asked in UNSERVED else " ".join(("sg-local serve", *typed))
            found.append(Use(name, system.title, system.score, " ".join(("sg-local predict", *typed, "FILE")), serving))
    return sorted(found, key=lambda use: (-use.score, use.name != report.served))


def _names(system: System, report: Report) -> list[str]:
    """The names that a system has in a report, that of its best form last."""
    names = [*(system.in_form(form).name for form in FORMS if system.form), system.name]
    return [name for name in names if name in report.systems]


def _typed(run: Run, report: Report, system: System, form: str) -> list[str]:
    """How a run is named and asked, in the base's prompt form where that is not the run's own."""
    n_votes = (run.stamp("eval") or {}).get("settings", {}).get("n_votes", EvalSettings.n_votes)
    typed = TYPED[system.asked].format(n_votes=n_votes)
    if report.kind == "generation":  # nothing is restricted there but JSON, as it was when it was measured
        typed = typed.replace(TYPED["free"], "")
    base = ("--base", f"--form {form}" if form else "") if system.model == BASE else ()
    return list(filter(None, (run.typed, *base, typed)))


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
    return f"{said}; {better} {served.score:.1f} ({sure}): {strongest.typed}"
