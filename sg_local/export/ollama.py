"""A Modelfile for Ollama: the model, its turn layout as a Go template, the task as messages, greedy settings.

Ollama keeps to its own template language, so a chat template is taken apart into the text around each turn and put
together again; one that is no plain concatenation of turns is left out, and Ollama falls back to what it finds in
the GGUF. The grammar is that of Ollama's parser/parser.go: a value ends with its line, or with the quotes that it
begins with, and what does not print is dropped from it. So everything that others wrote (a task's name and texts, a
template's turns, a path) is quoted; a task that no quotes can hold goes into the template, as Go string literals.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sg_local.export.turns import Turns, turns_of
from sg_local.prompts import Form, answer_messages, plain_head
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
    name = " ".join(task.name.split())
    lines = [f"# {name}: made by sg-local. Create it with: ollama create {model_name(task)} -f Modelfile"]
    lines += [_line("FROM", parts.model)]
    lines += [_line("ADAPTER", parts.adapter)] if parts.adapter is not None else []
    lines += [f"# FROM {other}" for other in parts.others]
    turns = turns_of(form)
    messages = answer_messages(task, "", task.examples)[:-1]
    quotable = all(_holds(message["content"]) for message in messages)
    if turns is None:
        lines.append("# The model's chat template has no plain Go form: Ollama's own choice is used.")
    else:
        lines.append(f"TEMPLATE {QUOTES}{go_template(turns, task, form, messages if not quotable else ())}{QUOTES}")
        lines += [_line("PARAMETER stop", stop, always=True) for stop in _stops(turns)]
    lines.append("PARAMETER temperature 0")
    if turns is None and not (quotable and messages):
        lines.append("# No Modelfile can hold the task's texts as they are: send them with each input.")
    elif quotable and form.template is not None:
        lines += [f"MESSAGE {turn['role']} {QUOTES}{turn['content']}{QUOTES}" for turn in messages]
    return "\n".join(lines) + "\n"


def model_name(task: Task) -> str:
    """The task's name as `ollama create` takes one."""
    return re.sub(r"[^a-z0-9._-]+", "-", task.name.lower()).strip("-._") or "task"


def _line(key: str, value: str, *, always: bool = False) -> str:
    """A line of the file, its value in quotes where it needs them, or `always`; a comment where no quotes hold it."""
    if not _holds(value):
        return f"# {key} is left out: no Modelfile can hold {json.dumps(value)}."
    if '"' in value or any(end in value for end in "\r\n"):
        return f"{key} {QUOTES}{value}{QUOTES}"
    return f'{key} "{value}"' if always or value != value.strip() else f"{key} {value}"


def _holds(text: str) -> bool:
    """Whether three quotes can hold a text: it has none itself, and all of it prints by Go's strconv.IsPrint."""
    return QUOTES not in text and all(letter in "\n\r\t" or _prints(letter) for letter in text)


def _prints(letter: str) -> bool:
    return letter == " " or unicodedata.category(letter)[0] in "LMNPS"


def go_template(turns: Turns, task: Task, form: Form, baked: Sequence[dict[str, str]] = ()) -> str:
    """The layout in Go's text/template. `baked` turns stand in front of every conversation; of a task without examples
    the first user's turn takes the instruction.
    """
    if form.template is None:
        return _plain_template(task, form)
    opening = "{{ if not .System }}" + literal(turns.opening) + "{{ end }}" if turns.opening else ""
    around = {"user": turns.user, "assistant": turns.assistant}
    first = "".join(literal(around[m["role"]][0] + m["content"] + around[m["role"]][1]) for m in baked)
    system = ""
    if turns.system is not None:
        system = _branch("if", "system", literal(turns.system[0]) + "{{ .Content }}" + literal(turns.system[1]))
    keyword = "else if" if system else "if"
    asked = literal(f"{task.instruction}\n\n")
    opens = "" if task.examples else "{{ if $opens }}" + asked + "{{ end }}{{ $opens = false }}"
    user = _branch(keyword, "user", literal(turns.user[0]) + opens + "{{ .Content }}" + literal(turns.user[1]))
    closing = "{{ if not $last }}" + literal(turns.assistant[1]) + "{{ end }}"
    answer = _branch("else if", "assistant", literal(turns.assistant[0]) + "{{ .Content }}" + closing)
    cue = '{{ if and $last (ne .Role "assistant") }}' + literal(turns.cue) + "{{ end }}"
    last = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    loop = "{{ range $i, $_ := .Messages }}" + last + system + user + answer + "{{ end }}" + cue + "{{ end }}"
    return opening + first + ("{{ $opens := true }}" if opens else "") + loop


def literal(text: str) -> str:
    """Text as a Go template action that prints it; its quotes are escaped, so nothing in it ends the value."""
    if not text:
        return ""
    quoted = json.dumps(text, ensure_ascii=False)
    return "{{ " + "".join(letter if _prints(letter) else _escaped(letter) for letter in quoted) + " }}"


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _branch(keyword: str, role: str, body: str) -> str:
    return "{{ " + keyword + f' eq .Role "{role}" ' + "}}" + body


def _plain_template(task: Task, form: Form) -> str:
    head = "{{ if .System }}{{ .System }}" + literal("\n\n") + "{{ end }}"
    head += literal(plain_head(task, form, task.examples))
    user = _branch("if", "user", literal(f"Input:{form.gap}") + "{{ .Content }}" + literal(f"\nOutput:{form.cue}"))
    answer = _branch("else if", "assistant", literal(form.lead) + "{{ .Content }}" + literal("\n\n"))
    return head + "{{ range .Messages }}" + user + answer + "{{ end }}{{ end }}"


def _stops(turns: Turns) -> list[str]:
    """What ends an answer: the text after an assistant turn, up to its line end, and the next user's cue."""
    found = [turns.assistant[1].strip(), turns.user[0].strip()]
    return [stop for i, stop in enumerate(found) if stop and stop not in found[:i]]
