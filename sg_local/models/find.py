"""Names to model files: what is on this machine, where it lies, and how to get what is not.

A name is resolved on this machine alone, `pull` excepted. Whether a file suits a stage (its architecture, its
tensor types) is for the stage to check; here it must be one whole, readable model.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sg_local.models import hub as hugging_face
from sg_local.models.cards import Card, read_cards
from sg_local.models.hub import quantisation
from sg_local.records import SgError
from sg_local.run import file_digest

DEFAULT = "smollm2-135m-instruct"

Fetch = Callable[[str, str], Path]


@dataclass(frozen=True)
class Model:
    """A model file on this machine. `chat_template` None means the file's own; `card` is None for a bare path."""

    name: str
    path: Path
    card: Card | None = None
    chat_template: str | None = None


@dataclass(frozen=True)
class Entry:
    """One row of `models ls`. `path` is None where the model is not on this machine; then `get` is the command."""

    name: str
    summary: str
    path: Path | None
    size_bytes: int | None
    quantisation: str
    architecture: str
    parameters: int | None
    n_ctx: int | None
    licence: str
    get: str


def find_model(name: str, home: Path, hub: Path | None = None) -> Model:
    """The model with this name or path, which must be on this machine; SgError says how to get it otherwise.

    `home` is the user's sg-local folder (own cards in `home/models`), `hub` the Hub's cache (None: the usual one).
    """
    if _is_path(name):
        return _checked(Model(Path(name).stem, Path(name).absolute()))
    card = _card(name, home)
    path = locate(card, hub)
    if path is None:
        raise SgError(f"The model {name} is not on this machine.", f"Get it with: {card.get}")
    return _checked(Model(name, path, card, card.chat_template))


def list_models(home: Path, hub: Path | None = None) -> list[Entry]:
    """Every card, then every other GGUF in the Hub's cache; opens no model file."""
    cards = read_cards(home)
    known = {(card.source.repo, card.source.file) for card in cards.values()}
    others = [card for card in hugging_face.cached_cards(hub) if (card.source.repo, card.source.file) not in known]
    return [_entry(card, hub) for card in [*cards.values(), *others]]


def locate(card: Card, hub: Path | None = None) -> Path | None:
    """Where the card's GGUF lies on this machine, or None. Imports no package that carries a model."""
    source = card.source
    if source.path is not None:
        found: Path | None = Path(source.path)
    elif source.package is not None:
        found = _in_package(source.package, source.file)
    else:
        found = hugging_face.cached(str(source.repo), source.file, hub)
    return found if found is not None and found.is_file() else None


def pull(name: str, home: Path, fetch: Fetch | None = None, hub: Path | None = None) -> Model:
    """Fetch a model from the Hub unless it is here already: the one use of the network in sg-local.

    `name` is a card's, or OWNER/REPO/FILE.gguf. `fetch(repo, file)` gives the file's path or raises SgError; None
    means `download`. A file that fails the card's SHA-256 is deleted.
    """
    card = _card(name, home)
    if locate(card, hub) is not None:
        return find_model(name, home, hub)
    if card.source.repo is None:
        raise SgError(f"{name} does not come from the Hub.", f"Get it with: {card.get}")
    _check_disk(card, hub)
    path = (fetch or hugging_face.download)(card.source.repo, card.source.file)
    _check_sha256(card, path)
    return _checked(Model(name, path, card, card.chat_template))


def _card(name: str, home: Path) -> Card:
    cards = read_cards(home)
    card = cards.get(name) or hugging_face.hub_card(name)
    if card is not None:
        return card
    begun = sorted((known for known in cards if known.startswith(name.lower())), key=lambda known: known != DEFAULT)
    near = begun or difflib.get_close_matches(name, cards, n=1)
    hint = f"Did you mean {near[0]}?" if near else "See `sg-local models ls`, or give the path of a .gguf file."
    raise SgError(f"There is no model named {name!r}.", hint, exit_code=2)


def _is_path(name: str) -> bool:
    """Whether a name is meant as a path: a file that is there, or what can be nothing else."""
    path = Path(name)
    looks_like_one = path.is_absolute() or name.startswith(".") or name.lower().endswith(".gguf")
    return path.is_file() or (looks_like_one and hugging_face.hub_card(name) is None)


def _checked(model: Model) -> Model:
    """The model, when its file is there and one whole model."""
    from sg_local.gguf.config import check_model  # loads NumPy, which a mistyped name does not need

    if not model.path.exists():
        raise SgError(f"There is no model file at {model.path}.", "See `sg-local models ls`.", exit_code=2)
    check_model(model.path)
    return model


def _in_package(package: str, file: str) -> Path | None:
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return next((Path(folder, file) for folder in folders or () if Path(folder, file).is_file()), None)


def _entry(card: Card, hub: Path | None) -> Entry:
    path = locate(card, hub)
    return Entry(
        name=card.name,
        summary=card.summary,
        path=path,
        size_bytes=card.source.size_bytes if path is None else path.stat().st_size,
        quantisation=quantisation(card.source.file or Path(card.source.path or "").name),
        architecture=card.architecture,
        parameters=card.parameters,
        n_ctx=card.n_ctx,
        licence=card.licence,
        get=card.get,
    )


def _check_disk(card: Card, hub: Path | None) -> None:
    folder = hugging_face.folder(hub)
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if card.source.size_bytes is not None and free < card.source.size_bytes:
        sizes = f"{card.source.size_bytes / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free"
        raise SgError(f"{card.name} needs {sizes}.", "Free some space, or set HF_HOME to a folder on another disk.")


def _check_sha256(card: Card, path: Path) -> None:
    wanted = card.source.sha256
    if wanted is not None and file_digest(path) != wanted.lower():
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise SgError(f"{path.name} does not have the SHA-256 of {card.name}'s card, so it was deleted.", "Try again.")
