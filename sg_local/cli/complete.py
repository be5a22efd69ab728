"""What a user may name on the command line, for the Tab key: runs, tasks, models, presets, stages.

Nothing here raises: where a folder or the config file cannot be read, the Tab key finds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from sg_local.cli.config import Environment
from sg_local.records import SgError
from sg_local.run import REPORT, find_run, list_runs

ROW_FILES = (".csv", ".tsv", ".tab", ".psv", ".xlsx", ".jsonl", ".ndjson", ".json", ".txt", ".gz")
TASK_FILES, MODEL_FILES, PRESET_FILES = (".toml", ".json"), (".gguf",), (".toml",)
SHORTENED = ("filter", "train", "export", "eval")
"""Commands of one stage, whose --set takes the stage's name for granted."""

Items = list[CompletionItem]


def run_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The runs in the folder that the line, the environment or the config file names."""
    return _quiet(lambda: (run.name for run in list_runs(_runs_folder(ctx))), incomplete)


def task_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The tasks that came with sg-local, and task files."""
    from sg_local import tasks

    return _quiet(lambda: (path.stem for path in tasks.shipped_tasks()), incomplete, TASK_FILES)


def model_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The models that are known, and GGUF files."""
    from sg_local import models

    return _quiet(lambda: models.read_cards(Environment.read(os.environ).models), incomplete, MODEL_FILES)


def preset_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The presets that came with sg-local, and preset files."""
    from sg_local.job.presets import PRESETS

    return _quiet(lambda: PRESETS, incomplete, PRESET_FILES)


def row_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Files of rows."""
    return _quiet(tuple, incomplete, ROW_FILES)


def stage_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The stages that have settings."""
    from sg_local.job.plan import stage_defaults

    return _quiet(stage_defaults, incomplete)


def setting_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The settings that --set changes, the stage left out where the command is one; behind = the values, if few."""
    return _quiet(lambda: _settings(ctx.command.name or "", incomplete), incomplete)


def _settings(stage: str, incomplete: str) -> Iterable[str]:
    from sg_local.job.meanings import choices_of
    from sg_local.job.plan import flat, stage_defaults

    defaults = stage_defaults()
    found = {name: value for key, settings in defaults.items() for name, value in flat(settings, key)}
    if stage in SHORTENED and incomplete.partition(".")[0] not in defaults:
        found = {name.partition(".")[2]: value for name, value in found.items() if name.startswith(f"{stage}.")}
    name, equals, _ = incomplete.partition("=")
    if equals and name in found:
        values = ("true", "false") if isinstance(found[name], bool) else choices_of(name.rpartition(".")[2])
        return [f"{name}={value}" for value in values]
    return [f"{one}=" for one in found]


def type_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The types that `export` writes."""
    from sg_local.job.meanings import choices_of

    return _quiet(lambda: choices_of("types"), incomplete)


def system_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The systems that answered in the run, or that there are."""
    return _quiet(lambda: _systems(ctx), incomplete)


def gate_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Gates without their number: a system's score, a tuned one's gain over an untuned one, its interval's low end.

    Where --file was typed, the file's systems and their difference to the adapter's come first.
    """

    def gates() -> Iterable[str]:
        from sg_local.report.records import ADAPTERS

        names, pairs = _systems(ctx), ADAPTERS if ctx.params.get("file") else {}
        tuned = [name for name in names if name.startswith("tuned")]
        gains = [f"{one}-{other}" for one, other in pairs.items()]
        gains += [f"{one}-{other}" for one in tuned for other in names if other.startswith("base")]
        return [f"{name}>=" for name in (*pairs, *names)] + [
            f"{gain}{part}" for gain in gains for part in (">=", ".low>")
        ]

    return _quiet(gates, incomplete)


def _systems(ctx: click.Context) -> list[str]:
    from sg_local.evaluate import SYSTEMS
    from sg_local.report import read_report

    run = find_run(_runs_folder(ctx), ctx.params["run"]) if ctx.params.get("run") else None
    if run is not None and run.path(REPORT).exists():
        return list(read_report(run).systems)
    return [system.name for system in SYSTEMS]


run_argument = click.argument("run", shell_complete=run_names)
task_argument = click.argument("task", shell_complete=task_names)


def _runs_folder(ctx: click.Context) -> Path:
    folder = ctx.params.get("runs") or Path("runs")
    if ctx.get_parameter_source("runs") is not ParameterSource.DEFAULT:
        return folder
    environment = Environment.read(os.environ)
    environment.refuse_broken()  # it may name another folder
    return Path(environment.options.get("runs", folder))


def _quiet(names: Callable[[], Iterable[str]], incomplete: str, endings: tuple[str, ...] = ()) -> Items:
    """The names and the files with these endings that begin as typed; where there are none, any path."""
    try:
        found = [name for name in names() if name.startswith(incomplete)]
        found += _files(incomplete, endings)
    except (SgError, OSError):
        return []
    if not found and endings:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in found]


def _files(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    """Files that begin as typed; in a folder that is named so far, its files."""
    folder, _, start = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else ".")).expanduser()
    if not endings or not place.is_dir():
        return []
    names = sorted(path.name for path in place.iterdir() if path.suffix in endings and path.name.startswith(start))
    return [f"{incomplete[: len(incomplete) - len(start)]}{name}" for name in names]
