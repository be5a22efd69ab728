"""Model cards: TOML files that say what a model is and where its GGUF comes from.

A GGUF comes from a Python package that carries it, from a repository on the Hugging Face Hub, or from a path (the
cards that `models add` writes into the user's own folder). Reading a card opens no model. Whether a model can be
trained is for its file to say; a card tells as much as can be known before it is fetched.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sg_local.files import artefact
from sg_local.home import ModelFolders
from sg_local.reading import read_toml
from sg_local.records import SgError, from_dict
from sg_local.tasks import shipped_folder

REPO_PART = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """Where a GGUF comes from: `package` (import name) and `file`, or `repo` and `file` on the Hub, or `path`.

    `files` names the repository's file for each quantisation, `file` the one that is taken where none is asked for.
    `sha256` (hex) and `size_bytes` are those of `file`, where known; `revision` is a branch, tag or commit.
    """

    file: str = ""
    package: str | None = None
    repo: str | None = None
    path: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    revision: str | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """What is known of a model without opening its file. `chat_template` is Jinja that replaces the file's own.

    `rope_scaling` is what the file scales rotary positions by, where it is of note: longrope cannot be trained.
    `original` is the repository of the weights as their makers published them, which holds the licence. `template`
    names the chat format, and `stops` are the tokens that end a turn in it.
    """

    name: str
    source: Source
    summary: str = ""
    architecture: str = ""
    rope_scaling: str = ""
    parameters: int | None = None
    layers: int | None = None
    n_ctx: int | None = None
    licence: str = ""
    original: str = ""
    template: str = ""
    stops: tuple[str, ...] = ()
    chat_template: str | None = None

    @property
    def get(self) -> str:
        """The command that brings the model onto this machine."""
        if self.source.package is not None:
            return f"pip install {self.source.package.replace('_', '-')}"
        if self.source.repo is not None:
            return f"sg-local models pull {self.name}"
        return f"sg-local models add {self.name} PATH.gguf"

    def quantised(self, quantisation: str) -> Card | None:
        """The card of another file of the same model, named NAME:QUANTISATION; None where it has no such file."""
        file = {name.upper(): file for name, file in self.source.files.items()}.get(quantisation.upper())
        if file is None:
            return None
        known = self.source if file == self.source.file else None
        sha256, size_bytes = (known.sha256, known.size_bytes) if known else (None, None)
        source = dataclasses.replace(self.source, file=file, sha256=sha256, size_bytes=size_bytes)
        return dataclasses.replace(self, name=f"{self.name}:{quantisation.upper()}", source=source)


def read_cards(folders: ModelFolders) -> dict[str, Card]:
    """Every card by name: those that came with sg-local, then the user's own. SgError for a malformed card."""
    paths = sorted(shipped_folder("models").glob("*.toml"))
    for folder in (folders.old_cards, folders.cards):
        paths += sorted(folder.glob("*.toml")) if folder is not None else []
    return {card.name: card for card in map(read_card, paths)}


def read_card(path: Path) -> Card:
    """A card from its TOML file. SgError names the file, the key, and what is wrong with it."""
    try:
        data = read_toml(path, "Fix this line, or delete the card.")
    except SgError as error:
        raise SgError(error.message, error.hint) from error  # no fault of the command line
    try:
        source = _table(data.pop("source", {}))
        _check_values(data, Card)
        _check_values(source, Source)
        card = from_dict(Card, {"name": path.stem, **data, "source": source})
    except SgError as error:
        hint = error.hint or "Correct it, or delete the card."
        raise SgError(f"{path}: this is not a model card ({error.message}).", hint) from error
    fault = _fault(card.source)
    if fault:
        raise SgError(f"{path}: {fault}.", "[source] has package or repo with file, or path.")
    return card


def is_repo(repo: str) -> bool:
    """Whether OWNER/REPO can be a repository on the Hub, by the rules of its own client."""
    parts = repo.split("/")
    if len(parts) != 2 or repo.endswith(".git") or "--" in repo or ".." in repo:
        return False
    return all(REPO_PART.fullmatch(part) for part in parts)


def is_inside(file: str) -> bool:
    """Whether a file's name stays inside the folder it is looked for in."""
    return bool(file) and not {"", ".", ".."} & set(file.split("/"))


def add(name: str, path: Path, folders: ModelFolders) -> Path:
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
    card = folders.cards / f"{name}.toml"
    with artefact(card) as partial:
        text = "\n".join([*lines, "", "[source]", f"path = {_toml(str(path.absolute()))}", ""])
        partial.write_text(text, encoding="utf-8")
    return card


def own_cards(name: str, folders: ModelFolders) -> list[Path]:
    """The user's own cards with this name: the one that counts, and the one of 0.1.0 that it hides."""
    own = [folder for folder in (folders.cards, folders.old_cards) if folder is not None]
    return [path for folder in own for path in sorted(folder.glob("*.toml")) if read_card(path).name == name]


def read_facts(path: Path) -> dict[str, Any]:
    """A card's facts from a GGUF's own header: architecture, parameters, layers, context. SgError for no model."""
    from sg_local.gguf import GgufFile  # loads NumPy, which reading cards does not need
    from sg_local.gguf.config import info_of

    with GgufFile(path) as file:
        info = info_of(file)
        layers, licence = file.value(f"{info.architecture}.block_count"), file.value("general.license", "")
    return {
        "architecture": info.architecture,
        "parameters": info.n_parameters,
        "layers": layers,
        "n_ctx": info.context,
        "licence": licence,
    }


KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text in quotes"),
    "str | None": (str, "text in quotes"),
    "int | None": (int, "a whole number"),
    "tuple[str, ...]": (list, "a list of texts in quotes"),
    "dict[str, str]": (dict, "a table of texts in quotes"),
}
"""What a card's value must be in TOML, by its field's annotation."""


def _check_values(data: dict[str, Any], record: type[Card] | type[Source]) -> None:
    """Raise SgError for the first value of another type than its field's. A bool is no whole number."""
    for known in dataclasses.fields(record):
        if known.name not in data or str(known.type) not in KINDS:
            continue
        value, (kind, words) = data[known.name], KINDS[str(known.type)]
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if type(value) is not kind or not all(type(item) is str for item in held):
            raise SgError(f"{known.name} must be {words}", "Fix this value.")


def _fault(source: Source) -> str:
    """What is wrong with where a model comes from, or an empty string."""
    origins = [source.path, source.package, source.repo]
    if sum(origin is not None for origin in origins) != 1 or not (source.path or source.file):
        return "the card does not say where the model is"
    if source.package is not None and not source.package.isidentifier():
        return "package must be the name that Python imports"
    if source.repo is not None and not is_repo(source.repo):
        return "repo must be OWNER/REPO, as on the Hub"
    files = [] if source.path is not None else [source.file, *source.files.values()]
    return next((f"file {file!r} is not inside it" for file in files if not is_inside(file)), "")


def _table(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SgError("source must be a table.", "Write [source] and its keys below it.")
    return data


def _toml(value: str | int) -> str:
    """A TOML string or number: JSON's escapes are valid in TOML's basic strings."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
