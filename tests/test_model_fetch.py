"""Fetching from the Hub, against a server on loopback: resumed, checked, refused, slow. Nothing leaves the machine."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, serving
from tiny_models import TinySpec, write_model

from sg_local.home import ModelFolders
from sg_local.models import find_model, pull, removal, remove
from sg_local.models.cards import Source
from sg_local.models.fetch import Fetcher
from sg_local.models.hub import cached
from sg_local.records import SgError

REPO, FILE = "owner/tiny-gguf", "tiny-Q4_0.gguf"
DATA = random.Random(3).randbytes(50_000)


@pytest.fixture
def hub():
    with serving(Hub({f"{REPO}/{FILE}": DATA})) as hub:
        yield hub


@pytest.fixture
def fetch(hub, tmp_path, monkeypatch):
    """A fetcher into an empty cache, with no login of whoever runs the tests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Fetcher(tmp_path / "hub", endpoint=hub.address, timeout_s=1.0, pause_s=0.01)


def partials(fetch: Fetcher) -> list[Path]:
    return list(fetch.cache.rglob("*.incomplete"))


def test_a_file_lands_where_every_client_of_the_hub_looks(hub, fetch):
    path = fetch(REPO, FILE)
    assert path.read_bytes() == DATA
    assert path == cached(Source(FILE, repo=REPO), fetch.cache)
    repo = fetch.cache / "models--owner--tiny-gguf"
    assert path == repo / "snapshots" / COMMIT / FILE
    assert (repo / "refs" / "main").read_text() == COMMIT
    assert path.resolve() == (repo / "blobs" / hashlib.sha256(DATA).hexdigest()).resolve()
    assert partials(fetch) == []


def test_the_hubs_own_client_agrees(fetch):
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    path = fetch(REPO, FILE)
    assert try_to_load_from_cache(REPO, FILE, cache_dir=fetch.cache) == str(path)
    seen = scan_cache_dir(fetch.cache)
    assert seen.warnings == [] and seen.size_on_disk == len(DATA)


def test_progress_is_told_up_to_the_whole(fetch):
    told = []
    Fetcher(fetch.cache, lambda here, whole: told.append((here, whole)), fetch.endpoint)(REPO, FILE)
    assert told == sorted(told) and told[-1] == (len(DATA), len(DATA))


def test_a_break_is_gone_on_from(hub, fetch):
    hub.cuts = [20_000, 10_000]
    assert fetch(REPO, FILE).read_bytes() == DATA
    first, *later = [int((wanted or "bytes=0-").removeprefix("bytes=").rstrip("-")) for wanted in hub.gets()]
    assert first == 0 and len(later) == 2
    assert 0 < later[0] <= 20_000 < later[1] <= 30_000


def test_what_came_is_kept_for_the_next_time(hub, fetch):
    hub.cuts = [20_000, *[0] * 5]
    with pytest.raises(SgError, match="could not be fetched") as raised:
        fetch(REPO, FILE)
    assert "kept" in raised.value.hint
    (partial,) = partials(fetch)
    here = partial.stat().st_size
    assert 0 < here <= 20_000 and partial.read_bytes() == DATA[:here]
    assert fetch(REPO, FILE).read_bytes() == DATA
    assert hub.gets()[-1] == f"bytes={here}-"


def test_a_killed_fetch_is_gone_on_from(hub, fetch, tmp_path):
    hub.pause_s = 0.05
    code = "import sys; from pathlib import Path; from sg_local.models import Fetcher\n"
    code += "Fetcher(Path(sys.argv[1]), endpoint=sys.argv[2])(sys.argv[3], sys.argv[4])"
    command = [sys.executable, "-c", code, str(fetch.cache), hub.address, REPO, FILE]
    begun = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "0"})
    while not any(path.stat().st_size > 4096 for path in partials(fetch)):
        assert begun.poll() is None
        threading.Event().wait(0.02)
    begun.kill()
    begun.wait()
    here = partials(fetch)[0].stat().st_size
    hub.pause_s = 0.0
    assert fetch(REPO, FILE).read_bytes() == DATA
    assert hub.gets()[-1] == f"bytes={here}-"


def test_a_server_without_ranges_begins_again(hub, fetch):
    hub.cuts, hub.ranges = [20_000], False
    assert fetch(REPO, FILE).read_bytes() == DATA


def test_a_partial_file_that_is_too_long_is_begun_again(hub, fetch):
    blobs = fetch.cache / "models--owner--tiny-gguf" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(DATA).hexdigest()}.incomplete").write_bytes(DATA + b"more")
    assert fetch(REPO, FILE).read_bytes() == DATA


def test_other_bytes_than_promised_are_deleted(hub, fetch):
    hub.lies = True
    with pytest.raises(SgError, match="arrived damaged"):
        fetch(REPO, FILE)
    assert partials(fetch) == [] and cached(Source(FILE, repo=REPO), fetch.cache) is None
    hub.lies = False
    assert fetch(REPO, FILE).read_bytes() == DATA


def test_a_damaged_partial_file_is_found_out(hub, fetch):
    blobs = fetch.cache / "models--owner--tiny-gguf" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(DATA).hexdigest()}.incomplete").write_bytes(bytes(1000))
    with pytest.raises(SgError, match="arrived damaged"):
        fetch(REPO, FILE)
    assert fetch(REPO, FILE).read_bytes() == DATA


def test_a_file_that_is_not_the_cards_is_never_fetched(hub, fetch):
    with pytest.raises(SgError, match="not the file of the model's card"):
        fetch(REPO, FILE, None, "0" * 64)
    assert hub.gets() == []


def test_nothing_is_fetched_twice(hub, fetch):
    assert fetch(REPO, FILE) == fetch(REPO, FILE)
    assert len(hub.gets()) == 1


