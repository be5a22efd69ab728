"""The form of a new task: what it asks next, and what an answer makes of it. Pure: asked and shown elsewhere.

Instruction, kind, labels, examples, for JSON outputs a schema, test rows. An answer that cannot be taken leaves the
form as it is, with a message. A step back is the form before the last answer, which the caller keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sg_local.prompts import match_label, normalise
from sg_local.reading import read_record
from sg_local.records import KINDS, SgError, TestRow
from sg_local.schemas import misfit
from sg_local.tasks.draft import Draft
from sg_local.tasks.shape import schema_of
from sg_local.words import brief

DONE = "done"
HINT = "Delete it to start the task again."


@dataclass(frozen=True)
class Form:
    """A draft, the step it has come to, the input that waits for its output, and what was typed when it was left."""

    draft: Draft
    step: str
    pending: str = ""
    typed: str = ""
    message: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked. `is_text`: the answer may have several lines."""

    text: str
    is_text: bool = False


def kept_form(path: Path) -> Form:
    """The form as it was left. Raises SgError for a file that holds none."""
    form = read_record(path, Form, HINT)
    if form.step not in (*ANSWERS, DONE):
        raise SgError(f"{path}: there is no step {brief(form.step, 40)!r}.", HINT)
    return form


def form_of(draft: Draft) -> Form:
    """The form of a draft, at the first thing that it lacks."""
    return Form(draft, _lacking(draft))


def question_of(form: Form) -> Question:
    """What the form asks now."""
    draft = form.draft
    number = (len(draft.tests) if "test" in form.step else len(draft.examples)) + 1
    row = f"Test row {number}" if "test" in form.step else f"Example {number}"
    if form.step in ("input", "test input"):
        ending = " (empty: no more)" if number > 1 or "test" in form.step else ""
        return Question(f"{row}, input{ending}:", is_text=True)
    if form.step in ("output", "test output"):
        labels = ", ".join(f"{i} {label}" for i, label in enumerate(draft.labels, 1))
        return Question(f"{row}, output" + (f" ({labels}):" if labels else ":"), is_text=not draft.labels)
    return Question(QUESTIONS[form.step], is_text=form.step == "instruction")


def answered(form: Form, text: str) -> Form:
    """The form after an answer."""
    return ANSWERS[form.step](replace(form, typed="", message=""), text.strip("\n").rstrip())


def _lacking(draft: Draft) -> str:
    """The step of what a draft lacks."""
    if not draft.instruction:
        return "instruction"
    if not draft.kind:
        return "kind"
    if draft.kind == "classification" and len(draft.labels) < 2:
        return "labels"
    return DONE if draft.tests_beside and draft.examples else "input"


def _on(form: Form, draft: Draft) -> Form:
    return replace(form, draft=draft, step=_lacking(draft))


def _instruction(form: Form, text: str) -> Form:
    if not text.strip():
        return replace(form, message="A sentence or two, so that the model knows what to do.")
    return _on(form, replace(form.draft, instruction=text.strip()))


def _kind(form: Form, text: str) -> Form:
    """Classification or generation; the first letter or the number is enough."""
    asked = text.strip().lower()
    numbers = {str(i): kind for i, kind in enumerate(KINDS, 1)}
    found = numbers.get(asked) or next((kind for kind in KINDS if asked and kind.startswith(asked)), None)
    if found is None:
        return replace(form, message="Type c or g.")
    return _on(form, replace(form.draft, kind=found))


def _labels(form: Form, text: str) -> Form:
    labels = tuple(dict.fromkeys(part.strip() for part in re.split(r"[,\n]", text) if part.strip()))
    if len(labels) < 2:
        return replace(form, message="Give at least two labels.")
    return _on(form, replace(form.draft, labels=labels))


def _input(form: Form, text: str) -> Form:
    draft = form.draft
    if not text.strip():
        if draft.examples:
            return replace(form, step="test input")
        return replace(form, message="Give at least one example: the model learns the format from it.")
    if normalise(text) in {normalise(shown) for shown, _ in draft.examples}:
        return replace(form, message="That input is an example already.")
    return replace(form, step="output", pending=text)


def _output(form: Form, text: str) -> Form:
    draft = form.draft
    output, wrong = _right(draft, text)
    schema = schema_of([*(shown for _, shown in draft.examples), output]) if draft.schema else ""
    if draft.schema and not schema:
        wrong = "That is not JSON like the other outputs. Type < to go back a step."
    if wrong:
        return replace(form, message=wrong)
    examples = (*draft.examples, (form.pending, output))
    is_first = len(examples) == 1 and draft.kind == "generation" and bool(schema_of([output]))
    filled = replace(draft, examples=examples, schema=schema)
    return replace(form, draft=filled, pending="", step="schema" if is_first else "input")


def _schema(form: Form, text: str) -> Form:
    asked = text.strip().lower()
    if asked[:1] not in ("y", "n", ""):
        return replace(form, message="Type y or n.")
    schema = "" if asked.startswith("n") else schema_of([output for _, output in form.draft.examples])
    return replace(form, draft=replace(form.draft, schema=schema), step="input")


def _test_input(form: Form, text: str) -> Form:
    draft = form.draft
    if not text.strip():
        return replace(form, step=DONE)
    if normalise(text) in {normalise(shown) for shown, _ in draft.examples}:
        return replace(form, message="That input is an example, so the model sees its answer. Give another one.")
    if normalise(text) in {normalise(row.input) for row in draft.tests}:
        return replace(form, message="That input is a test row already.")
    return replace(form, step="test output", pending=text)


def _test_output(form: Form, text: str) -> Form:
    output, wrong = _right(form.draft, text)
    if form.draft.schema and not wrong:
        reason = misfit(form.draft.schema, output)
        wrong = f"That does not fit the examples' schema: {reason}." if reason else ""
    if wrong:
        return replace(form, message=wrong)
    tests = (*form.draft.tests, TestRow(form.pending, (output,)))
    return replace(form, draft=replace(form.draft, tests=tests), pending="", step="test input")


def _right(draft: Draft, text: str) -> tuple[str, str]:
    """An output as it goes into the task, and what is wrong with it. A label may be given by its number."""
    if not text.strip():
        return "", "Type an output."
    if not draft.labels:
        return text, ""
    numbers = {str(i): label for i, label in enumerate(draft.labels, 1)}
    label = match_label(draft.labels, text) or numbers.get(text.strip())
    return label or "", "" if label else "That is not one of the labels."


QUESTIONS = {
    "instruction": "What should the model do? (one or two sentences)",
    "kind": "Is the output one of a few labels, or free text? Type c for classification or g for generation:",
    "labels": "Labels, separated by commas:",
    "schema": "The output is JSON. Require the same structure of all outputs, by a schema? (Y/n)",
}
ANSWERS: dict[str, Callable[[Form, str], Form]] = {
    "instruction": _instruction,
    "kind": _kind,
    "labels": _labels,
    "input": _input,
    "output": _output,
    "schema": _schema,
    "test input": _test_input,
    "test output": _test_output,
}
