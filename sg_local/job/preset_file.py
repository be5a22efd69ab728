"""What came out of a search: the table of settings, and the preset file that `run --preset FILE` uses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sg_local.cli import output
from sg_local.cli.options import Options
from sg_local.cli.output import Column
from sg_local.job.plan import flat, parse_sets
from sg_local.job.search import Outcome
from sg_local.run import artefact


def write_preset(found: Outcome, tasks: Sequence[str], options: Options, paths: Sequence[Path]) -> None:
    """The winner as a preset file at each path, with the settings that every trial shared."""
    from sg_local.job import presets

    best = found.best.setting
    shared = parse_sets(options.sets)
    base, given = _preset_base(options.preset)
    chosen = {"synth": {"temperature": best.temperature}, "train": {"epochs": best.epochs}}
    values = presets.merged(presets.merged(given, _typed(shared)), chosen)
    text = presets.preset_toml(values, base, _story(found, tasks))
    for path in paths:
        with artefact(path) as partial:
            partial.write_text(text, encoding="utf-8")


def _preset_base(name: str) -> tuple[str, dict[str, Any]]:
    """The shipped preset behind a preset's name or file, and what the file changes in it."""
    import tomllib

    from sg_local.job import presets

    if name in presets.PRESETS:
        return name, {}
    values = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    return values.pop("base", "recommended"), values


def _typed(tables: Mapping[str, Any]) -> dict[str, Any]:
    """`--set` tables with their texts as the settings' own types."""
    from sg_local.job import presets
    from sg_local.job.plan import plan

    settings = plan([("--set", tables)])
    named = {dotted for stage, values in tables.items() for dotted in _dotted(values, stage)}
    found = {name: value for stage, own in settings.stages.items() for name, value in flat(own, stage)}
    return presets.nested({name: found[name] for name in named})


def _dotted(values: Mapping[str, Any], prefix: str) -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        name = f"{prefix}.{key}"
        names += _dotted(value, name) if isinstance(value, Mapping) else [name]
    return names


def _story(found: Outcome, tasks: Sequence[str]) -> str:
    """How the preset came about, for the head of its file."""
    lines = ["Chosen by `sg-local tune-settings`: the highest worst gain over the base on the test rows of"]
    lines += [f"{', '.join(tasks)}.", "", "  ".join(["temperature", "epochs", *tasks, "worst"])]
    return "\n".join([*lines, *("  ".join(row).rstrip() for row in _rows(found, tasks))])


def _rows(found: Outcome, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Each setting's temperature, epochs, gain on every task, worst gain, and whether it won."""
    rows = []
    for standing in found.standings:
        gains = {trial.task: "failed" if trial.failed else f"{trial.gain:+.1f}" for trial in standing.trials}
        worst = f"{standing.worst:+.1f}" if standing.complete and standing.worst > -math.inf else "-"
        setting = (f"{standing.setting.temperature:g}", f"{standing.setting.epochs:g}")
        mark = "chosen" if standing is found.best else ""
        rows.append((*setting, *(gains.get(task, "-") for task in tasks), worst, mark))
    return rows


def show_outcome(found: Outcome, tasks: Sequence[str], as_json: bool) -> None:
    """The table of settings, or everything as JSON, on stdout."""
    if as_json:
        best = dataclasses.asdict(found.best.setting)
        trials = [
            {**dataclasses.asdict(trial), "gain": None if trial.failed else trial.gain}
            for standing in found.standings
            for trial in standing.trials
        ]
        output.show_json({"chosen": best, "worst_gain": found.best.worst, "trials": trials})
        return
    columns = [Column("temperature", True), Column("epochs", True), *(Column(task, True) for task in tasks)]
    output.show_table("Gains over the base", [*columns, Column("worst", True), Column("")], _rows(found, tasks))
