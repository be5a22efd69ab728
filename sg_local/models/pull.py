"""`pull` brings a model from the Hub, the one use of the network in sg-local; `remove` takes one away again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sg_local.files import file_digest, translated
from sg_local.home import ModelFolders
from sg_local.models.cards import Card, own_cards
from sg_local.models.fetch import Fetcher
from sg_local.models.find import Model, checked, find_card, find_model, locate, unknown
from sg_local.models.hub import hub_card, hub_repo, is_model_file, quantisation
from sg_local.models.stores import HUGGING_FACE, find_named, find_source
from sg_local.records import SgError
from sg_local.words import size


class Fetch(Protocol):
    """What brings files of the Hub into its cache; `Fetcher` does."""

    def __call__(self, repo: str, file: str, revision: str | None, sha256: str | None) -> Path:
        """The file's path; SgError where it cannot be fetched or has another SHA-256."""
        ...

    def files(self, repo: str) -> list[str]:
        """The names of a repository's files."""
        ...


def pull(
    name: str, folders: ModelFolders, fetch: Fetch | None = None, say: Callable[[str], None] | None = None
) -> Model:
    """Fetch a model from the Hub unless it is here already.

    `name` is a card's, with or without :QUANTISATION, or OWNER/REPO with :QUANTISATION or /FILE.gguf. `say` is told the
    licence, and what such a model is no good for, before anything is fetched. A file that fails the card's SHA-256 is
    deleted.
    """
    fetch = fetch or Fetcher(folders.hub)
    card = find_card(name, folders)
    if card is None and find_named(name, folders) is not None:
        return find_model(name, folders)
    card = card or _in_repository(name, fetch)
    if card is None:
        raise unknown(name, folders)
    if locate(card, folders) is not None:
        return find_model(card.name, folders)
    if card.source.repo is None:
        raise SgError(f"{name} does not come from the Hub.", f"Get it with: {card.get}")
    _check_disk(card, folders)
    for line in notices(card):
        (say or _nothing)(line)
    path = fetch(card.source.repo, card.source.file, card.source.revision, card.source.sha256)
    _check_sha256(card, path)
    return checked(Model(card.name, path, card, card.chat_template))


def notices(card: Card) -> list[str]:
    """What to know before a model is fetched: its licence with the place of its text, and whether it can be tuned."""
    place = f": https://huggingface.co/{card.original}" if card.original else ""
    licence = f"{card.name} is licensed under {card.licence}{place}" if card.licence else ""
    return [line for line in (licence, why_not_trained(card)) if line]


def why_not_trained(card: Card) -> str:
    """One sentence where a card already says that its model cannot be trained; else empty."""
    from sg_local.gguf.config import why_not_architecture, why_not_scaling  # loads NumPy

    reason = why_not_architecture(card.architecture) if card.architecture else ""
    reason = reason or why_not_scaling(card.rope_scaling)
    return f"{card.name} can be used here, but not trained: {reason}" if reason else ""


def _in_repository(name: str, fetch: Fetch) -> Card | None:
    """A bare card of the one file in a repository that has the quantisation asked for, by OWNER/REPO:QUANTISATION."""
    wanted = hub_repo(name)
    if wanted is None:
        return None
    repo, asked = wanted
    files = [file for file in fetch.files(repo) if file.lower().endswith(".gguf") and is_model_file(Path(file).name)]
    fitting = [file for file in files if quantisation(Path(file).name) == asked]
    if len(fitting) == 1:
        return hub_card(f"{repo}/{fitting[0]}")
    has = ", ".join(sorted({quantisation(Path(file).name) for file in files} - {""})) or "no GGUF file that states one"
    if fitting:
        has = ", ".join(f"{repo}/{file}" for file in fitting)
    raise SgError(f"{repo} has {len(fitting) or 'no'} {'files' if fitting else 'file'} with {asked}.", f"It has {has}.")


def _nothing(_: str) -> None:
    """Say nothing."""


def removal(name: str, folders: ModelFolders) -> list[Path]:
    """The files that go when a model is removed: the user's card, or the Hub's file in its cache.

    SgError for what is not sg-local's to delete: a model file of the user's own, a package, another program's.
    """
    cards = own_cards(name, folders)
    if cards:
        return cards
    card = find_card(name, folders)
    if card is None:
        found = find_named(name, folders)
        if found is None:
            raise unknown(name, folders)
        raise SgError(f"{name} is {found.owner}'s.", f"Delete it with {found.owner}.")
    if card.source.package is not None:
        raise SgError(f"{name} came with a package.", f"pip uninstall {card.source.package.replace('_', '-')}")
    found = find_source(card.source, folders)
    if found is None:
        raise SgError(f"The model {name} is not on this machine.", "See `models ls`.")
    if found.owner != HUGGING_FACE:
        raise SgError(f"{name} is {found.owner}'s.", f"Delete it with {found.owner}.")
    return _cache_files(found.path, card.source.file)


def remove(paths: list[Path]) -> int:
    """Delete the files that `removal` gave, and return how many bytes that frees."""
    freed = sum(path.stat().st_size for path in paths if not path.is_symlink())
    for path in paths:
        with translated(path):
            path.unlink()
    return freed


def _cache_files(path: Path, file: str) -> list[Path]:
    """The link in the snapshot and, where no other snapshot links to it, the blob that it points to."""
    repo = path.parents[file.count("/") + 2]
    blob = path.resolve()
    if blob == path:
        return [path]
    links = [link for link in (repo / "snapshots").rglob("*") if link.is_symlink() and link.resolve() == blob]
    alone = blob.parent == (repo / "blobs").resolve() and links == [path]
    return [path, blob] if alone else [path]


def _check_disk(card: Card, folders: ModelFolders) -> None:
    folder = next(path for path in (folders.hub, *folders.hub.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if card.source.size_bytes is not None and free < card.source.size_bytes:
        sizes = f"{size(card.source.size_bytes)}, and {folder} has {size(free)} free"
        raise SgError(f"{card.name} needs {sizes}.", "Free some space, or set HF_HOME to a folder on another disk.")


def _check_sha256(card: Card, path: Path) -> None:
    """Delete a file that is not the card's. A blob of the cache has its digest for a name, checked as it came."""
    wanted = (card.source.sha256 or "").lower()
    if wanted and path.resolve().name != wanted and file_digest(path) != wanted:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise SgError(f"{path.name} does not have the SHA-256 of {card.name}'s card, so it was deleted.", "Try again.")
