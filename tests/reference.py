"""The pages of docs that are made from the program: commands, settings, and what --json prints.

    python tests/reference.py    write docs/commands.md, docs/settings.md and docs/json.md anew

tests/test_reference.py makes them again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from shapes import ERROR, SHAPES

from sg_local.cli.app import app
from sg_local.cli.config import VARIABLES
from sg_local.cli.config_commands import shown
from sg_local.evaluate import SYSTEMS, EvalSettings
from sg_local.evaluate.systems import System
from sg_local.job.meanings import choices_of, meaning
from sg_local.job.plan import flat, stage_defaults
from sg_local.report.records import BASE
from sg_local.views.ways import TYPED

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 96
MADE = "<!-- Made by tests/reference.py from the program itself: change the program, then run it. -->"
SYSTEMS_TOLD = """\
Every system has one name, which you type (`--gate`, `--system`) and which JSON has, and one title, which you read
on screens, cards and pages. Where you may want to type a name, it stands beside the title; `--system` takes
either. Tab completes names. Not every run has every system. Where the base was asked in both prompt formats, each
has a name of its own, such as `base_chat`; `--form chat` asks it so. `serve` takes what `predict` takes here, but
for `--votes`. With `eval --file`, gates also take the file's systems: `file` in free
text, and `file_restricted` for labels only."""
STAGES = {
    "engine": "how the model runs",
    "own": "what your own rows are used for",
    "synth": "how training pairs are written",
    "filter": "which pairs are kept",
    "train": "how the adapter is trained",
    "export": "which files are written, and what they must keep",
    "eval": "how a run is measured",
    "serve": "what the server refuses",
}


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """The path and the help of a command and of all below it."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            settings: dict[str, Any] = below.context_settings
            yield from helps(below, below.context_class(below, context, name, terminal_width=WIDTH, **settings))


def commands() -> str:
    """docs/commands.md."""
    root = app.context_class(app, None, "sg-local", terminal_width=WIDTH, **app.context_settings)
    parts = [f"# Commands\n\n{MADE}\n\nWhat `--help` says of each. What `--json` prints stands in [json.md](json.md)."]
    parts += [f"## {path}\n\n```text\n{text.rstrip()}\n```" for path, text in helps(app, root)]
    systems = "\n".join(f"| `{one.name}` | {one.title} | {_way(one)} |" for one in SYSTEMS)
    parts.append(
        f"## Systems of an evaluation\n\n{SYSTEMS_TOLD}\n\n| name | title | how to use it |\n|---|---|---|\n{systems}"
    )
    variables = "\n".join(f"| `{name}` | {what} |" for name, what in VARIABLES.items())
    parts.append(f"## Environment variables\n\n| variable | what it does |\n|---|---|\n{variables}")
    return "\n\n".join(parts) + "\n"


def _way(system: System) -> str:
    """How `predict` answers as a system."""
    if not system.asked:
        return "only measured"
    typed = " ".join(filter(None, ("--base" if system.model == BASE else "", TYPED[system.asked])))
    return f"`predict RUN FILE {typed}`".replace(" `", "`").replace("{n_votes}", str(EvalSettings.n_votes))


def settings() -> str:
    """docs/settings.md."""
    parts = [
        f"# Settings\n\n{MADE}\n\nEach is changed with `--set NAME=VALUE`, for good in the config file (`sg-local "
        "config path`), or from Python with `settings`. `sg-local config show` tells the values in force and where "
        "each one comes from. Commands of one stage (`filter`, `train`, `export`, `eval`) take a name without its "
        "stage, too."
    ]
    for stage, own in stage_defaults().items():
        lines = [f"## {stage}: {STAGES[stage]}", "", "| setting | default | what it means |", "|---|---|---|"]
        for name, value in flat(own, stage):
            words = choices_of(name.rpartition(".")[2])
            told = meaning(name) + (f" One of: {', '.join(words)}." if words and ":" not in meaning(name) else "")
            lines.append(f"| `{name}` | `{shown(value) or 'none'}` | {told} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def answers() -> str:
    """docs/json.md."""
    parts = [
        f"# What --json prints\n\n{MADE}\n\nOne JSON document on standard output. Keys may be added in later versions; "
        "none of these goes away without a note in the changelog.",
        "## Errors\n\nWith `--json` an error is one line on standard error; standard output stays empty, unless the "
        f"command had printed its result before (a gate that is not met). `about` names an entry of "
        f"[troubleshooting](troubleshooting.md), as `sg-local help` takes it.\n\n{_block(ERROR)}",
    ]
    parts += [f"## {name}\n\n{told}\n\n{_block(schema)}" for name, (told, schema) in SHAPES.items()]
    return "\n\n".join(parts) + "\n"


def _block(schema: dict[str, Any]) -> str:
    return f"```json\n{_compact(schema)}\n```"


def _compact(data: Any, indent: str = "") -> str:
    """JSON with whatever fits in one line in one line."""
    line = json.dumps(data)
    if len(indent) + len(line) <= WIDTH or not isinstance(data, dict | list):
        return line
    more = indent + "  "
    if isinstance(data, dict):
        opening, closing = "{", "}"
        inside = [f"{json.dumps(key)}: {_compact(value, more)}" for key, value in data.items()]
    else:
        opening, closing, inside = "[", "]", [_compact(one, more) for one in data]
    return opening + "\n" + ",\n".join(more + part for part in inside) + "\n" + indent + closing


PAGES = {"commands.md": commands, "settings.md": settings, "json.md": answers}


def main() -> None:
    """Write the pages."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
        print(DOCS / name)


if __name__ == "__main__":
    main()
