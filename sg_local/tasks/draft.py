"""A task in the making: what is known so far, the TOML it becomes, its file put in place once it reads back."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sg_local import prompts
from sg_local.reading import read_json
from sg_local.records import Kind, Pair, SgError, Task, from_dict
from sg_local.run import artefact
from sg_local.tasks.files import read_task
from sg_local.tasks.labels import with_labels_named


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
    hint = 'It needs "kind", "instruction", "examples" [{"input": ..., "output": ...}], and "labels" for classes.'
    data = read_json(path, hint)
    if not isinstance(data, dict):
        raise SgError(f"{path} does not describe a task: it is no object.", hint, exit_code=2)
    examples = data.get("examples", ())
    pairs = [(row.get("input"), row.get("output")) if isinstance(row, dict) else row for row in _list(examples)]
    schema = json.dumps(data["schema"], ensure_ascii=False) if "schema" in data else ""
    known = {key: data[key] for key in ("kind", "instruction", "labels", "name") if key in data}
    try:
        return from_dict(Draft, {"name": name, **known, "examples": pairs, "schema": schema})
    except SgError as error:
        raise SgError(f"{path} does not describe a task ({error.message}).", hint, exit_code=2) from error


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
