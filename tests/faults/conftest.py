"""Programs and the uninterrupted job, once for all faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.jobs import OWN_MOUNTS, SCRIPTED, Programs, is_permitted, result_of


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    with Programs() as found:
        yield found


@pytest.fixture(scope="session")
def mounting() -> Iterator[Programs]:
    """Programs in a namespace of their own, which may mount what they like."""
    if not is_permitted(OWN_MOUNTS):
        pytest.skip("this machine permits no mounts in a namespace of one's own")
    with Programs(inside=OWN_MOUNTS) as found:
        yield found


@pytest.fixture(scope="session")
def uninterrupted(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of the whole scripted job, and its seconds of processor time."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = programs.run(folder, *SCRIPTED)
    assert done.status == 0, done.err
    return folder, done.cpu_s


@pytest.fixture(scope="session")
def finished(uninterrupted: tuple[Path, float]) -> Path:
    """The folder of the whole scripted job, to read from."""
    return uninterrupted[0]


@pytest.fixture(scope="session")
def wanted(finished: Path) -> dict[str, object]:
    """What every job ends with."""
    return result_of(finished)
