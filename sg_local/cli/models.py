"""`sg-local models`: list, show, add, download and remove base models."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sg_local.cli import output
from sg_local.cli.app import CommandGroup
from sg_local.cli.complete import model_names
from sg_local.cli.config import Environment, go_online
from sg_local.cli.options import json_option
from sg_local.cli.output import Column
from sg_local.records import SgError
from sg_local.views.models import PULL, card_facts, card_pairs, download_text, fact_pair, model_cells
from sg_local.words import shown, size

if TYPE_CHECKING:
    from sg_local.models import Card, ModelEntry


@click.group(
    "models",
    cls=CommandGroup,
    examples=("sg-local models ls", "sg-local models add my-model model.gguf", "sg-local models pull vicuna-7b-v1.5"),
)
def models_command() -> None:
    """List, show, add, download and remove base models."""


@models_command.command(
    "ls", examples=("sg-local models ls", "sg-local models ls --found", "sg-local models ls --json")
)
@click.option(
    "--found",
    is_flag=True,
    help="List every model on this machine, including those of Ollama, LM Studio and llama.cpp.",
)
@click.pass_obj
@json_option
def ls(environment: Environment, found: bool, as_json: bool) -> None:
    """List known models, and whether they are on this machine.

    Any listed name works as --model; nothing is copied.
    """
    from sg_local import models

    every = models.list_models(environment.models)
    entries = [entry for entry in every if _listed(entry, found)]
    if as_json:
        output.show_json([{**dataclasses.asdict(entry), "path": _text(entry.path)} for entry in entries])
        return
    last = Column("where") if found else Column("here")
    columns = [Column("model"), Column("params", True), Column("type"), Column("size", True), last]
    output.show_table("Models", columns, [model_cells(entry, found) for entry in entries])
    if len(entries) < len(every) and not found:
        n = len(every) - len(entries)
        output.say(f"Other programs have {n} more on this machine: sg-local models ls --found", err=True)
    output.say(f"Get one with: {PULL} NAME", err=True)


def _listed(entry: ModelEntry, found: bool) -> bool:
    """What `ls` shows: the cards and the Hugging Face cache; with --found, all that is here."""
    from sg_local import models

    return entry.path is not None if found else entry.is_card or entry.where not in models.OTHER_PROGRAMS


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@models_command.command("show", examples=("sg-local models show smollm2-135m-instruct", "sg-local models show m.gguf"))
@click.argument("model", shell_complete=model_names)
@click.pass_obj
@json_option
def show(environment: Environment, model: str, as_json: bool) -> None:
    """Show the details of a model, given by name or by the path of a GGUF file."""
    from sg_local import models
    from sg_local.backends.training.memory import needs_by_place
    from sg_local.gguf.config import check_model

    card = None if os.path.isfile(model) else models.find_card(model, environment.models)
    if card is not None and card.summary and models.locate(card, environment.models) is None:
        _show_card(card, as_json)
        return
    found = models.find_model(model, environment.models)
    facts = dataclasses.asdict(check_model(found.path))
    facts.pop("chat_template", None)
    memory = {} if facts["cannot_train"] else needs_by_place(found.path)
    if as_json:
        told = {} if found.card is None else card_facts(found.card)
        output.show_json({"name": found.name, "path": str(found.path), "card": told, "file": facts, "training": memory})
        return
    pairs = [("path", str(found.path)), ("size", size(found.path.stat().st_size))]
    pairs += [] if found.card is None else card_pairs(found.card, ("summary", "licence", "original", "files"))
    pairs += [
        fact_pair(key, value)
        for key, value in facts.items()
        if key not in ("path", "size_bytes") and value not in ("", None) and not isinstance(value, (dict, list))
    ]
    pairs += [(f"training, {place}", f"about {size(need)}") for place, need in memory.items()]
    output.show_pairs(found.name, pairs)


def _show_card(card: Card, as_json: bool) -> None:
    """What is known of a model that is not on this machine."""
    from sg_local import models

    if as_json:
        output.show_json({"name": card.name, "path": None, "card": card_facts(card), "file": None, "training": {}})
        return
    output.show_pairs(card.name, card_pairs(card))
    reason = models.why_not_trained(card)
    if reason:
        output.note(reason)
    output.say(f"Not on this machine. Get it with: {card.get}", err=True)


@models_command.command("add", examples=("sg-local models add my-model ~/models/my-model.Q4_K_M.gguf",))
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.pass_obj
def add(environment: Environment, name: str, path: Path) -> None:
    """Give a GGUF file on this machine a name."""
    from sg_local import models

    output.say(models.add(name, path, environment.models))
    output.say(f"Next: sg-local run TASK --model {name}", err=True)


@models_command.command(
    "pull",
    examples=(
        "sg-local models pull vicuna-7b-v1.5",
        "sg-local models pull qwen3-4b:Q8_0",
        "sg-local models pull OWNER/REPO:Q4_K_M",
        "sg-local models pull OWNER/REPO/FILE.gguf",
    ),
)
@click.argument("name", shell_complete=model_names)
@click.pass_obj
def pull(environment: Environment, name: str) -> None:
    """Download a model from the Hugging Face Hub: the one command that uses the network.

    An interrupted download continues where it stopped. The file goes into the Hugging Face cache, where other programs
    find it, too.
    """
    if environment.offline:
        raise SgError("A download needs the network, which --offline forbids.", "Leave out `offline`.", exit_code=2)
    go_online()
    from sg_local import models

    line = DownloadLine(name)
    try:
        fetch = models.Fetcher(environment.models.hub, told=line.show)
        found = models.pull(name, environment.models, fetch, say=output.note)
    finally:
        line.end()
    output.say(found.path)
    output.say(f"Next: sg-local run TASK --model {name}", err=True)


@dataclass
class DownloadLine:
    """Where a download stands: one line that is written over on a terminal, one that says the size elsewhere."""

    name: str
    now_s: float = 0.0
    begun: tuple[float, int] | None = None
    width: int = field(default=0)

    def show(self, here: int, whole: int | None) -> None:
        """Take what is here of the whole, in bytes."""
        now_s = time.monotonic()
        if self.begun is None:
            self.begun = (now_s, here)
            if not sys.stderr.isatty():
                output.say(f"Fetching {self.name}{f', {size(whole)}' if whole else ''}", err=True)
        if not sys.stderr.isatty() or (now_s - self.now_s < 0.125 and here != whole):
            return
        self.now_s = now_s
        text = shown(self.text(here, whole, now_s))
        click.echo("\r" + text.ljust(self.width), nl=False, err=True)
        self.width = len(text)

    def text(self, here: int, whole: int | None, now_s: float) -> str:
        """The line: bytes, speed, and the time left."""
        begun_s, first = self.begun or (now_s, here)
        return download_text(here, whole, (here - first) / max(now_s - begun_s, 0.1))

    def end(self) -> None:
        """Leave the line."""
        if self.width:
            click.echo(err=True)


@models_command.command("rm", examples=("sg-local models rm my-model", "sg-local models rm vicuna-7b-v1.5 --yes"))
@click.argument("name", shell_complete=model_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(environment: Environment, name: str, yes: bool) -> None:
    """Remove a model: a name that `models add` gave, or a file from the Hugging Face cache.

    Its faster copies in the cache are deleted, too. A file that you gave a name stays, and so do other programs'
    models.
    """
    from sg_local import models
    from sg_local.cli.cache import lines_of

    copies = [path for line in lines_of(environment) if line.model == name for path in line.paths]
    paths = [*models.removal(name, environment.models), *copies]
    if not yes:
        if not sys.stdin.isatty():
            raise SgError(
                f"{name} was not deleted: not a terminal, so cannot ask for confirmation.", "Add --yes.", exit_code=2
            )
        click.confirm(f"Delete {' and '.join(map(str, paths))}?", abort=True, err=True)
    freed = models.remove(paths)
    for path in paths:
        output.say(f"Deleted {path}", err=True)
    output.say(f"{size(freed)} freed", err=True)
