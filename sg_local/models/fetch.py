"""Fetching one file of the Hugging Face Hub into its cache: resumed where it broke off, and checked.

huggingface_hub asks, logs in and keeps the cache; the bytes are fetched here, because it deletes its own partial file
when a download ends early (its pull request 4228). A partial file is `blobs/ETAG.incomplete`; it becomes a blob only
whole and with the SHA-256 that the Hub gives for files in Git LFS or Xet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_local.files import file_digest, translated
from sg_local.records import SgError
from sg_local.words import size

Told = Callable[[int, int | None], None]
"""Told after each piece how many bytes are here, and how many the file has (None: not known)."""

TRIES = 5  # without a byte in between, before the connection counts as down
SHA256 = re.compile(r"[0-9a-f]{64}")
KEPT = "Check the connection. What has arrived is kept: run the same command again to continue."


@dataclass(frozen=True)
class Fetcher:
    """Fetches files of the Hub into the cache in `cache`.

    `endpoint` is the Hub's address (None: huggingface_hub's, which HF_ENDPOINT sets), `timeout_s` how long the server
    may say nothing, `pause_s` the wait before another try.
    """

    cache: Path
    told: Told | None = None
    endpoint: str | None = None
    timeout_s: float = 30.0
    pause_s: float = 1.0

    def __call__(self, repo: str, file: str, revision: str | None = None, sha256: str | None = None) -> Path:
        """The path of the file in the cache. SgError when offline, refused, not there, or not what `sha256` says."""
        from huggingface_hub import hf_hub_download

        with _explained(repo, file):
            found = self._ask(repo, file, revision)
            _check_known(found.etag, sha256, f"{repo}/{file}")
            blob = self.cache / f"models--{repo.replace('/', '--')}" / "blobs" / str(found.etag)
            if not blob.exists():
                self._fetch(repo, file, found, blob)
            # It finds the blob and adds what makes it a cache entry: the link in the snapshot, and the revision.
            return Path(hf_hub_download(repo, file, revision=revision, cache_dir=self.cache, endpoint=self.endpoint))

    def files(self, repo: str) -> list[str]:
        """The files of a repository. SgError as for a fetch."""
        from huggingface_hub import HfApi

        with _explained(repo, ""):
            return list(HfApi(endpoint=self.endpoint).list_repo_files(repo))

    def _ask(self, repo: str, file: str, revision: str | None) -> Any:
        """What the Hub says of a file: etag, commit, size."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(repo, file, revision=revision, endpoint=self.endpoint)
        found = get_hf_file_metadata(url, timeout=self.timeout_s, endpoint=self.endpoint)
        if found.etag is None or found.commit_hash is None or not re.fullmatch(r"\w[\w.-]*", found.etag):
            raise SgError(f"{url} does not answer as the Hub does.", "Is HF_ENDPOINT the address of a mirror?")
        return found

    def _fetch(self, repo: str, file: str, found: Any, blob: Path) -> None:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(repo, file, revision=found.commit_hash, endpoint=self.endpoint)
        partial = blob.with_name(f"{blob.name}.incomplete")
        with translated(partial):
            blob.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "ab") as lock:
                _lock(lock, f"{repo}/{file}")
                _check_disk(found.size, partial)
                self._stream(url, partial, found.size)
                _check_whole(partial, found, f"{repo}/{file}")
                os.replace(partial, blob)

    def _stream(self, url: str, partial: Path, n_bytes: int | None) -> None:
        """Bring the partial file to its whole length, going on after each break while something still arrives."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

        tries = TRIES
        while True:
            before = partial.stat().st_size
            try:
                return self._append(url, partial, n_bytes)
            except HfHubHTTPError:
                raise
            except (HTTPError, ConnectionError, TimeoutError):
                tries = TRIES if partial.stat().st_size > before else tries - 1
                if tries == 0:
                    raise
                time.sleep(self.pause_s)

    def _append(self, url: str, partial: Path, n_bytes: int | None) -> None:
        """One request for the bytes that are still missing."""
        from huggingface_hub import get_session, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        here = partial.stat().st_size
        if n_bytes is not None and here > n_bytes:
            here = 0
        if here == n_bytes:
            return
        headers = {**build_hf_headers(library_name="sg-local"), "Accept-Encoding": "identity"}
        if here:
            headers["Range"] = f"bytes={here}-"
        with get_session().stream("GET", url, headers=headers, timeout=self.timeout_s) as response:
            hf_raise_for_status(response)
            with open(partial, "r+b") as file:
                here = here if response.status_code == 206 else 0  # a server may send the whole file all the same
                file.truncate(here)
                file.seek(here)
                for piece in response.iter_bytes():
                    file.write(piece)
                    here += len(piece)
                    if self.told is not None:
                        self.told(here, n_bytes)


def _check_known(etag: str, sha256: str | None, name: str) -> None:
    if sha256 is not None and SHA256.fullmatch(etag) and etag != sha256.lower():
        message = f"{name} on the Hub is not the file of the model's card: its SHA-256 is another."
        raise SgError(message, "Its owner has changed it. Name the file itself (OWNER/REPO/FILE.gguf) to fetch it.")


def _check_disk(n_bytes: int | None, partial: Path) -> None:
    missing = (n_bytes or 0) - partial.stat().st_size
    free = shutil.disk_usage(partial.parent).free
    if free < missing:
        hint = "Free some space, or set HF_HOME to a folder on another disk."
        raise SgError(f"{size(missing)} are still to come, and {partial.parent} has {size(free)} free.", hint)


def _check_whole(partial: Path, found: Any, name: str) -> None:
    """Delete a file that is not what the Hub said it is."""
    length = partial.stat().st_size
    if found.size is not None and length < found.size:
        raise ConnectionError(f"{length} of {found.size} bytes came")
    is_sha256 = SHA256.fullmatch(found.etag) is not None
    if (found.size is None or length == found.size) and (not is_sha256 or file_digest(partial) == found.etag):
        return
    partial.unlink()
    raise SgError(f"{name} arrived damaged (its SHA-256 is another), so it was deleted.", "Fetch it again.")


def _lock(file: Any, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SgError(f"{name} is being fetched by another process.", "Wait for it.") from error


@contextlib.contextmanager
def _explained(repo: str, file: str) -> Iterator[None]:
    """Turn what the Hub and the network raise into one sentence and what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    name = f"{repo}/{file}".rstrip("/")
    login = "Log in with `hf auth login`, or set HF_TOKEN"
    if constants.HF_HUB_OFFLINE:
        message = f"{name} cannot be fetched: HF_HUB_OFFLINE switches the network off."
        raise SgError(message, "Unset HF_HUB_OFFLINE and try again.")
    try:
        yield
    except errors.GatedRepoError as error:
        hint = f"Open {page} in a browser and agree to its terms. {login}, and try again."
        raise SgError(f"{repo} is gated: its owner lets in those who agree to its terms.", hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = f"Check the name at {page}. A private one needs you to log in first: `hf auth login`."
        raise SgError(f"There is no repository {repo} on the Hub that you may see.", hint) from error
    except errors.EntryNotFoundError as error:
        raise SgError(f"{repo} has no file {file}.", f"Its files: {page}/tree/main") from error
    except errors.RevisionNotFoundError as error:
        raise SgError(f"{repo} has no such revision.", f"Its revisions: {page}/commits") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise SgError(f"The Hub does not let you fetch {name} ({status}).", f"{login}, and try again.") from error
        hint = "Try again in a while. What has arrived is kept."
        raise SgError(f"{name} could not be fetched: the Hub answers {status}.", hint) from error
    except errors.HFValidationError as error:
        raise SgError(f"{name} cannot be a file on the Hub.", "It is OWNER/REPO/FILE.gguf.", exit_code=2) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SgError(f"{name} could not be fetched: {reason}", KEPT) from error
