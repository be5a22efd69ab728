"""A search's winner as a preset file, with how it was chosen at its head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_local.files import write_text
from sg_local.job import presets
from sg_local.job.options import Options
from sg_local.job.plan import flat, make_plan
from sg_local.job.search import SearchOutcome


def write_preset(found: SearchOutcome, tasks: Sequence[str], options: Options, paths: Sequence[Path]) -> None:
    """The winner as a preset file at each path, with the settings that every trial shared."""
    best = found.best.setting
    base, given = presets.preset_base(options.preset)
    chosen = {"synth": {"temperature": best.temperature}, "train": {"epochs": best.epochs}}
    values = presets.merged(presets.merged(given, _typed(options.settings)), chosen)
    text = presets.preset_toml(values, base, _story(found, tasks))
    for path in paths:
        write_text(path, text)


def outcome_data(found: SearchOutcome) -> dict[str, Any]:
    """The chosen setting, its worst gain in points, and every trial, as plain data."""
    trials = [
        {**dataclasses.asdict(trial), "gain": None if trial.failed else trial.gain}
        for standing in found.standings
        for trial in standing.trials
    ]
    return {"chosen": dataclasses.asdict(found.best.setting), "worst_gain": found.best.worst, "trials": trials}


def outcome_rows(found: SearchOutcome, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Each setting's temperature, epochs, gain on every task, worst gain, and whether it won."""
    rows = []
    for standing in found.standings:
        gains = {trial.task: "failed" if trial.failed else f"{trial.gain:+.1f}" for trial in standing.trials}
        worst = f"{standing.worst:+.1f}" if standing.complete and standing.worst > -math.inf else "-"
        setting = (f"{standing.setting.temperature:g}", f"{standing.setting.epochs:g}")
        mark = "chosen" if standing is found.best else ""
        rows.append((*setting, *(gains.get(task, "-") for task in tasks), worst, mark))
    return rows


def _typed(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as given, texts among them, as the settings' own types."""
    plan = make_plan([("given", tables)])
    named = {dotted for stage, values in tables.items() for dotted in _dotted(values, stage)}
    found = {name: value for stage, own in plan.stages.items() for name, value in flat(own, stage)}
    return presets.nested({name: found[name] for name in named})


def _dotted(values: Mapping[str, Any], prefix: str) -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        name = f"{prefix}.{key}"
        names += _dotted(value, name) if isinstance(value, Mapping) else [name]
    return names


def _story(found: SearchOutcome, tasks: Sequence[str]) -> str:
    """How the preset came about, for the head of its file."""
    lines = ["Chosen by sg-local tune-settings: the highest worst gain over the base on the test rows of"]
    lines += [f"{', '.join(tasks)}.", "", "  ".join(["temperature", "epochs", *tasks, "worst"])]
    return "\n".join([*lines, *("  ".join(row).rstrip() for row in outcome_rows(found, tasks))])
