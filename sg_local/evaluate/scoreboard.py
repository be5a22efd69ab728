"""Answers to figures: scores with intervals, gains over each base, the verdict, gates. Pure, no engine.

The verdict compares like with like: free text with free text, answers restricted to the labels with answers so
restricted. Each tuned system meets the strongest base of its family, strongest on the test rows themselves, which
leans in the base's favour. A gain is marked where a trivial system reaches it too: better than the base, and not
surely worse than the tuned model.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sg_local import metrics
from sg_local.metrics import Difference
from sg_local.prompts import normalise
from sg_local.records import SgError, Task

TRIVIAL = ("copy_input", "majority_label", "random_output")
OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
GATE = re.compile(r"\s*(\w+)(?:\s*-\s*(\w+))?(?:\.(low|high))?\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*")


def role_of(system: str) -> str:
    """`base`, `tuned` or `trivial`, by the system's name. A tune on the demonstrations alone is a base to beat."""
    if system.startswith("tuned_examples"):
        return "base"
    return "trivial" if system in TRIVIAL else system.partition("_")[0]


def family_of(system: str) -> str:
    """`restricted` where only labels were allowed, `trivial`, or `free` text."""
    if system in TRIVIAL:
        return "trivial"
    return "restricted" if "restricted" in system or "calibrated" in system else "free"


def title_of(system: str) -> str:
    """A system's name for people: `base_calibrated_plain` is `base, calibrated labels (plain prompt)`."""
    if system in TITLES:
        return TITLES[system]
    kind, _, form = system.rpartition("_")
    return f"{TITLES.get(kind, kind).removesuffix(', best prompt')} ({form} prompt)"


TITLES = {
    "base": "base, best prompt",
    "base_vote": "base, voting",
    "base_synthetic": "base, synthetic rows in the prompt",
    "base_restricted": "base, labels only",
    "base_calibrated": "base, calibrated labels",
    "tuned_examples": "tuned on the examples alone",
    "tuned_examples_restricted": "tuned on the examples alone, labels only",
    "tuned_examples_calibrated": "tuned on the examples alone, calibrated labels",
    "tuned": "tuned",
    "tuned_vote": "tuned, voting",
    "tuned_restricted": "tuned, labels only",
    "tuned_calibrated": "tuned, calibrated labels",
    "copy_input": "copy the input",
    "majority_label": "always the commonest label",
    "random_output": "a random training output",
}


@dataclass(frozen=True)
class Scoreboard:
    """All answers of one evaluation: `texts[system][i]` answers the question whose right outputs are `wanted[i]`."""

    task: Task
    texts: Mapping[str, Sequence[str]]
    wanted: Sequence[tuple[str, ...]]
    seed: int = 0
    rounds: int = 2000

    @cached_property
    def draws(self) -> Any:
        """The bootstrap resamples that every system shares."""
        return metrics.resamples(len(self.wanted), self.seed, self.rounds)

    @cached_property
    def rows(self) -> dict[str, dict[str, list[float]]]:
        """Row scores in 0..1 by system and metric."""
        scorers = metrics.metrics_of(self.task.kind, self.task.labels)
        return {
            system: {
                name: [score(text, right) for text, right in zip(texts, self.wanted, strict=True)]
                for name, score in scorers.items()
            }
            for system, texts in self.texts.items()
        }

    def primary(self, system: str) -> list[float]:
        """Row scores of the deciding metric."""
        return self.rows[system][self.task.metric]

    def system(self, name: str) -> dict[str, Any]:
        """One system's figures: score, interval, n, the other metrics and the share of irrelevant answers."""
        found: dict[str, Any] = asdict(metrics.estimate(self.primary(name), self.draws))
        for metric, values in self.rows[name].items():
            found[metric] = _percent(values)
        found["irrelevant"] = _percent([float(self._is_irrelevant(text)) for text in self.texts[name]])
        if self.task.kind == "classification":
            found["macro_f1"] = round(metrics.macro_f1(self.confusion(name)), 2)
        return {**found, "title": title_of(name), "role": role_of(name), "family": family_of(name)}

    def confusion(self, name: str) -> list[list[int]]:
        """Counts by right label and answered label; the last column counts answers that are no label."""
        return metrics.confusion(self.task.labels, self.texts[name], [right[0] for right in self.wanted])

    def _is_irrelevant(self, text: str) -> bool:
        """No label in the answer; for generation, no answer at all."""
        if self.task.kind == "classification":
            return not metrics.names_label(self.task.labels, text)
        return not normalise(text)

    def gain(self, tuned: str, base: str) -> dict[str, Any]:
        """What one system gains over another, and the trivial systems that reach it too."""
        found = metrics.paired(self.primary(tuned), self.primary(base), self.draws)
        reached = [name for name in TRIVIAL if name in self.texts and self._reaches(name, tuned, base)]
        like = family_of(tuned) == family_of(base)
        return {**asdict(found), "outcome": found.outcome, "like": like, "reached_by": reached}

    def _reaches(self, trivial: str, tuned: str, base: str) -> bool:
        def against(other: str, one: str) -> Difference:
            return metrics.paired(self.primary(other), self.primary(one), self.draws)

        return (
            against(tuned, base).gain > 0
            and against(trivial, base).gain > 0
            and against(tuned, trivial).outcome != "better"
        )

    def names(self, role: str, family: str | None = None) -> list[str]:
        """The systems of a role, and of a family where given, in the order in which they answered."""
        return [name for name in self.texts if role_of(name) == role and family in (None, family_of(name))]

    def strongest(self, family: str) -> str | None:
        """The base of a family with the highest score on the test rows; None where there is none."""
        return max(self.names("base", family), key=lambda name: sum(self.primary(name)), default=None)

    def gains(self) -> dict[str, dict[str, Any]]:
        """Every tuned system against every base, under `TUNED-BASE`."""
        return {
            f"{tuned}-{base}": self.gain(tuned, base) for tuned in self.names("tuned") for base in self.names("base")
        }

    def verdicts(self) -> list[dict[str, Any]]:
        """Each tuned system against the strongest base of its own family, with a sentence."""
        found = []
        for tuned in self.names("tuned"):
            base = self.strongest(family_of(tuned))
            if base is not None:
                gain = self.gain(tuned, base)
                said = sentence(self.task.metric, tuned, base, gain)
                found.append({"tuned": tuned, "base": base, "family": family_of(tuned), **gain, "sentence": said})
        return found


