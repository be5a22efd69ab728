"""A task as the text of a TOML file that people read and change: what `tasks new` writes and `tasks show` prints.

Texts of several lines stand as they are between three quotes. `read_task` reads the very same task back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from sg_local.records import Task, TestRow
from sg_local.words import HARMFUL

WIDE = 110
ESCAPED = re.compile(rf'\\|"(?="")|"\Z|{HARMFUL.pattern}')
"""What cannot stand as it is between three double quotes: TOML wants controls escaped, a reader wants to see them."""
NO_TESTS = """
# Test rows show whether the tuned model is better; 30 or more make the interval narrow.
# [[tests]]
# input = "..."
# output = "..."
"""


def task_toml(task: Task, tests_file: str = "") -> str:
    """A task as a TOML file's text; its test rows in it, or in the file beside it that is named."""
    parts = [f"name = {toml_string(task.name)}\nkind = {toml_string(task.kind)}"]
    parts[0] += f"\ninstruction = {toml_string(task.instruction)}"
    if task.labels:
        parts[0] += f"\nlabels = {_list(task.labels)}"
    if task.schema:
        parts[0] += f"\nschema = {toml_string(json.dumps(json.loads(task.schema), indent=2, ensure_ascii=False))}"
    if tests_file:
        parts[0] += f"\ntests = {toml_string(tests_file)}"
    parts += [_table("examples", ("input", pair.input), ("output", pair.output)) for pair in task.examples]
    if not tests_file:
        parts += map(_test, task.tests)
    return "\n\n".join(parts) + "\n" + ("" if task.tests or tests_file else NO_TESTS)


def toml_string(text: str) -> str:
    """A text as a TOML string, in the form that is easiest to read and reads back the same."""
    if "\n" in text:
        return _block(text)
    if ('"' in text or "\\" in text) and "'" not in text and not HARMFUL.search(text):
        return f"'{text}'"
    return HARMFUL.sub(_escape, json.dumps(text, ensure_ascii=False))  # JSON's escapes are all valid in TOML


def _block(text: str) -> str:
    """A text of several lines, between three quotes; with escapes where it holds what would end it."""
    if "'''" in text or text.endswith("'") or HARMFUL.search(text):
        return f'"""\n{ESCAPED.sub(_escape, text)}"""'
    return f"'''\n{text}'''"


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if "\ud800" <= char <= "\udfff":
        return char  # half a pair has no escape: the file cannot be written, and that is said
    return f"\\{char}" if char in '\\"' else f"\\u{ord(char):04x}"


def _test(row: TestRow) -> str:
    if len(row.outputs) == 1:
        return _table("tests", ("input", row.input), ("output", row.outputs[0]))
    return f"{_table('tests', ('input', row.input))}\noutputs = {_list(row.outputs)}"


def _table(name: str, *texts: tuple[str, str]) -> str:
    return "\n".join([f"[[{name}]]", *(f"{key} = {toml_string(text)}" for key, text in texts)])


def _list(texts: Iterable[str]) -> str:
    """A list of strings, one a line where they are too long for one."""
    shown = [toml_string(text) for text in texts]
    line = f"[{', '.join(shown)}]"
    if len(line) <= WIDE and "\n" not in line:
        return line
    return "[\n" + "".join(f"    {text},\n" for text in shown) + "]"
