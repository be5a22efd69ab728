"""A Modelfile for Ollama: the model, its turn layout as a Go template, the task as messages, greedy settings.

Ollama keeps to its own template language, so a chat template is taken apart into the text around each turn and put
together again; one that is no plain concatenation of turns is left out, and Ollama falls back to what it finds in
the GGUF. The grammar is that of Ollama's docs/modelfile.md: `\"\"\"` quotes a value of several lines and cannot
stand inside one, so a task that contains it goes into the template instead, as Go string literals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sg_local.export.template import Turns, turns_of
from sg_local.prompts import Form, answer_messages
from sg_local.records import Task

QUOTES = '"""'


@dataclass(frozen=True)
class ModelfileParts:
    """`model` is a file beside the Modelfile, or the base's path; `adapter` a file beside it, or None when fused."""

    model: str
    adapter: str | None
    others: tuple[str, ...] = ()


def modelfile(task: Task, form: Form, parts: ModelfileParts) -> str:
    """The Modelfile's text. `ollama create NAME -f Modelfile` reads it."""
    lines = [f"# {task.name}: made by sg-local. Create it with: ollama create {task.name} -f Modelfile"]
    lines += [f"FROM {parts.model}"]
    lines += [f"ADAPTER {parts.adapter}"] if parts.adapter is not None else []
    lines += [f"# FROM {other}" for other in parts.others]
    turns = turns_of(form)
    messages = answer_messages(task, "", task.examples)[:-1]
    quotable = not any(QUOTES in message["content"] for message in messages)
    if turns is None:
        lines.append("# The model's chat template has no plain Go form: Ollama's own choice is used.")
    else:
        lines.append(f"TEMPLATE {QUOTES}{go_template(turns, task, form, messages if not quotable else ())}{QUOTES}")
        lines += [f'PARAMETER stop "{stop}"' for stop in _stops(turns)]
    lines.append("PARAMETER temperature 0")
    if quotable and form.template is not None:
        lines += [f"MESSAGE {turn['role']} {QUOTES}{turn['content']}{QUOTES}" for turn in messages]
    return "\n".join(lines) + "\n"


def go_template(turns: Turns, task: Task, form: Form, baked: Sequence[dict[str, str]] = ()) -> str:
    """The layout in Go's text/template. `baked` turns stand in front of every conversation."""
    if form.template is None:
        return _plain_template(task)
    opening = "{{ if not .System }}" + literal(turns.opening) + "{{ end }}" if turns.opening else ""
    around = {"user": turns.user, "assistant": turns.assistant}
    first = "".join(literal(around[m["role"]][0] + m["content"] + around[m["role"]][1]) for m in baked)
    system = ""
    if turns.system is not None:
        system = _branch("if", "system", literal(turns.system[0]) + "{{ .Content }}" + literal(turns.system[1]))
    keyword = "else if" if system else "if"
    user = _branch(keyword, "user", literal(turns.user[0]) + "{{ .Content }}" + literal(turns.user[1]))
    closing = "{{ if not $last }}" + literal(turns.assistant[1]) + "{{ end }}"
    answer = _branch("else if", "assistant", literal(turns.assistant[0]) + "{{ .Content }}" + closing)
    cue = '{{ if and $last (ne .Role "assistant") }}' + literal(turns.cue) + "{{ end }}"
    last = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    loop = "{{ range $i, $_ := .Messages }}" + last + system + user + answer + "{{ end }}" + cue + "{{ end }}"
    return opening + first + loop


def literal(text: str) -> str:
    """Text as a Go template action that prints it; its quotes are escaped, so nothing in it ends the value."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""


def _branch(keyword: str, role: str, body: str) -> str:
    return "{{ " + keyword + f' eq .Role "{role}" ' + "}}" + body


def _plain_template(task: Task) -> str:
    shown = "".join(f"Input: {pair.input}\nOutput: {pair.output}\n\n" for pair in task.examples)
    head = "{{ if .System }}{{ .System }}" + literal("\n\n") + "{{ end }}"
    head += literal(f"{task.instruction}\n\n{shown}")
    user = _branch("if", "user", literal("Input: ") + "{{ .Content }}" + literal("\nOutput:"))
    answer = _branch("else if", "assistant", literal(" ") + "{{ .Content }}" + literal("\n\n"))
    return head + "{{ range .Messages }}" + user + answer + "{{ end }}{{ end }}"


def _stops(turns: Turns) -> list[str]:
    """What ends an answer: the text after an assistant turn, up to its line end, and the next user's cue."""
    found = [turns.assistant[1].strip(), turns.user[0].strip()]
    return [stop for i, stop in enumerate(found) if stop and stop not in found[:i]]
