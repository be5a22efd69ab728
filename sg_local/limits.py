"""What this process may take besides what the machine has: a container's memory and processors, a shell's `ulimit -v`,
and what the work at hand was given (`within`).

Control groups of both versions are read along the whole path from this process's group to the root: each of them
bounds what is below it. Pages of files that a group may give back at once do not count as taken.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")
ADDRESSES = 1 << 30
"""Of an address space, what libraries and threads reserve and never fill, once all are loaded."""
LIBRARIES = 450 << 20
"""Of what is resident, what Python and libraries may take: whoever asks what is left counts them among its needs."""

# controller, the files of its limit and of what is used, and what memory.stat calls pages that can be given back
UNIFIED = ("", "memory.max", "memory.current", "inactive_file")
SPLIT = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


_given: ContextVar[int | None] = ContextVar("given", default=None)


@contextmanager
def within(n_bytes: int | None) -> Iterator[None]:
    """Let the process fill no more than so many bytes, as far as work asks `memory_left`; None: no bound."""
    token = _given.set(n_bytes)
    try:
        yield
    finally:
        _given.reset(token)


def memory_left() -> int | None:
    """Bytes of memory that this process may still take by its limits; None where nothing bounds it."""
    found = [*_left_in_groups(UNIFIED), *_left_in_groups(SPLIT), *_left_of_addresses(), *_left_of_given()]
    return max(0, min(found)) if found else None


def memory_limit() -> int | None:
    """Bytes of memory that this process's limits let it have at most, taken or not; None where nothing bounds it."""
    found = [int(text) for kind in (UNIFIED, SPLIT) for text in _limits_of(kind) if text.isdigit()]
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if addresses != resource.RLIM_INFINITY:
        found.append(addresses)
    return min(found) if found else None


def whole_cores() -> int | None:
    """Whole cores that the groups' quotas allow, at least one; None without a quota."""
    quotas = [text_of(folder / "cpu.max").split() for folder in _groups("")]
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quotas += [[text_of(folder / name).strip() for name in names] for folder in _groups("cpu")]
    found = [int(quota) // max(1, int(period)) for quota, period in filter(_is_quota, quotas)]
    return max(1, min(found)) if found else None


def usable_cores() -> int:
    """Logical processors that this process may keep busy: those that it may run on, within the groups' quotas."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = whole_cores()
    return n if quota is None else min(n, quota)


def _left_in_groups(kind: tuple[str, str, str, str]) -> Iterator[int]:
    controller, limit, used, spare = kind
    for folder in _groups(controller):
        most, taken = (text_of(folder / name).strip() for name in (limit, used))
        if most.isdigit() and taken.isdigit():
            yield int(most) - int(taken) + _spare(folder, spare)


def _limits_of(kind: tuple[str, str, str, str]) -> Iterator[str]:
    controller, limit, *_ = kind
    yield from (text_of(folder / limit).strip() for folder in _groups(controller))


def _spare(folder: Path, name: str) -> int:
    """Bytes of pages of files in memory that nothing has used lately."""
    fields = dict(line.split()[:2] for line in text_of(folder / "memory.stat").splitlines() if " " in line)
    return int(fields.get(name, 0))


def _left_of_addresses() -> Iterator[int]:
    """What `ulimit -v` leaves for data, and for what is yet to be reserved."""
    limit, (whole, filled) = resource.getrlimit(resource.RLIMIT_AS)[0], _taken()
    if limit != resource.RLIM_INFINITY and whole:
        yield limit - whole - max(0, ADDRESSES - (whole - filled))


def _left_of_given() -> Iterator[int]:
    given, (_, filled) = _given.get(), _taken()
    if given is not None:
        yield given - max(0, filled - LIBRARIES)


def _taken() -> tuple[int, int]:
    """Bytes of this process's address space, and those of them that are resident; zeros where nobody says."""
    pages = text_of(PROCESS / "statm").split()
    whole, filled = (int(pages[0]), int(pages[1])) if len(pages) > 1 else (0, 0)
    return whole * resource.getpagesize(), filled * resource.getpagesize()


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's group for a controller ("": the unified ones) and of those above it, root last."""
    root = CGROUP / controller
    for line in text_of(PROCESS / "cgroup").splitlines():
        _, names, path = (line.split(":", 2) + ["", ""])[:3]
        if names == "" and controller == "" or controller and controller in names.split(","):
            own = Path(path.lstrip("/"))
            yield from (root / one for one in (own, *own.parents) if one != Path() and ".." not in one.parts)
    yield root


def _is_quota(pair: list[str]) -> bool:
    return len(pair) == 2 and all(part.isdigit() for part in pair)


def text_of(path: Path) -> str:
    """A file of the system's; empty where it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""
