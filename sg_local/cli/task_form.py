"""The guided form of `tasks new`: questions on a terminal, a preview of the prompt, the TOML that comes out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import click

from sg_local import prompts
from sg_local.cli import output
from sg_local.prompts import match_label
from sg_local.records import KINDS, Kind, Pair, SgError, Task
from sg_local.run import artefact
from sg_local.tasks import MAX_EXAMPLES, read_task, with_labels_named


@dataclass(frozen=True)
class Draft:
    """What is known of a new task so far."""

    name: str
    kind: str | None = None
    instruction: str | None = None
    labels: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    schema: str = ""

    @property
    def is_complete(self) -> bool:
        """True when nothing need be asked."""
        return bool(self.kind and self.instruction and self.examples)

    def task(self) -> Task:
        """The task; whether it is well-formed is checked when its file is read back."""
        pairs = tuple(Pair(*pair) for pair in self.examples)
        kind = cast(Kind, self.kind or "generation")
        return Task(self.name, kind, self.instruction or "", pairs, self.labels, schema=self.schema)


def draft_from(path: Path, name: str) -> Draft:
    """A draft from JSON: kind, instruction, labels, examples as objects or pairs. Raises SgError (usage)."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        examples = tuple(
            (row["input"], row["output"]) if isinstance(row, dict) else (row[0], row[1]) for row in data["examples"]
        )
        schema = json.dumps(data["schema"], ensure_ascii=False) if "schema" in data else ""
        labels = tuple(data.get("labels", ()))
        return Draft(data.get("name", name), data["kind"], data["instruction"], labels, examples, schema)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        hint = 'It needs "kind", "instruction", "examples" [{"input": ..., "output": ...}], and "labels" for classes.'
        raise SgError(f"{path} does not describe a task ({error!r}).", hint, exit_code=2) from error


def ask_draft(draft: Draft) -> Task:
    """Ask for what is missing, showing the prompt as it grows."""
    output.note("Instruction, kind, labels, up to three examples. Ctrl-C leaves without a file.")
    if not draft.instruction:
        draft = replace(draft, instruction=_ask("What should the model do? (one or two sentences)"))
    if not draft.kind:
        output.note("Is the output one of a few labels, or free text?")
        draft = replace(draft, kind=_ask_kind())
    if draft.kind == "classification" and len(draft.labels) < 2:
        draft = replace(draft, labels=_ask_labels())
    while len(draft.examples) < MAX_EXAMPLES:
        example = _ask_example(draft)
        if example is None:
            break
        draft = replace(draft, examples=(*draft.examples, example))
        preview(draft.task())
    return draft.task()


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


def prompt_text(task: Task) -> str:
    """The prompt that the task becomes, in the plain form."""
    return "".join(
        segment.text for segment in prompts.answer_prompt(with_labels_named(task), prompts.PLAIN, "(the new input)")
    )


def task_toml(task: Task) -> str:
    """A task as a TOML file's text."""
    lines = [
        f"name = {_quoted(task.name)}",
        f"kind = {_quoted(task.kind)}",
        f"instruction = {_quoted(task.instruction)}",
    ]
    if task.labels:
        lines.append(f"labels = [{', '.join(map(_quoted, task.labels))}]")
    if task.schema:
        lines.append(f"schema = {_quoted(task.schema)}")
    for pair in task.examples:
        lines += ["", "[[examples]]", f"input = {_quoted(pair.input)}", f"output = {_quoted(pair.output)}"]
    lines += [
        "",
        "# Test rows show whether the tuned model is better; 30 or more make the interval narrow.",
        "# [[tests]]",
        '# input = "..."',
        '# output = "..."',
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are all valid in it, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_task(path: Path, text: str) -> None:
    """Put the file in place once it reads back as a task. Raises SgError (usage) when it does not."""
    with artefact(path) as partial:
        partial.mkdir()  # removed again on an error, with the draft in it
        draft = partial / path.name
        draft.write_text(text, encoding="utf-8")
        try:
            read_task(draft)
        except SgError as error:
            message = error.message.replace(str(draft), str(path))
            raise SgError(message, error.hint, exit_code=2) from error
        shutil.rmtree(partial)
        partial.write_text(text, encoding="utf-8")
