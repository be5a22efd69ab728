"""The table at the end of a fuzz run."""

from __future__ import annotations

import pytest
from attempts import HEADING, Count

TABLE = pytest.StashKey[dict[str, Count]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = {}


@pytest.fixture
def fuzz_table(request) -> dict[str, Count]:
    """What came of each reader's inputs."""
    return request.config.stash.setdefault(TABLE, {})


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    table = config.stash.get(TABLE, {})
    if table:
        terminalreporter.section("malformed inputs")
        for line in (HEADING, *(count.row(name) for name, count in table.items())):
            terminalreporter.line(line)
