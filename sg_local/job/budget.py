"""Memory, disk and time that a whole job may take, and the settings with which it stays within them.

Only settings that nobody gave are changed, the cheapest first: what costs speed alone before what costs quality. What
does not fit even so is refused with numbers. The memory is a bound on what the stages are planned with, and what they
find free; the time is kept by the training, which stops where its share ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sg_local.backends import makes_weights
from sg_local.job import presets
from sg_local.job.options import Budget, Tables
from sg_local.job.quantities import seconds_of, size_of
from sg_local.records import SgError
from sg_local.run import MEASURED
from sg_local.words import duration, size

if TYPE_CHECKING:
    from sg_local.job.job import OpenRun
    from sg_local.job.plan import Plan

COMFORT = 0.9  # of the time that a plan may fill, since no forecast is exact
FEWEST_INPUTS, FEWEST_EPOCHS = 32, 0.5
SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2)


def budget_of(ram: str | None, disk: str | None, time: str | None) -> Budget:
    """A budget from texts; None: no bound."""
    sizes = [None if text is None else size_of(text) for text in (ram, disk)]
    return Budget(sizes[0], sizes[1], None if time is None else seconds_of(time))


@dataclass(frozen=True)
class Choice:
    """A change of settings that makes a job smaller."""

    tables: Tables

    def on(self, plan: Plan) -> Plan:
        """The plan with this change."""
        for stage, values in self.tables.items():
            plan = plan.changed(stage, values)
        return plan


# Memory and disk: before any engine is opened


@dataclass(frozen=True)
class Part:
    """What takes memory or disk: its name for people, ever smaller ways to do it, and what a job needs for it."""

    who: str
    choices: Callable[[], Iterable[Choice]]
    need: Callable[[OpenRun], int]


def fit_space(job: OpenRun, stages: Collection[str]) -> None:
    """Change the job's plan so that it stays within its memory and disk. Raises SgError where it cannot."""
    from sg_local.job import disk

    if (ram := job.budget.ram_bytes) is not None:
        working = [stage for stage in stages if stage != "filter" and _works(job, stage)]
        _fit_all(job, "memory", ram, [_memory_part(job, stage) for stage in working])
    if (most := job.budget.disk_bytes) is not None:
        whole = Part("The run", lambda: _less_disk(job), lambda tried: sum(disk.disk_by_stage(tried, stages).values()))
        _fit_all(job, "disk", most, [whole])


def _works(job: OpenRun, stage: str) -> bool:
    return stage not in ("train", "export") or makes_weights(job.trainer)


def _memory_part(job: OpenRun, stage: str) -> Part:
    from sg_local.job import resources

    return Part(f"Stage {stage}", lambda: _less_memory(job, stage), lambda tried: resources.memory_of(tried, stage))


def _fit_all(job: OpenRun, what: str, most: int, parts: Sequence[Part]) -> None:
    """Fit each part; SgError with what the part needs that needs most, so that this much is enough for all of them."""
    short = [(least, part.who) for part in parts if (least := _fit(job, part, most)) > most]
    if not short:
        return
    least, who = max(short)
    option = "ram" if what == "memory" else "disk"
    message = f"{who} needs at least {size(least)} of {what}, and the budget is {size(most)}."
    hint = f"The nearest that fits: `{option}={-(-least // 10**8) / 10:g}G`, or a smaller model."
    raise SgError(message, hint, exit_code=2)


def _fit(job: OpenRun, part: Part, most: int) -> int:
    """Take the first of a part's choices with which no more is needed: what it needs, or the least where none fits."""
    needs = []
    for choice in (Choice({}), *part.choices()):
        needs.append(needed := part.need(dataclasses.replace(job, plan=choice.on(job.plan))))
        if needed <= most:
            take(job, choice)
            return needed
    return min(needs)


def _less_memory(job: OpenRun, stage: str) -> Iterator[Choice]:
    """Smaller and smaller ways to do a stage."""
    if stage == "train":
        yield from _smaller_batches(job)
        return
    found: dict[str, Any] = {}
    for field, values in (("fast_copy", (False,)), ("n_parallel", (16, 8, 4, 2, 1)), ("n_ctx", (1536, 1024, 512))):
        for value in values if _is_free(job, f"engine.{field}") else ():
            if field != "n_ctx" or value < job.plan["engine"].n_ctx:
                found = {**found, field: value}
                yield Choice({"engine": found})


