"""Advice on a task: what `tasks.lint` finds in its file and, where a model is named, what its context holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sg_local.job.asking import job_for_base
from sg_local.job.options import Home, Options
from sg_local.prompts import answer_room
from sg_local.tasks.advice import Advice
from sg_local.tasks.files import PlacedTask
from sg_local.tasks.lint import Bounds, lint


def advise(
    placed: PlacedTask, options: Options, home: Home, fits_grammar: Callable[[str], object] | None = None
) -> list[Advice]:
    """Everything doubtful about a task, errors first.

    Where the options name a model or an engine, it is asked once there is no error left. Raises SgError for one that
    is not there.
    """
    found = lint(placed.task, placed.source, fits_grammar=fits_grammar)
    is_asked = options.model is not None or options.backend != "auto"
    if not is_asked or any(item.level == "error" for item in found):
        return found
    with job_for_base(dataclasses.replace(placed.task, tests=()), options, home) as job:
        room = answer_room(job.generator.tokenize, job.task, job.room, job.plan["eval"].max_tokens)
        bounds = Bounds(room, job.form, job.task)
        return lint(placed.task, placed.source, fits_grammar=fits_grammar, bounds=bounds)
