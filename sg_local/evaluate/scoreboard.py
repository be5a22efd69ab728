"""Answers to figures: scores with intervals, gains over each base, how it ended, gates. Pure, no engine.

The outcome compares like with like: free text with free text, answers restricted to the labels with answers so
restricted. Each tuned system meets the strongest base of its family, strongest on the test rows themselves, which
leans in the base's favour. A gain is marked where a trivial system reaches it too: better than the base, and not
surely worse than the tuned model.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Protocol

from sg_local import metrics
from sg_local.evaluate.systems import System
from sg_local.metrics import Difference
from sg_local.prompts import normalise
from sg_local.records import GATE_NOT_MET, SgError, Task
from sg_local.report.records import BASE, Family, Gain, Outcome, Report, Role, SystemResult, sentence, strongest
from sg_local.words import did_you_mean

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
GATE = re.compile(r"\s*(\w+)(?:\s*-\s*(\w+))?(?:\.(low|high))?\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Scoreboard:
    """All answers of one evaluation: `texts[system][i]` answers `inputs[i]`, whose right outputs are `wanted[i]`."""

    task: Task
    texts: Mapping[System, Sequence[str]]
    inputs: Sequence[str]
    wanted: Sequence[tuple[str, ...]]
    seed: int = 0
    rounds: int = 2000

    @cached_property
    def draws(self) -> Any:
        """The bootstrap resamples that every system shares."""
        return metrics.resamples(len(self.wanted), self.seed, self.rounds)

    @cached_property
    def rows(self) -> dict[System, dict[str, list[float]]]:
        """Row scores in 0..1 by system and metric."""
        scorers = metrics.metrics_of(self.task.kind, self.task.labels, self.task.schema)
        return {
            system: {
                name: [score(text, right) for text, right in zip(texts, self.wanted, strict=True)]
                for name, score in scorers.items()
            }
            for system, texts in self.texts.items()
        }

    def primary(self, system: System) -> list[float]:
        """Row scores of the deciding metric."""
        return self.rows[system][self.task.metric]

    def results(self) -> dict[str, SystemResult]:
        """Every system's figures."""
        return {system.name: self.result(system) for system in self.texts}

    def result(self, system: System) -> SystemResult:
        """One system's figures: score, interval, n, the other metrics and the share of irrelevant answers."""
        found = metrics.estimate(self.primary(system), self.draws)
        others = {name: _percent(values) for name, values in self.rows[system].items()}
        if self.task.kind == "classification":
            others["macro_f1"] = round(metrics.macro_f1(self.confusion(system)), 2)
        return SystemResult(
            found.score,
            found.low,
            found.high,
            found.n,
            others,
            _percent([float(self._is_irrelevant(text)) for text in self.texts[system]]),
            system.title,
            system.role,
            system.family,
            system.against if system.against in (one.name for one in self.texts) else BASE,
            system.form,
            metrics.by_field(self.texts[system], self.wanted) if self.task.schema else None,
            copied=self.copied(system),
        )

    def copied(self, system: System) -> float | None:
        """The share of answers, in percent, that repeat the input as it stands; None for classification."""
        if self.task.kind == "classification":
            return None
        pairs = zip(self.texts[system], self.inputs, strict=True)
        return _percent([float(text.strip() == asked.strip()) for text, asked in pairs])

    def confusion(self, system: System) -> tuple[tuple[int, ...], ...]:
        """Counts by right label and answered label; the last column counts answers that are no label."""
        counts = metrics.confusion(self.task.labels, self.texts[system], [right[0] for right in self.wanted])
        return tuple(map(tuple, counts))

    def _is_irrelevant(self, text: str) -> bool:
        """No label in the answer; for generation, no answer at all."""
        if self.task.kind == "classification":
            return not metrics.names_label(self.task.labels, text)
        return not normalise(text)

    def gain(self, tuned: System, base: System) -> Gain:
        """What one system gains over another, and the trivial systems that reach it too."""
        found = metrics.paired(self.primary(tuned), self.primary(base), self.draws)
        reached = tuple(one.name for one in self.systems("trivial") if self._reaches(one, tuned, base))
        return Gain(**asdict(found), outcome=found.outcome, like=tuned.family == base.family, reached_by=reached)

    def _reaches(self, trivial: System, tuned: System, base: System) -> bool:
        def against(other: System, one: System) -> Difference:
            return metrics.paired(self.primary(other), self.primary(one), self.draws)

        return (
            against(tuned, base).gain > 0
            and against(trivial, base).gain > 0
            and against(tuned, trivial).outcome != "better"
        )

    def systems(self, role: Role, family: Family | None = None) -> list[System]:
        """The systems of a role, and of a family where given, in the order in which they answered."""
        return [one for one in self.texts if one.role == role and family in (None, one.family)]

    def strongest(self, family: Family) -> System | None:
        """The base of a family with the highest score on the test rows; None where there is none."""
        bases = {one.name: one for one in self.systems("base", family)}
        name = strongest({name: _percent(self.primary(one)) for name, one in bases.items()})
        return None if name is None else bases[name]

    def gains(self) -> dict[str, Gain]:
        """Every tuned system against every base, under `TUNED-BASE`."""
        return {
            f"{tuned.name}-{base.name}": self.gain(tuned, base)
            for tuned in self.systems("tuned")
            for base in self.systems("base")
        }

    def outcomes(self) -> tuple[Outcome, ...]:
        """Each tuned system against the strongest base of its own family, with a sentence."""
        pairs = [(tuned, self.strongest(tuned.family)) for tuned in self.systems("tuned")]
        return tuple(self.outcome(tuned, base) for tuned, base in pairs if base is not None)

    def outcome(self, tuned: System, base: System) -> Outcome:
        """How a tuned system ended against a base."""
        gain = self.gain(tuned, base)
        found = {one.name: getattr(gain, one.name) for one in fields(gain)}
        reached = [one.title for one in self.systems("trivial") if one.name in gain.reached_by]
        said = sentence((tuned.title, base.title), gain, self.task.metric, reached)
        return Outcome(**found, tuned=tuned.name, base=base.name, family=tuned.family, sentence=said)


