"""`sg-local models`: list, show, add and download base models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from sg_local.cli import output
from sg_local.cli.app import Group
from sg_local.cli.complete import model_names
from sg_local.cli.config import Environment, set_offline
from sg_local.cli.options import json_option
from sg_local.cli.output import Column
from sg_local.words import size

PULL = "sg-local models pull"


@click.group(
    "models",
    cls=Group,
    examples=("sg-local models ls", "sg-local models add my-model model.gguf", "sg-local models pull vicuna-7b-v1.5"),
)
def models_command() -> None:
    """List, show, add and download base models."""


@models_command.command("ls", examples=("sg-local models ls", "sg-local models ls --json"))
@click.pass_obj
@json_option
def ls(environment: Environment, as_json: bool) -> None:
    """List the models that are known, and whether they are on this machine."""
    from sg_local import models

    entries = models.list_models(environment.data)
    if as_json:
        output.show_json([{**dataclasses.asdict(entry), "path": _text(entry.path)} for entry in entries])
        return
    columns = [Column("model"), Column("params", True), Column("type"), Column("size", True), Column("here")]
    rows = [
        (
            entry.name,
            _count(entry.parameters),
            entry.quantisation,
            size(entry.size_bytes) if entry.size_bytes else "",
            "yes" if entry.path else "no" if entry.get.startswith(PULL) else entry.get,
        )
        for entry in entries
    ]
    output.show_table("Models", columns, rows)
    click.echo(f"Get one with: {PULL} NAME", err=True)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _count(n: int | None) -> str:
    """Parameters for reading: 135M, 7.2B."""
    if not n:
        return ""
    return f"{n / 1e9:.1f}B" if n >= 1e9 else f"{n / 1e6:.0f}M"


@models_command.command("show", examples=("sg-local models show smollm2-135m-instruct", "sg-local models show m.gguf"))
@click.argument("model", shell_complete=model_names)
@click.pass_obj
@json_option
def show(environment: Environment, model: str, as_json: bool) -> None:
    """Show what is known of a model: a name, or the path of a GGUF file."""
    from sg_local import models
    from sg_local.gguf.config import check_model

    found = models.find_model(model, environment.data)
    facts = dataclasses.asdict(check_model(found.path))
    facts.pop("chat_template", None)
    card = {key: value for key, value in (dataclasses.asdict(found.card) if found.card else {}).items() if value}
    card.pop("chat_template", None)
    if as_json:
        memory = _training_bytes(found.path, facts)
        output.show_json({"name": found.name, "path": str(found.path), "card": card, "file": facts, "training": memory})
        return
    pairs = [("path", str(found.path)), ("size", size(found.path.stat().st_size))]
    pairs += [(key, str(value)) for key, value in card.items() if key in ("summary", "licence")]
    pairs += [
        (key.replace("_", " "), str(value))
        for key, value in facts.items()
        if key != "path" and not isinstance(value, (dict, list))
    ]
    pairs += [
        (f"training, {place}", f"about {size(need)}") for place, need in _training_bytes(found.path, facts).items()
    ]
    output.show_pairs(found.name, pairs)


def _training_bytes(path: Path, facts: dict[str, Any]) -> dict[str, int]:
    """The memory that training takes, by where it runs; empty for a model that cannot be trained."""
    from sg_local.backends.training.memory import training_need, usual_load
    from sg_local.gguf import read_config

    if facts["cannot_train"]:
        return {}
    shape = read_config(path)
    places = {"CPU": False, "CUDA": True}
    return {place: training_need(shape, usual_load(shape, on_cuda=cuda)).total for place, cuda in places.items()}


@models_command.command("add", examples=("sg-local models add my-model ~/models/my-model.Q4_K_M.gguf",))
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.pass_obj
def add(environment: Environment, name: str, path: Path) -> None:
    """Give a GGUF file on this machine a name."""
    from sg_local import models

    click.echo(models.add(name, path, environment.data))
    click.echo(f"Next: sg-local run TASK --model {name}", err=True)


@models_command.command(
    "pull", examples=("sg-local models pull vicuna-7b-v1.5", "sg-local models pull OWNER/REPO/FILE.gguf")
)
@click.argument("name", shell_complete=model_names)
@click.pass_obj
def pull(environment: Environment, name: str) -> None:
    """Download a model from the Hugging Face Hub: the one command that uses the network."""
    set_offline(False)
    from sg_local import models

    found = models.pull(name, environment.data)
    click.echo(found.path)
    click.echo(f"Next: sg-local run TASK --model {name}", err=True)
