"""What other programs have on this machine: models of Ollama, LM Studio and llama.cpp, used where they lie.

Nothing is copied, changed or opened: a model's name is its owner's. Ollama: a manifest (JSON) under
`manifests/HOST/NAMESPACE/MODEL/TAG` names the file by its digest, `blobs/sha256-...` (its own manifest/paths.go).
LM Studio: `PUBLISHER/REPO/FILE.gguf` (lmstudio.ai/docs/app/advanced/import-model). llama.cpp before March 2026: one
flat folder of `OWNER_REPO_FILE.gguf`; since then the Hugging Face cache's layout. A folder that cannot be read holds
nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sg_local.home import ModelFolders
from sg_local.models.cards import Source
from sg_local.models.hub import cached, cached_names, hub_card, hub_repo, is_model_file, quantisation
from sg_local.reading import read_json
from sg_local.records import SgError

HUGGING_FACE, OLLAMA, LM_STUDIO, LLAMA_CPP = "Hugging Face", "Ollama", "LM Studio", "llama.cpp"
OTHER_PROGRAMS = (OLLAMA, LM_STUDIO, LLAMA_CPP)
HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
OLLAMA_NAME = re.compile(
    r"(?:(?:(?P<host>[\w.-]+)/)?(?P<namespace>[\w-]+)/)?(?P<model>\w[\w.-]*)(?::(?P<tag>[\w.-]+))?", re.ASCII
)
OLLAMA_MODEL = "application/vnd.ollama.image.model"
DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """A model file that lies on this machine. `name` finds it again; `owner` is the program whose folder it is in."""

    name: str
    path: Path
    owner: str


def found_models(folders: ModelFolders) -> list[Found]:
    """Every model on this machine that is not a package's or a card's own file; each name once."""
    every = [
        *(Found(name, path, HUGGING_FACE) for name, path in cached_names(folders.hub)),
        *(found for folder in folders.ollama for found in _ollama(folder)),
        *(found for folder in folders.lm_studio for found in _lm_studio(folder)),
        *(found for folder in folders.llama_cpp for found in _llama_cpp(folder)),
    ]
    return list({found.name: found for found in reversed(every)}.values())[::-1]


def find_source(source: Source, folders: ModelFolders) -> Found | None:
    """Where a file of the Hub lies on this machine, whoever fetched it; in Ollama's store, by its SHA-256.

    A revision is known to the caches alone.
    """
    name = f"{source.repo}/{source.file}"
    caches = [(folders.hub, HUGGING_FACE), *((folder, LLAMA_CPP) for folder in folders.llama_cpp)]
    for folder, owner in caches:
        path = cached(source, folder)
        if path is not None:
            return Found(name, path, owner)
    if source.revision is not None:
        return None
    paths = [
        *((folder / name, LM_STUDIO) for folder in folders.lm_studio),
        *((folder / name.replace("/", "_"), LLAMA_CPP) for folder in folders.llama_cpp),
        *((folder / "blobs" / f"sha256-{source.sha256}", OLLAMA) for folder in folders.ollama),
    ]
    return next((Found(name, path, owner) for path, owner in paths if os.path.isfile(path)), None)


def find_named(name: str, folders: ModelFolders) -> Found | None:
    """The model of Ollama's or llama.cpp's that has this name, or OWNER/REPO/FILE.gguf or :QUANTISATION in any."""
    card = hub_card(name)
    if card is not None:
        return find_source(card.source, folders)
    flat = [folder / name for folder in folders.llama_cpp if "/" not in name and name.lower().endswith(".gguf")]
    for path in flat:
        if os.path.isfile(path):
            return Found(name, path, LLAMA_CPP)
    return _in_ollama(name, folders) or _in_repo(name, folders)


def _in_repo(name: str, folders: ModelFolders) -> Found | None:
    """The one file of a repository with a quantisation, by its full name."""
    wanted = hub_repo(name)
    if wanted is None:
        return None
    every = (found for found in found_models(folders) if found.name.startswith(f"{wanted[0]}/"))
    return next((found for found in every if quantisation(found.name.split("@")[0]) == wanted[1]), None)


def _in_ollama(name: str, folders: ModelFolders) -> Found | None:
    parts = OLLAMA_NAME.fullmatch(name)
    if parts is None or ".." in name:
        return None
    host, namespace, tag = parts["host"] or HOST, parts["namespace"] or NAMESPACE, parts["tag"] or TAG
    for folder in folders.ollama:
        path = _blob(folder, folder / "manifests" / host / namespace / parts["model"] / tag)
        if path is not None:
            return Found(name, path, OLLAMA)
    return None


def _ollama(folder: Path) -> Iterator[Found]:
    for manifest in sorted((folder / "manifests").glob("*/*/*/*")):
        path = _blob(folder, manifest)
        if path is not None:
            *where, tag = manifest.relative_to(folder / "manifests").parts
            known = (HOST, NAMESPACE)
            begin = next(at for at in (0, 1, 2) if at == 2 or where[at] != known[at])
            yield Found(f"{'/'.join(where[begin:])}:{tag}", path, OLLAMA)


def _blob(folder: Path, manifest: Path) -> Path | None:
    """The one GGUF that a manifest names, where it is there: models of other formats have none, or several."""
    try:
        layers = read_json(manifest)["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == OLLAMA_MODEL]
    except (SgError, KeyError, TypeError):
        return None
    if len(digests) != 1 or not isinstance(digests[0], str) or DIGEST.fullmatch(digests[0]) is None:
        return None
    path = folder / "blobs" / digests[0].replace(":", "-")
    return path if os.path.isfile(path) else None


def _lm_studio(folder: Path) -> Iterator[Found]:
    for path in sorted(folder.glob("*/*/*.gguf")):
        if is_model_file(path.name) and os.path.isfile(path):
            yield Found(path.relative_to(folder).as_posix(), path, LM_STUDIO)


def _llama_cpp(folder: Path) -> Iterator[Found]:
    yield from (Found(name, path, LLAMA_CPP) for name, path in cached_names(folder))
    for path in sorted(folder.glob("*.gguf")):
        if is_model_file(path.name) and os.path.isfile(path):
            yield Found(path.name, path, LLAMA_CPP)
