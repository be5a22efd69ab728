"""`pull` brings a model from the Hub, the one use of the network in sg-local; `remove` takes one away again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sg_local.home import ModelFolders
from sg_local.models.cards import Card, own_cards
from sg_local.models.fetch import Fetcher
from sg_local.models.find import Model, checked, find_card, find_model, locate, unknown
from sg_local.models.stores import HUGGING_FACE, find_named, find_source
from sg_local.records import SgError
from sg_local.run import file_digest, translated
from sg_local.words import size

Fetch = Callable[[str, str, str | None, str | None], Path]
"""(repository, file, revision, SHA-256 that it must have) to the file's path; raises SgError."""


def pull(
    name: str, folders: ModelFolders, fetch: Fetch | None = None, show_licence: Callable[[str], None] | None = None
) -> Model:
    """Fetch a model from the Hub unless it is here already.

    `name` is a card's, with or without :QUANTISATION, or OWNER/REPO/FILE.gguf. `show_licence` is told the licence
    before anything is fetched. A file that fails the card's SHA-256 is deleted.
    """
    card = find_card(name, folders)
    if card is None and find_named(name, folders) is None:
        raise unknown(name, folders)
    if card is None or locate(card, folders) is not None:
        return find_model(name, folders)
    if card.source.repo is None:
        raise SgError(f"{name} does not come from the Hub.", f"Get it with: {card.get}")
    _check_disk(card, folders)
    if show_licence is not None and card.licence:
        show_licence(licence_of(card))
    source = card.source
    path = (fetch or Fetcher(folders.hub))(card.source.repo, source.file, source.revision, source.sha256)
    _check_sha256(card, path)
    return checked(Model(card.name, path, card, card.chat_template))


def licence_of(card: Card) -> str:
    """One line on the licence of a card's model, and where its text is."""
    place = f": https://huggingface.co/{card.original}" if card.original else ""
    return f"{card.name} is licensed under {card.licence}{place}"


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
    wanted = card.source.sha256
    if wanted is not None and file_digest(path) != wanted.lower():
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise SgError(f"{path.name} does not have the SHA-256 of {card.name}'s card, so it was deleted.", "Try again.")
