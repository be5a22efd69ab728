"""Model cards: TOML files that say what a model is and where its GGUF comes from.

A GGUF comes from a Python package that carries it, from a repository on the Hugging Face Hub, or from a path (the
cards that `models add` writes into the user's own folder). Reading a card opens no model.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.records import SgError, from_dict
from sg_local.run import artefact
from sg_local.tasks import shipped_folder


@dataclass(frozen=True)
class Source:
    """Where a GGUF comes from: `package` (import name) and `file`, or `repo` and `file` on the Hub, or `path`.

    `sha256` (hex) and `size_bytes` are the file's, where known.
    """

    file: str = ""
    package: str | None = None
    repo: str | None = None
    path: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Card:
    """What is known of a model without opening its file. `chat_template` is Jinja that replaces the file's own."""

    name: str
    source: Source
    summary: str = ""
    architecture: str = ""
    parameters: int | None = None
    n_ctx: int | None = None
    licence: str = ""
    chat_template: str | None = None

    @property
    def get(self) -> str:
        """The command that brings the model onto this machine."""
        if self.source.package is not None:
            return f"pip install {self.source.package.replace('_', '-')}"
        if self.source.repo is not None:
            return f"sg-local models pull {self.name}"
        return f"sg-local models add {self.name} PATH.gguf"


def own_folder(home: Path) -> Path:
    """Where the user's own cards lie; `home` is the user's sg-local folder."""
    return home / "models"


def read_cards(home: Path) -> dict[str, Card]:
    """Every card by name: those that came with sg-local, then the user's own. SgError for a malformed card."""
    shipped, own = sorted(shipped_folder("models").glob("*.toml")), sorted(own_folder(home).glob("*.toml"))
    return {card.name: card for card in map(read_card, [*shipped, *own])}


def read_card(path: Path) -> Card:
    """A card from its TOML file. SgError names the file and what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        source = from_dict(Source, data.pop("source", {}))
        card = from_dict(Card, {"name": path.stem, **data, "source": dataclasses.asdict(source)})
    except (OSError, UnicodeDecodeError) as error:
        raise SgError(f"{path} cannot be read as UTF-8 text.", "Check the file.") from error
    except tomllib.TOMLDecodeError as error:
        raise SgError(f"{path}: this is not TOML ({error}).", "Mend this line, or delete the card.") from error
    except SgError as error:
        raise SgError(f"{path}: this is not a model card ({error.message}).", error.hint) from error
    return _complete(path, card)


def add(name: str, path: Path, home: Path) -> Path:
    """Write a card of the user's own for a GGUF on disk, and return the card's path.

    SgError for a name that is taken by a shipped card or unfit as a file name, and for a file that is no GGUF.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name):
        hint = "Use lower-case letters, digits, dots, dashes and underscores."
        raise SgError(f"{name!r} cannot be a model name.", hint, exit_code=2)
    if (shipped_folder("models") / f"{name}.toml").exists():
        raise SgError(f"{name} is a model that came with sg-local.", "Choose another name.", exit_code=2)
    facts = {key: value for key, value in read_facts(path).items() if value}
    lines = [f"{key} = {_toml(value)}" for key, value in {"name": name, **facts}.items()]
    card = own_folder(home) / f"{name}.toml"
    with artefact(card) as partial:
        text = "\n".join([*lines, "", "[source]", f"path = {_toml(str(path.absolute()))}", ""])
        partial.write_text(text, encoding="utf-8")
    return card


def read_facts(path: Path) -> dict[str, Any]:
    """A card's facts from a GGUF's own header: architecture, parameters, n_ctx, licence. SgError for no model."""
    from sg_local.gguf import GgufFile  # loads NumPy, which reading cards does not need
    from sg_local.gguf.config import info_of

    with GgufFile(path) as file:
        info, licence = info_of(file), file.value("general.license", "")
    return {
        "architecture": info.architecture,
        "parameters": info.n_parameters,
        "n_ctx": info.context,
        "licence": licence,
    }


def _complete(path: Path, card: Card) -> Card:
    for record in (card, card.source):
        for field in dataclasses.fields(record):
            value, wanted = getattr(record, field.name), int if "int" in str(field.type) else str
            if field.name != "source" and value is not None and type(value) is not wanted:
                kind = "a whole number" if wanted is int else "text in quotes"
                raise SgError(f"{path}: {field.name} must be {kind}.", "Mend this value.")
    places = [card.source.path, card.source.package, card.source.repo]
    if sum(place is not None for place in places) == 1 and (card.source.path or card.source.file):
        return card
    raise SgError(
        f"{path}: the card does not say where the model is.", "[source] has package or repo with file, or path."
    )


def _toml(value: str | int) -> str:
    """A TOML string or number: JSON's escapes are valid in TOML's basic strings."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
