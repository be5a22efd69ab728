"""A folder for llama-server: a preset file with one model for each run, and the chat templates that carry their tasks.

The preset's form is that of llama.cpp's common/preset.cpp: sections in brackets, `key = value` lines, a value ending
with its line or where `;` or `#` begins a comment, and no quotes. So a path that such a value cannot hold is refused.
Not covered by that server, and said so (`LACKS`): what our own does with labels.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.files import make_folder, write_text
from sg_local.records import SgError

PRESET = "models.ini"
LACKS = (
    "answers are written, not chosen: send the grammar of a model's labels with each request, or a label may be missed",
    "labels have no probabilities: no temperature, no unsure, no decisions by a run",
    "no offsets (calibrated labels) but those that a request or its command line brings",
    "every model loads its own copy of the base, in its own process; sg-local serves all runs on one base",
)
"""What llama-server lacks of what `serve` does with the same runs."""


@dataclass(frozen=True)
class ServedAdapter:
    """A run as llama-server gets it. `template` is the text of the chat template that carries its task.

    `bias` are offsets in nats for the labels' first tokens, by token id, where they are worth it.
    """

    name: str
    base: Path
    adapter: Path
    template: str
    labels: tuple[str, ...]
    n_ctx: int
    bias: tuple[tuple[int, float], ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """What to send along with each request: the labels' grammar, and their offsets."""
        held = {"grammar": grammar(self.labels)} if self.labels else {}
        return {**held, **({"logit_bias": [list(pair) for pair in self.bias]} if self.bias else {})}


def write_preset(folder: Path, served: Sequence[ServedAdapter]) -> Path:
    """Write the preset and the templates beside it; the preset's path.

    Raises SgError (usage) for a path that it cannot hold; then nothing is written.
    """
    folder = folder.resolve()
    text = preset(folder, served)
    make_folder(folder)
    for one in served:
        write_text(folder / f"{one.name}.jinja", one.template)
        if one.bias:
            write_text(folder / f"{one.name}.request.json", json.dumps(one.request) + "\n")
    write_text(folder / PRESET, text)
    return folder / PRESET


def preset(folder: Path, served: Sequence[ServedAdapter]) -> str:
    """The preset's text: a section for each run, under its name."""
    lines = ["; Made by sg-local. Start it with:", f"; {command(folder / PRESET)}", ";", "; What that server lacks:"]
    lines += [f";   {one}" for one in LACKS]
    lines += ["version = 1", ""]
    for one in served:
        if one.labels:
            what = "grammar and label offsets" if one.bias else "grammar"
            lines.append(f"; the {what} to send with each request: {json.dumps(one.request)}")
        lines += [
            f"[{one.name}]",
            f"model = {_value(one.base)}",
            f"lora = {_value(one.adapter, ',')}",
            f"chat-template-file = {_value(folder / f'{one.name}.jinja')}",
            "jinja = true",
            f"ctx-size = {one.n_ctx}",
            "temp = 0",
            "",
        ]
    return "\n".join(lines)


def command(path: Path) -> str:
    """The line that starts llama-server with a preset, on this machine alone, as a shell reads it."""
    words = ["llama-server", "--models-preset", str(path), "--host", "127.0.0.1", "--port", "8080"]
    return " ".join(map(shlex.quote, words))


def alone(folder: Path, one: ServedAdapter) -> str:
    """The line that starts llama-server with one run alone; labels and offsets then hold in every request."""
    words = ["llama-server", "-m", str(one.base), "--lora", str(one.adapter), "--jinja", "--temp", "0"]
    words += ["--chat-template-file", str(folder.resolve() / f"{one.name}.jinja"), "-c", str(one.n_ctx)]
    if one.labels:  # a bias counts at every token: without a grammar it would turn those behind the first, too
        words += ["--grammar", grammar(one.labels)]
    for token, offset in one.bias:
        words += ["--logit-bias", f"{token}{offset:+}"]
    return " ".join(map(shlex.quote, [*words, "--host", "127.0.0.1", "--port", "8080"]))


def grammar(labels: Sequence[str]) -> str:
    """A GBNF grammar that holds an answer to the labels."""
    return "root ::= " + " | ".join(_literal(label) for label in labels)


def _literal(text: str) -> str:
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f'"{"".join(marks.get(one, one) for one in text)}"'


def _value(path: Path, also: str = "") -> str:
    """A path as a value of the preset."""
    text = str(path)
    bad = next((one for one in (*";#\r\n", *also) if one in text), None)
    if bad is not None or text != text.strip():
        hint = "Move it to a path without such characters, and export again."
        raise SgError(f"A llama-server preset cannot hold the path {text!r}.", hint, exit_code=2)
    return text
