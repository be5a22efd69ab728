"""How files are written: whole or not at all, private unless published; their digests."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest

from sg_local import files
from sg_local.files import (
    artefact,
    file_digest,
    replacing,
    shred,
    translated,
    write_cache,
    write_text,
)
from sg_local.records import SgError


@pytest.fixture
def open_umask():
    """A user whose files are anybody's."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder):
    """The mode of a folder and of all in it, by name."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


def test_what_is_written_is_its_owner_s_alone_whatever_the_umask(tmp_path, open_umask):
    write_text(tmp_path / "new/deeper/file", "text")
    with artefact(tmp_path / "new/folder") as partial:
        partial.mkdir()
        (partial / "inside").write_text("text")
    assert modes(tmp_path / "new") == {"new": 0o700, "deeper": 0o700, "file": 0o600, "folder": 0o700, "inside": 0o600}


def test_what_is_published_has_the_modes_of_the_user_s_own_files(tmp_path):
    line = (
        "import os, sys, pathlib; os.umask(0o027); from sg_local.files import *;"
        "keep_private(); top = pathlib.Path(sys.argv[1]); make_folder(top / 'a');"
        "(top / 'a/plain').write_text('x'); write_text(top / 'a/ours', 'x'); publish(top / 'a/ours');"
        "make_folder(top / 'a/b'); write_text(top / 'a/b/c', 'x'); publish(top / 'a/b')"
    )
    subprocess.run([sys.executable, "-c", line, str(tmp_path / "t")], check=True)
    assert modes(tmp_path / "t/a") == {"a": 0o700, "plain": 0o600, "ours": 0o640, "b": 0o750, "c": 0o640}


def test_an_artefact_takes_the_place_of_a_link_and_leaves_its_target(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    for name in ("file", "file.partial"):
        (tmp_path / name).symlink_to(target)
    write_text(tmp_path / "file", "new")
    assert target.read_text() == "mine" and not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_an_artefact_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(ValueError), artefact(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with artefact(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("one", "two"):
        with artefact(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / text).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


def test_a_shared_artefact_is_built_beside_that_of_another_process(tmp_path):
    with artefact(tmp_path / "entry", shared=True) as partial:
        partial.write_text("mine")
        (tmp_path / "entry.partial").write_text("another's")
        assert str(os.getpid()) in partial.name
    assert (tmp_path / "entry").read_text() == "mine" and (tmp_path / "entry.partial").exists()


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ValueError), replacing(path) as file:
        file.write(b"half")
        raise ValueError
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "whole"


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "file").touch()
    write_cache(tmp_path / "file" / "entry.json", {})


@pytest.fixture
def hashed(monkeypatch):
    """The files whose bytes were hashed, in order."""
    real, names = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: names.append(file.name) or real(file, kind))
    return names


def old(path, text):
    path.write_text(text)
    os.utime(path, (1e9, 1e9))
    return path


def test_a_rested_file_is_hashed_once(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "weights")
    assert file_digest(path) == file_digest(path) == hashlib.sha256(b"weights").hexdigest()
    assert len(hashed) == 1


def test_a_file_that_was_just_written_is_hashed_each_time(tmp_path, hashed):
    path = tmp_path / "rows.jsonl"
    for text in ("one", "two"):
        path.write_text(text)
        assert file_digest(path) == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_of_the_same_size_and_time_in_another_s_place_is_hashed(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "one")
    file_digest(path)
    os.replace(old(tmp_path / "other.gguf", "two"), path)
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()


def test_another_process_finds_the_digest_in_the_cache_folder(tmp_path, hashed):
    path = old(tmp_path / "base.gguf", "weights")
    code = "import sys; from pathlib import Path; from sg_local.run import file_digest; "
    code += "print(file_digest(Path(sys.argv[1]), Path(sys.argv[2])))"
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "cache"], capture_output=True, text=True, check=True
    )
    assert file_digest(path, tmp_path / "cache") == done.stdout.strip()
    assert hashed == []


def test_another_process_is_not_deceived_by_a_file_of_the_same_size_and_time(tmp_path, hashed):
    """Images and archives are made with one time for all files."""
    path = old(tmp_path / "base.gguf", "one")
    file_digest(path, tmp_path / "cache")
    old(path, "two")
    files._known_digests.cache_clear()
    assert file_digest(path, tmp_path / "cache") == hashlib.sha256(b"two").hexdigest()


def test_no_file_has_no_digest(tmp_path):
    assert file_digest(tmp_path / "none") is None


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    with pytest.raises(SgError, match="disk is full"), translated(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_shredding_overwrites_before_it_deletes_and_leaves_what_links_lead_to(tmp_path):
    folder, other = tmp_path / "run", tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/rows").write_bytes(b"secret" * 500_000)
    other.write_text("mine")
    os.link(folder / "deep/rows", tmp_path / "kept")  # a second name, to see what became of the bytes
    (folder / "link").symlink_to(other)
    shred(folder)
    assert not folder.exists() and other.read_text() == "mine"
    assert len(left := (tmp_path / "kept").read_bytes()) == 3_000_000 and b"secret" not in left


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": "short"}', "[" * 100_000, None])
def test_a_damaged_entry_of_the_cache_is_made_again(tmp_path, hashed, text):
    cache = tmp_path / "cache"
    file_digest(old(tmp_path / "first.gguf", "weights"), cache)
    (entry,) = (cache / "digests").iterdir()
    entry.unlink()
    entry.write_text(text) if text is not None else os.mkfifo(entry)
    assert files._cached_sha256(tmp_path / "first.gguf", (tmp_path / "first.gguf").stat(), cache) == (
        hashlib.sha256(b"weights").hexdigest()
    )
    assert len(hashed) == 2 and json.loads(entry.read_text())["path"].endswith("first.gguf")
