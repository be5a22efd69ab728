"""What is doubtful about a task that is well-formed: pure checks, each with advice and the place in the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sg_local.prompts import Form, Room, TooLong, fitted_answer
from sg_local.records import SgError, Task
from sg_local.splitting import n_words
from sg_local.tasks.advice import Advice, Subject
from sg_local.tasks.lint_labels import alike_labels, odd_scripts, unshown_labels
from sg_local.tasks.lint_rows import few_examples, few_tests, leaked_tests, repeated_inputs
from sg_local.tasks.source import TaskSource
from sg_local.words import counted

MANY_WORDS = 300


@dataclass(frozen=True)
class Bounds:
    """What a model's context holds: its room, the form in which it is asked, and the task as it would show it."""

    room: Room
    form: Form
    task: Task


def lint(
    task: Task,
    source: TaskSource | None = None,
    *,
    fits_grammar: Callable[[str], object] | None = None,
    bounds: Bounds | None = None,
) -> list[Advice]:
    """Everything doubtful about a task, errors first.

    `source` is its file, to name lines by. `fits_grammar` raises SgError for a schema (JSON text) to which an engine
    cannot hold the model; `bounds` are those of the model that is to answer; None: not asked.
    """
    subject = Subject(task, source)
    found = [*_grammar(subject, fits_grammar), *_fitting(subject, bounds)]
    found += [advice for check in CHECKS for advice in check(subject)]
    return sorted(found, key=lambda advice: advice.level != "error")


def check_task(task: Task) -> None:
    """Raises SgError (usage) for the first finding that makes a run impossible, or its results mislead."""
    for item in lint(task):
        if item.level == "error":
            hint = f"{item.advice} `tasks check` says where."
            raise SgError(f"Task {task.name} is not ready: {item.finding}", hint, exit_code=2)


def _long(subject: Subject) -> Iterator[Advice]:
    task = subject.task
    n = n_words(task.instruction)
    if n > MANY_WORDS:
        finding = f"The instruction has {n} words."
        yield subject.warning(finding, "Say it in a few sentences.", ("instruction",))
    for number, pair in enumerate(task.examples, 1):
        n = n_words(f"{pair.input} {pair.output}")
        if n > MANY_WORDS:
            finding = f"Example {number} has {n} words."
            yield subject.warning(finding, "Shorter examples leave room for longer inputs.", ("examples", number))


def _fitting(subject: Subject, bounds: Bounds | None) -> Iterator[Advice]:
    """Inputs beside which the model's context does not hold all examples, or that it does not hold at all."""
    if bounds is None:
        return
    dropped, too_long, reason = [], [], None
    for part, text in _inputs(subject.task):
        try:
            if fitted_answer(bounds.room, bounds.task, bounds.form, text).n_dropped:
                dropped.append(part)
        except TooLong as error:
            too_long.append(part)
            reason = reason or error
    of = f"a context of {bounds.room.n_ctx} tokens"
    if reason is not None:
        finding = f"{counted(len(too_long), 'input', 'are')} too long for {of}: {reason.message}"
        is_shown = any(part[0] == "examples" for part in too_long)
        yield (subject.error if is_shown else subject.warning)(finding, reason.hint, *too_long)
    if dropped:
        finding = f"{counted(len(dropped), 'input', 'leave')} no room for all examples in {of}."
        yield subject.warning(finding, "Some examples are not shown there: shorten them.", *dropped)


def _inputs(task: Task) -> Iterator[tuple[tuple[str, int], str]]:
    """Every input with its part of the file."""
    yield from ((("examples", number), pair.input) for number, pair in enumerate(task.examples, 1))
    yield from ((("tests", number), row.input) for number, row in enumerate(task.tests, 1))


def _key_order(subject: Subject) -> Iterator[Advice]:
    """A grammar writes keys in one order: those required first, each in the schema's order."""
    task = subject.task
    schema = json.loads(task.schema) if task.schema else {}
    required = schema.get("required", [])
    written = sorted(schema.get("properties", {}), key=lambda name: name not in required)
    for number, pair in enumerate(task.examples if written else (), 1):
        keys = [key for key in json.loads(pair.output) if key in written]
        if keys != [key for key in written if key in keys]:
            finding = f"Example {number} has its keys in another order than the schema."
            advice = f"Constrained outputs come as: {', '.join(written)}."
            yield subject.warning(finding, advice, ("examples", number))


def _grammar(subject: Subject, fits_grammar: Callable[[str], object] | None) -> Iterator[Advice]:
    """Whether the schema can hold the model to it."""
    if not subject.task.schema or fits_grammar is None:
        return
    try:
        fits_grammar(subject.task.schema)
    except SgError as error:
        yield subject.warning(error.message, error.hint, ("schema",))


CHECKS: tuple[Callable[[Subject], Iterator[Advice]], ...] = (
    leaked_tests,
    alike_labels,
    odd_scripts,
    _key_order,
    few_examples,
    unshown_labels,
    _long,
    repeated_inputs,
    few_tests,
)
