"""The guided form of `tasks new`: questions on a terminal, and a preview of the prompt as it grows."""

from __future__ import annotations

from dataclasses import replace

import click

from sg_local.cli import output
from sg_local.prompts import match_label
from sg_local.records import KINDS, Task
from sg_local.tasks import FEW
from sg_local.tasks.draft import Draft, prompt_text


def ask_draft(draft: Draft) -> Draft:
    """Ask for what is missing, showing the prompt as it grows."""
    output.note("Instruction, kind, labels, up to three examples. Ctrl-C leaves without a file.")
    if not draft.instruction:
        draft = replace(draft, instruction=_ask("What should the model do? (one or two sentences)"))
    if not draft.kind:
        output.note("Is the output one of a few labels, or free text?")
        draft = replace(draft, kind=_ask_kind())
    if draft.kind == "classification" and len(draft.labels) < 2:
        draft = replace(draft, labels=_ask_labels())
    while len(draft.examples) < FEW:
        example = _ask_example(draft)
        if example is None:
            break
        draft = replace(draft, examples=(*draft.examples, example))
        preview(draft.task())
    return draft


def _ask(question: str) -> str:
    while not (text := click.prompt(question, err=True).strip()):
        pass
    return text


def _ask_kind() -> str:
    """Classification or generation; the first letter is enough."""
    while True:
        text = _ask(f"Type {' or '.join(f'{kind[0]} for {kind}' for kind in KINDS)}").lower()
        found = [kind for kind in KINDS if kind.startswith(text)]
        if found:
            return found[0]


def _ask_labels() -> tuple[str, ...]:
    while True:
        text = click.prompt("The labels, with commas between", err=True)
        labels = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if len(labels) >= 2:
            return labels
        click.echo("Two labels at least.", err=True)


def _ask_example(draft: Draft) -> tuple[str, str] | None:
    """One demonstration; None when the user has given enough of them."""
    number = len(draft.examples) + 1
    ending = "" if number == 1 else " (empty: no more)"
    text = click.prompt(f"Example {number}, input{ending}", default="", show_default=False, err=True).strip()
    if not text:
        if draft.examples:
            return None
        click.echo("One example at least: the model learns the form from it.", err=True)
        return _ask_example(draft)
    while True:
        answer = _ask(f"Example {number}, output" + (f" ({', '.join(draft.labels)})" if draft.labels else ""))
        if not draft.labels:
            return text, answer
        label = match_label(draft.labels, answer)
        if label is not None:
            return text, label
        click.echo("That is not one of the labels.", err=True)


def preview(task: Task) -> None:
    """The prompt that the task becomes, on stderr."""
    from sg_local.console import cards

    cards.show_prompt("The prompt", prompt_text(task))
