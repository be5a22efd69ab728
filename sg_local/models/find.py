"""Names to model files: what is on this machine, where it lies, and how to get what is not.

A name is a card's (with :QUANTISATION for another of its files), OWNER/REPO/FILE.gguf whoever fetched it, Ollama's,
or a path. It is resolved on this machine alone, `pull` excepted. Whether a file suits a stage (its architecture, its
tensor types) is for the stage to check; here it must be one whole, readable model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sg_local.home import ModelFolders
from sg_local.models.cards import Card, Source, read_cards
from sg_local.models.hub import hub_card, quantisation
from sg_local.models.stores import Found, find_named, find_source, found_models
from sg_local.records import SgError
from sg_local.words import did_you_mean

DEFAULT = "smollm2-135m-instruct"
PACKAGE, OWN = "package", "own file"


@dataclass(frozen=True)
class Model:
    """A model file on this machine. `chat_template` None means the file's own; `card` is None for a bare path."""

    name: str
    path: Path
    card: Card | None = None
    chat_template: str | None = None


@dataclass(frozen=True)
class ModelEntry:
    """One row of `models ls`. `path` is None where the model is not on this machine; then `get` is the command.

    `where` names what it lies in: Hugging Face, Ollama, LM Studio, llama.cpp, package, or own file. `is_card` says
    whether there is a card of it.
    """

    name: str
    summary: str
    path: Path | None
    where: str
    size_bytes: int | None
    quantisation: str
    quantisations: tuple[str, ...]
    architecture: str
    parameters: int | None
    layers: int | None
    n_ctx: int | None
    licence: str
    get: str
    is_card: bool


def check_trains(path: Path) -> None:
    """Raise SgError for a model that training would refuse, with `why_not_trainable`. Reads its header alone."""
    from sg_local.gguf import check_trainable  # loads NumPy

    check_trainable(path)


def why_not_trainable(path: Path) -> str:
    """One sentence on why a model's file cannot be trained, the same wherever it is told; '' where it can.

    Raises SgError for a file that is not one whole model.
    """
    from sg_local.gguf import check_model  # loads NumPy

    return check_model(path).cannot_train


def find_model(name: str, folders: ModelFolders) -> Model:
    """The model with this name or path, which must be on this machine; SgError says how to get it otherwise."""
    if os.path.isfile(name):
        return checked(Model(Path(name).stem, Path(name).absolute()))
    card = find_card(name, folders)
    if card is not None:
        path = locate(card, folders)
        if path is None:
            raise SgError(f"The model {name} is not on this machine.", _how_to_get(card, folders))
        return checked(Model(card.name, path, card, card.chat_template))
    found = find_named(name, folders)
    if found is not None:
        return checked(Model(found.name, found.path))
    raise unknown(name, folders)


def list_models(folders: ModelFolders) -> list[ModelEntry]:
    """Every card, then every other model on this machine, by whoever it was fetched; opens no model file."""
    cards = [(card, _where(card, folders)) for card in read_cards(folders).values()]
    shown = {found.path.resolve() for _, found in cards if found is not None}
    others = [found for found in found_models(folders) if found.path.resolve() not in shown]
    bare = [(hub_card(found.name) or Card(found.name, Source(path=str(found.path))), found) for found in others]
    known = [_entry(card, found, is_card=True) for card, found in cards]
    return known + [_entry(card, found, is_card=False) for card, found in bare]


def locate(card: Card, folders: ModelFolders) -> Path | None:
    """Where the card's GGUF lies on this machine, or None. Imports no package that carries a model."""
    found = _where(card, folders)
    return None if found is None else found.path


def find_card(name: str, folders: ModelFolders) -> Card | None:
    """The card with this name, that of another of its files for NAME:QUANTISATION, or a bare one for a Hub name.

    None for a name of no card; SgError for a quantisation that a card does not have and no other program knows.
    """
    cards = read_cards(folders)
    card = cards.get(name) or hub_card(name)
    if card is not None:
        return card
    begin, colon, wanted = name.rpartition(":")
    if not colon or begin not in cards:
        return None
    card = cards[begin].quantised(wanted)
    if card is None and find_named(name, folders) is None:
        has = ", ".join(cards[begin].source.files) or "its one file"
        raise SgError(f"{begin} has no {wanted}.", f"It has {has}.", exit_code=2)
    return card


def unknown(name: str, folders: ModelFolders) -> SgError:
    """The error for a name that stands for nothing here."""
    if Path(name).is_absolute() or name.startswith(".") or name.lower().endswith(".gguf"):
        return SgError(f"There is no model file at {Path(name).absolute()}.", "See `models ls`.", exit_code=2)
    known = [*read_cards(folders), *(found.name for found in found_models(folders))]
    near = did_you_mean(name, sorted(known, key=lambda one: one != DEFAULT))
    hint = near or "See `models ls`, or give the path of a .gguf file."
    return SgError(f"There is no model named {name!r}.", hint, exit_code=2)


def checked(model: Model) -> Model:
    """The model, when its file is there and one whole model."""
    from sg_local.gguf.config import check_model  # loads NumPy, which a mistyped name does not need

    if not os.path.exists(model.path):
        raise SgError(f"There is no model file at {model.path}.", "See `models ls`.", exit_code=2)
    check_model(model.path)
    return model


def _where(card: Card, folders: ModelFolders) -> Found | None:
    source = card.source
    if source.path is not None:
        found: Found | None = Found(card.name, Path(source.path).expanduser(), OWN)
    elif source.package is not None:
        found = _in_package(source.package, source.file)
    else:
        found = find_source(source, folders)
    return found if found is not None and os.path.isfile(found.path) else None


def _in_package(package: str, file: str) -> Found | None:
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    paths = (Path(folder, file) for folder in folders)
    return next((Found(package, path, PACKAGE) for path in paths if os.path.isfile(path)), None)


def _how_to_get(card: Card, folders: ModelFolders) -> str:
    """The command; and another of the card's files where that one is here."""
    others = [card.quantised(name) for name in card.source.files]
    here = next((other.name for other in others if other is not None and locate(other, folders) is not None), None)
    return f"Get it with: {card.get}" if here is None else f"{here} is here. Get this one with: {card.get}"


def _entry(card: Card, found: Found | None, is_card: bool) -> ModelEntry:
    path = None if found is None else found.path
    return ModelEntry(
        name=card.name,
        summary=card.summary,
        path=path,
        where="" if found is None else found.owner,
        size_bytes=card.source.size_bytes if path is None else path.stat().st_size,
        quantisation=quantisation(card.source.file or Path(card.source.path or "").name),
        quantisations=tuple(card.source.files),
        architecture=card.architecture,
        parameters=card.parameters,
        layers=card.layers,
        n_ctx=card.n_ctx,
        licence=card.licence,
        get=card.get,
        is_card=is_card,
    )
