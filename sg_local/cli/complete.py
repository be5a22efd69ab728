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
from sg_local.run import list_runs

ROW_FILES = (".csv", ".tsv", ".tab", ".psv", ".xlsx", ".jsonl", ".ndjson", ".json", ".txt", ".gz")
TASK_FILES, MODEL_FILES, PRESET_FILES = (".toml", ".json"), (".gguf",), (".toml",)
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
