"""How a hint is said on the command line: the rooms name a setting, an option or a command; here it gets its dashes.

In backticks, `filter.policy=asked` becomes `--set filter.policy=asked`, `form=plain` becomes `--form plain`, and
`train RUN train.epochs=3` becomes `sg-local train RUN --set train.epochs=3`. Everything else stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Container

STAGES = ("engine", "own", "synth", "filter", "train", "export", "eval", "serve")
OPTIONS = (
    "allow-origin",
    "allow-remote",
    "api-key",
    "backend",
    "base",
    "columns",
    "disk",
    "endpoint",
    "form",
    "host",
    "inputs",
    "judge",
    "kind",
    "model",
    "name",
    "offline",
    "port",
    "preset",
    "question",
    "ram",
    "redo",
    "rows",
    "runs",
    "seed",
    "tests",
    "time",
    "trainer",
    "type",
)
_QUOTED = re.compile(r"`([^`]+)`")
_SETTING = re.compile(rf"(?:{'|'.join(STAGES)})(?:\.\w+)+(?:=\S*)?")
_AMONG = re.compile(rf"(?<!\S){_SETTING.pattern}(?!\S)")
_OPTION = re.compile(rf"({'|'.join(OPTIONS)})(?:=(.+))?")


def on_the_command_line(hint: str, commands: Container[str]) -> str:
    """The hint with settings, options and commands (names that `commands` contains) as a user types them."""
    return _QUOTED.sub(lambda found: f"`{_typed(found[1], commands)}`", hint)


def _typed(text: str, commands: Container[str]) -> str:
    if _SETTING.fullmatch(text):
        return f"--set {text}"
    option = _OPTION.fullmatch(text)
    if option:
        return f"--{option[1]}" + (f" {shlex.quote(option[2])}" if option[2] else "")
    command, space, _ = text.partition(" ")
    return "sg-local " + _AMONG.sub(r"--set \g<0>", text) if space and command in commands else text
