"""A disk that is full at any write: one sentence, nothing lost, and the same line ends byte-equal once it has room."""

from __future__ import annotations

import random

import pytest

from tests.faults.jobs import SCRIPTED, result_of

LARGEST = 240_000  # bytes: just below the largest file that the job writes
SLICE = (0, 11_000, 60_000)
MORE = sorted(random.Random(17).sample(range(1, LARGEST), 40))
KIB_SLICE = (4, 140)
KIB_MORE = range(8, 448, 16)  # where 472 is enough for the whole job


def cases(few, many):
    """A few cases for every day, and many for `-m faults`."""
    return [*few, *(pytest.param(one, marks=pytest.mark.faults) for one in many)]


@pytest.mark.parametrize("n_bytes", cases(SLICE, MORE))
def test_a_file_that_cannot_grow_is_named_and_the_job_goes_on_later(programs, wanted, tmp_path, n_bytes):
    """RLIMIT_FSIZE: the write that reaches it is cut short, wherever it stands in its file."""
    folder = tmp_path / "job"
    refused = programs.run(folder, *SCRIPTED, file_bytes=n_bytes)
    assert refused.status == 1 and "The limit on a file's size is reached while writing" in refused.err
    assert programs.run(folder, *SCRIPTED).status == 0
    assert result_of(folder) == wanted


@pytest.mark.parametrize("kib", cases(KIB_SLICE, KIB_MORE))
def test_a_full_disk_is_said_and_the_job_goes_on_once_there_is_room(mounting, wanted, tmp_path, kib):
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    mounting.shell(f"mount -t tmpfs -o size={kib}k none {disk}")
    try:
        refused = mounting.run(disk, *SCRIPTED)
        assert refused.status == 1 and "The disk is full" in refused.err and "Free some space" in refused.err
        mounting.shell(f"mount -o remount,size=16m {disk}")
        done = mounting.run(disk, *SCRIPTED)
        assert done.status == 0, done.err
        mounting.shell(f"cp -r {disk} {after}")
    finally:
        mounting.shell(f"umount {disk}")
    assert result_of(after) == wanted
