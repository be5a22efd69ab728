"""Folders that cannot be written: what reads goes on, what writes says where, and a cache is never needed."""

from __future__ import annotations

import pytest

from tests.faults.jobs import SCRIPTED, result_of
from tests.tiny_models import TinySpec, write_model

READING = (
    ("runs", "ls"),
    ("runs", "show", "trial"),
    ("predict", "trial", "Where is my parcel?"),
    ("report", "trial", "--json"),
    ("doctor",),
    ("models", "ls"),
    ("cache", "ls"),
    ("config", "show"),
)


@pytest.fixture
def read_only(mounting):
    """Makes a folder read-only for the programs, even for root."""
    mounted = []

    def make(folder):
        mounting.shell(f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}")
        mounted.append(folder)

    yield make
    for folder in reversed(mounted):
        mounting.shell(f"umount {folder}")


def test_all_that_reads_works_on_a_read_only_run(mounting, finished, read_only):
    read_only(finished)
    for words in READING:
        done = mounting.run(finished, *words)
        assert done.status == 0, (words, done.err)


@pytest.mark.parametrize("words", [SCRIPTED, ("filter", "trial"), ("train", "trial"), ("runs", "rm", "trial", "--yes")])
def test_what_writes_into_a_read_only_run_says_where(mounting, finished, read_only, words):
    read_only(finished / "runs")
    before = result_of(finished)
    done = mounting.run(finished, *words)
    assert done.status == 1 and "Read-only file system" in done.err and "runs/trial" in done.err
    assert result_of(finished) == before


def test_a_job_needs_no_home_that_can_be_written(mounting, finished, read_only, tmp_path):
    (tmp_path / "home").mkdir()
    read_only(tmp_path / "home")
    done = mounting.run(tmp_path, *SCRIPTED)
    assert done.status == 0, done.err
    assert result_of(tmp_path) == result_of(finished)


@pytest.mark.parametrize("home", ["read-only", "full", "a file"])
def test_an_engine_needs_no_cache_that_can_be_written(mounting, read_only, tmp_path, home):
    pytest.importorskip("llama_cpp")
    model = write_model(tmp_path / "tiny.gguf", TinySpec(type="Q4_1", layers=1))
    cache = tmp_path / "home"
    if home == "a file":
        cache.write_text("")
    else:
        (cache / "models").mkdir(parents=True)
    if home == "read-only":
        read_only(cache)
    if home == "full":
        mounting.shell(f"mount -t tmpfs -o size=4k none {cache}")
    words = ("predict", "support_routing", "Where is my parcel?", "--base", "--model", str(model))
    small = "import sg_local.backends.llama_cpp.probe as probe; probe.TOO_SMALL_BYTES = 0; probe.BUDGET_S = 0.2"
    try:
        done = mounting.run(tmp_path, *words, before=small)
        assert done.status == 0, done.err
    finally:
        if home == "full":
            mounting.shell(f"umount {cache}")
