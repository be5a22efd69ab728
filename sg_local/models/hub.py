"""The Hugging Face Hub: what its cache on this machine holds, and `download`, the only function that fetches.

Nothing here is imported at the top from huggingface_hub, so that naming a local model costs nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from sg_local.models.cards import Card, Source
from sg_local.records import SgError

HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>.+\.gguf)", re.IGNORECASE)
QUANTISATION = re.compile(r"(?:^|[.\-_])(F32|BF16|F16|I?Q\d\w*)(?=[.\-]|$)", re.IGNORECASE)


def hub_card(name: str) -> Card | None:
    """A bare card for a name of the form OWNER/REPO/FILE.gguf, else None."""
    found = HUB_NAME.fullmatch(name)
    return None if found is None else Card(name, Source(found["file"], repo=found["repo"]))


def folder(hub: Path | None = None) -> Path:
    """The Hub's cache on this machine: `hub` where given, else where huggingface_hub keeps it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) if hub is None else hub


def cached(repo: str, file: str, hub: Path | None = None) -> Path | None:
    """Where the Hub's cache holds a file, or None. `hub` is the cache's folder; None means the usual one."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, cache_dir=hub)
    return Path(found) if isinstance(found, str) else None


def cached_cards(hub: Path | None = None) -> list[Card]:
    """A bare card for every GGUF in the Hub's cache, by name."""
    root = folder(hub)
    names = set()
    for path in root.glob("models--*/snapshots/*/**/*.gguf"):
        repo_folder, _, _, *file = path.relative_to(root).parts
        names.add("/".join((repo_folder.removeprefix("models--").replace("--", "/", 1), *file)))
    return [card for card in map(hub_card, sorted(names)) if card is not None]


def download(repo: str, file: str, tqdm_class: type | None = None) -> Path:
    """Fetch one file into the Hub's cache and return its path. SgError when offline, refused or not there.

    `tqdm_class` shows the progress; None means the Hub's own bar on stderr. An interrupted fetch is gone on with.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        message = f"{repo}/{file} cannot be fetched: HF_HUB_OFFLINE switches the network off."
        raise SgError(message, "Unset HF_HUB_OFFLINE and try again.")
    try:
        return Path(hf_hub_download(repo, file, tqdm_class=tqdm_class))
    except (HfHubHTTPError, EntryNotFoundError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "Check the name and the connection, then try again; a gated model needs `hf auth login` first."
        raise SgError(f"{repo}/{file} could not be fetched: {reason}", hint) from error


def quantisation(file: str) -> str:
    """The quantisation that a GGUF's file name states, such as Q4_K_M, or ''."""
    found = QUANTISATION.findall(file.removesuffix(".gguf"))
    return found[-1].upper() if found else ""