def _smaller_batches(job: OpenRun) -> Iterator[Choice]:
    """Fewer rows at a time with as many a step: the same training in less memory."""
    settings = job.plan["train"]
    n = settings.batch_size
    while n > 1 and _is_free(job, "train.batch_size") and _is_free(job, "train.grad_accumulation"):
        n //= 2
        times = settings.grad_accumulation * -(-settings.batch_size // n)
        yield Choice({"train": {"batch_size": n, "grad_accumulation": times}})


def _less_disk(job: OpenRun) -> Iterator[Choice]:
    """No faster copy; then the adapter alone, without a file that holds all weights."""
    found: dict[str, Any] = {}
    for stage, field, value in (("engine", "fast_copy", False), ("export", "types", ())):
        if _is_free(job, f"{stage}.{field}"):
            found = {**found, stage: {field: value}}
            yield Choice(found)


# Time: as soon as the pace is known


def fit_time(job: OpenRun, stages: Collection[str]) -> None:
    """Change the job's plan so that the stages to come end in time, as far as anybody knows how long they take.

    Raises SgError where even the least takes longer.
    """
    from sg_local.job.forecast import forecast

    budget = job.budget.time_s
    if budget is None or not stages:
        return
    left = budget - sum(one.get("seconds", 0.0) for one in job.record.get(MEASURED, {}).values())
    shortest = None
    for choice in _less_work(job, stages):
        found = forecast(dataclasses.replace(job, plan=choice.on(job.plan)), stages)
        if found is None or found.seconds is None:
            break
        shortest = found.seconds if shortest is None else min(shortest, found.seconds)
        if found.seconds <= COMFORT * left:
            training = sum(one.seconds or 0.0 for one in found.stages if one.stage == "train")
            take(job, choice)
            _bound_training(job, stages, left - (found.seconds - training))
            return
    if shortest is None:
        _bound_training(job, stages, left)
        return
    message = f"What is left of the job takes at least {duration(shortest)}, and {duration(max(0.0, left))} is left."
    whole = budget - left + shortest / COMFORT
    raise SgError(message, f"The nearest that fits: `time={-(-whole // 60):.0f}m`.", exit_code=2)


def _less_work(job: OpenRun, stages: Collection[str]) -> Iterator[Choice]:
    """Fewer rows and fewer epochs, the most work first; a quarter of the epochs is worth half of the rows."""
    synth, train = job.plan["synth"], job.plan["train"]
    may_shrink = "synth" in stages and _is_free(job, "synth.n_inputs") and synth.n_inputs is not None
    may_stop = "train" in stages and _is_free(job, "train.epochs")
    found = []
    for rows in SHARES if may_shrink else (1.0,):
        for epochs in SHARES if may_stop else (1.0,):
            tables: dict[str, Mapping[str, Any]] = {}
            if rows < 1:
                tables["synth"] = {"n_inputs": max(FEWEST_INPUTS, round(rows * synth.n_inputs))}
            if epochs < 1:
                tables["train"] = {"epochs": max(FEWEST_EPOCHS, round(epochs * train.epochs, 2))}
            found.append((rows * epochs**0.5, Choice(tables)))
    yield from (choice for _, choice in sorted(found, key=lambda one: -one[0]))


def _bound_training(job: OpenRun, stages: Collection[str], seconds: float) -> None:
    """Let the training take what the other stages leave, and no more."""
    if "train" in stages and _is_free(job, "train.time_s") and seconds > 0:
        take(job, Choice({"train": {"time_s": float(round(seconds))}}), tell=False)


# What was chosen


def take(job: OpenRun, choice: Choice, *, tell: bool = True) -> None:
    """Make a choice the job's own, to be remembered by the run, and say it."""
    if not choice.tables:
        return
    if tell:
        told = ", ".join(
            _told(job, stage, name, value)
            for stage, values in choice.tables.items()
            for name, value in (values.items())
        )
        job.said.append(f"  to stay within the budget: {told}")
    job.plan = choice.on(job.plan)
    chosen = presets.merged(job.record.get("budget", {}).get("chose", {}), choice.tables)
    job.record = {
        **job.record,
        "budget": {**dataclasses.asdict(job.budget), "chose": chosen},
        "set": presets.merged(job.record.get("set", {}), choice.tables),
    }


def _told(job: OpenRun, stage: str, name: str, value: Any) -> str:
    before = getattr(job.plan[stage], name)
    return f"{stage}.{name}={_word(value)} (else {_word(before)})"


def _word(value: Any) -> str:
    return ",".join(value) or "none" if isinstance(value, tuple) else str(value).lower()


def _is_free(job: OpenRun, name: str) -> bool:
    """Whether nobody gave this setting: it is a default, a preset's, or was chosen for a budget before."""
    stage, _, field = name.partition(".")
    chosen = job.record.get("budget", {}).get("chose", {}).get(stage, {})
    source = job.plan.source(name)
    return source == "default" or source.startswith("preset") or field in chosen
