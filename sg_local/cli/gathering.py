"""The options of a job, gathered from what was typed, and `--set` read as settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click

from sg_local.backends.openai.address import Reach
from sg_local.cli.config import Environment
from sg_local.job.options import Budget, Options
from sg_local.records import SgError


def job_options(stage: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """All options of a job; the command gets them as one argument, `options`. `--set` may leave `stage` out."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            return command(options=_options(values, stage), **values)

        return gathered

    return decorate


def _options(values: dict[str, Any], stage: str | None) -> Options:
    """The job's options, taken out of a command's values."""
    from sg_local.job import presets

    own = {item.name: values.pop(item.name) for item in fields(Options) if item.name in values}
    sets = list(values.pop("sets", ()))
    time_s = values.pop("time_s", None)
    if time_s is not None:
        sets.append(f"train.time_s={time_s:g}")
    if values.pop("no_fast_copy", False):
        sets.append("engine.fast_copy=false")
    reach = _reach(values)
    settings = presets.with_endpoint(parse_sets(sets, stage), values.pop("endpoint", None))
    bounds = [values.pop(name, None) for name in ("ram_bytes", "disk_bytes", "whole_s")]
    return Options(
        **own,
        budget=Budget(*bounds),
        settings=settings,
        reach=reach,
        given=given(click.get_current_context(), own),
    )


def _reach(values: dict[str, Any]) -> Reach:
    """Whom the job may ask, taken out of a command's values."""
    allowed: Reach = "anywhere" if values.pop("ask_remote", False) else "here"
    environment = click.get_current_context().find_object(Environment)
    return "nowhere" if environment is not None and environment.offline else allowed


def parse_sets(sets: Sequence[str], stage: str | None = None) -> dict[str, Any]:
    """`stage.field=value` texts as nested tables. With `stage`, its name in front may be left out."""
    from sg_local.job import presets

    values = {}
    for text in sets:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            hint = "Write it as stage.field=value, such as --set train.epochs=3."
            raise SgError(f"--set {text!r} has no value.", hint, exit_code=2)
        if stage is not None and not name.startswith(f"{stage}."):
            name = f"{stage}.{name}"
        values[name.replace("-", "_")] = value
    return presets.nested(values)


def given(ctx: click.Context, names: Any) -> frozenset[str]:
    """The parameters that came by flag or environment, not from the file or by default."""
    sources = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    return frozenset(name for name in names if ctx.get_parameter_source(name) in sources)