class Figures(Protocol):
    """What a gate is held against: the scores of systems, and gains under `TUNED-BASE`."""

    @property
    def systems(self) -> Mapping[str, SystemResult]: ...

    @property
    def gains(self) -> Mapping[str, Gain]: ...


@dataclass(frozen=True)
class Gate:
    """A condition on a report, such as `tuned-base>=2`: a score or a gain, its interval's end, a bound in points."""

    text: str
    key: str
    part: str
    compare: str
    bound: float

    def value(self, report: Figures) -> float:
        """The figure that the gate judges; SgError (usage) where the report has no such system."""
        found = report.gains.get(self.key) or report.systems.get(self.key)
        if found is None:
            near = did_you_mean(self.key, [*report.systems, *report.gains])
            gain = next(iter(report.gains), "tuned-base")
            known = f"Measured: {', '.join(report.systems)}; and their gains, such as {gain}."
            raise SgError(
                f"The gate {self.text!r} names a system that was not measured.", f"{near} {known}".strip(), exit_code=2
            )
        if self.part:
            return found.low if self.part == "low" else found.high
        return found.gain if isinstance(found, Gain) else found.score


def parse_gate(text: str) -> Gate:
    """A gate from `SYSTEM[-SYSTEM][.low|.high] >= NUMBER`; SgError (usage) for anything else."""
    found = GATE.fullmatch(text)
    if found is None:
        raise SgError(
            f"{text!r} is not a gate.", "Write it like `tuned-base>=2` or `tuned-base.low>0` (points).", exit_code=2
        )
    one, other, part, compare, bound = found.groups()
    return Gate(text.strip(), f"{one}-{other}" if other else one, part or "", compare, float(bound))


def require(report: Figures, gates: Sequence[Gate]) -> None:
    """Raise SgError with exit code 3 for the first gate that the report does not meet."""
    for gate in gates:
        value = gate.value(report)
        if not OPERATORS[gate.compare](value, gate.bound):
            hint = f"See `report {report.run}` for what held it back." if isinstance(report, Report) else ""
            raise SgError(f"The gate {gate.text!r} is not met: {gate.key} is {value:g}.", hint, exit_code=GATE_NOT_MET)


def _percent(values: Sequence[float]) -> float:
    return round(100 * sum(values) / len(values), 2)
