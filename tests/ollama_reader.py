"""Reads a Modelfile and renders its template as Ollama does, for the little of both that exports write.

The grammar is that of Ollama's parser/parser.go: values end with their line or with the quotes that they begin with,
and letters that do not print are dropped. The template is Go's text/template with literals, fields, `if` and `range`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

Lines = list[tuple[str, str]]
ACTION = re.compile(r'\{\{ ((?:"(?:\\.|[^"\\])*"|[^"}])+) \}\}')


def read_modelfile(text: str) -> Lines:
    """(command, value) of every line; a message's command is `message ROLE`, a parameter's its name."""
    found, at = [], 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#":
            at = next(i for i in range(at, len(text)) if text[i] in "\r\n")
        else:
            command, value, at = _command(text, at)
            found.append((command, value))
    return found


def _command(text: str, at: int) -> tuple[str, str, int]:
    name = re.compile("[A-Za-z]+").match(text, at)
    assert name is not None and name[0] in ("FROM", "ADAPTER", "TEMPLATE", "PARAMETER", "MESSAGE"), text[at : at + 40]
    command, start = name[0].lower(), name.end() + 1
    if command in ("parameter", "message"):
        word = re.compile("[A-Za-z_]+").match(text, start)
        assert word is not None
        command, start = f"{command} {word[0]}", word.end() + 1
    read = ""
    for i in range(start, len(text)):
        if text[i] in "\r\n" and _unquoted(read.strip()) is not None:
            return command, _unquoted(read.strip()) or "", i
        if text[i] in " \t\r\n" or unicodedata.category(text[i])[0] in "LMNPS":
            read += text[i]
    raise AssertionError(f"no end: {command}")


def _unquoted(value: str) -> str | None:
    """What stands in the quotes, None where they are open."""
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            whole = len(value) >= 2 * len(quotes) and value.endswith(quotes)
            return value[len(quotes) : -len(quotes)] if whole else None
    return value


def render(template: str, messages: list[dict[str, str]], system: str = "") -> str:
    """The prompt that Ollama makes of messages."""
    parts = ACTION.split(template)
    assert "".join(parts[::2]) == "", "text outside actions"
    tree, rest = _block(parts[1::2])
    assert rest == []
    return _run(tree, {"Messages": messages, "System": system}, {"opens": []})


def _block(actions: list[str]) -> tuple[list[Any], list[str]]:
    """Nodes up to the `end` or `else` that closes them, and the actions from there on."""
    nodes: list[Any] = []
    while actions and not actions[0].startswith(("end", "else")):
        head, *actions = actions
        if head.startswith(("if ", "range ")):
            branches = []
            while head != "end":
                body, actions = _block(actions)
                branches.append((head.removeprefix("else "), body))
                head, *actions = actions
            nodes.append(branches)
        else:
            nodes.append(head)
    return nodes, actions


def _run(nodes: list[Any], dot: dict[str, Any], names: dict[str, Any]) -> str:
    return "".join(_node(node, dot, names) for node in nodes)


def _node(node: Any, dot: dict[str, Any], names: dict[str, Any]) -> str:
    if isinstance(node, str):
        if node.startswith("$opens"):
            names["opens"][:] = [node.endswith("true")]
            return ""
        if ":=" in node:
            names["$last"] = names["$i"] == len(names["$"]) - 1
            return ""
        return _go_string(node) if node.startswith('"') else str(dot[node.removeprefix(".")])
    if node[0][0].startswith("range"):
        turns = dot["Messages"]
        return "".join(_run(node[0][1], turn, {**names, "$": turns, "$i": i}) for i, turn in enumerate(turns))
    return next((_run(body, dot, names) for head, body in node if _true(head.removeprefix("if "), dot, names)), "")


def _true(condition: str, dot: dict[str, Any], names: dict[str, Any]) -> bool:
    role = re.search(r'eq \.Role "(\w+)"', condition)
    return {
        "not .System": lambda: not dot["System"],
        ".System": lambda: bool(dot["System"]),
        "$opens": lambda: names["opens"][0],
        "not $last": lambda: not names["$last"],
        'and $last (ne .Role "assistant")': lambda: names["$last"] and dot["Role"] != "assistant",
    }.get(condition, lambda: role is not None and dot["Role"] == role[1])()


def _go_string(quoted: str) -> str:
    """A Go string literal's text: JSON's escapes, and \\U with eight digits."""
    wide = re.sub(r"\\U([0-9a-f]{8})", lambda found: chr(int(found[1], 16)), quoted)
    return str(json.loads(wide))


def prompt_of(modelfile: str, text: str) -> str:
    """What Ollama feeds the model for a user's text."""
    lines = read_modelfile(modelfile)
    template = next(value for command, value in lines if command == "template")
    before = [(command.split()[1], value) for command, value in lines if command.startswith("message ")]
    turns = [{"Role": role, "Content": value} for role, value in (*before, ("user", text))]
    return render(template, turns)
