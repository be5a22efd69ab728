"""How a hint is said on the command line: the rooms name a setting, an option or a command; here it gets its dashes.

In backticks, `filter.policy=asked` becomes `--set filter.policy=asked`, `form=plain` becomes `--form plain`, and
`train RUN train.epochs=3 seed=1` becomes `sg-local train RUN --set train.epochs=3 --seed 1`. Everything else stays.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Container

STAGES = ("engine", "own", "synth", "filter", "train", "export", "eval", "serve")
OPTIONS = (
    "abstain",
    "against",
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
    "labels",
    "model",
    "name",
    "offline",
    "out",
    "port",
    "prepare",
    "preset",
    "probabilities",
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
    "votes",
)
_QUOTED = re.compile(r"`([^`]+)`")
_SETTING = re.compile(rf"(?:{'|'.join(STAGES)})(?:\.\w+)+(?:=\S*)?")
_AMONG = re.compile(rf"(?<!\S){_SETTING.pattern}(?!\S)")
_GIVEN = re.compile(rf"(?<!\S)({'|'.join(OPTIONS)})=(?=\S)")
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
    if not space or command not in commands:
        return text
    return "sg-local " + _GIVEN.sub(r"--\1 ", _AMONG.sub(r"--set \g<0>", text))
