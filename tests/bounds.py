"""A bound on what a test's work may cost: far above what it needs, far below what the fault that it guards costs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 20.0


@contextmanager
def soon() -> Iterator[None]:
    """The body takes under PATIENCE_S of this thread's processor time, slow machines and coverage included."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < PATIENCE_S
