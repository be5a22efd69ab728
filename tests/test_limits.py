"""Memory and processors are those that a container or a shell leaves to this process, not the whole machine's."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from sg_local import limits
from sg_local.backends import machine
from sg_local.gguf import quants

GB = 1 << 30


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """A system of files in which nothing is bounded yet."""
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "PROCESS", tmp_path / "process")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(tmp_path / "process", cgroup="0::/\n", statm=statm(GB, 0))
    return tmp_path


def statm(whole: int, filled: int) -> str:
    """The kernel's line on a process's address space, and what of it is resident, in pages."""
    return f"{whole // resource.getpagesize()} {filled // resource.getpagesize()} 1 1 0 1 0\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_limits_nothing_is_bounded(system):
    assert limits.memory_left() is None and limits.memory_limit() is None and limits.whole_cores() is None
    write(system / "cgroup", memory__max="max\n", memory__current="7\n", cpu__max="max 100000\n")
    assert limits.memory_left() is None and limits.whole_cores() is None


def test_a_containers_limit_counts_what_is_taken_but_not_what_can_be_given_back(system):
    write(system / "cgroup", memory__max=f"{8 * GB}\n", memory__current=f"{3 * GB}\n")
    assert limits.memory_left() == 5 * GB
    write(system / "cgroup", memory__stat=f"anon 5\nactive_file 7\ninactive_file {GB}\n")
    assert limits.memory_left() == 6 * GB


def test_the_tightest_group_above_a_process_decides(system):
    write(system / "process", cgroup="0::/user/job\n")
    write(system / "cgroup" / "user" / "job", memory__max="max\n", memory__current="1\n", cpu__max="400000 100000\n")
    write(system / "cgroup" / "user", memory__max=f"{2 * GB}\n", memory__current=f"{GB}\n", cpu__max="150000 100000\n")
    assert limits.memory_left() == GB and limits.whole_cores() == 1 and limits.usable_cores() == 1
    assert limits.memory_limit() == 2 * GB


def test_groups_of_the_first_version_are_read(system):
    write(system / "process", cgroup="4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n")
    unlimited = {"memory__limit_in_bytes": f"{2**63 - 4096}\n", "memory__usage_in_bytes": "9\n"}
    write(system / "cgroup" / "memory", **unlimited)
    write(
        system / "cgroup" / "memory" / "docker" / "x",
        memory__limit_in_bytes=f"{4 * GB}\n",
        memory__usage_in_bytes=f"{3 * GB}\n",
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GB}\n",
    )
    write(system / "cgroup" / "cpu" / "docker" / "x", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n")
    assert limits.memory_left() == 2 * GB and limits.memory_limit() == 4 * GB and limits.whole_cores() == 2


def test_a_path_that_leads_out_of_the_groups_is_not_followed(system):
    write(system / "process", cgroup="0::/../../other\n")
    write(system / "other", memory__max="5\n", memory__current="1\n")
    write(system / "cgroup", memory__max=f"{GB}\n", memory__current="0\n")
    assert limits.memory_left() == GB


def test_a_full_group_leaves_nothing(system):
    write(system / "cgroup", memory__max="5\n", memory__current="9\n")
    assert limits.memory_left() == 0


def test_a_limit_of_addresses_leaves_room_for_what_is_reserved_alone(system, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (6 * GB, resource.RLIM_INFINITY))
    assert limits.memory_left() == 5 * GB  # one is reserved already
    write(system / "process", statm=statm(2 * GB, 2 * GB - GB // 4))
    assert limits.memory_left() == 4 * GB - (limits.ADDRESSES - GB // 4)


def test_work_that_is_given_memory_counts_its_libraries_itself(system):
    write(system / "process", statm=statm(9 * GB, limits.LIBRARIES // 2))
    with limits.within(3 * GB):
        assert limits.memory_left() == 3 * GB
        write(system / "process", statm=statm(9 * GB, limits.LIBRARIES + GB))
        assert limits.memory_left() == 2 * GB
        with limits.within(None):
            assert limits.memory_left() is None
    assert limits.memory_left() is None


def test_the_machine_has_no_more_than_its_limits_leave(monkeypatch):
    monkeypatch.setattr(limits, "memory_left", lambda: 12345)
    monkeypatch.setattr(limits, "memory_limit", lambda: 23456)
    assert machine.free_memory() == 12345 and machine.total_memory() == 23456
    monkeypatch.setattr(limits, "whole_cores", lambda: 1)
    assert machine.physical_cores() == 1


def test_matrices_are_decoded_by_as_many_threads_as_there_are_processors_to_have(system, monkeypatch):
    write(system / "cgroup", cpu__max="200000 100000\n")
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(quants, "_most_threads", quants._most_threads.__wrapped__)
    shares = []
    quants.by_rows(lambda start, stop: shares.append((start, stop)), 1 << 10, 1 << 12)
    assert limits.usable_cores() == 2 and sorted(shares) == [(0, 512), (512, 1024)]