def test_two_at_once_do_not_mix(hub, fetch):
    hub.pause_s = 0.02
    thread = threading.Thread(target=fetch, args=(REPO, FILE))
    thread.start()
    while not partials(fetch):
        threading.Event().wait(0.01)
    with pytest.raises(SgError, match="by another process"):
        fetch(REPO, FILE)
    thread.join()
    assert fetch(REPO, FILE).read_bytes() == DATA


def test_slow_is_not_broken(hub, fetch):
    hub.pause_s = 0.04  # 2 s in all, against a timeout of 1 s for silence
    assert fetch(REPO, FILE).read_bytes() == DATA
    assert len(hub.gets()) == 1


def test_silence_is_a_break(hub, fetch):
    hub.stalls = 1
    assert fetch(REPO, FILE).read_bytes() == DATA
    assert len(hub.gets()) == 2


@pytest.mark.parametrize(
    ("refusal", "says", "hint"),
    [
        ((403, "GatedRepo"), "is gated", "agree to its terms"),
        ((401, "GatedRepo"), "is gated", "hf auth login"),
        ((401, "RepoNotFound"), "no repository", "hf auth login"),
        ((404, "RepoNotFound"), "no repository", "Check the name"),
        ((401, ""), "", "hf auth login"),
        ((403, ""), "does not let you", "hf auth login"),
        ((404, "EntryNotFound"), "has no file", "/tree/main"),
        ((404, "RevisionNotFound"), "no such revision", "/commits"),
        ((503, ""), "answers 503", "Try again"),
    ],
)
def test_a_refusal_is_one_sentence_and_what_to_do(hub, fetch, refusal, says, hint):
    hub.refuse[REPO] = refusal
    with pytest.raises(SgError) as raised:
        fetch(REPO, FILE)
    assert says in raised.value.message and hint in raised.value.hint
    assert "\n" not in raised.value.message and raised.value.__cause__ is not None


def test_a_server_that_is_not_the_hub_is_said_so(hub, fetch, monkeypatch):
    import hub_server

    monkeypatch.setattr(hub_server, "COMMIT", "")
    monkeypatch.setattr(hub_server, "_send", lambda handler, *_: hub_server._refuse(handler, 200, ""))
    with pytest.raises(SgError, match="does not answer as the Hub does"):
        fetch(REPO, FILE)


def test_no_connection_is_said_so(fetch, tmp_path):
    with pytest.raises(SgError, match="could not be fetched"):
        Fetcher(tmp_path / "hub", endpoint="http://127.0.0.1:9", pause_s=0.01)(REPO, FILE)


def test_a_file_in_a_folder_of_the_repository(hub, fetch):
    hub.files[f"{REPO}/sub/m.gguf"] = b"GGUF"
    assert fetch(REPO, "sub/m.gguf").read_bytes() == b"GGUF"


def test_a_repository_names_its_files(hub, fetch):
    hub.files[f"{REPO}/README.md"] = b"hello"
    assert sorted(fetch.files(REPO)) == ["README.md", FILE]
    with pytest.raises(SgError, match="no repository"):
        fetch.files("owner/none")


def test_pull_takes_the_one_file_with_a_quantisation(hub, fetch, tmp_path):
    folders = ModelFolders(tmp_path / "cards", fetch.cache)
    model = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1)).read_bytes()
    hub.files = {
        f"{REPO}/{name}": model for name in (FILE, "tiny-Q8_0.gguf", "mmproj-Q8_0.gguf", "a-F16.gguf", "b-F16.gguf")
    }
    found = pull(f"{REPO}:q8_0", folders, fetch)
    assert (found.name, found.path.name) == (f"{REPO}/tiny-Q8_0.gguf", "tiny-Q8_0.gguf")
    assert find_model(f"{REPO}:Q8_0", folders).path == found.path
    asked = len(hub.asked)
    assert pull(f"hf.co/{REPO}:Q8_0", folders, fetch).path == found.path
    assert len(hub.asked) == asked
    with pytest.raises(SgError, match="no file with Q2_K") as raised:
        pull(f"{REPO}:Q2_K", folders, fetch)
    assert raised.value.hint == "It has F16, Q4_0, Q8_0."
    with pytest.raises(SgError, match="2 files with F16") as raised:
        pull(f"{REPO}:F16", folders, fetch)
    assert f"{REPO}/a-F16.gguf" in raised.value.hint


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2500000000\n",
            "a Git LFS pointer to a file of",
        ),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page"),
    ],
)
def test_what_came_in_a_models_place_is_named_and_can_be_removed(hub, fetch, tmp_path, data, says):
    folders, name = ModelFolders(tmp_path / "cards", fetch.cache), f"{REPO}/{FILE}"
    hub.files[name] = data
    for _ in range(2):  # fetched, then found
        with pytest.raises(SgError, match=says):
            pull(name, folders, fetch)
    remove(removal(name, folders))
    hub.files[name] = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1)).read_bytes()
    assert pull(name, folders, fetch).path.read_bytes() == hub.files[name]


def test_the_command_pulls_over_the_same_way(tmp_path):
    model = write_model(tmp_path / "tiny.gguf", TinySpec(layers=1))
    home = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "SG_LOCAL_HOME": str(tmp_path / "sg")}
    home.pop("HF_TOKEN", None)
    code = "import sys; from sg_local.cli import main; main(sys.argv[1:])"
    with serving(Hub({f"{REPO}/{FILE}": model.read_bytes()}, cuts=[5_000])) as hub:
        pull = [sys.executable, "-c", code, "models", "pull", f"{REPO}/{FILE}"]
        done = subprocess.run(pull, env={**home, "HF_ENDPOINT": hub.address}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == model.read_bytes()
    assert "Next: sg-local run TASK --model" in done.stderr
