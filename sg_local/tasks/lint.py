"""What is doubtful about a task that is well-formed: pure checks, each with advice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sg_local.prompts import normalise
from sg_local.records import SgError, Task
from sg_local.splitting import unclosed
from sg_local.tasks.labels import unnamed_labels
from sg_local.words import counted

MANY_WORDS = 300
FEW_TESTS = 30


@dataclass(frozen=True)
class Advice:
    """One finding: `level` is `error` (results would mislead) or `warning`."""

    level: str
    finding: str
    advice: str


def lint(task: Task, fits_grammar: Callable[[str], object] | None = None) -> list[Advice]:
    """Everything doubtful about a task, errors first.

    `fits_grammar` raises SgError for a schema (JSON text) to which an engine cannot hold the model; None: not asked.
    """
    found = [*_grammar(task, fits_grammar), *(advice for check in CHECKS for advice in check(task))]
    return sorted(found, key=lambda advice: advice.level != "error")


def check_task(task: Task) -> None:
    """Raises SgError (usage) for the first finding that would make a run's results mislead."""
    for item in lint(task):
        if item.level == "error":
            raise SgError(f"Task {task.name} would mislead: {item.finding}", item.advice, exit_code=2)


def _unshown_labels(task: Task) -> Iterator[Advice]:
    shown = {pair.output for pair in task.examples}
    missing = [label for label in task.labels if label not in shown]
    if task.labels and len(shown) == 1:
        yield Advice("warning", f"All examples have the label {task.examples[0].output}.", "Show different labels.")
    elif missing and len(task.labels) <= 3:
        finding = f"No example has the label {', '.join(missing)}."
        yield Advice("warning", finding, "Show each label once where there are at most three.")
    elif unnamed := unnamed_labels(task):
        finding = f"Neither instruction nor examples name {counted(len(unnamed), 'label')}, such as {unnamed[0]}."
        yield Advice("warning", finding, "A new run adds a line with all labels: say what each means.")


def _few_examples(task: Task) -> Iterator[Advice]:
    if len(task.examples) < 3:
        finding = f"Only {counted(len(task.examples), 'example', 'are')} given, of three."
        yield Advice("warning", finding, "Three varied examples steer the model much better.")


def _long(task: Task) -> Iterator[Advice]:
    n_words = len(task.instruction.split())
    if n_words > MANY_WORDS:
        yield Advice("warning", f"The instruction has {n_words} words.", "Say it in a few sentences.")
    for number, pair in enumerate(task.examples, 1):
        n_words = len(f"{pair.input} {pair.output}".split())
        if n_words > MANY_WORDS:
            finding = f"Example {number} has {n_words} words."
            yield Advice("warning", finding, "Shorter examples leave room for longer inputs.")


def _duplicates(task: Task) -> Iterator[Advice]:
    inputs = Counter(normalise(pair.input) for pair in task.examples)
    if any(count > 1 for count in inputs.values()):
        yield Advice("warning", "Two examples have the same input.", "Give different ones.")
    twice = [text for text, count in Counter(normalise(row.input) for row in task.tests).items() if count > 1]
    if twice:
        finding = f"{counted(len(twice), 'test input', 'stand')} more than once, such as {twice[0][:50]!r}."
        yield Advice("warning", finding, "Each test row should be new.")


def _leaks(task: Task) -> Iterator[Advice]:
    shown = {normalise(pair.input) for pair in task.examples}
    leaked = [i for i, row in enumerate(task.tests, 1) if normalise(row.input) in shown]
    if leaked:
        finding = f"{counted(len(leaked), 'test row', 'stand')} among the examples, such as test row {leaked[0]}."
        yield Advice("error", finding, "Take them out: the model is shown their answers.")


def _tests(task: Task) -> Iterator[Advice]:
    if not task.tests:
        yield Advice("warning", "There are no test rows.", "Without them no gain can be shown: add [[tests]].")
    elif len(task.tests) < FEW_TESTS:
        finding = f"Only {counted(len(task.tests), 'test row', 'are')} given."
        yield Advice("warning", finding, f"With fewer than {FEW_TESTS} the intervals are wide.")
    untested = set(task.labels) - {output for row in task.tests for output in row.outputs}
    if task.tests and untested:
        finding = f"No test row has the label {', '.join(sorted(untested))}."
        yield Advice("warning", finding, "Test every label.")


def _alike_labels(task: Task) -> Iterator[Advice]:
    alike = Counter(unclosed(label) for label in task.labels)
    if any(count > 1 for count in alike.values()):
        finding = "Two labels are the same but for letter case or punctuation."
        yield Advice("error", finding, "Answers are compared without them: rename one.")


def _key_order(task: Task) -> Iterator[Advice]:
    """A grammar writes keys in one order: those required first, each in the schema's order."""
    schema = json.loads(task.schema) if task.schema else {}
    required = schema.get("required", [])
    written = sorted(schema.get("properties", {}), key=lambda name: name not in required)
    for number, pair in enumerate(task.examples if written else (), 1):
        keys = [key for key in json.loads(pair.output) if key in written]
        if keys != [key for key in written if key in keys]:
            finding = f"Example {number} has its keys in another order than the schema."
            yield Advice("warning", finding, f"Constrained outputs come as: {', '.join(written)}.")


def _grammar(task: Task, fits_grammar: Callable[[str], object] | None) -> Iterator[Advice]:
    """Whether the schema can hold the model to it."""
    if not task.schema or fits_grammar is None:
        return
    try:
        fits_grammar(task.schema)
    except SgError as error:
        yield Advice("warning", error.message, error.hint)


CHECKS: tuple[Callable[[Task], Iterator[Advice]], ...] = (
    _leaks,
    _alike_labels,
    _key_order,
    _few_examples,
    _unshown_labels,
    _long,
    _duplicates,
    _tests,
)