def sentence(metric: str, tuned: str, base: str, gain: Mapping[str, Any]) -> str:
    """A gain in words."""
    measured = f"{gain['gain']:+.1f} points of {METRIC_NAMES[metric]} (95 % interval {gain['low']:+.1f} to "
    measured += f"{gain['high']:+.1f}, p = {gain['p']:.3f})"
    said = OUTCOMES[gain["outcome"]].format(
        tuned=f"\u201c{title_of(tuned)}\u201d", base=f"\u201c{title_of(base)}\u201d"
    )
    said += f": {measured}."
    if gain["reached_by"]:
        said += f" A trivial system reaches this too ({', '.join(map(title_of, gain['reached_by']))})."
    return said


METRIC_NAMES = {"exact_match": "exact match", "rouge_l": "ROUGE-L"}
OUTCOMES = {
    "better": "{tuned} is better than {base}",
    "worse": "{tuned} is worse than {base}",
    "open": "No difference between {tuned} and {base} is shown",
}


@dataclass(frozen=True)
class Gate:
    """A condition on a report, such as `tuned-base>=2`: a score or a gain, its interval's end, a bound in points."""

    text: str
    key: str
    part: str
    compare: str
    bound: float

    def value(self, report: Mapping[str, Any]) -> float:
        """The figure that the gate judges; SgError (usage) where the report has no such system."""
        table = report["gains"] if "-" in self.key else report["systems"]
        found = table.get(self.key)
        if found is None:
            known = ", ".join((*report["systems"], *report["gains"]))
            raise SgError(f"The gate {self.text!r} names no system of this run.", f"It has: {known}.", exit_code=2)
        return found[self.part or ("gain" if "-" in self.key else "score")]


def served(report: Mapping[str, Any]) -> str:
    """The system that predict and serve answer with: labels only, where there are labels."""
    return "tuned_restricted" if "tuned_restricted" in report["systems"] else "tuned"


def parse_gate(text: str) -> Gate:
    """A gate from `SYSTEM[-SYSTEM][.low|.high] >= NUMBER`; SgError (usage) for anything else."""
    found = GATE.fullmatch(text)
    if found is None:
        raise SgError(
            f"{text!r} is not a gate.", "Write such as `tuned-base>=2` or `tuned-base.low>0` (points).", exit_code=2
        )
    one, other, part, compare, bound = found.groups()
    return Gate(text.strip(), f"{one}-{other}" if other else one, part or "", compare, float(bound))


def require(report: Mapping[str, Any], gates: Sequence[Gate]) -> None:
    """Raise SgError with exit code 3 for the first gate that the report does not meet."""
    for gate in gates:
        value = gate.value(report)
        if not OPERATORS[gate.compare](value, gate.bound):
            raise SgError(
                f"The gate {gate.text!r} is not met: {gate.key} is {value:g}.",
                "See `sg-local report` for what held it back.",
                exit_code=3,
            )


def _percent(values: Sequence[float]) -> float:
    return round(100 * sum(values) / len(values), 2)
