"""Names of files on the Hugging Face Hub, and where its cache on this machine holds them. Nothing here fetches.

The cache is `models--OWNER--REPO/snapshots/COMMIT/FILE`, and `refs/BRANCH_OR_TAG` holds a commit: that of
huggingface_hub's docs, "Understand caching", which llama.cpp shares since March 2026 (its pull request 20775). Folders
that are named otherwise are someone's own and are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sg_local.models.cards import Card, Source, is_inside, is_repo
from sg_local.reading import read_text
from sg_local.records import SgError

HUB_NAME = re.compile(r"(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+\.gguf)(?:@(?P<revision>[^@]+))?", re.IGNORECASE)
REPO_NAME = re.compile(r"(?:hf\.co/)?(?P<repo>[^/@:]+/[^/@:]+):(?P<quantisation>[^/@:]+)")
QUANTISATION = re.compile(r"(?:^|[.\-_])(F32|BF16|F16|I?Q\d\w*)(?=[.\-]|$)", re.IGNORECASE)
COMMIT = re.compile(r"\w{1,100}", re.ASCII)  # 40 hex digits, but never a path
MAX_REF = 1000  # bytes
PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


def hub_card(name: str) -> Card | None:
    """A bare card for a name of the form OWNER/REPO/FILE.gguf, with or without @REVISION; else None."""
    found = HUB_NAME.fullmatch(name)
    if found is None or not is_repo(found["repo"]) or not is_inside(found["file"]):
        return None
    return Card(name, Source(found["file"], repo=found["repo"], revision=found["revision"]))


def hub_repo(name: str) -> tuple[str, str] | None:
    """Repository and quantisation of a name of the form OWNER/REPO:QUANTISATION, as llama.cpp and Ollama have it."""
    found = REPO_NAME.fullmatch(name)
    if found is None or not is_repo(found["repo"]) or not quantisation(f"m-{found['quantisation']}.gguf"):
        return None
    return found["repo"], found["quantisation"].upper()


def cached(source: Source, hub: Path) -> Path | None:
    """Where the cache in `hub` holds a file of the Hub, or None.

    The revision that is asked for; where none is: the main branch's, else the newest of the others.
    """
    repo = hub / f"models--{str(source.repo).replace('/', '--')}"
    paths = (repo / "snapshots" / commit / source.file for commit in _commits(repo, source.revision))
    return next((path for path in paths if os.path.isfile(path)), None)


def cached_names(hub: Path) -> Iterator[tuple[str, Path]]:
    """(OWNER/REPO/FILE.gguf, path) of every model in the cache; what other commits have in its place has @COMMIT."""
    for repo in sorted(hub.glob("models--*--*")):
        name = repo.name.removeprefix("models--").replace("--", "/")
        if not is_repo(name):
            continue
        short: dict[str, Path] = {}
        for commit in _commits(repo, None):
            for file, path in _models_in(repo / "snapshots" / commit):
                if short.setdefault(file, path) == path:
                    yield f"{name}/{file}", path
                elif short[file].resolve() != path.resolve():
                    yield f"{name}/{file}@{commit}", path


def _models_in(snapshot: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(snapshot.rglob("*.gguf")):
        if is_model_file(path.name) and os.path.isfile(path):
            yield path.relative_to(snapshot).as_posix(), path


def is_model_file(file: str) -> bool:
    """Whether a file may be a whole model: not the picture half of one, nor a later part."""
    return not file.lower().startswith("mmproj") and PART.search(file) is None


def quantisation(file: str) -> str:
    """The quantisation that a GGUF's file name states, such as Q4_K_M, or ''."""
    found = QUANTISATION.findall(file.removesuffix(".gguf"))
    return found[-1].upper() if found else ""


def _commits(repo: Path, revision: str | None) -> list[str]:
    """The snapshots to look in, in this order."""
    if revision is not None:
        return [_commit(repo, revision)]
    snapshots = [path for path in (repo / "snapshots").glob("*") if path.is_dir()]
    newest = sorted(snapshots, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    main = _commit(repo, "main")
    return sorted((path.name for path in newest), key=lambda name: name != main)


def _commit(repo: Path, revision: str) -> str:
    """The commit of a branch or tag; a commit, whole or its beginning, is itself."""
    try:
        commit = read_text(repo / "refs" / revision, MAX_REF).strip()
        return commit if COMMIT.fullmatch(commit) else revision
    except SgError:
        begun = [path.name for path in (repo / "snapshots").glob(f"{revision}*")] if revision.isalnum() else []
        return begun[0] if len(begun) == 1 else revision
