"""Stage settings by name: preset, home, run and what was given now, each over the one before.

The stages' dataclasses are the only home of defaults; `presets` knows how to change them. Here are the order of the
layers and where each value came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_local.job import presets
from sg_local.job.options import Home, Layers, Tables
from sg_local.records import Kind, SgError, Task, digest
from sg_local.run import RUN, without_gained
from sg_local.words import did_you_mean

GIVEN = "given"
"""The layer of what a command itself was given: an error in it need not say where it stands."""


def stage_defaults() -> dict[str, Any]:
    """Every stage's settings at their defaults, by stage. Imports the stages, hence NumPy, but no engine."""
    from sg_local.backends import EngineSettings, TrainSettings
    from sg_local.evaluate import EvalSettings
    from sg_local.export import ExportSettings
    from sg_local.filters import FilterSettings
    from sg_local.job.own import OwnSettings
    from sg_local.serve import Limits
    from sg_local.synth import SynthSettings

    return {
        "engine": EngineSettings(),
        "own": OwnSettings(),
        "synth": SynthSettings(),
        "filter": FilterSettings(),
        "train": TrainSettings(),
        "export": ExportSettings(),
        "eval": EvalSettings(),
        "serve": Limits(),
    }


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of every stage, by stage, and the layers that made them."""

    stages: Mapping[str, Any]
    layers: Layers

    def __getitem__(self, stage: str) -> Any:
        return self.stages[stage]

    def digest(self, stage: str) -> str:
        """The digest of a stage's settings, without those that it gained and does not use."""
        return digest(without_gained(dataclasses.asdict(self[stage])))

    def changed(self, stage: str, values: Mapping[str, Any]) -> Plan:
        """The plan with some of a stage's values changed."""
        return Plan({**self.stages, stage: presets.changed(self.stages[stage], values, stage)}, self.layers)

    def source(self, dotted: str) -> str:
        """Which layer a setting's value came from."""
        found = "default"
        for name, tables in self.layers:
            if _has(tables, dotted.split(".")):
                found = name
        return found


def make_plan(layers: Layers) -> Plan:
    """Settings from the layers. Raises SgError (usage) for an unknown stage or field, or a value of another type or
    out of its range; a run's own settings, with which it began, need not lie in today's ranges.
    """
    defaults = stage_defaults()
    merged: dict[str, Any] = {}
    for where, tables in layers:
        for stage, values in tables.items():
            if stage not in defaults or not isinstance(values, Mapping):
                near = did_you_mean(stage, list(defaults)) or f"The stages are: {', '.join(defaults)}."
                raise SgError(f"There is no stage {stage!r} to set ({where}).", near, exit_code=2)
        merged = presets.merged(merged, tables)
    try:
        stages = {stage: presets.changed(own, merged.get(stage, {}), stage) for stage, own in defaults.items()}
        _check(Plan(stages, [layer for layer in layers if Path(layer[0]).name != RUN]))
    except SgError as error:
        raise _placed(error, defaults, layers) from error
    return Plan(stages, layers)


def _check(plan: Plan) -> None:
    """Raises SgError for what one of the plan's layers sets out of its range."""
    from sg_local.job.ranges import check_ranges

    settings = (item for stage, own in plan.stages.items() for item in flat(own, stage))
    check_ranges((name, value) for name, value in settings if plan.source(name) != "default")


def _placed(error: SgError, defaults: Mapping[str, Any], layers: Layers) -> SgError:
    """The error with the layer that it comes from, where that is not what the command itself was given."""
    for where, tables in reversed(layers):
        try:
            for stage, values in tables.items():
                _check(Plan({stage: presets.changed(defaults[stage], values, stage)}, [(where, tables)]))
        except SgError as own:
            told = own.message if where == GIVEN else f"{own.message.removesuffix('.')} ({where})."
            return SgError(told, own.hint, exit_code=own.exit_code)
    return error


def layers_of(task: Task, preset: str, home: Home, settings: Tables, *before: tuple[str, Tables]) -> Layers:
    """The layers of a job, the weakest first: its preset, the settings of every job here, those `before`, its own."""
    return [preset_layer(preset, task.kind), *home.layers, *before, (GIVEN, settings)]


def plan_of(layers: Layers, seed: int, home: Home) -> Plan:
    """The plan of a job; the engine keeps its copies in the home unless it was given another place."""
    plan = seeded(make_plan(layers), seed)
    return plan if plan["engine"].cache is not None else plan.changed("engine", {"cache": home.data})


def preset_layer(name: str, kind: Kind) -> tuple[str, Mapping[str, Any]]:
    """A preset as a layer."""
    return (f"preset {name}", presets.load_preset(name, kind))


def seeded(plan: Plan, seed: int) -> Plan:
    """The plan with the run's seed in every stage that draws, unless it was set."""
    stages = {
        stage: dataclasses.replace(own, seed=seed)
        if hasattr(own, "seed") and plan.source(f"{stage}.seed") == "default"
        else own
        for stage, own in plan.stages.items()
    }
    return Plan(stages, plan.layers)


def flat(settings: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every field as (dotted name, value), walking into nested dataclasses."""
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}.{item.name}")
        else:
            yield f"{prefix}.{item.name}", value


def _has(tables: Mapping[str, Any], path: Sequence[str]) -> bool:
    for key in path[:-1]:
        tables = tables.get(key, {})
        if not isinstance(tables, Mapping):
            return False
    return path[-1] in tables
